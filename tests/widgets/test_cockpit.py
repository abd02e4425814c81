"""The one dock: its pages, the way through them, and what it leaves behind."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from superqt.utils import WorkerBase

from napari_t1t2.runs import training
from napari_t1t2.sample import DemoHeads
from napari_t1t2.widgets import load as load_module
from napari_t1t2.widgets._memory import memory
from napari_t1t2.widgets.cockpit import STEPS, CockpitWidget
from napari_t1t2.widgets.load import LoadWidget
from napari_t1t2.widgets.train import TrainWidget


@pytest.fixture
def cockpit(viewer, qtbot, told, monkeypatch):
    monkeypatch.setattr("napari_t1t2.widgets.train.train_in_process", lambda *run, **how: training.train(*run, **how))
    cockpit = CockpitWidget(viewer)
    qtbot.addWidget(cockpit)
    return cockpit


def dropped(*folders):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(folder)) for folder in folders])
    return data


def drop(widget, data, at=(5, 5)):
    """Drag over a widget and let go."""
    action, button, keys = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    entered = QDragEnterEvent(QPointF(*at).toPoint(), action, data, button, keys)
    entered.ignore()
    widget.dragEnterEvent(entered)
    if entered.isAccepted():
        widget.dropEvent(QDropEvent(QPointF(*at), action, data, button, keys))
    return entered.isAccepted()


def test_only_the_first_page_is_made_before_another_is_looked_at(cockpit):
    assert [cockpit.tabText(i).split()[-1] for i in range(cockpit.count())] == list(STEPS)
    assert list(cockpit._pages) == [0]
    cockpit.setCurrentIndex(2)
    assert list(cockpit._pages) == [0, 2]


def test_from_two_folders_to_an_overlay_in_five_clicks(cockpit, viewer, config):
    clicks = []

    def click(button):
        assert not button.isHidden() and button.isEnabled()
        clicks.append(button.text())
        button.click()

    load = cockpit.page(0)
    load.form["t1_folder"].value, load.form["t2_folder"].value = config.t1_folder, config.t2_folder
    click(load.go)
    load.wait(20)
    click(load.next)
    train = cockpit.page(1)
    assert cockpit.currentIndex() == 1 and train.form["t2_folder"].value == config.t2_folder
    train.form.fill(config, keep=["t1_folder", "t2_folder"])  # tiny networks, no more clicks
    click(train.go)
    train.wait(60)
    click(train.next)
    translate = cockpit.page(2)
    assert cockpit.currentIndex() == 2 and translate.form["model"].value == config.run_folder / "model.safetensors"
    click(translate.go)
    translate.wait(60)
    assert len(clicks) == 5 and viewer.layers[-1].metadata["synthetic"]


def test_two_earlier_trainings_are_compared_on_the_same_slices(cockpit, viewer, trained, head, tmp_path, here, qtbot):
    data = np.stack([head] * 3)
    viewer.layers.selection.active = viewer.add_image(data, name="scan", metadata={"contrast": "T1"})
    for name in ("first", "second"):
        memory.add_run(shutil.copytree(trained, tmp_path / name))
    train = cockpit.page(1)
    train.earlier.unfold()
    train.runs.list.selectAll()
    train.runs.buttons["Compare two"].click()
    assert cockpit.currentIndex() == 2
    qtbot.waitUntil(lambda: cockpit.currentIndex() == 3, timeout=60_000)
    compare = cockpit.page(3)
    shown = [compare.form[name].value.name for name in ("real", "synthetic")]
    assert sorted(shown) == ["T2 (synthetic) from scan, first", "T2 (synthetic) from scan, second"]
    assert compare.view.layer.name.startswith("curtain: ")
    compare.form["view"].value = "separate layers"


def test_a_next_step_is_offered_only_where_there_is_one(cockpit, viewer, config, qtbot):
    alone = LoadWidget(viewer)
    qtbot.addWidget(alone)
    for load in (alone, cockpit.page(0)):
        load.form["t1_folder"].value, load.form["t2_folder"].value = config.t1_folder, config.t2_folder
        load.go.click()
        load.wait(20)
        assert load.next.isHidden() == (load is alone)
    cockpit.page(0).form["t2_folder"].value = config.t2_folder / "nowhere"
    cockpit.page(0).go.click()
    cockpit.page(0).wait(20)
    assert cockpit.page(0).next.isHidden()


def test_no_page_is_wider_than_a_screen_of_960_pixels_leaves_it_whatever_its_buttons_say(cockpit, tmp_path):
    room = 960 - 330 - 276 - 8  # beside napari's layer controls and its canvas with sliders, at 200 % of 1920 pixels
    cockpit.page(0).form["t1_folder"].value = tmp_path / "nowhere"
    cockpit.page(0).form["size"].value = 100
    for index in range(len(STEPS)):
        page = cockpit.page(index)
        page.offer("Next: translate with it", tmp_path)
        page.check()
        assert page.go.text() != page.call and page.minimumSizeHint().width() <= room, page.go.text()


def test_two_folders_dropped_on_any_page_are_loaded(cockpit, config, viewer):
    cockpit.setCurrentIndex(1)
    assert drop(cockpit, dropped(config.t2_folder, config.t1_folder))  # in whichever order
    load = cockpit.page(0)
    assert cockpit.currentIndex() == 0
    load.wait(20)
    assert [layer.metadata["folder"] for layer in viewer.layers] == [str(config.t1_folder), str(config.t2_folder)]


@pytest.mark.parametrize(("name", "side"), [("T2", "t2"), ("scans", "t1")])
def test_one_folder_dropped_goes_where_its_name_says_or_to_the_first_free_row(cockpit, tmp_path, name, side):
    (tmp_path / "new" / name).mkdir(parents=True)
    assert drop(cockpit.page(0), dropped(tmp_path / "new" / name))
    assert cockpit.page(0).form[f"{side}_folder"].value == tmp_path / "new" / name


def test_a_folder_dropped_on_a_row_goes_there(cockpit, tmp_path, qtbot):
    load = cockpit.page(0)
    cockpit.show()
    row = load.form["t2_folder"].native
    place = row.mapTo(load, row.rect().center())
    drop(load, dropped(tmp_path), at=(place.x(), place.y()))
    assert load.form["t2_folder"].value == tmp_path


def test_text_that_is_dragged_over_the_dock_is_not_taken(cockpit):
    data = QMimeData()
    data.setText("hello")
    assert not drop(cockpit, data) and not drop(cockpit.page(0), data)


def test_the_sample_heads_are_written_loaded_and_filled_in_for_training(cockpit, viewer, config, monkeypatch):
    def write(home):
        for side, folder in (("T1", config.t1_folder), ("T2", config.t2_folder)):
            (home / side).parent.mkdir(parents=True, exist_ok=True)
            folder.rename(home / side)
        (home / "held-out" / "T2").mkdir(parents=True)
        return DemoHeads(home / "T1", home / "T2", home, home)

    monkeypatch.setattr("napari_t1t2.sample.write_heads", write)
    load = cockpit.page(0)
    load.sample.click()
    load.wait(20)
    assert len(viewer.layers) == 2 and not load.next.isHidden()
    load.next.click()
    train = cockpit.page(1)
    assert train.form["t1_folder"].value == load_module.sample_home() / "T1"
    assert train.go.text() == "Train"


@pytest.mark.parametrize("side", ["t1", "t2"])
def test_a_folder_that_is_not_there_is_told_below_its_row_and_on_the_button(cockpit, config, side):
    load = cockpit.page(0)
    assert load.go.text() == "Load: choose a folder first"
    load.form[f"{side}_folder"].value = "/nowhere"
    told = {row.name: row for row in load.folders}[f"{side}_folder_wrong"]
    assert "/nowhere does not exist" in told.value and "see above" in load.go.text()
    load.form[f"{side}_folder"].value = config.t1_folder
    assert not told.native.isVisibleTo(load) and load.go.text() == "Load"


def test_a_setting_that_cannot_be_is_told_below_its_row_which_comes_to_light(viewer, qtbot, told, config):
    train = TrainWidget(viewer)
    qtbot.addWidget(train)
    assert train.go.text() == "Train: choose the T1 folder first"
    train.form.fill(config)
    assert train.go.text() == "Train" and train.form.more.content.isHidden()
    train.form["crop"].value = 33
    said = {row.name: row for row in train.form.advanced}["crop_wrong"]
    assert "Crop is 33" in said.value and not train.form.more.content.isHidden()
    train.form["minutes"].value = train.form["steps"].value = 0
    train.form["crop"].value = 32
    assert "never ends" in {row.name: row for row in train.form.advanced}["crop_wrong"].value  # the row changed last
    train.form["steps"].value = 5
    assert train.go.text() == "Train" and not said.native.isVisibleTo(train)


def test_rows_are_remembered_over_restarts_until_they_are_reset(cockpit, viewer, config, qtbot):
    load, train = cockpit.page(0), cockpit.page(1)
    load.form["t1_folder"].value, load.form["t2_folder"].value = config.t1_folder, config.t2_folder
    load.form["t2_label"].value = "PD"
    load.go.click()
    load.wait(20)
    train.form.fill(config)
    train.go.click()
    train.wait(60)
    again = LoadWidget(viewer), TrainWidget(viewer)
    for widget in again:
        qtbot.addWidget(widget)
    assert (again[0].form["t1_folder"].value, again[0].form["t2_label"].value) == (config.t1_folder, "PD")
    assert again[1].form["crop"].value == config.crop and again[1].form["run_folder"].value != config.run_folder
    again[0].reset.click()
    again[1].tools["Reset"].click()
    assert again[0].form["t1_folder"].line_edit.value == "" and again[0].form["t2_label"].value == "T2"
    assert again[1].form["crop"].value == 128 and not memory.recall("load") and not memory.recall("train")


def test_remembered_rows_that_cannot_be_read_are_left_alone(viewer, qtbot, told):
    memory.remember("train", {"preset": "huge", "config": {"minutes": "many"}})
    memory.remember("load", {"t1_folder": "/data", "gone": 3})
    train, load = TrainWidget(viewer), LoadWidget(viewer)
    qtbot.addWidget(train), qtbot.addWidget(load)
    assert train.form["minutes"].value == 5 and load.form["t1_folder"].value == Path("/data")


def test_remarks_stand_in_the_dock_until_the_next_job(cockpit, config):
    (config.t1_folder / "notes.txt").write_text("not an image")
    train = cockpit.page(1)
    train.form.fill(config)
    train.go.click()
    train.wait(60)
    assert "skipped notes.txt" in train.remarks.text() and train.remarks.isVisibleTo(train)
    train.form["t1_folder"].value = config.t1_folder / "nowhere"
    train.go.click()
    train.wait(20)
    assert train.remarks.text() == ""


def train_for_ever(train, config, qtbot):
    train.form.fill(replace(config, steps=1_000_000))
    train.go.click()
    qtbot.waitUntil(lambda: len(train.curve.steps) > 0, timeout=60_000)


@pytest.mark.slow
def test_closing_the_cockpit_ends_the_jobs_of_its_pages_and_leaves_nothing(make_napari_viewer, qtbot, config, told):
    viewer = make_napari_viewer()
    dock, cockpit = viewer.window.add_plugin_dock_widget("napari-t1t2", "T1 / T2 contrasts")
    train_for_ever(cockpit.page(1), config, qtbot)
    viewer.window.remove_dock_widget(dock)
    del dock, cockpit
    qtbot.waitUntil(lambda: not WorkerBase._worker_set, timeout=20_000)
    assert (config.run_folder / "model.safetensors").is_file()
    assert not [t for t in threading.enumerate() if t.name == "napari-t1t2 job" and t.is_alive()]
    viewer.add_image(np.eye(4))  # no slot of the dead pages is left connected


@pytest.mark.slow
def test_two_windows_have_a_cockpit_each(make_napari_viewer, config, told):
    cockpits = [
        make_napari_viewer().window.add_plugin_dock_widget("napari-t1t2", "T1 / T2 contrasts")[1] for _ in range(2)
    ]
    cockpits[0].page(0).form["t1_folder"].value = config.t1_folder
    assert cockpits[1].page(0).form["t1_folder"].line_edit.value == ""
