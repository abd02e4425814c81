"""What the libraries that read files say: kept from the terminal, and turned into sentences where a file is broken."""

from __future__ import annotations

import gzip
import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock

import numpy as np

from ..errors import UnusableError
from .foreign import what_else
from .names import is_known

_lock, _hushed = Lock(), ExitStack()
_readers = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Hush nibabel, pydicom, tifffile, Pillow, NumPy and warnings: what matters of an odd header is in the notes.

    Threads share loggers and warnings: the first reader to come hushes them, the last to go gives them back.
    """
    global _readers
    with _lock:
        if not _readers:
            _hushed.enter_context(warnings.catch_warnings(action="ignore"))
            for log in map(logging.getLogger, ("nibabel.global", "pydicom", "tifffile", "PIL")):
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


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Be quiet, and raise `UnusableError` where a decoder fails: they raise whatever they like on broken files."""
    try:
        with quiet():
            yield
    except UnusableError:
        raise
    except Exception as error:
        said = (
            str(error)
            .replace(f' of "{path}"', "")
            .replace(f" {str(path)!r}", "")
            .split("plugins: ")[-1]
            .split(" <_io")[0]
        )
        reason = " ".join(said.split())[:160].rstrip(".:") or type(error).__name__
        why = f"cannot be decoded ({reason}); is it damaged, or of another kind than its name says?"
        if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
            why = f"its compressed data end early or are damaged ({reason}); copy it again."
        elif isinstance(error, MemoryError):
            why = f"its pixels do not fit into memory ({reason}); crop it, or is its header damaged?"
        elif isinstance(error, OSError) and error.errno:  # of the disk, not of a decoder
            why = f"cannot be read ({error.strerror}): allow it, or copy it again."
        elif is_known(path) and (other := what_else(path)):
            why = other
        raise UnusableError(f"{path.name}: {why}") from error
