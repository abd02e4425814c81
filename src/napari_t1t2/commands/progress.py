"""How far a job is: tqdm's bar on a terminal; in a log, a new line every ten seconds."""

from __future__ import annotations

import os
import sys
import time
from typing import IO, TYPE_CHECKING, Any

from ..errors import shown
from ..runs.command import EVERY_VARIABLE

if TYPE_CHECKING:
    from ..events import Progress

EVERY = float(os.environ.get(EVERY_VARIABLE, 10))  # seconds between the lines of a log
BAR = "{percentage:3.0f}% |{bar:12}| {desc}"


def say(*lines: str, file: IO[str] | None = None) -> None:
    """Print lines, to standard output or a file: what a name or text in them would do to a terminal is escaped."""
    for line in lines:
        print(shown(line), file=file, flush=True)


def progress_text(event: Progress) -> str:
    """Step, losses, speed and time left of a `Progress`, in one line."""
    from ..runs.session import clock

    losses = " ".join(f"{name} {value:.3f}" for name, value in event.losses.items())
    return f"step {event.step} | {losses} | {event.slices_per_second:.1f} slices/s | {clock(event.seconds_left)} left"


class ProgressLine:
    """The line that says how far a job is; `end` it before printing anything else."""

    def __init__(self, log: IO[str] | None = None) -> None:
        self._log = log  # standard output, unless another is given
        self._bar: Any = None
        self._shown_at = 0.0

    def show(self, text: str, fraction: float, *, last: bool = False) -> None:
        """Say how far it is, or, in a log, if it is time (or the last)."""
        log = self._log or sys.stdout
        if log.isatty():
            if self._bar is None:
                from tqdm import tqdm  # 0.1 s, which --help need not wait for

                self._bar = tqdm(total=1.0, bar_format=BAR, file=log, dynamic_ncols=True)
            self._bar.n = min(fraction, 1.0)
            self._bar.set_description_str(shown(text))
        elif last or time.monotonic() - self._shown_at >= EVERY:
            say(text, file=log)
            self._shown_at = time.monotonic()

    def end(self) -> None:
        """Go to a new line, if one was begun."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
