import subprocess
import time
from dataclasses import fields, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from napari.components import ViewerModel
from qtpy.QtCore import QCoreApplication
from qtpy.QtGui import QGuiApplication
from superqt.utils import WorkerBase

from napari_t1t2.config import ModelConfig, TrainConfig, preset
from napari_t1t2.events import Failed, Finished, Preview, Progress, Reading
from napari_t1t2.model.about import read_about
from napari_t1t2.model.card import held_out_error
from napari_t1t2.runs import training
from napari_t1t2.runs.folder import is_taken
from napari_t1t2.widgets._curve import LOSSES
from napari_t1t2.widgets._memory import Chosen, memory, selection_of
from napari_t1t2.widgets.load import LoadWidget
from napari_t1t2.widgets.train import TrainWidget

ENDLESS = 1_000_000


@pytest.fixture
def in_thread(monkeypatch):
    """The engine in the worker thread itself: the same events without a child, which takes seconds to start."""
    monkeypatch.setattr("napari_t1t2.widgets.train.train_in_process", lambda *run, **how: training.train(*run, **how))


@pytest.fixture
def widget(viewer, qtbot, told, config, tmp_path, monkeypatch, in_thread):
    widget = TrainWidget(viewer)
    qtbot.addWidget(widget)
    widget.form.fill(config)
    return widget


def run_until_it_learns(widget, qtbot):
    widget.go.click()
    qtbot.waitUntil(lambda: len(widget.curve.steps) > 0, timeout=60_000)


def test_the_form_has_a_row_for_every_field_and_gives_the_config_back(widget, config):
    names = {f.name for f in (*fields(TrainConfig), *fields(ModelConfig))} - {"model"}
    assert all(widget.form[name] is not None for name in names)
    assert widget.form.config == config


def test_a_preset_fills_the_form_but_keeps_the_folders(widget, config):
    widget.start_rows["preset"].value = "notebook"
    folders = {name: getattr(config, name) for name in ("t1_folder", "t2_folder", "run_folder")}
    assert widget.form.config == replace(preset("notebook"), **folders)


def test_the_bar_shows_how_far_reading_is(widget):
    widget.on_event(Reading(30, 120, "preparing"))
    assert widget.progress.value() == widget.progress.maximum() / 4
    assert widget.progress.format() == "preparing 30 of 120 files"


def test_a_finished_run_whose_model_alone_was_missing_is_not_said_to_have_been_trained_on_nothing(widget, config):
    widget._trained, widget._data, widget._errors, widget._trial = "0:00", "", {}, False  # as a click on Go has it
    widget.on_event(Finished(4, config.run_folder / "model.safetensors", "completed"))
    assert widget.status.text().startswith("Finished at step 4.\n") and "trained" not in widget.status.text()


def test_a_run_ends_with_a_model_previews_and_a_curve(widget, viewer, config):
    widget.go.click()
    assert widget.running and not widget.go.isEnabled()
    assert isinstance(widget.wait(60), Finished)
    assert read_about(config.run_folder).step == config.steps
    assert not len(viewer.layers) and not widget.strip.isHidden()
    assert set(widget.curve.losses) == {"adversarial", "cycle", "structure", "identity", "discriminators"}
    assert widget.go.isEnabled() and str(config.run_folder) in widget.status.text()
    assert "Finished at step 4: trained 0:0" in widget.status.text() and "7 T1 and 7 T2 slices" in widget.status.text()


def test_stop_keeps_the_weights_of_the_step_it_reached(widget, qtbot, config):
    widget.form["steps"].value = ENDLESS
    run_until_it_learns(widget, qtbot)
    widget.stop.click()
    event = widget.wait(20)
    assert event.reason == "stopped" and read_about(config.run_folder).step == event.step > 0


def test_a_paused_run_stands_still_and_goes_on(widget, qtbot, monkeypatch):
    begun = []

    def engine(config, *, stop, resume, preview_at):
        for step in count(1):
            begun.append(step)
            if stop():  # which blocks while the run is paused
                return
            time.sleep(0.001)  # no engine is faster than the window can show
            yield Progress(step, step, 0.0, 0.0, 0.0, 1.0, {"cycle": 1.0})

    monkeypatch.setattr("napari_t1t2.widgets.train.train_in_process", engine)
    run_until_it_learns(widget, qtbot)
    widget.pause.click()
    assert widget.pause.text() == "Continue"
    qtbot.waitUntil(lambda: begun[-1] == len(widget.curve.steps) + 1)  # all steps but one are done and shown
    at = len(begun)
    QCoreApplication.processEvents()
    assert len(begun) == at
    widget.pause.click()
    qtbot.waitUntil(lambda: len(widget.curve.steps) > at)
    assert widget.pause.text() == "Pause"
    widget.stop.click()
    widget.wait(20)


def test_a_stopped_run_can_be_resumed_in_a_new_widget(widget, viewer, qtbot, config):
    widget.go.click()
    widget.wait(60)
    again = TrainWidget(viewer)
    qtbot.addWidget(again)
    again.form["run_folder"].value = config.run_folder
    again.start_rows["resume"].value = True
    assert again.form.config.batch == config.batch  # the run's own settings, not the preset's
    again.form["minutes"].value, again.form["steps"].value = 0, config.steps + 2
    again.go.click()
    assert again.wait(60).step == config.steps + 2


def test_a_second_run_takes_a_new_folder_by_itself(viewer, qtbot, config, told, tmp_path, monkeypatch, in_thread):
    widget = TrainWidget(viewer)
    qtbot.addWidget(widget)
    widget.form.fill(config, keep=["run_folder"])
    for _ in range(2):
        widget.go.click()
        assert isinstance(widget.wait(60), Finished)
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_folder_that_holds_another_model_is_refused_in_a_sentence(widget, config, told):
    widget.go.click()
    widget.wait(60)
    before = (config.run_folder / "model.safetensors").read_bytes()
    widget.go.click()
    widget.wait(20)
    assert "already holds a trained model" in widget.status.text() and told[-1] == widget.status.text()
    assert (config.run_folder / "model.safetensors").read_bytes() == before


def test_folders_loaded_in_the_other_widget_are_taken_over(viewer, qtbot, config, told):
    load, train = LoadWidget(viewer), TrainWidget(viewer)
    qtbot.addWidget(load), qtbot.addWidget(train)
    load.form["t1_folder"].value, load.form["t2_folder"].value = config.t1_folder, config.t2_folder
    load.form["t2_label"].value = "PD"
    load.go.click()
    load.wait(20)
    rows = train.form
    assert (rows["t1_folder"].value, rows["t2_folder"].value) == (config.t1_folder, config.t2_folder)
    assert rows["t2_label"].value == "PD"


@pytest.fixture
def choose(viewer):
    """What Load does: `choose(folder, "t2", series="4 t2_tse")`."""

    def choose(folder, side="t1", series="", label="T1", frame=0):
        selection_of(viewer).choose(side, Chosen(folder, series, label, frame))

    return choose


@pytest.fixture
def fresh(viewer, qtbot, told):
    """A Train widget that nobody has touched."""
    widget = TrainWidget(viewer)
    qtbot.addWidget(widget)
    return widget


def test_a_fresh_form_names_no_folder(fresh):
    assert [fresh.form[f"{side}_folder"].line_edit.value for side in ("t1", "t2")] == ["", ""]


def test_the_series_chosen_in_the_other_widget_are_taken_over(fresh, choose, tmp_path):
    choose(tmp_path, "t1", "3 t1_se", "T1w")
    choose(tmp_path, "t2", "4 t2_tse, 5 t2_tse", "T2w")
    config = fresh.form.config
    assert (config.t1_folder, config.t1_series, config.model.t1_label) == (tmp_path, "3 t1_se", "T1w")
    assert (config.t2_folder, config.t2_series, config.model.t2_label) == (tmp_path, "4 t2_tse, 5 t2_tse", "T2w")


def test_what_was_chosen_before_train_was_opened_is_taken_over(viewer, qtbot, told, choose, tmp_path):
    choose(tmp_path, "t2", "4 t2_tse", "T2w", frame=1)
    train = TrainWidget(viewer)
    qtbot.addWidget(train)
    rows = (train.form[name].value for name in ("t2_folder", "t2_series", "t2_label", "t2_volume"))
    assert tuple(rows) == (tmp_path, "4 t2_tse", "T2w", 1)


def test_another_window_has_a_choice_of_its_own(fresh, qtbot, tmp_path):
    other = ViewerModel()
    selection_of(other).choose("t1", Chosen(tmp_path, "", "T1", 0))
    assert fresh.form["t1_folder"].value == Path()


def test_a_later_choice_replaces_an_earlier_one(fresh, choose, tmp_path):
    choose(tmp_path / "one", series="3 t1_se")
    choose(tmp_path / "two")
    assert (fresh.form["t1_folder"].value, fresh.form["t1_series"].value) == (tmp_path / "two", "")


def test_a_folder_that_the_user_chose_stays_when_another_is_loaded(fresh, choose, tmp_path):
    fresh.form["t1_folder"].value = tmp_path / "own"
    choose(tmp_path / "other", series="3 t1_se", label="PD")
    rows = (fresh.form[name].value for name in ("t1_folder", "t1_series", "t1_label"))
    assert tuple(rows) == (tmp_path / "own", "", "T1")


def test_series_that_the_user_typed_stay_when_others_are_loaded(fresh, choose, tmp_path):
    choose(tmp_path / "one", series="3 t1_se")
    fresh.form["t1_series"].value = "7 t1_mprage"
    for folder in ("one", "other"):
        choose(tmp_path / folder, series="3 t1_se")
    assert (fresh.form["t1_folder"].value, fresh.form["t1_series"].value) == (tmp_path / "one", "7 t1_mprage")


def test_a_preset_keeps_the_volume_number_that_was_chosen(fresh, choose, tmp_path):
    choose(tmp_path, frame=2)
    fresh.start_rows["preset"].value = "gpu"
    assert fresh.form.config.t1_volume == 2


def test_a_volume_number_that_the_user_chose_stays(fresh, choose, tmp_path):
    fresh.form["t1_volume"].value = 3
    choose(tmp_path)
    assert (fresh.form["t1_folder"].value, fresh.form["t1_volume"].value) == (tmp_path, 3)


def test_what_is_loaded_while_it_trains_is_taken_over_afterwards(fresh, qtbot, config, choose, monkeypatch, in_thread):
    fresh.form.fill(replace(config, steps=ENDLESS), keep=["t1_folder", "t2_folder"])
    choose(config.t1_folder)
    choose(config.t2_folder, "t2", label="T2")
    run_until_it_learns(fresh, qtbot)
    choose(config.t2_folder, series="Image #6.png")
    assert fresh.form["t1_folder"].value == config.t1_folder
    fresh.stop.click()
    fresh.wait(20)
    assert (fresh.form["t1_folder"].value, fresh.form["t1_series"].value) == (config.t2_folder, "Image #6.png")


def test_each_loss_is_explained_and_rows_have_names_that_people_read(widget, config):
    widget.curve.add(1, dict.fromkeys(LOSSES, 1.0))
    assert all(LOSSES[name] in widget.curve.legend.text() for name in LOSSES)
    names = [f.name for f in (*fields(TrainConfig), *fields(ModelConfig)) if f.name != "model"]
    assert not [name for name in names if "_" in widget.form[name].label or "t1" in widget.form[name].label]
    assert widget.form["pool"].label == "image buffer" and widget.form["t1_folder"].label == "T1 folder"


def test_what_is_known_of_the_data_is_no_warning(widget, told, informed, config):
    (config.t1_folder / "notes.txt").write_text("not an image")
    widget.go.click()
    widget.wait(60)
    assert "skipped notes.txt: not an image" in informed[0]
    assert not told


def test_a_preset_keeps_the_series(fresh):
    fresh.form["t1_series"].value = "3 t1_se"
    fresh.start_rows["preset"].value = "notebook"
    assert fresh.form["t1_series"].value == "3 t1_se"


def test_a_resumed_run_keeps_numbers_that_the_form_rounds(widget, qtbot, viewer, config):
    odd = replace(config, learning_rate=0.000123456, cycle_warmup=1 / 3)
    list(training.train(odd))
    widget.form["run_folder"].value = odd.run_folder
    widget.start_rows["resume"].value = True
    widget.form["steps"].value = odd.steps + 2
    widget.go.click()
    assert widget.wait(60).step == odd.steps + 2


def test_two_widgets_cannot_train_in_one_folder(widget, viewer, qtbot, told, config):
    widget.form["steps"].value = ENDLESS
    run_until_it_learns(widget, qtbot)
    other = TrainWidget(viewer)
    qtbot.addWidget(other)
    other.form.fill(config)
    other.go.click()
    assert "is being trained in right now" in other.wait(20).sentence
    widget.stop.click()
    assert isinstance(widget.wait(20), Finished)


def test_an_error_while_showing_an_event_stops_the_run_with_a_sentence(widget, told, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(widget.strip, "add", full)
    widget.form["steps"].value = ENDLESS
    widget.go.click()
    assert isinstance(widget.wait(20), Failed)
    assert "memory ran out" in told[-1]


def test_settings_that_cannot_work_are_refused_before_anything_starts(widget, told):
    widget.form["crop"].value = 33
    widget.go.click()
    assert not widget.running
    assert "Crop is 33" in widget.status.text() and "multiple of" in told[0]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "lower batch"),
        (RuntimeError("something odd"), "something odd"),
        (KeyError("t1"), "KeyError"),
        (OSError(28, "No space left on device", "/full/disk"), "/full/disk: the disk is full"),
    ],
)
def test_whatever_the_engine_raises_reaches_the_user(widget, told, monkeypatch, error, sentence):
    def broken(config, **_):
        raise error
        yield

    monkeypatch.setattr(training, "train", broken)
    widget.go.click()
    assert isinstance(widget.wait(20), Failed)
    assert sentence in widget.status.text() and sentence in told[-1]
    assert widget.go.isEnabled()


def test_closing_napari_saves_the_run(widget, qtbot, config):
    widget.form["steps"].value = ENDLESS
    run_until_it_learns(widget, qtbot)
    WorkerBase.await_workers(20_000)  # what napari does when it quits
    widget.wait(20)
    assert read_about(config.run_folder).step > 0


@pytest.mark.slow
def test_a_killed_run_is_a_sentence_and_the_window_lives_on(viewer, qtbot, config, told, monkeypatch):
    children = []

    def start(*args, **options):
        children.append(popen(*args, **options))
        return children[0]

    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start)
    widget = TrainWidget(viewer)
    qtbot.addWidget(widget)
    widget.form.fill(replace(config, steps=ENDLESS))
    run_until_it_learns(widget, qtbot)
    children[0].kill()
    assert str(config.run_folder) in widget.wait(20).sentence == widget.status.text() == told[-1]
    assert widget.go.isEnabled()


@pytest.mark.slow
def test_closing_the_dock_stops_and_saves_the_run(make_napari_viewer, qtbot, config, told):
    viewer = make_napari_viewer()
    dock, widget = viewer.window.add_plugin_dock_widget("napari-t1t2", "Train")
    widget.form.fill(replace(config, steps=ENDLESS, preview_every=ENDLESS, save_every=ENDLESS))
    run_until_it_learns(widget, qtbot)
    viewer.window.remove_dock_widget(dock)
    del widget, dock
    qtbot.waitUntil(lambda: is_taken(config.run_folder), timeout=20_000)
    qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=20_000)
    assert read_about(config.run_folder).step > 0
    viewer.add_image(np.eye(4))  # no slot of the dead widget is left connected


def strip_of(widget, qtbot):
    widget.go.click()
    widget.wait(60)
    return widget.strip


def test_previews_are_one_strip_with_the_step_and_a_way_back_through_them(widget, qtbot, viewer):
    widget.form["preview_every"].value = 2
    strip = strip_of(widget, qtbot)
    assert strip.history.maximum() == 2 and "step 4" in strip.step.text()
    assert "T2 synthetic" in strip.picture.accessibleName() and not strip.picture.whole.isNull()
    strip.history.setValue(0)
    assert "step 0" in strip.step.text()
    assert not len(viewer.layers)


def test_the_previews_leave_room_for_the_curves(widget, qtbot):
    strip = strip_of(widget, qtbot)
    strip.picture.resize(640, 480)  # as it was before it lay in the dock
    assert strip.picture.minimumSizeHint().height() <= strip.picture._highest <= 240


def test_previews_without_room_are_not_drawn(widget, qtbot, qtlog):
    picture = strip_of(widget, qtbot).picture
    picture.resize(0, 0)
    picture._draw()
    assert not [one.message for one in qtlog.records if "Paint" in one.message]


def test_a_new_preview_does_not_take_away_an_earlier_one_that_is_looked_at(widget, qtbot, config, head):
    strip = strip_of(widget, qtbot)
    strip.history.setValue(0)
    newer = Preview(9, *[head[:32, :32]] * 6)
    (config.run_folder / "previews/step-000004.png").rename(config.run_folder / "previews/step-000009.png")
    strip.add(newer)
    assert strip.history.value() == 0 and strip.history.maximum() == 2
    strip.history.setValue(2)
    assert "step 9" in strip.step.text()


def test_previews_become_layers_only_when_asked_and_touch_neither_camera_nor_selection(widget, qtbot, viewer, head):
    own = [viewer.add_image(head, name="preview T1"), viewer.add_image(head * 2)]
    viewer.layers.selection.active = own[0]
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera  # before napari 0.9
    camera.zoom, camera.center = 3.0, (0, 7.0, 9.0)
    strip = strip_of(widget, qtbot)
    assert list(viewer.layers) == own
    strip.layers.click()
    assert len(viewer.layers) == 8 and viewer.layers.selection == {own[0]}
    assert camera.zoom == 3.0 and camera.center == (0, 7.0, 9.0)
    assert [layer.metadata["synthetic"] for layer in list(viewer.layers)[2:]] == [False, True, True] * 2
    np.testing.assert_array_equal(own[0].data, head)


def test_layers_of_previews_that_the_user_removed_stay_away_and_do_not_pile_up(widget, qtbot, viewer):
    strip = strip_of(widget, qtbot)
    strip.layers.click()
    strip.history.setValue(0)
    strip.layers.click()
    assert len(viewer.layers) == 6 and all("step 0" in layer.name for layer in viewer.layers)
    viewer.layers.clear()
    widget.train_on(widget._run, 0.01)
    widget.wait(60)
    assert not len(viewer.layers)


def test_the_slice_chosen_in_the_strip_is_what_the_next_previews_show(widget, qtbot):
    strip = strip_of(widget, qtbot)
    strip.slice.setValue(80)
    assert widget._at == 0.8


def test_what_is_not_of_a_trained_head_in_both_contrasts_gives_no_score():
    fake = np.zeros((8, 8), np.float32)
    assert Preview(1, *[fake] * 6).errors() == {}
    paired = Preview(1, fake, fake + 0.5, fake, fake + 1, fake, fake, paired=True)
    assert paired.errors() == {"t2": (0.25, 0.5), "t1": (0.0, 0.5)}
    assert held_out_error({}, {}) == ""
    assert "T2 25.0% (50.0%)" in held_out_error(paired.errors(), {"t1": "T1", "t2": "T2"})


def test_the_curve_is_raw_and_faint_and_its_mean_bold(widget):
    for step in range(60):
        widget.curve.add(step, {"cycle": 1.0 + step % 2})
    widget.curve.draw_now()
    raw, mean = widget.curve._lines["cycle"]
    assert raw.get_alpha() < 0.5 and mean.get_linewidth() > raw.get_linewidth()
    assert np.ptp(raw.get_ydata()) == 1 and np.ptp(mean.get_ydata()[3:]) < 0.4
    assert widget.curve.axes.get_yscale() == "log"
    widget.curve.log.setChecked(False)
    assert widget.curve.axes.get_yscale() == "linear"
    assert widget.curve.axes.get_legend() is None  # it stands below, never over the data


def test_the_curve_follows_the_theme_of_the_window(widget):
    widget.setStyleSheet("QWidget { background-color: #262930; color: #f0f1f2; }")
    widget.curve.add(1, {"cycle": 1.0})
    dark = widget.curve._lines["cycle"][1].get_color()
    widget.setStyleSheet("QWidget { background-color: #ffffff; color: #101010; }")
    assert to_hex(widget.curve.axes.get_facecolor()) == "#ffffff"
    assert widget.curve._lines["cycle"][1].get_color() not in (dark, None)


def test_a_loss_that_comes_rarely_is_drawn_all_the_same(widget):
    for step in range(20):
        widget.curve.add(step, {"cycle": 1.0} | ({"held-out": 0.2} if step % 10 == 0 else {}))
    widget.curve.draw_now()
    assert list(widget.curve._lines["held-out"][0].get_xdata()) == [0, 10]


def test_a_training_can_go_on_for_more_minutes_and_shows_the_curve_before(widget, config):
    widget.go.click()
    widget.wait(60)
    before = list(widget.curve.steps)
    assert not widget.more_row.isHidden() and widget.more.text() == "Train for 5 more minutes"
    widget.more_minutes.setValue(0.1)
    widget.more.click()
    assert widget.more_row.isHidden()
    event = widget.wait(60)
    assert event.reason == "completed" and event.step > config.steps
    assert widget.curve.steps[: len(before)] == before and widget.curve.steps[-1] > before[-1]
    assert not widget.start_rows["resume"].value  # the next one is a new one


def test_after_a_run_that_went_on_the_next_one_has_the_settings_of_before(widget, config, tmp_path):
    begun = replace(config, run_folder=tmp_path / "earlier", start="", model=replace(config.model, channels=8))
    list(training.train(begun))
    before = replace(widget.form.config, start="auto")
    widget.form.fill(before)
    widget.train_on(begun.run_folder, 0.1)
    assert (widget.form.config.start, widget.form.config.model.channels) == ("", 8)
    widget.wait(60)
    assert replace(widget.form.config, run_folder=before.run_folder) == before
    assert memory.recall("train") == {}  # nor are they what the next window begins with


def test_after_a_run_that_went_on_the_next_one_has_a_folder_of_its_own(widget, config, tmp_path):
    begun = replace(config, run_folder=tmp_path / "earlier")
    list(training.train(begun))
    widget.train_on(begun.run_folder, 0.1)
    widget.wait(60)
    assert not widget.form["run_folder"].value.exists()
    widget.form["minutes"].value, widget.form["steps"].value = 0, 4
    widget.go.click()
    assert widget.wait(60).reason == "completed"


def test_a_paused_run_says_so(widget, qtbot):
    widget.form["steps"].value = ENDLESS
    run_until_it_learns(widget, qtbot)
    widget.pause.click()
    assert widget.status.text().startswith("Paused at step ")
    widget.pause.click()
    assert widget.status.text().startswith("Training on ")
    widget.stop.click()
    widget.wait(20)


def test_a_trial_says_how_fast_it_is_here_and_leaves_nothing(widget, viewer, config, tmp_path):
    assert "Not tried here yet" in widget.purpose.text()
    widget.tools["How fast here?"].click()
    widget.wait(60)
    assert "steps/s, so" in widget.purpose.text() and "threw them away" in widget.status.text()
    assert not config.run_folder.exists() and not (tmp_path / "runs").exists()
    assert widget.strip.isHidden() and widget.curve.isHidden() and memory.last_model is None
    widget.go.click()
    assert widget.wait(60).step == config.steps


def test_while_it_trains_the_settings_are_folded_away_and_come_back_where_it_fails(widget, config):
    widget.go.click()
    assert widget.settings.content.isHidden() and widget.earlier.isHidden() and not widget.stop.isHidden()
    widget.wait(60)
    assert widget.stop.isHidden() and not widget.go.isHidden() and not widget.earlier.isHidden()
    widget.go.click()
    widget.wait(20)  # the folder is taken
    assert widget.state == "failed" and not widget.settings.content.isHidden()


def test_the_command_and_the_script_are_copied(widget, config):
    widget.tools["Copy as command"].click()
    assert QGuiApplication.clipboard().text().startswith("napari-t1t2 train ")
    widget.tools["Copy as Python"].click()
    assert "TrainConfig.from_dict" in QGuiApplication.clipboard().text()
    widget.form["crop"].value = 33
    widget.tools["Copy as Python"].click()
    assert "Crop is 33" in widget.status.text()
