"""A process that does one job after another and keeps its model: torch, its memory and crashes stay out of napari.

Both sides speak over the child's pipes, as in `process`. Jobs go in; each is answered by its events, then by `ENDED`.
Between two slices the child sends `None`, which asks what to do. When nobody is left to answer, it ends.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ..errors import Refusal
from ..events import Failed
from .process import NO_CONSOLE, how_it_ended, tail
from .session import Session

if TYPE_CHECKING:
    from ..model.saved import Model

COMMAND = (sys.executable, "-P", "-m", "napari_t1t2.runs.child")
Slice = tuple[int | None, ...]  # an index of (..., Z, Y, X) data; None along the two axes that are seen
Answer = Slice | Literal["stop"] | None  # None: go on
ENDED = "ended"  # the last that is said of a job


class Models:
    """The model that was used last, ready for the next job."""

    def __init__(self) -> None:
        self._known: tuple[Any, Model] | None = None

    def load(self, path: Path, wish: str) -> Model:
        """Read it, unless it is the same file for the same device."""
        from ..model.about import model_file
        from ..model.device import pick_device
        from ..model.saved import load_model  # these bring torch, which takes seconds

        file = model_file(path)
        about = file.stat()
        key = file, about.st_mtime_ns, about.st_size, wish
        if self._known is None or self._known[0] != key:
            self._known = key, load_model(file, pick_device(wish))
        return self._known[1]


class Job(Protocol):
    """What a child can be asked to do; pickled to it."""

    def run(self, models: Models, ask: Callable[[], Answer]) -> Iterator[Any]:
        """Do it, and tell how it goes."""


@dataclass(frozen=True)
class Warm:
    """Have the model ready before it is needed."""

    model: Path
    device: str

    def run(self, models: Models, ask: Callable[[], Answer]) -> Iterator[Any]:
        """Read it, and translate a small slice: the first one takes half a second more than those after it."""
        model = models.load(self.model, self.device)
        from ..images.intensity import measure
        from ..images.plane import View
        from ..synthesis.translation import batches

        ramp = np.arange(32 * 32, dtype=np.float32).reshape(1, 32, 32)
        for _ in batches(ramp, View(), model, "t2", measure([ramp])):
            pass
        yield from ()


class Child:
    """A process that runs one job after another and keeps what it has loaded; begun when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: Any = None
        self._owed = 0  # jobs whose answers nobody has read
        self._busy = Lock()
        self._closing = False

    def warm(self, model: Path, device: str) -> None:
        """Let the child read a model while nobody waits for it; does nothing where a job is under way."""
        if self._busy.acquire(blocking=False):
            try:
                with suppress(OSError):
                    self._send(Warm(model, device))
            finally:
                self._busy.release()

    def run(self, job: Job, answer: Callable[[], Answer]) -> Iterator[Any]:
        """The events of a job; `answer` is asked between two slices, in the thread that iterates.

        Raises
        ------
        Refusal
            The sentence that the job ended with.
        ChildProcessError
            The child is gone without one. The next job begins another.
        """
        with self._busy:
            ended = False
            try:
                if self._process and self._process.poll() is not None:
                    self.end()  # it died between two jobs
                self._send(job)
                while self._owed > 1:  # what was asked before
                    self._owed -= isinstance(self._receive(), str)
                while not isinstance(event := self._receive(), str):
                    if isinstance(event, Failed):
                        ended = isinstance(self._receive(), str)
                        raise Refusal(event.sentence)
                    if event is None:
                        self._write(answer())
                    else:
                        yield event
                ended = True
            except (EOFError, OSError, pickle.UnpicklingError):
                raise ChildProcessError(self._last_words()) from None
            finally:
                self._owed = 0
                if not ended or self._closing:  # given up half-way, or nobody needs it any more
                    self.end()

    def close(self) -> None:
        """End the child, at once or after the job that is under way, which somebody has to stop."""
        self._closing = True
        if self._busy.acquire(blocking=False):
            try:
                self.end()
            finally:
                self._busy.release()

    def end(self) -> None:
        """End the child now."""
        if self._process:
            for pipe in (self._process.stdin, self._process.stdout):
                with suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
            self._process.kill()
            self._process.wait()
            self._errors.close()
        self._process, self._owed, self._closing = None, 0, False

    def __del__(self) -> None:
        self.end()

    def _send(self, job: Job) -> None:
        if self._process is None:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # as in `process`, takes whatever comes
            self._process = subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                creationflags=NO_CONSOLE,
            )
        self._owed += 1
        self._write(job)

    def _write(self, what: Any) -> None:
        assert self._process and self._process.stdin
        pipe, rest = self._process.stdin.fileno(), pickle.dumps(what)
        while rest:
            rest = rest[os.write(pipe, rest) :]

    def _receive(self) -> Any:
        assert self._process and self._process.stdout
        return pickle.load(self._process.stdout)

    def _last_words(self) -> str:
        """What became of a child that ended by itself, and what to do."""
        assert self._process
        why = how_it_ended("translating", self._process.wait(), tail(self._errors), "close other programs")
        return f"The translating process {why}. What it had not finished was removed; translate again."


def main() -> None:
    """The child: do what stdin says, job after job, and tell stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it too: whoever drives it decides, or is gone
    events, answers, models = os.fdopen(os.dup(1), "wb"), sys.stdin.buffer, Models()
    os.dup2(2, 1)  # whatever prints does not print between the events
    if hasattr(os, "nice"):
        os.nice(5)  # where there are few cores, the window comes first

    def send(event: Any) -> None:
        events.write(pickle.dumps(event))
        events.flush()

    def ask() -> Answer:
        send(None)
        answer: Answer = pickle.load(answers)
        return answer

    with suppress(EOFError, OSError):  # nobody is there any more
        while True:
            job: Job = pickle.load(answers)
            for event in Session(lambda _, job=job: job.run(models, ask)):  # type: ignore[misc]
                send(event)
            send(ENDED)


if __name__ == "__main__":
    main()
