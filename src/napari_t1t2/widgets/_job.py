"""What the dock widgets share: a form, a job in a worker thread, and the one place where threads meet."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any, Literal

from napari.qt.threading import GeneratorWorker, create_worker
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QCoreApplication, QEvent, QSize, Qt
from qtpy.QtGui import QResizeEvent, QTextOption
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QFrame,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from ..events import Failed, Finished
from ..runs.session import Session, explain
from ._form import leave_wheel

State = Literal["running", "stopping", "stopped", "completed", "failed"]
THREAD = "napari-t1t2 job"  # its name
KEPT = 160  # pixels of the status, at most, that other docks cannot take from it


class SessionWorker(GeneratorWorker[Any, None, None]):
    """A worker that quits by letting the run save itself: napari calls `quit` when it closes."""

    session: Session[Any]

    def start(self) -> None:
        """Begin at once, in a thread that Python waits for: Qt's global pool runs only as many as there are cores."""
        self._worker_set.add(self)  # which napari asks to quit
        self._finished.connect(self._set_discard)
        Thread(target=self.run, name=THREAD).start()

    def quit(self) -> None:
        """Ask the run to end."""
        self.session.stop()


class _Slot:
    """The session under way and how it stands; outlives the widget, so that a closed dock can still stop it."""

    session: Session[Any] | None = None
    state: State = "completed"

    def stop(self) -> None:
        if self.session is not None and self.state == "running":
            self.state = "stopping"
            self.session.stop()


class Status(QTextEdit):
    """Sentences to read and copy. It wraps them, within long words too, grows with them, and scrolls beyond `KEPT`."""

    def __init__(self) -> None:
        super().__init__()
        self._text = ""  # toPlainText() makes plain spaces of those that do not break
        self.setReadOnly(True)
        self.setUndoRedoEnabled(False)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setStyleSheet("QTextEdit { background: transparent; border: none; padding: 0; }")
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Maximum)
        self.document().setDocumentMargin(0)

    def text(self) -> str:
        """What it says."""
        return self._text

    def setText(self, text: str) -> None:
        """Say something else; never read as HTML."""
        self._text = text
        self.setPlainText(text)
        self.updateGeometry()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Another width takes another number of lines."""
        super().resizeEvent(event)
        self.updateGeometry()

    def sizeHint(self) -> QSize:
        """All lines."""
        return QSize(0, math.ceil(self.document().size().height()) + 2)

    def minimumSizeHint(self) -> QSize:
        """All lines, if they are few."""
        return QSize(0, min(self.sizeHint().height(), KEPT))


class Rows(QScrollArea):
    """Scrolls the form up and down, so that a small screen still shows the buttons; no row is cut off at the side."""

    def __init__(self, rows: QWidget) -> None:
        super().__init__()
        self.setWidget(rows)
        for row in (*rows.findChildren(QAbstractSpinBox), *rows.findChildren(QComboBox)):
            leave_wheel(row)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def minimumSizeHint(self) -> QSize:
        """As wide as the form needs it."""
        rows, bar = self.widget(), self.verticalScrollBar()
        assert rows is not None and bar is not None
        least = rows.minimumSizeHint().width() + bar.sizeHint().width()
        return QSize(least, super().minimumSizeHint().height())


class JobWidget(QWidget):
    """A form on top; below it the buttons `go` and `stop`, a progress bar and a status line.

    From a script: set the form's rows, `go.click()`, then `wait()` for the last event.
    """

    def __init__(self, form: QWidget, go: str) -> None:
        super().__init__()
        self._slot = slot = _Slot()
        self._last: Any = None
        self.go = QPushButton(go)
        self.stop = QPushButton("Stop")
        self.stop.setEnabled(False)
        self.buttons = QHBoxLayout()
        self.buttons.addWidget(self.go, 2)
        self.buttons.addWidget(self.stop, 1)
        self.progress = QProgressBar()
        self.progress.setRange(0, 1000)
        self.progress.hide()
        self.status = Status()
        self._form = form

        rows = QWidget()
        packed = QVBoxLayout(rows)
        packed.setContentsMargins(0, 0, 0, 0)
        packed.addWidget(form)
        packed.addStretch()
        self.body = QVBoxLayout(self)
        self.body.addWidget(Rows(rows), 1)
        self.body.addLayout(self.buttons)
        self.body.addWidget(self.progress)
        self.body.addWidget(self.status)

        self.go.clicked.connect(self._on_go)
        self.stop.clicked.connect(self._on_stop)
        self.destroyed.connect(lambda: slot.stop())

    def event(self, event: QEvent) -> bool:
        """Stop the job when the dock is closed: napari then takes the widget out of it and sends no close event."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._slot.stop()
        return bool(super().event(event))

    @property
    def running(self) -> bool:
        """Whether a job is under way."""
        return self._slot.session is not None

    @property
    def state(self) -> State:
        """How the job stands, or how the last one ended."""
        return self._slot.state

    def wait(self, seconds: float | None = None) -> Any:
        """Keep the window alive until the job has ended, however long; returns its last event.

        Raises
        ------
        TimeoutError
            When it is still running after `seconds`, if they are given.
        """
        began = time.monotonic()
        while self.running:
            if seconds is not None and time.monotonic() > began + seconds:
                raise TimeoutError(f"{self.go.text()} is still running after {seconds:g} s.")
            QCoreApplication.processEvents()
            time.sleep(0.005)
        return self._last

    def start(self) -> Callable[[Callable[[], bool]], Iterator[Any]]:
        """Read the form and return what `Session` begins. Raises `Refusal` with a sentence."""
        raise NotImplementedError(f"{type(self).__name__} must say what it does.")

    def on_event(self, event: Any) -> None:
        """Show an event; runs in the GUI thread."""

    def tell(self, sentence: str) -> None:
        """Show a notice that does not end the job."""
        show_warning(sentence)

    def mention(self, sentence: str) -> None:
        """Show what is good to know and no problem."""
        show_info(sentence)

    def attempt(self, show: Callable[[], None]) -> None:
        """Show something; if that fails, say so and stop the job. Raised into Qt it would end napari."""
        try:
            show()
        except Exception as error:
            self._slot.stop()
            self._fail(explain(error))

    def show_fraction(self, fraction: float, text: str) -> None:
        """Move the progress bar."""
        self.progress.setValue(round(1000 * fraction))
        self.progress.setFormat(text.replace("%", "%%"))

    def _on_go(self) -> None:
        try:
            begin = self.start()
        except Exception as error:
            self._fail(explain(error))
            return
        session: Session[Any] = Session(begin)
        self._slot.session, self._slot.state = session, "running"
        self._set_running(True)

        def drive() -> Iterator[Any]:
            yield from session

        worker = create_worker(drive, _start_thread=False, _worker_class=SessionWorker)
        worker.session = session
        worker.yielded.connect(self._on_yielded)
        worker.finished.connect(self._on_ended)
        worker.start()

    def _on_stop(self) -> None:
        self._slot.stop()
        self.stop.setEnabled(False)
        self.status.setText("Stopping after this step ...")

    def _on_yielded(self, event: Any) -> None:
        if isinstance(self._last, Failed):  # what was still under way when showing an event failed
            return
        self._last = event
        if isinstance(event, Failed):
            self._fail(event.sentence)
        elif isinstance(event, Finished):
            self._slot.state = event.reason
        self.attempt(lambda: self.on_event(event))

    def _on_ended(self) -> None:
        self._slot.session = None
        if self.state == "running":
            self._slot.state = "completed"
        elif self.state == "stopping":  # and no event has told of it
            self._slot.state = "stopped"
            self.status.setText("Stopped.")
        self._set_running(False)
        self._on_finished()

    def _on_finished(self) -> None:
        """Tidy up after a job, whatever its `state`; runs in the GUI thread."""

    def _set_running(self, running: bool) -> None:
        if running:
            self._last = None
            self.status.setText("Starting ...")
            self.show_fraction(0, "")
        self._form.setEnabled(not running)
        self.go.setEnabled(not running)
        self.stop.setEnabled(running)
        self.progress.setVisible(running)

    def _fail(self, sentence: str) -> None:
        self._last = Failed(sentence)
        self._slot.state = "failed"
        self.status.setText(sentence)
        show_error(sentence)
