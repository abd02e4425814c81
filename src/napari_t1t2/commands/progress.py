"""How far a job is, in one line of a terminal or a log."""

from __future__ import annotations

import sys
import time
from typing import Any


def reading_text(event: Any) -> str:
    """How far a `Reading` is, in a few words."""
    text: str = event.text()
    return text


def progress_text(event: Any) -> str:
    """Step, losses, speed and time left of a `Progress`, in one line."""
    from ..runs.session import clock

    losses = " ".join(f"{name} {value:.3f}" for name, value in event.losses.items())
    return f"step {event.step} | {losses} | {event.slices_per_second:.1f} slices/s | {clock(event.seconds_left)} left"


class ProgressLine:
    """One line that is rewritten on a terminal; in a log, a new line every ten seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._shown_at = 0.0
        self._open = False

    def show(self, text: str, *, last: bool = False) -> None:
        """Rewrite the line, or add one if it is time (or the last)."""
        if self._terminal:
            print(f"\r\033[K{text}", end="", flush=True)
            self._open = True
        elif last or time.monotonic() - self._shown_at >= 10:
            print(text, flush=True)
            self._shown_at = time.monotonic()

    def end(self) -> None:
        """Go to a new line if the last one was rewritten."""
        if self._open:
            print()
            self._open = False
