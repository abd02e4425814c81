import shutil
import sys
from pathlib import Path
from threading import Event

import dask.array as da
import numpy as np
import pydicom
import pytest
from napari.layers import Image, Labels, Shapes
from napari.layers._source import layer_source
from qtpy.QtWidgets import QDockWidget
from superqt.utils import WorkerBase

from napari_t1t2.__main__ import main
from napari_t1t2.events import Failed, Translated
from napari_t1t2.images.read import read_folder, read_image
from napari_t1t2.images.volume import Volume, spacing_of
from napari_t1t2.images.write import write_image
from napari_t1t2.model.saved import load_model
from napari_t1t2.provenance import Provenance
from napari_t1t2.runs.translating import Glimpsed
from napari_t1t2.synthesis import prepare, translation
from napari_t1t2.synthesis.uncertainty import NOT_CALIBRATED
from napari_t1t2.widgets._job import KEPT
from napari_t1t2.widgets._layers import beside, layer_of, place_of
from napari_t1t2.widgets._memory import memory
from napari_t1t2.widgets.files import read_layers, save_dicom, save_nifti, volumes_of
from napari_t1t2.widgets.translate import TranslateWidget


@pytest.fixture
def widget(viewer, qtbot, told, trained, here):
    memory.last_model = trained / "model.safetensors"
    widget = TranslateWidget(viewer)
    qtbot.addWidget(widget)
    return widget


def translate(widget, layer):
    widget.form["layer"].value = layer
    widget.go.click()
    widget.wait(60)
    return widget._viewer.layers[-1]


@pytest.mark.parametrize("shape", [(44, 36), (3, 44, 36), (2, 3, 37, 23)])
def test_the_new_layer_is_what_the_engine_makes_of_the_old_one(widget, viewer, head, trained, shape):
    data = np.broadcast_to(head[: shape[-2], : shape[-1]], shape) + np.float32(1)
    made = translate(widget, viewer.add_image(data, name="sub-01", metadata={"contrast": "T1"}))
    np.testing.assert_allclose(made.data, translation.translate(data, load_model(trained), to="t2"), rtol=1e-6)


def test_the_new_layer_lies_where_the_old_one_lies(widget, viewer, head):
    layer = Image(
        np.stack([head] * 4),
        scale=(3, 0.7, 0.9),
        translate=(-20, 5, 7.5),
        rotate=(10, 20, 30),
        shear=(0.1, 0, 0.2),
        affine=np.array([[1, 0, 0.1, 3], [0, 1, 0, -4], [0.2, 0, 1, 5], [0, 0, 0, 1.0]]),
        units=("mm", "mm", "mm"),
        axis_labels=("z", "y", "x"),
        metadata={"contrast": "T1"},
    )
    made = translate(widget, viewer.add_layer(layer))
    corners = np.array([(0, 0, 0), (3, 43, 35), (3, 0, 35), (1, 20, 10)], float)
    for corner in corners:
        np.testing.assert_allclose(made.data_to_world(corner), layer.data_to_world(corner), atol=1e-9)
    assert made.units == layer.units and made.axis_labels == layer.axis_labels


def test_the_new_layer_says_what_it_is(widget, viewer, head, trained):
    made = translate(widget, viewer.add_image(head, name="sub-01", metadata={"contrast": "T1"}))
    assert made.name == "T2 (synthetic) from sub-01"
    assert made.metadata["synthetic"] is True and made.metadata["contrast"] == "T2"
    assert made.metadata["step"] == load_model(trained).about.step
    assert made.metadata["model"] == "run/model.safetensors" and len(made.metadata["model_sha256"]) == 64
    assert made.metadata["source"] == "sub-01" and "Not for diagnosis" in made.metadata["notice"]


def test_the_layer_that_was_there_is_left_as_it_was(widget, viewer, head):
    layer = viewer.add_image(head.copy(), metadata={"contrast": "T1"})
    translate(widget, layer)
    np.testing.assert_array_equal(layer.data, head)
    assert len(viewer.layers) == 2


def test_the_direction_follows_the_contrast_of_the_layer(widget, viewer, head):
    t2 = viewer.add_image(head, metadata={"contrast": "T2"})
    viewer.layers.selection.active = t2
    assert widget.form["to"].value == "T1"
    viewer.layers.selection.active = viewer.add_image(head, metadata={"contrast": "T1"})
    assert widget.form["to"].value == "T2"


def test_a_model_that_has_just_been_trained_is_the_one_to_use(widget, trained, tmp_path):
    newer = tmp_path / "model.safetensors"
    newer.write_bytes((trained / "model.safetensors").read_bytes())
    memory.last_model = newer
    assert widget.form["model"].value == newer


def test_the_last_model_is_remembered_by_the_next_session(viewer, qtbot, trained, told):
    memory.last_model = trained / "model.safetensors"
    widget = TranslateWidget(viewer)
    qtbot.addWidget(widget)
    assert widget.form["model"].value == trained / "model.safetensors"


def test_without_a_model_of_ones_own_the_general_one_is_taken_which_says_so(viewer, qtbot, told, here, head):
    widget = TranslateWidget(viewer)
    qtbot.addWidget(widget)
    assert widget.form["model"].value == Path("sample")
    assert "General model of T1 and T2, not trained on your images" in widget.card.line.text()
    made = translate(widget, viewer.add_image(head, name="sub-01", metadata={"contrast": "T1"}))
    assert made.metadata["general_model"] and widget.form["to"].value == "T2"
    assert any("The general model made this" in sentence for sentence in told)


def test_what_a_model_is_stands_there_before_it_is_used(widget, tmp_path):
    assert "Hardly trained, 4 steps on 7 T1 and 7 T2 slices" in widget.card.line.text()
    assert "may be removed, weakened or invented" in widget.card.line.text()
    assert "<b>Limits:</b>" in widget.card.rows.text() and not widget.card.isHidden()
    widget.form["model"].value = tmp_path / "nothing.safetensors"
    assert widget.card.isHidden() and "does not exist" in widget.status.text()


def test_two_models_translate_one_layer_for_a_comparison(widget, viewer, head, trained, tmp_path, qtbot):
    models = [shutil.copytree(trained, tmp_path / name) / "model.safetensors" for name in ("first", "second")]
    viewer.layers.selection.active = viewer.add_image(np.stack([head] * 2), name="scan", metadata={"contrast": "T1"})
    with qtbot.waitSignal(widget.next_step, timeout=60_000) as handed:
        widget.compare_models(models)
    names = ["T2 (synthetic) from scan, first", "T2 (synthetic) from scan, second"]
    assert [layer.name for layer in viewer.layers[1:]] == names == [layer.name for layer in handed.args[0]]
    qtbot.waitUntil(lambda: not widget.running)
    assert translate(widget, viewer.layers[0]).name == "T2 (synthetic) from scan"


def test_of_two_models_the_second_is_not_tried_where_the_first_fails(widget, viewer, head, tmp_path):
    viewer.layers.selection.active = viewer.add_image(head, name="scan", metadata={"contrast": "T1"})
    widget.compare_models([tmp_path / "none.safetensors", tmp_path / "other.safetensors"])
    assert not widget.running and "none.safetensors does not exist" in widget.status.text()
    assert widget._models == [] and widget._by == ""


def test_of_two_models_the_second_is_not_tried_where_the_first_is_stopped(
    widget, viewer, head, trained, qtbot, tmp_path
):
    models = [shutil.copytree(trained, tmp_path / name) / "model.safetensors" for name in ("first", "second")]
    viewer.layers.selection.active = viewer.add_image(np.stack([head] * 2000), metadata={"contrast": "T1"})
    widget.compare_models(models)
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=60_000)
    widget.compare_models(models)
    assert "Wait until this translation has ended" in widget.status.text()
    widget.stop.click()
    widget.wait(20)
    assert len(viewer.layers) == 1 and not widget.running and widget._by == ""


def test_a_model_that_the_user_chose_is_left_alone(widget, trained, tmp_path):
    for name in ("mine", "newer"):
        (tmp_path / f"{name}.safetensors").write_bytes((trained / "model.safetensors").read_bytes())
    widget.form["model"].value = tmp_path / "mine.safetensors"
    memory.last_model = tmp_path / "newer.safetensors"
    assert widget.form["model"].value == tmp_path / "mine.safetensors"


def test_a_layer_that_is_renamed_is_called_so_and_stays_chosen(widget, viewer, head):
    first = viewer.add_image(head, name="first")
    viewer.add_image(head, name="second")
    widget.form["layer"].value = first
    first.name = "mine"
    assert widget.form["layer"].value == first and widget.form["layer"].native.currentText() == "mine"
    viewer.layers.remove(first)
    assert widget.form["layer"].value.name == "second"


def test_an_empty_row_is_no_model(widget):
    widget.form["model"].line_edit.value = ""
    assert widget.status.text().startswith("No model was chosen")


def test_deleting_the_new_layer_ends_the_translation(widget, viewer, head, monkeypatch, qtbot):
    monkeypatch.setattr(translation, "PIXELS_AT_ONCE", 1)
    layer = viewer.add_image(np.stack([head] * 2000), metadata={"contrast": "T1"})
    widget.go.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=60_000)
    viewer.layers.remove(viewer.layers[1])
    widget.wait(20)
    assert list(viewer.layers) == [layer]
    assert "Made" not in widget.status.text()


def test_a_dask_layer_is_read_in_batches(widget, viewer, head, monkeypatch):
    monkeypatch.setattr(translation, "PIXELS_AT_ONCE", 2 * 48 * 36)
    most = 0

    def chunk(block):
        nonlocal most
        most = max(most, len(block))
        return block

    lazy = da.from_array(np.stack([head] * 12), chunks=(1, 44, 36)).map_blocks(chunk, dtype=np.float32)
    made = translate(widget, viewer.add_image(lazy, contrast_limits=(0, 255), metadata={"contrast": "T1"}))
    assert made.data.shape == (12, 44, 36) and np.ptp(made.data[-1]) > 0
    assert most == 1


def test_colour_is_turned_to_grey_and_said(widget, viewer, head, told):
    colour = np.stack([head] * 3, axis=-1).astype(np.uint8)
    made = translate(widget, viewer.add_image(colour, name="photo", metadata={"contrast": "T1"}))
    assert made.data.shape == head.shape and not made.rgb
    assert "'photo' is in colour" in told[0]


@pytest.mark.parametrize(
    ("level", "shape", "scale"), [("full resolution", (88, 72), 2), ("level on screen", (44, 36), 4)]
)
def test_of_a_multiscale_layer_a_level_is_chosen_and_stays_in_place(widget, viewer, head, level, shape, scale):
    large = np.kron(head, np.ones((2, 2), np.float32))
    pyramid = viewer.add_image([large, head], multiscale=True, name="pyramid", scale=(2, 2), translate=(5, 7))
    pyramid._data_level = 1
    widget.form["level"].value = level
    made = translate(widget, pyramid)
    assert made.data.shape == shape
    np.testing.assert_allclose(made.scale, (scale, scale))
    np.testing.assert_allclose(made.data_to_world((0, 0)), (5, 7))


@pytest.mark.parametrize("layer", [Labels(np.ones((8, 8), int), name="seg"), Shapes(name="seg")])
def test_what_is_no_image_is_refused_in_a_sentence(widget, viewer, told, layer):
    translate(widget, viewer.add_layer(layer))
    assert f"'seg' is a {type(layer).__name__} layer" in told[0]
    assert len(viewer.layers) == 1


def test_an_image_already_in_the_target_contrast_is_noticed(widget, viewer, head, told):
    viewer.layers.selection.active = viewer.add_image(head, name="t2w", metadata={"contrast": "T2"})
    widget.form["to"].value = "T2"
    widget.go.click()
    widget.wait(60)
    assert "It says it is T2 already; it is translated as asked." in told


def test_stopping_removes_the_unfinished_layer(widget, viewer, head, monkeypatch, qtbot):
    monkeypatch.setattr(translation, "PIXELS_AT_ONCE", 1)
    layer = viewer.add_image(np.stack([head] * 2000), metadata={"contrast": "T1"})
    widget.go.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=60_000)
    widget.stop.click()
    widget.wait(20)
    assert list(viewer.layers) == [layer]
    assert "Stopped" in widget.status.text()


def test_a_file_that_is_no_model_is_named(widget, viewer, head, told, tmp_path):
    viewer.add_image(head)
    fake = tmp_path / "renamed.safetensors"
    fake.write_text("hello")
    widget.form["model"].value = fake
    widget.go.click()
    assert not widget.running and "renamed.safetensors is no model file" in told[-1]


def test_translating_without_a_layer_says_what_to_do(widget, told):
    widget.go.click()
    assert "open an image first" in told[-1]


def test_running_out_of_memory_reaches_the_user_and_leaves_no_layer(widget, viewer, head, told, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("CUDA out of memory.")
        yield

    monkeypatch.setattr(translation, "stream", full)
    viewer.add_image(head)
    widget.go.click()
    assert isinstance(widget.wait(20), Failed)
    assert "memory ran out" in told[-1] and len(viewer.layers) == 1


def test_a_volume_of_ours_is_translated_in_its_plane_and_stays_where_it_is(widget, viewer, head, tmp_path):
    affine = np.array([[0.1, -1, 0, 9], [1.0, 0.1, 0, -5], [0, 0, 2, 3], [0, 0, 0, 1]])  # turned, oblique
    volume = Volume(
        data=np.stack([head] * 4), name="scan", affine=affine, spacing=spacing_of(affine), contrast="T1", uid="1.2.3"
    )
    data, about, _ = layer_of(volume)
    layer = viewer.add_image(data, **about)
    made = translate(widget, layer)
    index = np.array([3, 5, 7])
    np.testing.assert_allclose(made.data_to_world(index), layer.data_to_world(index))
    assert made.metadata["stored_towards"] == layer.metadata["stored_towards"]
    (saved,) = volumes_of(made)
    assert saved.uid == "1.2.3"  # DICOM is written for the patient who was read, and no other
    np.testing.assert_allclose(saved.affine, affine, atol=1e-9)
    assert saved.data.shape == volume.data.shape


def test_a_scale_without_a_unit_is_taken_as_mm_and_that_is_said(widget, viewer, head, told):
    translate(widget, viewer.add_image(head, name="scan", scale=(0.7, 0.7)))
    assert any("'scan' has a scale but no unit: it is taken as mm" in sentence for sentence in told)


def test_three_planes_can_be_averaged_from_the_form(widget, viewer, head):
    layer = viewer.add_image(np.stack([head, head[::-1], head] * 12), metadata={"contrast": "T1"})
    plain = translate(widget, layer).data
    widget.form["planes"].value = "three"
    assert not np.array_equal(translate(widget, layer).data, plain)


def test_the_last_sentence_begins_with_the_warning(widget, viewer, head):
    translate(widget, viewer.add_image(head, name="scan", metadata={"contrast": "T1"}))
    assert widget.status.text() == "Synthetic, not for diagnosis: made 'T2 (synthetic) from scan'."


@pytest.mark.parametrize("name", ["x" * 250, "a long name " * 20])
def test_a_long_name_neither_widens_the_dock_nor_is_clipped(widget, viewer, head, qtbot, name):
    wide = widget.minimumSizeHint().width()
    translate(widget, viewer.add_image(head, name=name, metadata={"contrast": "T1"}))
    assert widget.minimumSizeHint().width() <= wide
    with qtbot.waitExposed(widget):
        widget.resize(300, 250)  # as where three docks share a column
        widget.show()
    status = widget.status
    qtbot.waitUntil(lambda: status.height() >= min(status.sizeHint().height(), KEPT))
    assert name in status.text() and not status.horizontalScrollBar().maximum()
    lines = status.document().size().height()
    assert lines <= status.viewport().height() or status.verticalScrollBar().isVisible()


def test_the_status_is_never_read_as_html(widget):
    widget.status.setText("<b>1 < 2</b>\u00a0mm")
    assert widget.status.text() == "<b>1 < 2</b>\u00a0mm"
    assert widget.status.toPlainText().startswith("<b>")


def test_the_expected_error_lies_over_the_new_layer_and_says_what_it_is(widget, viewer, head):
    layer = viewer.add_image(np.stack([head] * 3), name="sub-01", metadata={"contrast": "T1"}, scale=(3, 1, 2))
    widget.form["uncertainty"].value = True
    translate(widget, layer)
    _, made, doubts = viewer.layers
    assert made.name == "T2 (synthetic) from sub-01" and doubts.name == f"expected error of {made.name}"
    assert doubts.data.shape == made.data.shape and doubts.data.any()
    np.testing.assert_array_equal(doubts.scale, made.scale)
    assert doubts.metadata["contrast"] == "expected error of T2" and doubts.metadata["calibrated"] is False
    assert doubts.metadata["synthetic"] is True and viewer.layers.selection.active is made


@pytest.fixture
def calibrated(trained, tmp_path, t1_folder, t2_folder):
    shutil.copytree(trained, tmp_path / "calibrated")
    assert main(["calibrate", str(tmp_path / "calibrated"), str(t1_folder), str(t2_folder)]) == 0
    return tmp_path / "calibrated" / "model.safetensors"


def test_the_interval_is_a_layer_of_its_own_that_is_no_image_and_tells_of_few_heads(
    widget, viewer, head, told, calibrated
):
    widget.form["model"].value = calibrated
    widget.form["uncertainty"].value = widget.form["interval"].value = True
    layer = viewer.add_image(np.stack([head] * 3), name="sub-01", metadata={"contrast": "T1"}, scale=(3, 1, 2))
    translate(widget, layer)
    _, made, doubts, half = viewer.layers
    assert half.name == f"interval of {made.name}" and doubts.name == f"expected error of {made.name}"
    assert doubts.visible and not half.visible  # two would add up
    assert half.metadata["kind"] == "interval" and half.metadata["meaning"].startswith("Half the width of the interval")
    assert (half.data >= doubts.data).mean() > 0.9
    np.testing.assert_array_equal(half.scale, made.scale)
    assert any(said.startswith("The interval was calibrated on") for said in told)
    told.clear()
    translate(widget, half)
    assert told[-1].endswith("holds half the width of the intervals about an image: give the image itself.")


def test_the_interval_alone_lies_over_the_image(widget, viewer, head, calibrated):
    widget.form["model"].value = calibrated
    widget.form["interval"].value = True
    half = translate(widget, viewer.add_image(head, name="sub-01", metadata={"contrast": "T1"}))
    assert half.name == "interval of T2 (synthetic) from sub-01" and half.visible and len(viewer.layers) == 3


def test_an_interval_that_a_model_cannot_make_is_told_below_its_row_before_it_is_asked_for(
    widget, viewer, head, calibrated
):
    viewer.add_image(head, metadata={"contrast": "T1"})
    widget.form["interval"].value = True
    told = widget.form["interval_wrong"]
    assert not told.native.isHidden() and "calibrate" in told.value
    assert widget.go.text() == "Translate: see above what is wrong"
    widget.form["model"].value = calibrated
    assert not told.value and widget.go.text() == "Translate"
    assert "expected errors of T1, T2; intervals of T1, T2" in widget.card.rows.text().replace("T2, T1", "T1, T2")


def test_an_interval_of_a_model_that_is_not_calibrated_is_refused_with_what_to_do(widget, viewer, head):
    widget.form["interval"].value = True
    translate(widget, viewer.add_image(head, metadata={"contrast": "T1"}))
    assert "is not calibrated for intervals: run `napari-t1t2 calibrate`" in widget.status.text()
    assert len(viewer.layers) == 1


def test_an_image_that_the_model_was_trained_on_is_told_and_marked(widget, viewer, trained, told):
    (first, *_) = sorted((trained.parent / "T1").iterdir())
    data = read_image(first).data[0]
    made = translate(widget, viewer.add_image(data, metadata={"contrast": "T1"}))
    assert made.metadata["seen_in_training"] is True
    assert prepare.TRAINED_ON in told
    told.clear()
    made = translate(widget, viewer.add_image(data**1.1, metadata={"contrast": "T1"}))
    assert made.metadata["seen_in_training"] is False
    assert prepare.TRAINED_ON not in told


def test_what_holds_errors_of_an_image_is_not_translated(widget, viewer, head, told):
    for says, words in (
        (Provenance(kind="difference"), "holds the difference of two images: give one of these."),
        (Provenance(kind="expected error"), "holds the error to expect of an image: give the image itself."),
        (Provenance(complete=False), "is an unfinished synthetic image: make it again, to its end."),
    ):
        translate(widget, viewer.add_image(head, name="it", metadata=says.to_dict()))
        assert told[-1] == f"'it' {words}"
        viewer.layers.clear()


def test_a_synthetic_source_and_a_missing_calibration_are_told(widget, viewer, head, told):
    widget.form["uncertainty"].value = True
    translate(widget, viewer.add_image(head, metadata={"contrast": "T1", "synthetic": True}))
    assert {prepare.OF_SYNTHETIC, NOT_CALIBRATED} <= set(told)


@pytest.fixture
def slow(widget, viewer, head, monkeypatch, qtbot):
    """A translation half-way, with its uncertainty map: it goes on once the event is set."""
    monkeypatch.setattr(translation, "PIXELS_AT_ONCE", 1)
    monkeypatch.setattr("napari_t1t2.widgets.translate.REFRESH", 0)
    on, stream = Event(), translation.stream

    def halting(*args, **rest):
        for i, event in enumerate(stream(*args, **rest)):
            yield event
            if i == 1:
                on.wait(20)

    monkeypatch.setattr(translation, "stream", halting)
    widget.form["uncertainty"].value = True
    viewer.layers.selection.active = viewer.add_image(np.stack([head] * 8), name="scan", metadata={"contrast": "T1"})
    widget.go.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 3 and "25% done" in viewer.layers[2].name, timeout=20_000)
    yield on
    on.set()
    if alive(widget):
        widget.wait(20)


def alive(widget) -> bool:
    """Whether Qt has not deleted it yet."""
    try:
        return widget.objectName() is not None
    except RuntimeError:
        return False


def test_a_layer_says_how_far_it_is_filled_until_it_is_full(widget, viewer, slow, tmp_path):
    made, errors = viewer.layers[1:]
    assert made.name == "T2 (synthetic) from scan, 25% done" and errors.name.endswith("25% done")
    assert made.metadata["complete"] is errors.metadata["complete"] is False
    (path, _) = save_nifti(str(tmp_path / "half.nii"), *made.as_layer_data_tuple()[:2])
    assert read_image(path := Path(path)).provenance.complete is False and path.name == "half.nii"
    slow.set()
    widget.wait(60)
    assert made.name == "T2 (synthetic) from scan" and errors.name == "expected error of T2 (synthetic) from scan"
    assert not {"complete"} & (made.metadata.keys() | errors.metadata.keys())


def test_a_name_that_the_user_gave_to_a_filling_layer_stays(widget, viewer, slow):
    viewer.layers[1].name = "mine"
    slow.set()
    widget.wait(60)
    assert viewer.layers[1].name == "mine" and "complete" not in viewer.layers[1].metadata


def test_closing_the_dock_takes_the_unfinished_layers_away(widget, viewer, slow, qtbot):
    dock = QDockWidget()
    qtbot.addWidget(dock)
    dock.setWidget(widget)
    widget.setParent(None)  # as napari does
    assert [layer.name for layer in viewer.layers] == ["scan"]
    slow.set()
    widget.wait(20)
    assert [layer.name for layer in viewer.layers] == ["scan"]


def test_what_comes_after_the_dock_was_closed_is_not_told_as_unforeseen(widget, told):
    for event in (Glimpsed((0,)), Translated(1, 1)):  # were under way
        widget.attempt(lambda event=event: widget.on_event(event))
    assert told == []


def test_a_dock_deleted_half_way_leaves_a_layer_that_says_that_it_is_unfinished(widget, viewer, slow, qtbot, request):
    request.node.qt_widgets.clear()  # nothing is left to close
    with qtbot.waitSignal(widget.destroyed):
        widget.deleteLater()
    slow.set()
    WorkerBase.await_workers(10_000)
    assert all("% done" in layer.name and layer.metadata["complete"] is False for layer in viewer.layers[1:])


def test_a_stack_of_slices_that_were_trained_on_is_marked(widget, viewer, trained):
    stack = np.concatenate([v.data for v in read_folder(trained.parent / "T1", "T1").volumes])
    made = translate(widget, viewer.add_image(stack, metadata={"contrast": "T1"}))
    assert made.metadata["seen_in_training"] is True
    lazy = da.from_array(stack[2:5])
    assert translate(widget, viewer.add_image(lazy, metadata={"contrast": "T1"})).metadata["seen_in_training"] is True


def test_a_coarser_level_does_not_tell_whether_the_image_was_trained_on(widget, viewer, head):
    large = np.kron(head, np.ones((2, 2), np.float32)) ** 1.1
    pyramid = viewer.add_image([large, large[::2, ::2] * 1.1], multiscale=True, name="pyramid")
    pyramid._data_level = 1
    widget.form["level"].value = "level on screen"
    assert "seen_in_training" not in translate(widget, pyramid).metadata


def test_an_empty_volume_of_a_series_becomes_air_and_the_others_are_made(widget, viewer, head, told):
    data = np.stack([np.stack([head] * 2), np.zeros((2, *head.shape), np.float32)])
    made = translate(widget, viewer.add_image(data, contrast_limits=(0, 255), metadata={"contrast": "T1"}))
    assert np.ptp(made.data[0]) > 0 and np.ptp(made.data[1]) == 0
    assert any("Volume 1 of 2 was left as air: Every pixel is 0" in sentence for sentence in told)
    assert "complete" not in made.metadata


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_picture_that_napari_itself_opened_still_says_what_it_is(widget, viewer, told, tmp_path, head, name):
    says = Provenance(kind="expected error", contrast="expected error of T2")
    write_image(tmp_path / name, Volume(data=head[None], name="a", dtype="uint8"), says)
    with layer_source(path=str(tmp_path / name)):
        layer = viewer.add_image(head, name="a")
    translate(widget, layer)
    assert told[-1] == "'a' holds the error to expect of an image: give the image itself."


@pytest.mark.parametrize("anonymous", [False, True])
def test_an_anonymous_result_is_saved_without_the_patient(widget, viewer, head, tmp_path, anonymous):
    series = write_dicom_series(tmp_path, head)
    widget.form["anonymous"].value = anonymous
    ((data, about, _),) = read_layers(str(series))
    made = translate(widget, viewer.add_image(data, **about))
    written = save_dicom(str(tmp_path / "made.dcm"), made.data, made.as_layer_data_tuple()[1])
    assert len(written) == 3
    whole = b"".join(Path(path).read_bytes() for path in written)
    assert (b"Doe^Jane" in whole) is (b"19700707" in whole) is (b"1.2.777" in whole) is not anonymous


def write_dicom_series(folder: Path, head: np.ndarray) -> Path:
    """Three slices of a patient."""
    ours = Volume(
        data=np.stack([head] * 3),
        name="a",
        dtype="uint8",
        affine=np.diag([-1.0, -1, 3, 1]),
        provenance=Provenance(contrast="T1"),
    )
    for path in write_image(folder / "series", ours):
        ds = pydicom.dcmread(path)
        ds.PatientName, ds.PatientBirthDate, ds.StudyInstanceUID = "Doe^Jane", "19700707", "1.2.777"
        ds.save_as(path)
    return folder / "series"


def test_a_synthetic_layer_is_never_proposed_as_a_source(widget, viewer, head):
    scan = viewer.add_image(head, name="scan", metadata={"contrast": "T1"})
    made = translate(widget, scan)
    assert viewer.layers.selection.active is made and widget.form["layer"].value is scan
    assert widget.form["to"].value == "T2"
    viewer.layers.remove(scan)
    assert widget.form["layer"].value is None and "open an image" in widget.go.text()
    newer = viewer.add_image(head, name="newer", metadata={"contrast": "T2"})
    assert widget.form["layer"].value is newer and widget.form["to"].value == "T1"
    widget.form["layer"].value = made  # who wants to, may
    assert widget.form["layer"].value is made


def test_labels_that_are_drawn_on_a_scan_do_not_become_the_source(widget, viewer, head):
    scan = viewer.add_image(head, name="scan")
    viewer.layers.selection.active = viewer.add_labels((head > 50).astype(int))
    assert widget.form["layer"].value is scan


def test_a_dock_that_is_opened_beside_a_synthetic_layer_proposes_the_scan(viewer, qtbot, told, here, head):
    scan = viewer.add_image(head, name="scan")
    viewer.add_image(head, name="made", metadata={"contrast": "T2", "synthetic": True})
    qtbot.addWidget(widget := TranslateWidget(viewer))
    assert widget.form["layer"].value is scan


@pytest.mark.parametrize(("order", "at"), [((0, 1, 2), (5, None, None)), ((1, 0, 2), (None, 9, None))])
def test_the_slice_on_screen_is_made_first_in_a_layer_that_says_that_it_is_unfinished(widget, viewer, head, order, at):
    layer = viewer.add_image(np.stack([head] * 8), name="scan", metadata={"contrast": "T1"}, scale=(3, 2, 1))
    viewer.dims.order = order
    viewer.dims.set_point(order[0], 15 if order[0] == 0 else 18)
    seen, shown = [], widget.on_event

    def note(event):
        shown(event)
        made = viewer.layers[-1]
        seen.append((type(event).__name__, getattr(event, "at", None), made.name, made.metadata.get("complete")))

    widget.on_event = note
    translate(widget, layer)
    first = next(n for n, (name, *_) in enumerate(seen) if name == "Glimpsed")
    assert seen[first][1:] == (at, "T2 (synthetic) from scan, 0% done", False)
    assert "Translated" not in [name for name, *_ in seen[:first]]


def test_what_is_looked_at_follows_the_slider_while_the_volume_is_made(widget, viewer, slow):
    for step in (3, 6):
        viewer.dims.set_current_step(0, step)
        assert widget._looking.at == (step, None, None)
    viewer.dims.order = (2, 0, 1)
    assert widget._looking.at == (None, None, viewer.dims.current_step[2])
    viewer.dims.ndisplay = 3
    assert widget._looking.at is None


def test_the_slice_that_is_looked_at_is_the_one_that_napari_shows(widget, viewer, head):
    turned = np.array([[3, 0.1, 0.2, 4], [-0.3, 1, 0.1, -9], [0, -0.1, 1, 7], [0, 0, 0, 1.0]])
    data = np.stack([np.full_like(head, i) for i in range(8)])
    data[0, 0, 0] = 9
    layer = viewer.add_image(
        np.stack([data, data + 10]), affine=np.block([[1, np.zeros((1, 4))], [np.zeros((4, 1)), turned]])
    )
    viewer.dims.set_current_step(0, 1)
    widget._source = layer
    for step in range(2, int(viewer.dims.nsteps[1]) - 2, 3):
        viewer.dims.set_current_step(1, step)
        shown = np.asarray(layer._slice.image.view)
        if shown.shape == head.shape and widget._looking.at is not None:
            assert widget._looking.at == (1, int(shown[5, 5]) - 10, None, None)


def test_the_dock_has_its_model_read_when_it_is_shown_and_not_before(widget, viewer, qtbot, trained, monkeypatch):
    warmed = []
    monkeypatch.setattr(widget._child, "warm", lambda model, device: warmed.append((model.parent.name, device)))
    widget._on_model()
    assert not warmed
    with qtbot.waitExposed(widget):
        widget.show()
    assert warmed == [("run", "auto")]


def test_remarks_stand_in_the_dock_until_the_next_job(widget, viewer, trained, head):
    (first, *_) = sorted((trained.parent / "T1").iterdir())
    translate(widget, viewer.add_image(read_image(first).data[0], metadata={"contrast": "T1"}))
    assert prepare.TRAINED_ON in widget.remarks.text() and not widget.remarks.isHidden()
    translate(widget, viewer.add_image(head**1.1, metadata={"contrast": "T1"}))
    assert prepare.TRAINED_ON not in widget.remarks.text()


def test_the_next_step_gets_the_source_and_what_was_made_of_it(widget, viewer, head, qtbot):
    widget.in_cockpit = True
    scan = viewer.add_image(head, metadata={"contrast": "T1"})
    made = translate(widget, scan)
    with qtbot.waitSignal(widget.next_step) as told:
        widget.next.click()
    assert told.args == [(scan, made)]


COMMAND = """
import sys
print("what:", *sys.argv[1:], file=sys.stderr)
print("looking at 1 of 2 files: file 1", flush=True)
for n in (1, 2):
    print(f"{n} of 2: file {n}", flush=True)
    print("one image looks unlike the others", file=sys.stderr)
print("Written to there: 2 of 2", flush=True)
if "refuse" in sys.argv[2]: sys.exit(print("napari-t1t2: no: give --overwrite to replace it, or another --out.") or 2)
"""


@pytest.mark.parametrize("name", ["folder", "refuse"])
def test_a_folder_is_translated_with_progress_remarks_and_a_report(
    widget, viewer, tmp_path, monkeypatch, trained, name
):
    monkeypatch.setattr("napari_t1t2.runs.command.COMMAND", (sys.executable, "-c", COMMAND))
    (tmp_path / name).mkdir()
    widget.batch["folder"].value = tmp_path / name
    assert widget.batch["results"].value == tmp_path / f"{name}_synthetic" and widget.missing() == ""
    widget.form["uncertainty"].value = widget.form["anonymous"].value = True
    widget.go.click()
    last = widget.wait(60)
    assert f"--out {tmp_path / name}_synthetic --model {trained / 'model.safetensors'} --to T2" in widget.remarks.text()
    assert "--uncertainty --anonymous" in widget.remarks.text() and "one image looks unlike" in widget.remarks.text()
    if name == "refuse":
        assert last.sentence == "no: choose another folder to save in." == widget.status.text()
    else:
        assert widget.progress.value() == 1000 and "looking at" not in widget.remarks.text()
        assert widget.status.text().splitlines()[0] == "Synthetic images, not for diagnosis."
        assert widget.status.text().splitlines()[-1] == "Written to there: 2 of 2"
    assert not viewer.layers


def test_the_folder_to_save_in_follows_the_one_to_translate_unless_the_user_chose_it(widget, tmp_path):
    folder, results = (widget.batch[name] for name in ("folder", "results"))
    for name in ("a", "b"):
        folder.value = tmp_path / name
        assert results.value == tmp_path / f"{name}_synthetic"
    results.value = tmp_path / "own"
    folder.value = tmp_path / "c"
    assert results.value == tmp_path / "own"


def test_pictures_beside_a_volume_in_mm_have_no_size(widget, viewer, head, told):
    viewer.add_image(np.stack([head] * 3), scale=(3, 1, 1), units=("mm",) * 3)
    about = beside(viewer, {"name": "pictures", "metadata": {"contrast": "T1"}})
    pictures = viewer.add_image(np.stack([head] * 4), **about)
    _, high = viewer.layers[0].extent.world
    assert pictures.extent.world[0][2] > high[2] and {layer.units for layer in viewer.layers} == {pictures.units}
    assert place_of(pictures).spacing is None and place_of(pictures).affine is None
    made = translate(widget, pictures)
    np.testing.assert_array_equal(made.translate, pictures.translate)
    assert place_of(made).spacing is None


def test_a_volume_in_mm_moves_the_pictures_that_were_there_beside_it(viewer, head, told, widget):
    pictures = viewer.add_image(np.stack([head] * 4), name="pictures", metadata={"contrast": "T1"})
    slice_ = viewer.add_image(head, name="slice", metadata={"contrast": "T1"})
    own = viewer.add_image(head, name="the user's own")
    made = translate(widget, pictures)
    volume = viewer.add_image(np.stack([head] * 3), scale=(3, 1, 1), units=("mm",) * 3)
    for layer in (pictures, slice_, made):
        assert {str(unit) for unit in layer.units} == {"millimeter"} and place_of(layer).spacing is None
        assert layer.extent.world[0][-1] > volume.extent.world[1][-1]
    np.testing.assert_array_equal(made.translate, pictures.translate)
    assert {str(unit) for unit in own.units} == {"pixel"}  # which we have not brought
    viewer.layers.remove(own)
    assert viewer.layers.extent.units is not None  # napari draws them all
    assert place_of(translate(widget, pictures)).spacing is None
