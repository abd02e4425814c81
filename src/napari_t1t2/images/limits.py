"""How much memory a file's pixels may take: asked before it is taken, as a few bytes of a header can ask for all."""

from __future__ import annotations

import gzip
import math
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import psutil

from ..errors import UnusableError
from .names import other_half

RATIO = 250  # of the size of a file; images shrink to a third or a fiftieth, deflated zeros to a thousandth
ALWAYS = 2**26  # bytes that any file may hold, whatever its size
SPARE = 0.8  # of the free memory
CGROUP, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def refuse_bomb(path: Path, stored: float, taken: float = 0) -> None:
    """Refuse pixels of `stored` bytes, uncompressed, that no such file holds, or that take more memory than is free.

    Raises `UnusableError` with a sentence.
    """
    if stored > allowed(path):
        raise UnusableError(
            f"{path.name}: says that it holds {size_of(stored)}, which a file of {size_of(path.stat().st_size)} hardly "
            "does; is it damaged? Export it again, uncompressed if it is what it says."
        )
    if taken <= ALWAYS:  # what is free need not be asked: 0.4 ms
        return
    free = min(psutil.virtual_memory().available, left_in_cgroup())
    if taken > SPARE * free:
        raise UnusableError(
            f"{path.name}: its pixels do not fit into memory: they take {size_of(taken)}, and {size_of(free)} are "
            "free; close other programs, or crop it."
        )


def refuse_other_size(frame: bytes, said: tuple[int, int]) -> None:
    """Raises `UnusableError` where a JPEG, JPEG-LS or JPEG 2000 stream holds other rows and columns than are said.

    Decoders take memory for as many as the stream says.
    """
    at, sides = 2, (0, 0)
    if (siz := frame.find(b"\xff\x4f\xff\x51", 0, 512)) >= 0:  # of JPEG 2000: right, bottom, left and top edge
        right, bottom, left, top = (int.from_bytes(frame[i : i + 4]) for i in range(siz + 8, siz + 24, 4))
        sides = bottom - top, right - left
    while not any(sides) and at + 9 <= len(frame) and frame[at] == 0xFF:
        kind = frame[at + 1]
        if kind == 0xF7 or (kind in range(0xC0, 0xD0) and kind not in (0xC4, 0xC8, 0xCC)):
            sides = int.from_bytes(frame[at + 5 : at + 7]), int.from_bytes(frame[at + 7 : at + 9])
        at += 1 if kind == 0xFF else 2 + int.from_bytes(frame[at + 2 : at + 4])  # 0xFF may fill
    if not any(sides):
        raise UnusableError("its compressed pixels have no beginning; it is damaged, copy it again.")
    if sides != said:
        raise UnusableError(f"its pixels are {sides[0]}x{sides[1]}, not as its header says; it is damaged.")


def allowed(path: Path) -> int:
    """Bytes that a file may hold without compression; of the two files of an Analyze image, both together."""
    files = [file for file in (path, other_half(path)) if file and file.is_file()]
    return max(ALWAYS, RATIO * sum(file.stat().st_size for file in files))


def refuse_deflated_bomb(path: Path, file: BinaryIO) -> None:
    """Refuse what is deflated from the position of the open file on, where it holds too much; the position is kept."""
    begin, most, total = file.tell(), allowed(path), 0
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    while total <= most and (block := file.read(2**16)):
        while block and total <= most:
            total += len(inflate.decompress(block, 2**20))
            block = inflate.unconsumed_tail
    file.seek(begin)
    refuse_bomb(path, total)


class Unzipped(gzip.GzipFile):
    """A gzip file, to be read up to what the file `path` may hold."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        super().__init__(fileobj=file)
        self._path, self._most = path, allowed(path)

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, as far as there are, or all."""
        if size is None or size < 0 or self.tell() + size > self._most + 2**20:
            refuse_bomb(self._path, math.inf if size is None or size < 0 else self.tell() + size)
        return super().read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """To a position from the beginning."""
        refuse_bomb(self._path, offset)
        return super().seek(offset, whence)


def size_of(count: float) -> str:
    """Like "3.4 GiB" or "12 kB"."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**27 else f"{max(1, count / 1000):.0f} kB"


def left_in_cgroup() -> float:
    """Bytes that a cluster's job, or a container, may still take; the whole machine's free memory may be more."""
    left = math.inf
    with suppress(OSError):
        own = CGROUP / OWN_CGROUP.read_text().strip().rpartition("::")[2].lstrip("/")
        for folder in (own, *own.parents):  # each of them may set a limit, a cluster's mostly not the innermost
            with suppress(OSError, ValueError):  # no limit there, or "max"
                most, taken = (int((folder / f"memory.{name}").read_text()) for name in ("max", "current"))
                left = min(left, most - taken + _files_in_memory(folder / "memory.stat"))
    return left


def _files_in_memory(stat: Path) -> int:
    """Bytes of files that the system holds and lets go of when they are asked for: images that were read, mostly."""
    with suppress(OSError, ValueError):
        lines = (line.split() for line in stat.read_text().splitlines())
        return int(next((words[1] for words in lines if words[0] == "inactive_file"), 0))
    return 0
