"""Training in a process of its own: while it imports, computes or crashes, the window lives on.

Both sides speak over the child's pipes, which nobody else can write to. To the child: the run, then one line for each
question. From it: its events, and `None` for the question whether to stop, which it asks before each step. So it
trains no further than somebody iterates, as `train` does; and when nobody is left to answer, as napari was closed or
killed, it saves and ends.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from ..config import TrainConfig
from ..errors import Refusal
from ..events import Failed, Finished, TrainEvent
from .folder import CHECKPOINT_FILE
from .session import Session

# Not multiprocessing: its spawn runs the main module again, and a script that opens napari opens it twice; and its
# connections take such pipes on Unix alone.
# -P: what lies in the working folder, such as a random.py, is not imported.
COMMAND = (sys.executable, "-P", "-m", "napari_t1t2.runs.process")
GO_ON, STOP = b"go on", b"stop\n"  # the first is followed by the slice to preview
NO_CONSOLE = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows opens one for each child of a window without one
TAIL = 4000  # characters of what the child wrote to stderr: enough for a traceback
log = logging.getLogger(__name__)


def train_in_process(
    config: TrainConfig,
    *,
    stop: Callable[[], bool] = lambda: False,
    resume: bool = False,
    preview_at: Callable[[], float] = lambda: 0.5,
) -> Iterator[TrainEvent]:
    """`runs.training.train` in a child process: same arguments, same events. Loads no torch here.

    Raises
    ------
    Refusal
        The sentence that `train` would have ended with.
    ChildProcessError
        The child is gone without one: it crashed, or the system ended it. Names the run folder.
    """
    with (
        tempfile.TemporaryFile() as errors,  # takes whatever comes, where a pipe that nobody reads would block
        subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, creationflags=NO_CONSOLE
        ) as child,
    ):
        assert child.stdin and child.stdout
        try:
            answer = child.stdin.fileno()  # past its buffer, which would be written again on closing
            os.write(answer, pickle.dumps((config, resume)))
            while not isinstance(event := pickle.load(child.stdout), Finished | Failed):
                if event is None:
                    os.write(answer, STOP if stop() else b"%s %.3f\n" % (GO_ON, preview_at()))
                else:
                    yield event
        except (EOFError, OSError, pickle.UnpicklingError):
            raise ChildProcessError(_last_words(child.wait(), tail(errors), config.run_folder)) from None
        if isinstance(event, Failed):
            if said := tail(errors):
                log.warning("the training process said: %s", said)
            raise Refusal(event.sentence)
        yield event


def main() -> None:
    """The child: train what stdin says, and tell stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it too: who drives it decides, or is gone
    logged_out = threading.Event()
    for name in ("SIGTERM", "SIGHUP"):  # the second one of a closed terminal; Windows has none
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: logged_out.set())
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints does not print between the events
    answers = sys.stdin.buffer
    config, resume = pickle.load(answers)
    at = 0.5

    def send(event: TrainEvent | Failed | None) -> None:
        events.write(pickle.dumps(event))  # whole: of a killed child's event the end may be missing, never the middle
        events.flush()

    def stop() -> bool:
        nonlocal at
        try:
            send(None)
        except OSError:
            return True
        if not (answer := answers.readline()).startswith(GO_ON):
            return True
        at = float(answer.removeprefix(GO_ON))
        return logged_out.is_set()

    def start(_: Callable[[], bool]) -> Iterator[TrainEvent]:
        from .training import train  # brings torch: an ImportError becomes a sentence here

        return train(config, stop=stop, resume=resume, preview_at=lambda: at)

    for event in Session(start):
        with suppress(OSError):  # nobody listens any more: `stop` will say so
            send(event)


def tail(errors: IO[bytes]) -> str:
    """The end of what a child wrote to stderr."""
    end = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, end - TAIL))
    return errors.read().decode(errors="replace").strip()


def how_it_ended(what: str, code: int, said: str, remedy: str) -> str:
    """The end of a sentence on a child that ended by itself, its subject; all that it said goes to the log."""
    if said:
        log.error("the %s process said: %s", what, said)
    if code == -9:  # SIGKILL, which nothing can answer; so works Linux when memory is short
        return f"was ended by the system, most likely as the memory ran short: {remedy}"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"crashed ({how}{': ' + said.splitlines()[-1][:200] if said else ''})"


def _last_words(code: int, said: str, run: Path) -> str:
    """What became of a child that ended by itself, and what to do."""
    why = how_it_ended("training", code, said, "take a lower batch, crop or channels")
    if (run / CHECKPOINT_FILE).is_file():
        return f"The training process {why}. The last checkpoint is in {run}: resume that run to go on from it."
    return f"The training process {why}. Nothing was saved in {run} yet: train again."


if __name__ == "__main__":
    main()
