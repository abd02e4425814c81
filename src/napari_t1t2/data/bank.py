"""The slice caches: stored slices of earlier runs, found again by what was asked for."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator, Iterator, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from ..atomic import PARTIAL, remove_abandoned, written_file, written_folder
from ..errors import Refusal
from ..events import Reading
from .sources import Stop, report

RECORD = "bank.json"


def home() -> Path:
    """Where slice caches are kept: in `NAPARI_T1T2_CACHE`, or else in the user's folder for what may be deleted."""
    chosen = os.environ.get("NAPARI_T1T2_CACHE")
    return (Path(chosen).expanduser() if chosen else user_cache_path("napari-t1t2", appauthor=False)) / "slices"


def home_of(asked: Any) -> Path:
    """The folder of the cache for what was asked, plain values: the settings, and the files by name and size."""
    return home() / blake2b(json.dumps(asked).encode(), digest_size=12).hexdigest()


def lock(folder: Path, stop: Stop) -> Generator[Reading, None, AbstractContextManager[Any]]:
    """Wait until no other process or thread makes or compares this cache; what is returned lets go when left.

    Where nothing can be written, so that nobody makes one either, nothing is locked.
    """
    from filelock import Timeout

    while True:
        try:
            held: AbstractContextManager[Any] = _lock_of(folder).acquire(timeout=0.2)
            return held
        except Timeout:
            yield from report(Reading(0, 1, "waiting"), stop)
        except OSError:
            return nullcontext()


def _lock_of(folder: Path) -> Any:
    from filelock import FileLock  # 30 ms, which sets in memory need not wait for

    home().mkdir(parents=True, exist_ok=True, mode=0o700)  # they are images of patients
    return FileLock(home() / f".{folder.name.lstrip('.').partition('.')[0]}.lock", mode=0o600, thread_local=False)


def read_record(folder: Path, needed: Set[str] = frozenset()) -> dict[str, Any] | None:
    """What a cache says of itself; None where there is no whole one, or it does not tell all that is needed."""
    try:
        record: Any = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.keys() >= needed else None


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Beside, then in place of the one before; for the user alone."""
    with written_file(folder / RECORD) as partial:
        partial.touch(mode=0o600)
        partial.write_text(json.dumps(record), encoding="utf-8")


def mark_used(folder: Path) -> None:
    """Note that a cache is used now, by the date of its record."""
    os.utime(folder / RECORD)


@contextmanager
def written_whole(folder: Path, size: int) -> Iterator[Path]:
    """A folder to fill with at most `size` bytes, which becomes `folder` once all is written; else nothing is left.

    Raises `Refusal` where the disk is too small.
    """
    try:
        home().mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(home(), os.W_OK):
            raise PermissionError("no permission to write there")
    except OSError as error:
        raise Refusal(
            f"The slices do not fit into memory and would be kept in {home()}, which cannot be used "
            f"({error.strerror or error}): set NAPARI_T1T2_CACHE to a folder on a disk with room for them."
        ) from error
    remove_abandoned(home())
    if (free := shutil.disk_usage(home()).free) < size:
        raise Refusal(
            f"The slices do not fit into memory and would take {size / 2**30:.1f} GiB in {home()}, where "
            f"{free / 2**30:.1f} GiB are free: delete slice caches of other data (napari-t1t2 cache), set "
            "NAPARI_T1T2_CACHE to a folder on a larger disk, or choose fewer images or larger pixels."
        )
    with written_folder(folder, mode=0o700) as partial:
        yield partial


def digest_of(path: Path) -> str:
    """Equal for files of equal bytes; empty for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class SliceCache:
    """One slice cache: its folder, its bytes, the folders of images it was made of, and when it was last used."""

    path: Path
    size: int
    folders: tuple[str, ...]
    used: float  # as `time.time`

    def delete(self) -> None:
        """Remove it. Raises `Refusal` where a run makes or compares it right now, or the system holds it."""
        from filelock import Timeout

        try:
            with _lock_of(self.path).acquire(timeout=0):
                shutil.rmtree(self.path)
        except (OSError, Timeout) as error:
            raise Refusal(f"{self.path} is in use ({error}): delete it when the training has ended.") from error


def find_caches() -> list[SliceCache]:
    """All of them, the one that was used last first; those that a run makes, or that a crash left, included."""
    found: list[SliceCache] = []
    for path in home().glob("*/"):
        if not path.name.endswith(PARTIAL) and not (path / RECORD).is_file():
            continue  # not ours
        with suppress(OSError):  # it went meanwhile
            files = [file.stat() for file in path.iterdir()]
            folders = (read_record(path) or {}).get("places", ())
            used = max((file.st_mtime for file in files), default=path.stat().st_mtime)
            found.append(SliceCache(path, sum(file.st_size for file in files), tuple(folders), used))
    return sorted(found, key=lambda cache: -cache.used)
