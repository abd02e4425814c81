"""The slice cache: stored slices of earlier runs, found again by what was asked for."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any
from uuid import uuid4

from platformdirs import user_cache_path

from ..errors import Refusal

RECORD, PARTIAL = "bank.json", ".partial"
ABANDONED = 3600.0  # seconds without a write after which a half-written bank is taken for what a crash left behind


def home() -> Path:
    """Where banks are kept: in `NAPARI_T1T2_CACHE`, or else in the user's folder for what may be deleted."""
    chosen = os.environ.get("NAPARI_T1T2_CACHE")
    return (Path(chosen).expanduser() if chosen else user_cache_path("napari-t1t2", appauthor=False)) / "slices"


def home_of(asked: Any) -> Path:
    """The folder of the bank for what was asked, plain values: the settings, and the files by name and size."""
    return home() / blake2b(json.dumps(asked).encode(), digest_size=12).hexdigest()


def read_record(folder: Path, needed: Set[str]) -> dict[str, Any] | None:
    """What a bank says of itself; None where there is no whole one, or it does not tell all that is needed."""
    try:
        record: Any = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.keys() >= needed else None


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Beside, then in place of the one before."""
    partial = folder / f".{RECORD}.{uuid4().hex}"
    partial.write_text(json.dumps(record), encoding="utf-8")
    partial.replace(folder / RECORD)


@contextmanager
def written_whole(folder: Path, size: int) -> Iterator[Path]:
    """A folder to fill with at most `size` bytes, which becomes `folder` once all is written; else nothing is left.

    Raises `Refusal` where the disk is too small.
    """
    try:
        home().mkdir(parents=True, exist_ok=True, mode=0o700)  # they are images of patients
        if not os.access(home(), os.W_OK):
            raise PermissionError("no permission to write there")
    except OSError as error:
        raise Refusal(
            f"The slices do not fit into memory and would be kept in {home()}, which cannot be used "
            f"({error.strerror or error}): set NAPARI_T1T2_CACHE to a folder on a disk with room for them."
        ) from error
    for other in home().glob(f"*{PARTIAL}"):
        if time.time() - max((p.stat().st_mtime for p in (other, *other.glob("*"))), default=0.0) > ABANDONED:
            shutil.rmtree(other, ignore_errors=True)
    if (free := shutil.disk_usage(home()).free) < size:
        raise Refusal(
            f"The slices do not fit into memory and would take {size / 2**30:.1f} GiB in {home()}, where "
            f"{free / 2**30:.1f} GiB are free: delete banks of other data there, set NAPARI_T1T2_CACHE to a folder on "
            "a larger disk, or choose fewer images or larger pixels."
        )
    partial = home() / f"{folder.name}-{uuid4().hex[:8]}{PARTIAL}"
    partial.mkdir(mode=0o700)
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def digest_of(path: Path) -> str:
    """Equal for files of equal bytes; empty for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()
    except OSError:
        return ""
