import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from qtpy.QtGui import QGuiApplication

from napari_t1t2.events import Failed
from napari_t1t2.images.volume import Volume
from napari_t1t2.synthesis import evaluation
from napari_t1t2.synthesis.evaluation import evaluate_volumes
from napari_t1t2.widgets._layers import layer_of
from napari_t1t2.widgets.evaluate import EvaluateWidget

AFFINE = np.diag([-1.0, -1, 3, 1])


@pytest.fixture
def widget(viewer, qtbot, told):
    widget = EvaluateWidget(viewer)
    qtbot.addWidget(widget)
    return widget


@pytest.fixture
def real(head) -> Volume:
    data = np.stack([np.roll(head, i, axis=1) for i in range(8)])
    return Volume(data=data, name="scan", contrast="T2", affine=AFFINE, spacing=(3, 1, 1))


@pytest.fixture
def fake(real) -> Volume:
    rng = np.random.default_rng(0)
    return replace(real, data=real.data + rng.normal(0, 9, real.data.shape).astype(np.float32), name="made")


def add(viewer, volume, **metadata):
    data, about, _ = layer_of(volume)
    about["metadata"] |= metadata
    return viewer.add_image(data, **about)


def evaluate(widget):
    widget.go.click()
    return widget.wait(60)


def shown(widget) -> list[list[str]]:
    """The columns of the table: the frame, the region."""
    return [[widget.table.item(row, column).text() for row in range(5)] for column in (0, 1)]


def as_shown(score) -> list[list[str]]:
    return [
        [f"{score.psnr:.2f}", f"{score.ssim:.3f}", f"{score.mae:.4f}", f"{score.nmi:.3f}", f"{score.slices}"],
        [
            f"{score.head_psnr:.2f}",
            f"{score.head_ssim:.3f}",
            f"{score.head_mae:.4f}",
            f"{score.head_nmi:.3f}",
            f"{score.head_slices}",
        ],
    ]


def test_the_table_says_what_the_engine_says(widget, viewer, fake, real, told):
    add(viewer, real)
    add(viewer, fake, synthetic=True)
    evaluate(widget)
    assert shown(widget) == as_shown(evaluate_volumes(fake, real))
    assert widget.table.horizontalHeaderItem(1).text() == "inside the head" and not told
    assert not widget.histogram.isHidden() and widget.histogram.axes.get_xlabel() == "real: scan"


def test_matching_intensities_is_handed_on_and_advised(widget, viewer, fake, real, told):
    louder = replace(fake, data=4 * fake.data)
    add(viewer, real)
    add(viewer, louder, synthetic=True)
    evaluate(widget)
    assert "4 times the real one" in told[0] and "Match intensities first" in told[0]
    widget.form["match_intensities"].value = True
    evaluate(widget)
    assert shown(widget) == as_shown(evaluate_volumes(louder, real, match_intensities=True)) and len(told) == 1


def test_a_real_layer_on_another_grid_is_resampled_and_that_is_said(widget, viewer, fake, real, informed):
    moved = AFFINE.copy()
    moved[0, 3] = 1.5
    elsewhere = replace(real, data=real.data[:, 2:], affine=moved)
    add(viewer, elsewhere)
    made = add(viewer, fake, synthetic=True)
    evaluate(widget)
    assert shown(widget) == as_shown(evaluate_volumes(fake, elsewhere))
    assert "resampled onto the grid of 'made'" in informed[0]
    assert viewer.layers[-1].data.shape == made.data.shape


def test_the_difference_lies_over_the_synthetic_layer(widget, viewer, fake, real):
    add(viewer, real)
    made = add(viewer, fake, synthetic=True)
    viewer.layers.selection.active = made
    evaluate(widget)
    difference = viewer.layers[-1]
    assert difference.name == "difference: made minus scan" and viewer.layers.selection.active is made
    for corner in ((0, 0, 0), (3, 43, 35)):
        np.testing.assert_allclose(difference.data_to_world(corner), made.data_to_world(corner), atol=1e-9)
    np.testing.assert_allclose(difference.data, made.data - viewer.layers[0].data, atol=1e-3)
    low, high = difference.contrast_limits
    assert low == -high and difference.metadata["synthetic"] and "Not for diagnosis" in difference.metadata["notice"]
    assert difference.units == made.units


def test_pressing_again_replaces_the_difference(widget, viewer, fake, real):
    add(viewer, real)
    add(viewer, fake, synthetic=True)
    evaluate(widget)
    viewer.layers[-1].visible = False
    first = viewer.layers[-1].data
    widget.form["match_intensities"].value = True
    evaluate(widget)
    assert [layer.name for layer in viewer.layers] == ["scan", "made", "difference: made minus scan"]
    assert not viewer.layers[-1].visible and not np.array_equal(viewer.layers[-1].data, first)


def test_a_difference_is_no_image_to_evaluate(widget, viewer, fake, real):
    add(viewer, real)
    add(viewer, fake, synthetic=True)
    evaluate(widget)
    assert [layer.name for layer in widget.form["real"].choices] == ["scan", "made"]


def test_an_expected_error_is_no_image_to_evaluate(widget, viewer, fake, real):
    add(viewer, real)
    image = add(viewer, fake, synthetic=True)
    add(viewer, fake, synthetic=True, calibrated=False)
    assert widget.form["synthetic"].value is image
    assert len(widget.form["synthetic"].choices) == 2


def test_the_clipboard_gets_a_table_that_parses(widget, viewer, fake, real):
    comma = replace(real, name='scan, "the second"')
    add(viewer, comma)
    add(viewer, fake, synthetic=True, seen_in_training=False)
    event = evaluate(widget)
    widget.copy.click()
    rows = list(csv.DictReader(io.StringIO(QGuiApplication.clipboard().text())))
    assert [row["where"] for row in rows] == ["full frame", "inside the head"]
    assert float(rows[1]["PSNR dB"]) == event.score.head_psnr and int(rows[1]["voxels"]) == event.score.head_voxels
    assert rows[0]["real"] == comma.name and rows[0]["intensities matched"] == "no"
    assert rows[0]["seen in training"] == "no" and "Gaussian 11x11" in rows[0]["SSIM window"]
    assert "Copied" in widget.status.text()


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ({"synthetic": True, "seen_in_training": True}, "yes"),
        ({"synthetic": True, "seen_in_training": None}, "unknown"),
        ({"synthetic": True}, "unknown"),
        ({}, ""),
    ],
)
def test_the_table_says_whether_the_image_was_trained_on_where_anything_is_known(
    widget, viewer, fake, real, says, told
):
    add(viewer, real)
    widget.form["synthetic"].value = add(viewer, fake, **says)
    evaluate(widget)
    widget.copy.click()
    rows = list(csv.DictReader(io.StringIO(QGuiApplication.clipboard().text())))
    assert [row["seen in training"] for row in rows] == [told, told]


def test_the_window_of_ssim_is_said_beside_the_figure(widget):
    assert evaluation.SSIM_WINDOW in widget.table.verticalHeaderItem(1).toolTip()


def test_a_synthetic_layer_that_was_moved_takes_its_difference_along(widget, viewer, fake, real):
    lying = add(viewer, real)
    made = add(viewer, fake, synthetic=True)
    evaluate(widget)
    made.translate = lying.translate = np.add(made.translate, 5)
    evaluate(widget)
    assert len(viewer.layers) == 3
    np.testing.assert_allclose(viewer.layers[-1].translate, made.translate)


@pytest.mark.parametrize(("label", "voxels", "region"), [(0, 200, "in lesion"), (2, 100, "in lesion, label 2")])
def test_a_labels_layer_is_a_region(widget, viewer, fake, real, label, voxels, region):
    add(viewer, real)
    made = add(viewer, fake, synthetic=True)
    marks = np.zeros(made.data.shape, int)
    marks[1, 10:20, 10:20], marks[2, 10:20, 10:20] = 1, 2
    widget.form["region"].value = viewer.add_labels(
        marks, name="lesion", scale=made.scale, translate=made.translate, units=made.units
    )
    assert widget.form["label"].enabled
    widget.form["label"].value = label
    score = evaluate(widget).score
    assert (score.head_voxels, score.region) == (voxels, region)
    assert f"{voxels} voxels {region}" in widget.status.text()


def test_labels_drawn_on_another_grid_lie_where_they_are_seen(widget, viewer, fake, real):
    add(viewer, real)
    made = add(viewer, fake, synthetic=True)
    marks = np.zeros((8, 22, 18), int)
    marks[1, 5:10, 5:10] = 1
    at = np.add(made.translate, (0, 0.5, 0.5))  # the centres of pixels twice as large
    labels = viewer.add_labels(marks, name="lesion", scale=made.scale * (1, 2, 2), translate=at, units=made.units)
    widget.form["region"].value = labels
    assert evaluate(widget).score.head_voxels == 100


@pytest.mark.parametrize("shape", [(44, 36), (3, 44, 36), (1, 3, 44, 36)])
def test_bare_arrays_of_one_shape_are_compared_pixel_by_pixel(widget, viewer, head, shape, told):
    data = np.broadcast_to(head, shape)
    viewer.add_image(data + 0, name="scan")
    viewer.add_image(data + 3, name="made", metadata={"synthetic": True})
    score = evaluate(widget).score
    assert score.slices == np.prod(shape[:-2]) and viewer.layers[-1].data.shape == shape
    np.testing.assert_allclose(viewer.layers[-1].data, 3, atol=1e-3)


def test_placed_slices_of_two_sizes_are_brought_together(widget, viewer, head, informed):
    viewer.add_image(
        np.kron(head, np.ones((2, 2), np.float32)), name="scan", scale=(0.5, 0.5), translate=(-0.25, -0.25)
    )
    viewer.add_image(head, name="made", metadata={"synthetic": True})
    assert evaluate(widget).score.psnr > 90 and "resampled" in informed[0]


def test_a_layer_that_lost_its_place_is_compared_pixel_by_pixel_and_that_is_said(widget, viewer, fake, real, told):
    lying = add(viewer, real)
    viewer.add_image(lying.data + 3, name="made", metadata={"synthetic": True})
    evaluate(widget)
    assert "pixel by pixel" in told[0]
    np.testing.assert_allclose(viewer.layers[-1].data, 3, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((4, 50, 40), "4x50x40 and 'made' 4x44x36"), ((2, 4, 44, 36), "has 4 axes, 2x4x44x36: split it")],
)
def test_what_cannot_be_brought_together_is_refused(widget, viewer, head, shape, words):
    viewer.add_image(np.ones(shape, np.float32), name="scan")
    viewer.add_image(np.stack([head] * 4), name="made", metadata={"synthetic": True})
    failed = evaluate(widget)
    assert isinstance(failed, Failed) and words in failed.sentence and len(viewer.layers) == 2


def test_without_two_layers_there_is_nothing_to_evaluate(widget, viewer, head):
    assert "There is no layer" in evaluate(widget).sentence
    viewer.add_image(head, name="made", metadata={"synthetic": True})
    assert "'made' is chosen twice" in evaluate(widget).sentence
    assert widget.go.text() == "Evaluate: open two images"
    viewer.add_image(head, name="scan")
    assert widget.go.text() == "Evaluate"


def test_labels_without_the_number_are_refused(widget, viewer, head):
    viewer.add_image(head, name="scan")
    viewer.add_image(head, name="made", metadata={"synthetic": True})
    widget.form["region"].value = viewer.add_labels(np.ones(head.shape, int), name="lesion")
    widget.form["label"].value = 9
    assert "'lesion' has no label 9" in evaluate(widget).sentence


def test_what_makes_a_score_worth_less_is_said(widget, viewer, head, told):
    one = viewer.add_image(head, name="one", metadata={"seen_in_training": True})
    widget.form["real"].value = viewer.add_image(head + 3, name="two", metadata={"synthetic": True})
    widget.form["synthetic"].value = one
    evaluate(widget)
    assert "'one' is not marked as synthetic" in told[0]
    assert "'two' is synthetic itself" in told[1]
    assert "trained on the image that 'one' was made from" in told[2]


@pytest.mark.parametrize("contrasts", [("T1", "T2"), ("", "T2")])
def test_a_score_against_the_source_or_another_contrast_is_told_to_say_nothing(widget, viewer, head, told, contrasts):
    viewer.add_image(head, name="scan", metadata={"contrast": contrasts[0]})
    made = {"synthetic": True, "contrast": contrasts[1], "source": "scan"}
    viewer.add_image(head + 3, name="made", metadata=made)
    evaluate(widget)
    assert told[0].startswith("'scan' shows T1: " if contrasts[0] else "'scan' is what it was made of: ")
    assert told[0].endswith("Choose a real T2.")


@pytest.mark.parametrize("about", [{"contrast": "T2"}, {"files": ["/T2/x.png"]}])
def test_a_real_image_with_the_name_of_the_source_is_not_taken_for_it(widget, viewer, head, told, about):
    viewer.add_image(head, name="x.png", metadata=about)
    made = {"synthetic": True, "contrast": "T2", "source": "x.png", "files": ["/T1/x.png"]}
    viewer.add_image(head + 3, name="made", metadata=made)
    evaluate(widget)
    assert not any("two contrasts" in sentence for sentence in told)


def test_an_image_compared_with_itself_is_told_on_the_button(widget, viewer, head):
    one = viewer.add_image(head, name="one")
    assert "open two images" in widget.go.text()
    viewer.add_image(head, name="two")
    widget.form["synthetic"].value = widget.form["real"].value = one
    assert "choose two images" in widget.go.text()


def test_the_layers_to_compare_are_suggested_and_a_choice_is_kept(widget, viewer, head):
    t1 = viewer.add_image(head, name="T1", metadata={"contrast": "T1"})
    t2 = viewer.add_image(head, name="T2", metadata={"contrast": "T2"})
    viewer.add_image(head, name="PD", metadata={"contrast": "PD"})
    made = viewer.add_image(head, name="made", metadata={"contrast": "T2", "synthetic": True})
    assert (widget.form["synthetic"].value, widget.form["real"].value) == (made, t2)
    widget.form["real"].value = t1
    again = viewer.add_image(head, name="again", metadata={"contrast": "T2", "synthetic": True})
    assert (widget.form["synthetic"].value, widget.form["real"].value) == (again, t1)
    viewer.layers.remove(t1)
    assert widget.form["real"].value is t2


def test_of_several_scans_the_one_of_the_same_size_is_suggested_and_no_prepared_images(widget, viewer, head):
    about = {"contrast": "T2"}
    right = viewer.add_image(np.stack([head] * 4), metadata=about)
    viewer.add_image(np.stack([head] * 5), metadata=about)
    viewer.add_image(np.stack([head] * 4), metadata=about | {"prepared": "axial"})
    viewer.add_image(np.stack([head] * 4), metadata=about | {"synthetic": True})
    assert widget.form["real"].value is right and len(widget.form["real"].choices) == 3


def test_pixels_that_are_no_numbers_count_as_air(widget, viewer, head):
    viewer.add_image(head, name="scan")
    broken = head.copy()
    broken[0, 0] = np.nan
    viewer.add_image(broken, name="made", metadata={"synthetic": True})
    assert evaluate(widget).score.psnr == 100


def test_after_a_failed_press_there_is_nothing_to_copy(widget, viewer, fake, real):
    add(viewer, real)
    add(viewer, fake, synthetic=True)
    evaluate(widget)
    assert not widget.copy.isHidden()
    widget.form["real"].value = widget.form["synthetic"].value
    widget.go.click()
    assert widget.copy.isHidden()


def test_what_is_chosen_most_stands_above_the_rows_that_a_small_dock_hides(widget):
    assert [row.name for row in widget.form][:4] == ["synthetic", "real", "view", "at"]


def test_another_patient_is_refused(widget, viewer, fake, real):
    add(viewer, replace(real, subject="sub-01"))
    made = add(viewer, replace(fake, subject="sub-02"), synthetic=True)
    assert "'made' is of another patient (sub-02) than 'scan' (sub-01)" in evaluate(widget).sentence
    made.metadata = made.metadata | {"subject": "sub-01"}
    assert evaluate(widget).score.slices


def test_places_that_do_not_overlap_are_refused(widget, viewer, fake, real):
    elsewhere = AFFINE.copy()
    elsewhere[0, 3] = 500
    add(viewer, replace(real, affine=elsewhere))
    add(viewer, fake, synthetic=True)
    assert "they do not show one head in one place" in evaluate(widget).sentence


@pytest.mark.parametrize("gone", [0, 1])
def test_results_go_with_the_layers_that_they_are_of(widget, viewer, fake, real, gone):
    add(viewer, real)
    add(viewer, fake, synthetic=True)
    add(viewer, fake, synthetic=True)
    evaluate(widget)
    assert not widget.table.isHidden() and len(viewer.layers) == 4
    viewer.layers.remove(widget._compared[gone])
    assert widget.table.isHidden() and widget.histogram.isHidden() and widget.copy.isHidden()
    assert not any("difference" in layer.name for layer in viewer.layers) and len(viewer.layers) == 2


def test_a_layer_that_goes_while_it_is_evaluated_leaves_no_results(widget, viewer, head):
    made = viewer.add_image(head, name="made", metadata={"synthetic": True})
    viewer.add_image(head, name="scan")
    widget.go.click()
    viewer.layers.remove(made)
    widget.wait(60)
    assert widget.table.isHidden() and widget.copy.isHidden() and [one.name for one in viewer.layers] == ["scan"]
    assert widget.status.text().startswith("One of the two images was removed meanwhile")


def test_a_layer_that_is_renamed_is_called_so_and_stays_chosen(widget, viewer, head):
    viewer.add_image(head, name="other")
    made = viewer.add_image(head, name="made, 0% done", metadata={"synthetic": True})
    scan = viewer.add_image(head, name="scan")
    widget.form["region"].value = lesion = viewer.add_labels(np.ones(head.shape, int), name="lesion")
    widget.form["real"].value = viewer.layers["other"]
    made.name, viewer.layers["other"].name, lesion.name, scan.name = "made", "mine", "the lesion", "0"
    names = [widget.form[row].native.currentText() for row in ("synthetic", "real", "region")]
    assert names == ["made", "mine", "the lesion"] and widget.form["label"].enabled


def test_another_layer_that_goes_takes_no_results_along(widget, viewer, fake, real):
    add(viewer, real)
    add(viewer, fake, synthetic=True)
    other = viewer.add_image(real.data, name="other")
    evaluate(widget)
    viewer.layers.remove(other)
    assert not widget.table.isHidden() and "difference: made minus scan" in viewer.layers


def test_the_joint_histogram_has_the_colours_of_the_window(widget, viewer, qtbot):
    widget.setStyleSheet("QWidget { background-color: #262930; color: #f0f1f2; }")
    widget.histogram.draw(np.eye(4), np.arange(5.0), "inside the head", ("real", "made"))
    axes = widget.histogram.axes
    assert to_hex(axes.get_facecolor()) == to_hex(axes.figure.get_facecolor()) == "#262930"
    assert {to_hex(part.get_color()) for part in (axes.xaxis.label, axes.title, axes.lines[0])} == {"#f0f1f2"}
    widget.setStyleSheet("QWidget { background-color: #ffffff; color: #101010; }")  # another theme
    assert to_hex(axes.get_facecolor()) == "#ffffff" and to_hex(axes.title.get_color()) == "#101010"
