"""The list of earlier trainings."""

import shutil
import sys
from dataclasses import replace

import pytest
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox

from napari_t1t2.model.about import read_about
from napari_t1t2.model.saved import describe_anew, load_model
from napari_t1t2.runs import training
from napari_t1t2.widgets._memory import memory
from napari_t1t2.widgets.train import TrainWidget


@pytest.fixture
def run(trained):
    """A run in the folder of all runs, with its images beside it."""
    for contrast in ("T1", "T2"):
        shutil.copytree(trained.parent / contrast, memory.home / contrast)
    shutil.copy(trained / "model.safetensors", memory.home / "first.copy")
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
    assert item.text().startswith("first\nhardly trained, 0:0") and " min\nT1, T2, own settings" in item.text()
    assert "(4 steps): hardly trained" in widget.runs.says.text()
    assert widget.runs.list.height() < 100  # no empty rows below, which push the buttons away


def test_what_a_run_is_stands_there_before_it_is_used(widget):
    card = widget.runs.card
    assert "Hardly trained, 4 steps on 7 T1 and 7 T2 slices" in card.line.text() and "invented" in card.line.text()
    assert not card.isHidden() and card.rows.isHidden()
    card.more.unfold()
    assert "<b>Limits:</b>" in card.rows.text() and not card.rows.isHidden()


def test_the_best_model_of_a_run_is_offered_where_it_is_not_the_last(widget, run, qtbot):
    best = widget.runs.buttons["Translate with best"]
    assert not best.isEnabled()
    other = replace(read_about(run), step=2)
    describe_anew(load_model(run), other)
    (run / "model.safetensors").rename(run / "best.safetensors")
    shutil.copy(run.parent / "first.copy", run / "model.safetensors")
    widget.runs.refresh()
    assert best.isEnabled() and "that of step 2" in widget.runs.says.text()
    with qtbot.waitSignal(widget.next_step) as handed:
        best.click()
    assert handed.args == [run / "best.safetensors"] == [memory.last_model]


def test_the_folder_of_a_run_is_opened(widget, run, monkeypatch):
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    widget.runs.buttons["Open folder"].click()
    assert [url.toLocalFile() for url in opened] == [str(run)]


def test_two_runs_are_handed_on_to_be_compared(widget, run, qtbot):
    second = shutil.copytree(run, run.with_name("second"))
    widget.runs.refresh()
    compare = widget.runs.buttons["Compare two"]
    assert not compare.isEnabled()
    widget.runs.list.selectAll()
    assert compare.isEnabled()
    with qtbot.waitSignal(widget.next_step) as handed:
        compare.click()
    assert {model.parent for model in handed.args[0]} == {run, second}


@pytest.mark.parametrize("missing", [False, True])
def test_a_run_is_exported_and_what_is_missing_is_a_sentence(widget, run, monkeypatch, qtbot, tmp_path, missing):
    pytest.importorskip("onnx")
    out = tmp_path / "to T2.onnx"
    monkeypatch.setattr(QInputDialog, "getItem", lambda *_: ("T2", True))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(out), ""))
    if missing:
        script = (
            "import sys; print('napari-t1t2: This needs onnx: install it with pip install \"napari-t1t2[export]\".')"
        )
        monkeypatch.setattr("napari_t1t2.widgets._runs.COMMAND", (sys.executable, "-c", script))
    widget.runs.buttons["Export"].click()
    assert "Exporting" in widget.runs.says.text()
    wanted = "This needs onnx: install it" if missing else f"{out} makes T2"
    qtbot.waitUntil(lambda: widget.runs.says.text().startswith(wanted), timeout=60_000)
    assert out.exists() != missing


@pytest.mark.parametrize("act", ["Rename", "Delete"])
def test_what_is_shown_of_a_run_goes_with_its_folder(widget, run, viewer, monkeypatch, act):
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("new name", True))
    monkeypatch.setattr(QMessageBox, "question", lambda *_, **__: QMessageBox.StandardButton.Yes)
    widget.in_cockpit = True
    widget.more_minutes.setValue(0.1)
    widget.runs.buttons["Continue"].click()
    widget.wait(60)
    widget.runs.refresh()
    widget.runs.buttons[act].click()
    widget.strip.layers.click()
    kept = act == "Rename"
    assert [not part.isHidden() for part in (widget.strip, widget.more_row, widget.next)] == [kept] * 3
    assert len(viewer.layers) == 6 * kept
    if kept:
        widget.more.click()
        assert widget.wait(60).path.parent == run.with_name("new name")


def test_a_run_that_is_gone_from_disk_is_told_and_leaves_the_list(widget, run, qtbot):
    shutil.rmtree(run)
    with qtbot.assertNotEmitted(widget.next_step):
        widget.runs.buttons["Translate with it"].click()
    assert "was removed" in widget.runs.says.text() and widget.runs.list.count() == 0


def test_pictures_that_were_removed_with_their_folder_are_told(widget, run, viewer):
    widget.strip.open(run, ("T1", "T2"))
    shutil.rmtree(run)
    widget.strip.layers.click()
    assert "removed" in widget.strip.step.text() and not viewer.layers


@pytest.mark.parametrize(
    ("name", "kind", "asked"), [("to T2", "TorchScript (*.ts)", []), ("a.zip", "", ["--overwrite"])]
)
def test_a_model_is_exported_as_the_kind_that_was_chosen(widget, monkeypatch, tmp_path, qtbot, name, kind, asked):
    monkeypatch.setattr(QInputDialog, "getItem", lambda *_: ("T2", True))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / name), kind))
    monkeypatch.setattr("napari_t1t2.widgets._runs.COMMAND", (sys.executable, "-c", "import sys; print(sys.argv)"))
    widget.runs.buttons["Export"].click()
    qtbot.waitUntil(lambda: "'export'" in widget.runs.says.text(), timeout=60_000)
    ending = ".ts" if kind else ""
    assert widget.runs.says.text().endswith(str([str(tmp_path / name) + ending, *asked])[1:])


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
