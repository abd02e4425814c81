"""Training in a process of its own: while it imports, computes or crashes, the window lives on.

Both sides speak over the child's pipes. To the child: one line of JSON with the run, then one line for each question.
From it: one line of JSON for each event, followed by the bytes of its images, and `null` for the question whether to
stop, which it asks before each step. So it trains no further than somebody iterates, as `train` does; and when nobody
is left to answer, as napari was closed or killed, it saves and ends.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import IO, Any, get_args

import numpy as np

from ..config import TrainConfig
from ..errors import Refusal
from ..events import Failed, Finished, TrainEvent
from .folder import CHECKPOINT_FILE, claimed
from .session import Session

# Not multiprocessing: its spawn runs the main module again, and a script that opens napari opens it twice.
# -P: what lies in the working folder, such as a random.py, is not imported.
COMMAND = (sys.executable, "-P", "-m", "napari_t1t2.runs.process")
ASK, GO_ON, STOP = b"null\n", b"go on\n", b"stop\n"
KINDS = {kind.__name__: kind for kind in (*get_args(TrainEvent), Failed)}
TAIL = 4000  # characters of what the child wrote to stderr: enough for a traceback
log = logging.getLogger(__name__)


def train_in_process(
    config: TrainConfig, *, stop: Callable[[], bool] = lambda: False, resume: bool = False
) -> Iterator[TrainEvent]:
    """`engine.training.train` in a child process: same arguments, same events. Loads no torch here.

    Raises
    ------
    Refusal
        The sentence that `train` would have ended with.
    ChildProcessError
        The child is gone without one: it crashed, or the system ended it. Names the run folder.
    """
    with (
        claimed(config.run_folder),
        tempfile.TemporaryFile() as errors,  # takes whatever comes, where a pipe that nobody reads would block
        subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as child,
    ):
        assert child.stdin and child.stdout
        try:
            answer = child.stdin.fileno()  # past its buffer, which would be written again on closing
            os.write(answer, json.dumps({"config": config.to_dict(), "resume": resume}).encode() + b"\n")
            while not isinstance(event := _receive(child.stdout), Finished | Failed):
                if event is None:
                    os.write(answer, STOP if stop() else GO_ON)
                else:
                    yield event
        except (EOFError, OSError):
            raise ChildProcessError(_last_words(child.wait(), _tail(errors), config.run_folder)) from None
        if isinstance(event, Failed):
            if said := _tail(errors):
                log.warning("the training process said: %s", said)
            raise Refusal(event.sentence)
        yield event


def main() -> None:
    """The child: train what stdin says, and tell stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it too: who drives it decides, or is gone
    logged_out = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: logged_out.set())
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints does not print between the events
    answers = sys.stdin.buffer
    run = json.loads(answers.readline())

    def stop() -> bool:
        try:
            _say(events, ASK)
        except OSError:
            return True
        return answers.readline() != GO_ON or logged_out.is_set()

    def start(_: Callable[[], bool]) -> Iterator[TrainEvent]:
        from .training import train  # brings torch: an ImportError becomes a sentence here

        return train(TrainConfig.from_dict(run["config"]), stop=stop, resume=run["resume"])

    for event in Session(start):
        with suppress(OSError):  # nobody listens any more: `stop` will say so
            _send(events, event)


def _say(pipe: IO[bytes], line: bytes) -> None:
    pipe.write(line)
    pipe.flush()


def _send(pipe: IO[bytes], event: TrainEvent | Failed) -> None:
    """One event; its images follow their line in the order in which it mentions them."""
    images: list[bytes] = []

    def unknown_to_json(value: Any) -> dict[str, Any]:
        if isinstance(value, Path):
            return {"path": str(value)}
        images.append(value.astype(np.float32, copy=False).tobytes())
        return {"image": value.shape}

    values = {field.name: getattr(event, field.name) for field in fields(event)}
    line = json.dumps([type(event).__name__, values], default=unknown_to_json)
    _say(pipe, b"".join([line.encode(), b"\n", *images]))


def _receive(pipe: IO[bytes]) -> TrainEvent | Failed | None:
    """The next event; None is the question whether to stop. Raises `EOFError` where the sender is gone."""

    def known_to_us(found: dict[str, Any]) -> Any:
        match found:
            case {"path": str(path)}:
                return Path(path)
            case {"image": shape}:
                content = pipe.read(4 * math.prod(shape))
                if len(content) < 4 * math.prod(shape):
                    raise EOFError
                return np.frombuffer(bytearray(content), np.float32).reshape(shape)  # a bytearray can be written to
        return found

    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    if line == ASK:
        return None
    kind, values = json.loads(line, object_hook=known_to_us)
    event: TrainEvent | Failed = KINDS[kind](**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    return event


def _tail(errors: IO[bytes]) -> str:
    end = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, end - TAIL))
    return errors.read().decode(errors="replace").strip()


def _last_words(code: int, said: str, run: Path) -> str:
    """What became of a child that ended by itself, and what to do."""
    if said:
        log.error("the training process said: %s", said)
    if code == -9:  # SIGKILL, which nothing can answer; so works Linux when memory is short
        why = "was ended by the system, most likely as the memory ran short: take a lower batch, crop or channels"
    else:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        why = f"crashed ({how}{': ' + said.splitlines()[-1][:200] if said else ''})"
    if (run / CHECKPOINT_FILE).is_file():
        return f"The training process {why}. The last checkpoint is in {run}: resume that run to go on from it."
    return f"The training process {why}. Nothing was saved in {run} yet: train again."


if __name__ == "__main__":
    main()
