"""What the dock widgets share: a form, a job in a worker thread, and the one place where threads meet."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from threading import Thread
from typing import Any
from weakref import WeakMethod

from napari.qt.threading import GeneratorWorker, create_worker
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QCoreApplication, QEvent, QObject, QSize, Qt, Signal
from qtpy.QtGui import QGuiApplication, QTextOption
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QBoxLayout,
    QComboBox,
    QFrame,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QScrollBar,
    QSizePolicy,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from ..events import Failed, Finished
from ..runs.session import Session, State, explain
from ._form import leave_wheel, stack

THREAD = "napari-t1t2 job"  # its name
MARK = "#2f7fd6"  # of what has the focus; stands out from the grounds of both themes, 3.5 to 1
FOCUS = f"""QPushButton:focus, QComboBox:focus, QAbstractSpinBox:focus, QLineEdit:focus, QCheckBox:focus, QSlider:focus,
    QAbstractItemView:focus {{ border: 1px solid {MARK}; }}"""
KEPT = 160  # pixels of the status, at most; on a small screen a fifth of it


class SessionWorker(GeneratorWorker[Any, None, None]):
    """A worker that quits by letting the run save itself: napari calls `quit` when it closes.

    napari keeps each `quit` for as long as its window lives: it holds neither the worker nor the session.
    """

    def __init__(self, drive: Callable[[Session[Any]], Iterator[Any]], session: Session[Any]) -> None:
        super().__init__(drive, session)
        stop = WeakMethod(session.stop)
        self.quit = lambda: (still := stop()) and still()

    def start(self) -> None:
        """Begin at once, in a thread that Python waits for: Qt's global pool runs only as many as there are cores."""
        self._worker_set.add(self)  # which napari asks to quit
        self._finished.connect(self._set_discard)
        Thread(target=self.run, name=THREAD).start()


class _Slot:
    """The session under way; outlives the widget, so that a closed dock can still stop it."""

    session: Session[Any] | None = None

    def stop(self) -> None:
        if self.session is not None:
            self.session.stop()


class Status(QTextEdit):
    """Sentences to read and copy. It wraps them, within long words too, grows with them, and scrolls beyond `kept`."""

    def __init__(self, kept: int = KEPT) -> None:
        super().__init__()
        screen = QGuiApplication.primaryScreen()
        self._kept = min(kept, screen.availableGeometry().height() * kept // (5 * KEPT)) if screen else kept
        self._text = ""  # toPlainText() makes plain spaces of those that do not break
        self.setReadOnly(True)
        self.setUndoRedoEnabled(False)
        self.setFrameShape(QFrame.Shape.NoFrame)
        plain = "background: transparent; padding: 0; border: 1px solid transparent;"
        self.setStyleSheet(f"QTextEdit {{ {plain} }} QTextEdit:focus {{ border-color: {MARK}; }}")
        self.setTabChangesFocus(True)
        self.setText("")
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Maximum)
        self.document().setDocumentMargin(0)
        self.document().documentLayout().documentSizeChanged.connect(lambda _: self.updateGeometry())

    def text(self) -> str:
        """What it says."""
        return self._text

    def setText(self, text: str) -> None:
        """Say something else; never read as HTML."""
        self._text = text
        self.setPlainText(text)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus if text else Qt.FocusPolicy.NoFocus)

    def sizeHint(self) -> QSize:
        """All lines, if they are few."""
        return QSize(0, min(math.ceil(self.document().size().height()) + 4, self._kept))

    def minimumSizeHint(self) -> QSize:
        """No less: other docks leave that much room."""
        return self.sizeHint()


class Rows(QScrollArea):
    """Scrolls the form up and down, so that a small screen still shows the buttons; no row is cut off at the side."""

    def __init__(self, form: QWidget) -> None:
        super().__init__()
        self.setWidget(rows := stack(QWidget(), form))
        layout = rows.layout()
        assert isinstance(layout, QVBoxLayout)
        layout.addStretch(1)  # takes the room that the form leaves
        for kind in (QAbstractSpinBox, QComboBox, QAbstractSlider):
            for row in rows.findChildren(kind):
                if not isinstance(row, QScrollBar):
                    leave_wheel(row)
        self.setWidgetResizable(True)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # its rows have it, and come into sight with it
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Tell the dock when the form needs another width, and let no label be narrower than its text."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest and (rows := self.widget()):
            for label in rows.findChildren(QLabel):  # magicgui measures them in another font than the window's
                if not label.wordWrap() and 0 < label.minimumWidth() < label.sizeHint().width():
                    label.setMinimumWidth(label.sizeHint().width())
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))

    def minimumSizeHint(self) -> QSize:
        """As wide as the form needs it."""
        rows, bar = self.widget(), self.verticalScrollBar()
        assert rows is not None and bar is not None
        least = rows.minimumSizeHint().width() + bar.sizeHint().width()
        return QSize(least, super().minimumSizeHint().height())


class JobWidget(QWidget):
    """A form on top, which scrolls; below it the buttons `go` and `stop`, a progress bar, a status, and remarks.

    From a script: set the form's rows, `go.click()`, then `wait()` for the last event.
    """

    next_step = Signal(object)  # what the next step begins with
    in_cockpit = False  # where somebody follows it

    def __init__(self, form: QWidget, go: str) -> None:
        super().__init__()
        self.call = go
        self._slot = slot = _Slot()
        self._last: Any = None
        self._told: set[str] = set()
        self._ended: State = "completed"
        self.go = QPushButton(go)
        self.stop = QPushButton("Stop")
        self.stop.setEnabled(False)
        self.stop.hide()
        self.next = QPushButton("Next")
        self.next.hide()
        self._offered: Any = None
        self.buttons = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self.buttons.addWidget(self.go, 2)
        self.buttons.addWidget(self.stop, 1)
        self.buttons.addWidget(self.next, 2)
        self.progress = QProgressBar()
        self.progress.setRange(0, 1000)
        self.progress.hide()
        self.status = Status()
        self.remarks = Status(KEPT // 2)
        self.remarks.hide()
        for shown, name in ((self.status, "status"), (self.remarks, "remarks"), (self.progress, "progress")):
            shown.setAccessibleName(name)
        self._form = form
        self.setStyleSheet(FOCUS)

        self.body = QVBoxLayout(self)
        self.body.addWidget(Rows(form), 1)
        self.body.addLayout(self.buttons)
        self.body.addWidget(self.progress)
        self.body.addWidget(self.status)
        self.body.addWidget(self.remarks)

        self.next.clicked.connect(lambda: self.next_step.emit(self._offered))
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
        return self._slot.session.state if self._slot.session else self._ended

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
                raise TimeoutError(f"{self.call} is still running after {seconds:g} s.")
            QCoreApplication.processEvents()
            time.sleep(0.005)
        return self._last

    def start(self) -> Callable[[Callable[[], bool]], Iterator[Any]]:
        """Read the form and return what `Session` begins. Raises `Refusal` with a sentence."""
        raise NotImplementedError(f"{type(self).__name__} must say what it does.")

    def on_event(self, event: Any) -> None:
        """Show an event; runs in the GUI thread."""

    def tell(self, sentence: str) -> None:
        """Show a notice that does not end the job; it stands in the dock until the next one.

        Only the first time it also pops up: napari keeps 0.2 MiB of each notice that does.
        """
        if sentence not in self._told:
            show_warning(sentence)
        self._told.add(sentence)
        self._remark(sentence)

    def mention(self, sentence: str) -> None:
        """Show what is good to know and no problem."""
        show_info(sentence)
        self._remark(sentence)

    def missing(self) -> str:
        """What the button waits for, in a few words; empty where it can be pressed."""
        return ""

    def check(self, _: Any = None) -> None:
        """Say on the button what is missing; called when a row has changed."""
        missing = self.missing()
        self.go.setText(f"{self.call}: {missing}" if missing else self.call)
        flow = QBoxLayout.Direction  # beside Next, a long text makes the dock wider than a small screen
        self.buttons.setDirection(flow.TopToBottom if missing and not self.next.isHidden() else flow.LeftToRight)

    def tab_through(self, *parts: QWidget) -> None:
        """Let the Tab key go through these in this order."""
        for before, after in pairwise(parts):
            self.setTabOrder(before, after)

    def offer(self, text: str, what: Any) -> None:
        """Show a button that goes on to the next step with `what`; in a cockpit, where there is a next one."""
        self._offered = what
        self.next.setText(text)
        self.next.setVisible(self.in_cockpit)

    def _remark(self, sentence: str) -> None:
        lines = self.remarks.text().splitlines()
        self.remarks.setText("\n".join(dict.fromkeys([*lines, *sentence.splitlines()])))
        self.remarks.show()

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
        self.remarks.setText("")
        self.remarks.hide()
        self.next.hide()
        try:
            begin = self.start()
        except Exception as error:
            self._fail(explain(error))
            return
        session: Session[Any] = Session(begin)
        self._slot.session = session
        self._set_running(True)
        worker = create_worker(Session.__iter__, session, _start_thread=False, _worker_class=SessionWorker)
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
        self.attempt(lambda: self.on_event(event))

    def _on_ended(self) -> None:
        self._ended = "failed" if isinstance(self._last, Failed) else self.state
        self._slot.session = None
        if self._ended == "stopped" and not isinstance(self._last, Finished):  # which has told of it
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
        self.go.setVisible(not running)
        self.stop.setEnabled(running)
        self.stop.setVisible(running)
        self.progress.setVisible(running)

    def _fail(self, sentence: str) -> None:
        self._last = Failed(sentence)
        self._ended = "failed"
        self.status.setText(sentence)
        show_error(sentence)
