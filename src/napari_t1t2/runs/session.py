"""One run that somebody is driving. A widget, a terminal and a notebook all drive it alike."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Literal, TypeVar

from ..atomic import FULL
from ..errors import Refusal, shown
from ..events import Failed, Finished
from ..model.memory import ran_out

EventT = TypeVar("EventT")
State = Literal["running", "paused", "stopping", "stopped", "completed", "failed"]
log = logging.getLogger(__name__)


class Session(Generic[EventT]):
    """A run that can be stopped and paused, and never raises: it ends with `Failed(sentence)` instead.

    A generator worker of napari loses a `RuntimeError` (out of memory is one) without a sign, so nothing may be
    raised into it.

    Parameters
    ----------
    start
        Begins the run, given a function that says whether to stop and that blocks while the run is paused.

    Examples
    --------
    >>> session = Session(lambda stop: train(config, stop=stop))
    >>> for event in session:
    ...     print(event)
    """

    def __init__(self, start: Callable[[Callable[[], bool]], Iterator[EventT]]) -> None:
        self._start = start
        self._stop = threading.Event()
        self._going = threading.Event()
        self._going.set()
        self._ended: State | None = None

    def stop(self) -> None:
        """Ask the run to save itself and end, also when paused. Safe from any thread, and twice."""
        self._stop.set()
        self._going.set()

    def pause(self) -> None:
        """Hold the run before its next step."""
        self._going.clear()

    def go_on(self) -> None:
        """End a pause."""
        self._going.set()

    @property
    def state(self) -> State:
        """How the run stands, or how it has ended."""
        if self._ended:
            return self._ended
        if self._stop.is_set():
            return "stopping"
        return "running" if self._going.is_set() else "paused"

    def __iter__(self) -> Iterator[EventT | Failed]:
        last: EventT | None = None
        try:
            for last in self._start(self._should_stop):
                yield last
        except Exception as error:
            self._ended = "failed"
            yield Failed(explain(error))
        else:
            stopped = last.reason == "stopped" if isinstance(last, Finished) else self._stop.is_set()
            self._ended = "stopped" if stopped else "completed"
        finally:  # whoever keeps an ended session keeps no images
            self._start = lambda stop: iter(())

    def _should_stop(self) -> bool:
        self._going.wait()
        return self._stop.is_set()


def explain(error: Exception) -> str:
    """A sentence with a remedy for what the engine raised; what was not foreseen goes to the log in full."""
    return str(error) if isinstance(error, Refusal) else shown(_explained(error))


def _explained(error: Exception) -> str:
    text = str(error)
    if ran_out(error):
        return (
            "The memory ran out. Train with a lower batch, crop or channels; translate on the cpu, or free some memory."
        )
    if isinstance(error, OSError) and error.errno in FULL:
        return f"{error.filename or 'Writing failed'}: the disk is full: free some space. What was saved is kept."
    if isinstance(error, PermissionError) and error.filename:
        return f"{error.filename}: no permission to read or write there; choose another folder."
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}."
    if isinstance(error, ImportError | ChildProcessError):
        return text
    log.error("unexpected error in a run", exc_info=error)
    return f"Something unforeseen went wrong ({type(error).__name__}: {text}). Please report it with the log."


def clock(seconds: float) -> str:
    """Like 1:02:03 or 4:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
