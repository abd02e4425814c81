"""An image translated by a child: its pixels go through files that both sides map, slices that are looked at first."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..atomic import remove_abandoned, reserve
from ..config import Planes, Side
from ..events import Translated
from ..images.volume import Image, Volume
from ..provenance import Map, Provenance
from .child import Answer, Child, Models, Slice

if TYPE_CHECKING:
    from ..synthesis.glimpses import Glimpses

IN_MEMORY = "/dev/shm"  # where Linux shares pixels without a disk
PIXELS = "napari-t1t2-"  # how the names of files of pixels begin


@dataclass(frozen=True)
class Shared:
    """An array in a file that two processes map."""

    path: Path
    shape: tuple[int, ...]
    dtype: str = "float32"

    def open(self) -> npt.NDArray[Any]:
        """The array, to read and to write; it stays as long as somebody has it, also when the file was removed."""
        return np.memmap(self.path, self.dtype, "r+", shape=self.shape)


@contextmanager
def shared(shape: tuple[int, ...], dtype: str = "float32") -> Iterator[Shared]:
    """Room for an array, zeros, in memory or on disk. At the end the file goes, what was opened stays.

    Raises `Refusal` where there is no room.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    there = os.access(IN_MEMORY, os.W_OK) and disk_usage(IN_MEMORY).free > 4 * size
    folder = IN_MEMORY if there else tempfile.gettempdir()
    remove_abandoned(Path(folder), named=f"{PIXELS}*")  # of a napari that was killed; on Windows of any
    handle, name = tempfile.mkstemp(prefix=PIXELS, dir=folder)
    try:
        try:
            reserve(handle, size, folder)
        finally:
            os.close(handle)
        yield Shared(Path(name), shape, dtype)
    finally:
        with suppress(OSError):  # Windows keeps what is in use
            Path(name).unlink()


@dataclass(frozen=True, eq=False)
class Mapped:
    """The arrays that fill from now on, the synthetic one first; of float32, zeros."""

    images: list[Image]


@dataclass(frozen=True, eq=False)
class Begun:
    """The model is read: what the images that fill from now on say of themselves, the synthetic one first."""

    device: str
    says: list[tuple[Provenance, tuple[float, float]]]  # and their limits
    dtype: str  # of the synthetic image, once it is saved


@dataclass(frozen=True, eq=False)
class Looked:
    """The image was looked at: the same, now with what was found, and sentences for the user."""

    says: list[Provenance]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Glimpsed:
    """The slice that was asked for is there, made by itself before its turn."""

    at: Slice


@dataclass(frozen=True, eq=False)
class TranslateVolume:
    """Translate pixels in one file into another, and first of all those that are looked at."""

    volume: Volume  # without its pixels
    source: Shared
    made: Shared
    maps: dict[Map, Shared]  # by their titles, where they are wanted
    model: Path
    to: Side
    planes: Planes = "one"
    resampled: bool = False  # a coarser level of an image whose finest level the model may know
    device: str = "auto"

    def run(self, models: Models, ask: Callable[[], Answer]) -> Iterator[Begun | Looked | Glimpsed | Translated]:
        """Show the slice that is asked for, look at the image, then translate it; ends early once it is told to."""
        model = models.load(self.model, self.device)  # torch comes with it
        from ..model.device import describe
        from ..synthesis.glimpses import Glimpses
        from ..synthesis.prepare import prepare, provenance
        from ..synthesis.translation import PIXELS_AT_ONCE, check_shape, stream
        from ..synthesis.uncertainty import maps_of

        check_shape(self.source.shape)
        volume = replace(self.volume, data=self.source.open())
        label, target = model.config.label(self.to), model.about.ranges[self.to]
        where = next(model.generators[self.to].parameters()).device
        maps = maps_of(model, label, list(self.maps))
        basic = provenance(model, self.to, volume.origin)
        says = [(basic, (target.low, target.high))]
        says += [(replace(basic, **one.describe()), (0, one.most * (target.high - target.low))) for one in maps]
        yield Begun(describe(where), says, target.dtype)
        made = self.made.open()
        glimpses = Glimpses(volume, made, model, self.to, self.planes)
        yield from seen(glimpses, ask(), 0)
        looked = prepare(volume, model, self.to, error_maps=maps, resampled=self.resampled)
        yield Looked([looked.provenance, *map(looked.of_errors, maps)], looked.remarks)
        glimpses.ranges[0] = looked.intensity
        for event in stream(
            volume.data,
            model,
            to=label,
            affine=volume.affine,
            spacing=volume.spacing,
            planes=self.planes,
            out=made,
            intensity=looked.intensity if made.ndim <= 3 else None,  # each volume of a series has a range of its own
            maps=list(zip(maps, (one.open() for one in self.maps.values()), strict=True)),
            # slice by slice where more at once are no faster: whoever looks waits for one slice at most
            at_once=1 if where.type == "cpu" else PIXELS_AT_ONCE,
            stop=lambda: ask() == "stop",
        ):
            yield event
            if event.done < event.total:
                yield from seen(glimpses, ask(), event.done)


def seen(glimpses: Glimpses, answer: Answer, done: int) -> Iterator[Glimpsed]:
    """Make the slice that was answered, where there was one and it is not there yet."""
    if isinstance(answer, tuple) and glimpses.show(answer, done):
        yield Glimpsed(answer)


def translate_in_child(
    child: Child,
    volume: Volume,
    model: Path,
    to: Side,
    *,
    planes: Planes,
    maps: Sequence[Map] = (),
    resampled: bool,
    device: str,
    looked_at: Callable[[], Slice | None],
    stop: Callable[[], bool],
) -> Iterator[Mapped | Begun | Looked | Glimpsed | Translated]:
    """Translate a volume, whose data may be lazy, with `maps` beside it; what `looked_at` says is made first.

    Loads no torch here.

    Raises `Refusal` where the job ended with one, `ChildProcessError` where the child is gone.
    """
    shape = volume.data.shape
    with ExitStack() as files:
        source = files.enter_context(shared(shape, np.dtype(volume.data.dtype).str))
        made = files.enter_context(shared(shape))
        beside = {title: files.enter_context(shared(shape)) for title in maps}
        _copy(volume.data, source.open(), stop)
        yield Mapped([one.open() for one in (made, *beside.values())])
        without = replace(volume, data=np.zeros((0, 0, 0), np.float32))
        job = TranslateVolume(without, source, made, beside, model, to, planes, resampled, device)
        yield from child.run(job, lambda: "stop" if stop() else looked_at())


def _copy(data: Any, into: npt.NDArray[Any], stop: Callable[[], bool]) -> None:
    """All pixels; of a lazy array, which may not fit into the memory, chunk by chunk."""
    step = len(data) if isinstance(data, np.ndarray) or data.ndim < 3 else data.chunks[0][0]
    for first in range(0, len(data), step):
        if stop():
            return
        into[first : first + step] = data[first : first + step]
