"""Keep what the libraries that read files say of odd headers from the terminal: what matters is in the notes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import numpy as np

_lock, _hushed = Lock(), ExitStack()
_readers = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Hush nibabel, pydicom, NumPy and warnings.

    Threads share loggers and warnings: the first reader to come hushes them, the last to go gives them back.
    """
    global _readers
    with _lock:
        if not _readers:
            _hushed.enter_context(warnings.catch_warnings(action="ignore"))
            for log in map(logging.getLogger, ("nibabel.global", "pydicom")):
                _hushed.callback(setattr, log, "disabled", log.disabled)
                log.disabled = True
        _readers += 1
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        with _lock:
            _readers -= 1
            if not _readers:
                _hushed.close()
