"""The list of earlier trainings."""

import shutil

import pytest
from qtpy.QtWidgets import QInputDialog, QMessageBox

from napari_t1t2.runs import training
from napari_t1t2.widgets._memory import memory
from napari_t1t2.widgets.train import TrainWidget


@pytest.fixture
def run(trained):
    """A run in the folder of all runs, with its images beside it."""
    for contrast in ("T1", "T2"):
        shutil.copytree(trained.parent / contrast, memory.home / contrast)
    return shutil.copytree(trained, memory.home / "first")


@pytest.fixture
def widget(viewer, qtbot, told, run, monkeypatch):
    monkeypatch.setattr("napari_t1t2.widgets.train.train_in_process", lambda *run, **how: training.train(*run, **how))
    widget = TrainWidget(viewer)
    qtbot.addWidget(widget)
    widget.earlier.unfold()
    return widget


def test_a_run_is_listed_with_its_picture_and_a_line_on_it(widget):
    item = widget.runs.list.item(0)
    assert widget.runs.list.count() == 1 and not item.icon().isNull()
    assert item.text().startswith("first\ntrained 0:0") and item.text().endswith(" min, hardly")
    assert "(4 steps): hardly trained" in widget.runs.says.text()


def test_a_run_elsewhere_is_listed_once_it_was_trained(widget, trained, tmp_path):
    other = shutil.copytree(trained, tmp_path / "other")
    memory.add_run(other)
    widget.runs.refresh()
    assert widget.runs.list.count() == 2


def test_a_run_is_continued(widget, run):
    widget.more_minutes.setValue(0.1)
    widget.runs.buttons["Continue"].click()
    event = widget.wait(60)
    assert event.reason == "completed" and event.step > 4 and event.path.parent == run


def test_a_run_is_handed_on_for_translating(widget, run, qtbot):
    with qtbot.waitSignal(widget.next_step) as handed:
        widget.runs.buttons["Translate with it"].click()
    assert handed.args == [run] and memory.last_model == run / "model.safetensors"


def test_a_run_is_renamed_and_stays_the_last_model(widget, run, monkeypatch):
    memory.last_model = run / "model.safetensors"
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("new name", True))
    widget.runs.buttons["Rename"].click()
    assert not run.exists() and memory.last_model == run.with_name("new name") / "model.safetensors"
    assert widget.runs.run.folder == run.with_name("new name")
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("a/b", True))
    widget.runs.buttons["Rename"].click()
    assert "is no name for a folder" in widget.runs.says.text() and run.with_name("new name").exists()


def test_a_run_is_deleted_only_when_the_user_agrees_and_other_files_stay(widget, run, monkeypatch):
    answers = iter([QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes])
    monkeypatch.setattr(QMessageBox, "question", lambda *_, **__: next(answers))
    (run / "own notes.odt").write_text("mine")
    widget.runs.buttons["Delete"].click()
    assert (run / "model.safetensors").exists()
    widget.runs.buttons["Delete"].click()
    assert [path.name for path in run.iterdir()] == ["own notes.odt"]
    assert widget.runs.list.count() == 0 and not widget.runs.buttons["Continue"].isEnabled()
    assert "There is no training" in widget.runs.says.text()
