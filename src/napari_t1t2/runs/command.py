"""The command line in a process of its own, line by line: so the window does what takes many files.

It is the same program with the same words, and what it has finished stays when it is stopped.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from ..errors import Refusal
from .process import NO_CONSOLE

COMMAND = (sys.executable, "-P", "-u", "-m", "napari_t1t2")
HOW_FAR = re.compile(r"(?:looking at )?([\d,]+) of ([\d,]+)(?: files)?[:,]")
EVERY_VARIABLE = "NAPARI_T1T2_LOG_EVERY"  # seconds between two lines that say how far a command is
PATIENCE = 30.0  # seconds in which a stopped command must have ended


@dataclass(frozen=True)
class Line:
    """What the command says; with `done` and `total` where it tells how far it is."""

    text: str
    done: int = 0
    total: int = 0


def run_command(arguments: Sequence[str], *, stop: Callable[[], bool] = lambda: False) -> Iterator[Line]:
    """The lines of `napari-t1t2 ARGUMENTS`; ends early, as by Ctrl-C, once `stop` says so.

    Raises `Refusal` with what the command said where it could not be done.
    """
    ended = Event()
    each = os.environ | {EVERY_VARIABLE: "0.1"}  # of thousands of files, a window could not show each
    each |= {"PYTHONIOENCODING": "utf-8"}  # Windows would take a code page for a pipe
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    pipes |= {"encoding": "utf-8", "errors": "replace", "creationflags": NO_CONSOLE}
    with subprocess.Popen((*COMMAND, *arguments), **pipes, env=each) as child:

        def watch() -> None:
            while not ended.wait(0.1):
                if stop():
                    child.terminate()  # SIGINT is ignored by what a shell starts in the background
                    if not ended.wait(PATIENCE):
                        child.kill()
                    return

        watcher = Thread(target=watch, name="napari-t1t2 command")
        watcher.start()
        refused: list[str] = []
        try:
            assert child.stdout
            for line in filter(None, map(str.strip, child.stdout)):
                found = HOW_FAR.match(line)
                if line.startswith("napari-t1t2: "):
                    refused.append(line.removeprefix("napari-t1t2: "))
                else:
                    yield Line(line, *(int(n.replace(",", "")) for n in found.groups()) if found else ())
        except GeneratorExit:  # nobody reads on
            child.kill()
            raise
        finally:
            code = child.wait()
            ended.set()
            watcher.join()
        if code == 2:
            raise Refusal(*refused)
        if code and not stop():
            raise ChildProcessError(f"The command ended with exit code {code}: " + " ".join(refused))
