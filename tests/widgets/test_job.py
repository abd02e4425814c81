import json
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from magicgui.widgets import Container, FileEdit
from qtpy.QtCore import QCoreApplication, QPoint, QPointF, QRunnable, Qt, QThreadPool, QTimer
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QAbstractSpinBox, QApplication, QComboBox, QLabel, QScrollArea, QWidget

from napari_t1t2.events import Failed, Finished
from napari_t1t2.model.about import read_about
from napari_t1t2.widgets import _job
from napari_t1t2.widgets._job import JobWidget, Rows
from napari_t1t2.widgets.evaluate import EvaluateWidget
from napari_t1t2.widgets.load import LoadWidget
from napari_t1t2.widgets.train import TrainWidget
from napari_t1t2.widgets.translate import TranslateWidget


class Job(JobWidget):
    """Yields 1, waits until `release` is set or it is asked to stop, yields 2."""

    def __init__(self):
        super().__init__(QWidget(), "Go")
        self.release = threading.Event()
        self.shown = []

    def start(self):
        def run(stop):
            yield 1
            while not (self.release.wait(0.01) or stop()):
                pass
            yield 2

        return run

    def on_event(self, event):
        self.shown.append(event)
        self.status.setText(f"event {event}")


@pytest.fixture
def job(qtbot, told):
    job = Job()
    qtbot.addWidget(job)
    return job


@pytest.fixture
def full_pool():
    """Qt's global pool with as many jobs of others as it runs at once."""
    done = threading.Event()

    class Busy(QRunnable):
        def run(self):
            done.wait()

    pool = QThreadPool.globalInstance()
    for _ in range(pool.maxThreadCount()):
        pool.start(Busy())
    yield
    done.set()
    assert pool.waitForDone(10_000)


def test_a_job_begins_at_once_however_many_others_run(qtbot, told, full_pool):
    jobs = [Job() for _ in range(5)]
    for job in jobs:
        qtbot.addWidget(job)
        job.go.click()
    qtbot.waitUntil(lambda: all(job.shown == [1] for job in jobs))
    for job in jobs:
        job.release.set()
        assert job.wait(20) == 2


def test_waiting_lasts_until_the_job_ends_however_long_that_takes(job, monkeypatch):
    hours = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(_job.time, "monotonic", lambda: next(hours))
    job.go.click()
    QTimer.singleShot(50, job.release.set)
    assert job.wait() == 2


def test_waiting_gives_up_when_it_was_told_to(job):
    job.go.click()
    with pytest.raises(TimeoutError, match=r"Go is still running after 0\.01 s"):
        job.wait(0.01)
    job.release.set()
    assert job.wait(20) == 2


def test_a_job_that_ends_by_itself_is_completed_whatever_the_status_says(job, qtbot):
    job.go.click()
    qtbot.waitUntil(lambda: job.shown == [1])
    assert job.state == "running"
    job.on_event = lambda event: job.status.setText("Stopping after this step ...")
    job.release.set()
    job.wait(20)
    assert (job.state, job.status.text()) == ("completed", "Stopping after this step ...")


def test_a_stopped_job_says_so_also_when_an_event_came_after_the_click(job, qtbot):
    job.go.click()
    qtbot.waitUntil(lambda: job.shown == [1])
    job.stop.click()
    assert job.state == "stopping" and "Stopping" in job.status.text()
    assert job.wait(20) == 2
    assert (job.state, job.status.text(), job.shown) == ("stopped", "Stopped.", [1, 2])


def test_a_job_that_ends_without_a_word_when_it_is_stopped_was_stopped(job, qtbot):
    def run(stop):
        yield 1
        while not stop():
            pass

    job.start = lambda: run
    job.go.click()
    qtbot.waitUntil(lambda: job.shown == [1])
    job.stop.click()
    job.wait(20)
    assert (job.state, job.status.text()) == ("stopped", "Stopped.")


@pytest.mark.parametrize("reason", ["completed", "stopped"])
def test_what_the_last_event_says_of_the_end_holds(job, qtbot, tmp_path, reason):
    job.start = lambda: lambda stop: iter([Finished(3, tmp_path, reason)])
    job.go.click()
    job.wait(20)
    assert (job.state, job.status.text()[:14]) == (reason, "event Finished")


def test_a_job_that_cannot_go_on_has_failed_and_the_next_one_may_complete(job, told):
    start = job.start
    job.start = lambda: lambda stop: iter([Failed("It broke.")])
    job.go.click()
    assert job.wait(20).sentence == told[0] and job.state == "failed"
    job.start = start
    job.release.set()
    job.go.click()
    assert job.wait(20) == 2 and job.state == "completed"


def test_an_event_that_cannot_be_shown_stops_the_job_which_has_then_failed(job, told):
    def broken(event):
        raise MemoryError

    job.on_event = broken
    job.go.click()
    assert isinstance(job.wait(20), Failed)
    assert job.state == "failed" and "memory" in job.status.text()


def test_a_job_that_is_stopped_while_paused_ends(job, qtbot):
    job.go.click()
    qtbot.waitUntil(lambda: job.shown == [1])
    job._slot.session.pause()
    job.stop.click()
    job.wait(20)
    assert job.state == "stopped"


QUIT = """
import json, sys
from napari._qt.qt_event_loop import get_qapp, run
from napari.components import ViewerModel
from qtpy.QtCore import QSettings, QTimer
from napari_t1t2.config import TrainConfig
from napari_t1t2.widgets.train import TrainWidget
QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, sys.argv[2])
application = get_qapp()
widget = TrainWidget(ViewerModel())
widget.form.fill(TrainConfig.from_dict(json.loads(sys.argv[1])))
widget.show()
widget.go.click()
timer = QTimer()
timer.timeout.connect(lambda: application.quit() if widget.curve.steps else None)
timer.start(10)
run()
"""


@pytest.mark.slow
def test_a_run_is_saved_when_napari_quits(config, tmp_path):
    settings = json.dumps(replace(config, steps=1_000_000, save_every=1_000_000).to_dict())
    subprocess.run([sys.executable, "-c", QUIT, settings, str(tmp_path / "settings")], check=True, timeout=100)
    assert read_about(config.run_folder).step > 0


def turn_wheel(over: QWidget) -> None:
    """A turn of the wheel towards the user, with the pointer over a widget: offered upwards until taken, as Qt does."""
    taken = False
    while over is not None and not taken:  # an empty QComboBox is false
        at, none = QPointF(over.rect().center()), QPoint()
        how = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False
        turn = QWheelEvent(at, over.mapToGlobal(at), none, QPoint(0, -120), *how)
        turn.ignore()
        QApplication.sendEvent(over, turn)
        taken, over = turn.isAccepted(), over.parentWidget()


@pytest.fixture(params=[LoadWidget, TrainWidget, TranslateWidget, EvaluateWidget])
def dock(request, viewer, qtbot, told):
    dock = request.param(viewer)
    qtbot.addWidget(dock)
    dock.resize(500, 200)  # no form fits
    dock.show()
    dock.go.setFocus()
    QCoreApplication.processEvents()
    return dock


def rows_of(dock):
    return [*dock.findChildren(QAbstractSpinBox), *dock.findChildren(QComboBox)]


def shown_by(row):
    return row.text() if isinstance(row, QAbstractSpinBox) else row.currentText()


def test_the_wheel_over_a_row_scrolls_the_form_and_changes_no_value(dock):
    area = next(area for area in dock.findChildren(QScrollArea) if isinstance(area, Rows))
    bar = area.verticalScrollBar()
    assert bar.maximum() > 0 and rows_of(area)
    for row in rows_of(dock):
        before = shown_by(row)
        bar.setValue(0)
        turn_wheel(row)
        assert shown_by(row) == before and (bar.value() > 0 or not area.isAncestorOf(row)), row
        assert not row.hasFocus()


def test_a_row_with_the_focus_takes_the_wheel(viewer, qtbot, told):
    train = TrainWidget(viewer)
    qtbot.addWidget(train)
    train.show()
    train.activateWindow()
    row = train.form["minutes"].native
    row.setFocus()
    qtbot.waitUntil(row.hasFocus)
    train.form["minutes"].value = 5
    turn_wheel(row)
    assert train.form["minutes"].value < 5


def test_a_notice_pops_up_once_and_stands_in_the_dock_each_time(qtbot, told):
    widget = JobWidget(QWidget(), "Go")
    qtbot.addWidget(widget)
    for _ in range(3):
        widget.remarks.setText("")
        widget.tell("It is dark.")
        assert widget.remarks.text() == "It is dark."
    assert told == ["It is dark."]


def test_no_label_is_cut_off_at_its_end(qtbot):
    form = Container(widgets=[FileEdit(label="T1 folder", name="folder")])
    form.native.setStyleSheet("font-size: 19px")  # as a theme, a screen or the user has it
    rows = Rows(form.native)
    qtbot.addWidget(rows)
    rows.resize(260, 100)
    with qtbot.waitExposed(rows):
        rows.show()
    (label,) = rows.findChildren(QLabel)
    qtbot.waitUntil(lambda: label.width() >= label.fontMetrics().horizontalAdvance("T1 folder"))
