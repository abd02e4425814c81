"""Files and folders that appear whole or not at all, and folders that one process at a time writes to."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from .errors import Refusal

PARTIAL = ".partial"
ABANDONED = 3600.0  # seconds without a write after which a partial file or folder is what a crash left behind
LOCK_FILE = ".lock"
FULL = (errno.ENOSPC, errno.EDQUOT)
WINDOWS = sys.platform == "win32"  # where nothing that is open can be removed, replaced or renamed
FOLDS_CASE = sys.platform in ("win32", "darwin")  # A.png and a.png are one file there
WAITS = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds between tries there: a virus scanner has new files open for a moment


@contextmanager
def written_file(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of the file `path` at the end.

    A power cut, a full disk or an error leaves the old file or the new one, never half of one. Raises `Refusal` where
    the disk is full.
    """
    with _renamed_at_end(path, f".{path.stem}.{uuid4().hex[:8]}{PARTIAL}{path.suffix}") as partial:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())


@contextmanager
def written_folder(folder: Path, mode: int = 0o777) -> Iterator[Path]:
    """A folder to fill, which takes the place of `folder` at the end, as in `written_file`; no folder is in it."""
    with _renamed_at_end(folder, f".{folder.name}.{uuid4().hex[:8]}{PARTIAL}") as partial:
        partial.mkdir(mode=mode)
        yield partial
        for path in partial.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        if folder.exists():
            shutil.rmtree(folder)  # nothing can be renamed onto a folder that holds something


@contextmanager
def _renamed_at_end(path: Path, name: str) -> Iterator[Path]:
    partial = path.with_name(name)
    try:
        with naming(path):
            yield partial
            _replace(partial, path)
            _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):  # of a disk that fails, nothing can be removed either
            shutil.rmtree(partial, ignore_errors=True) if partial.is_dir() else partial.unlink(missing_ok=True)
        raise


def _replace(partial: Path, path: Path) -> None:
    for wait in WAITS if WINDOWS else ():
        try:
            partial.replace(path)
            return
        except PermissionError:
            time.sleep(wait)
    partial.replace(path)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say of a write that fails which file it was for, and why, as `Refusal`. Errors of other files pass."""
    try:
        yield
    except RuntimeError as error:
        # PyTorch's writer tells of a full disk in its own ways, and says no more than where in the file it was
        if "inline_container" in str(error) or "iostream error" in str(error):
            raise Refusal(f"{path}: the disk is full: free some space. What was saved before is kept.") from error
        raise
    except OSError as error:
        while error.errno is None and isinstance(error.__context__, OSError):
            error = error.__context__  # pydicom puts its own, with a traceback, around that of the system
        if error.errno in FULL:
            raise Refusal(f"{path}: the disk is full: free some space. What was saved before is kept.") from error
        if error.filename is None or PARTIAL in str(error.filename) or str(error.filename) == str(path):
            raise Refusal(
                f"{path} cannot be written ({error.strerror or error}): see whether its disk and folder are there and "
                "yours to write to. What was saved before is kept."
            ) from error
        raise


def remove_abandoned(folder: Path, *, older: float = ABANDONED, named: str = f".*{PARTIAL}*") -> None:
    """Remove the partial files and folders that killed processes left in a folder, unwritten for so many seconds."""
    for path in folder.glob(named):
        with suppress(OSError):
            written = max(p.stat().st_mtime for p in (path, *(path.iterdir() if path.is_dir() else ())))
            if time.time() - written >= older:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sync_folder(folder: Path) -> None:
    """Keep the renaming over a power cut, where the system can."""
    if not WINDOWS:
        with suppress(OSError):  # some network file systems cannot
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


@contextmanager
def locked(folder: Path, in_use: str, *, leave: bool = True) -> Iterator[None]:
    """Keep all others out of a folder, which is made where it is missing. Raises `Refusal(in_use)` where one is in it.

    The lock lies in the folder, so that other machines see it too, and goes with a process that is killed. A folder
    that holds nothing else in the end is removed; unless `leave`, so is a lock that was not there before.
    """
    from filelock import FileLock, Timeout  # 30 ms, which opening the widgets need not wait for

    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove = not (leave or (folder / LOCK_FILE).exists())
        lock = FileLock(folder / LOCK_FILE)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise Refusal(in_use) from error
    except NotADirectoryError as error:
        raise Refusal(f"{folder} lies in a file, not in a folder: give another place.") from error
    except FileExistsError as error:
        raise Refusal(f"{folder} is a file: give a folder.") from error
    except (OSError, NotImplementedError) as error:
        raise Refusal(f"{folder} cannot be written to ({error}): give a folder elsewhere.") from error
    try:
        yield
    finally:
        if WINDOWS:
            lock.release()
        with suppress(OSError):
            alone = {path.name for path in folder.iterdir()} <= {LOCK_FILE}
            if remove or alone:
                (folder / LOCK_FILE).unlink(missing_ok=True)
            if alone:
                folder.rmdir()
        lock.release()


def reserve(file: int, size: int, folder: str) -> None:
    """Take so many bytes for a file in `folder` now: a write to a map of a full disk would end the program.

    Raises `Refusal` where they are not free.
    """
    free = shutil.disk_usage(folder).free
    try:
        os.ftruncate(file, size)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, size)
        full = free < size and not hasattr(os, "posix_fallocate")
    except OSError:
        full = True
    if full:
        raise Refusal(
            f"The result takes {size / 2**30:.1f} GiB in {folder}, where {free / 2**30:.1f} GiB are free: delete "
            "something there, or set the environment variable TMPDIR to a folder on a larger disk."
        )
