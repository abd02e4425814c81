"""A slice, stack or volume of one contrast in, the other out, in the target contrast's units."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..atomic import reserve
from ..config import Planes, Side
from ..data.inputs import as_input
from ..errors import Refusal
from ..events import Translated
from ..images.frame import Frame
from ..images.intensity import Intensity
from ..images.plane import PLANES, Plane, View
from ..images.volume import Affine, Image, Volume
from ..model.device import autocast
from ..model.saved import Model
from .prepare import ErrorMap, Prepared, input_range, prepare

PIXELS_AT_ONCE = 8 * 256 * 256  # bounds memory, whatever the size of a slice
SLAB = 64 * 2**20  # bytes read at once, where the data come in thick chunks
IN_MEMORY = 2 * 2**30  # bytes; a larger result lives in a temporary file
DataT = TypeVar("DataT", Volume, Image)
ItemT = TypeVar("ItemT")


def stream(
    data: Any,
    model: Model,
    *,
    to: str,
    affine: Affine | None = None,
    spacing: tuple[float, float, float] | None = None,
    planes: Planes = "one",
    out: Image | None = None,
    intensity: Intensity | None = None,
    maps: Sequence[tuple[ErrorMap, Image]] = (),
    at_once: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Translated]:
    """Translate into `out`, slab by slab, in the model's plane; the data are never in memory all at once.

    Parameters
    ----------
    data
        (..., rows, columns), with Z before them if there is a third axis; NumPy, dask.
    model
        From `load_model`.
    to
        The contrast to make, by its name in the model.
    affine
        (X, Y, Z, 1) index to RAS+ mm, where known: it tells the plane and the spacing. Without one, slices are
        taken as they are stored.
    spacing
        (Z, Y, X) in mm, where there is no affine.
    planes
        "three" is three-plane averaging, of axial, coronal and sagittal slices: smoother between slices, at least 3
        times slower, and more where the voxels are thick, as the model's pixels are square.
    out
        Same shape as the data, float32; by default it is made, and only the last event is of use.
    intensity
        The range to read the data with; by default `input_range` decides, for each (Z, Y, X) volume. Of several
        volumes, one of a single value becomes air, and the event after it says so.
    maps
        Who says what error to expect, or how wide an interval is, and where to put it: same shape as `out`, in the
        target's units.
    at_once
        Pixels in a batch, at least a slice; by default what bounds memory.
    stop
        Ends early once it says so.
    """
    check_shape(data.shape)
    side = model.config.side(to)
    target = model.about.ranges[side]
    out = blank(data.shape) if out is None else out
    views = views_for(planes if data.ndim > 2 else "one", model.config.plane, affine, spacing)
    blocks = list(zip(volumes_in(data), volumes_in(out), *(volumes_in(image) for _, image in maps), strict=True))
    total = sum(view.apply(o).shape[0] for _, o, *_ in blocks for view in views)
    done = 0
    for number, (block, result, *expected) in enumerate(blocks):
        try:
            source = intensity or input_range(block, model, side)[0]
        except Refusal as error:
            if len(blocks) == 1:
                raise
            result[:] = target.low
            done += total // len(blocks)
            yield Translated(done, total, f"Volume {number} of {len(blocks)} was left as air: {error}")
            continue
        for so_many, view in enumerate(views, 1):
            seen, made = view.apply(block), view.apply(result)
            for start, frame, x, y in batches(seen, view, model, side, source, at_once):
                if stop():
                    return
                at = slice(start, start + len(y))
                _average(made, at, target.synthetic(frame.take(y[:, 0].float().cpu().numpy())), so_many)
                for (error_map, _), image in zip(maps, expected, strict=True):
                    part = frame.take(error_map.expected(x, y)) * np.float32(target.high - target.low)
                    _average(view.apply(image), at, part, so_many)
                done += len(y)
                yield Translated(done, total)


def batches(
    seen: Any, view: View, model: Model, side: Side, source: Intensity, at_once: int | None = None
) -> Iterator[tuple[int, Frame, Tensor, Tensor]]:
    """Batches of (slice, row, column) data: the number of the first slice, their frame, and in it source and result.

    The source is (N, 1, H, W), or with its depth (N, 2, H, W), and the result (N, 1, H, W), in [-1, 1].
    """
    network = model.generator(side)
    device = next(network.parameters()).device
    frame = Frame.of(
        seen.shape[1:],
        model.config.size,
        model.config.multiple,
        spacing=view.spacing and view.spacing[1:],
        pixel=model.config.pixel,
    )
    batch = max(1, (at_once or PIXELS_AT_ONCE) // math.prod(frame.framed))

    def prepared() -> Iterator[tuple[int, Tensor]]:
        for first, last in _slabs(seen, batch):
            slab = np.asarray(seen[first:last], dtype=np.float32)
            for start in range(first, last, batch):
                chunk = slab[start - first : min(start + batch, last) - first]
                chunk = np.nan_to_num(chunk, nan=source.low, posinf=source.high, neginf=source.low)
                yield start, as_input(frame.put(source.to_unit(chunk)), model.config)

    for start, images in _ahead(prepared()):
        x, shows = images.to(device), (images[:, 0] > -1).flatten(1).any(1)
        y = torch.full_like(x[:, :1], -1)  # what is nothing but air stays so
        if shows.any():
            some = x[shows]
            with torch.inference_mode(), autocast(device, model.precision):
                made = network(some)
                if model.config.mirror:
                    made = (made + network(some.flip(-1)).flip(-1)) / 2
            y = y.to(made.dtype)
            y[shows] = made
        yield start, frame, x, y


def translate(
    data: DataT,
    model: Model,
    *,
    to: str,
    planes: Planes = "one",
    intensity: Intensity | None = None,
    maps: Sequence[tuple[ErrorMap, Image]] = (),
) -> DataT:
    """The whole volume or array at once: `prepare`, then `stream`, drained.

    Parameters
    ----------
    data
        A `Volume`, translated in the model's plane at the model's pixel size; or an array of shape
        (..., rows, columns), taken as it is.
    model
        From `load_model`.
    to
        The contrast to make, by its name in the model: "T2" turns T1 into T2.
    planes, intensity, maps
        See `stream`.

    Returns
    -------
    The same kind and shape, a volume with the same affine, in the units of the target contrast's training images.
    A volume says what it is (`Volume.provenance`), and so does a file that it is written to.
    """
    side = model.config.side(to)
    if isinstance(data, Volume):
        looked = prepare(data, model, side, shared=(intensity, None) if intensity else None)
        return translate_prepared(data, model, side, looked, planes=planes, maps=maps)
    check_shape(data.shape)
    out = blank(data.shape)
    for event in stream(data, model, to=to, planes=planes, out=out, intensity=intensity, maps=maps):
        if event.remark:
            warnings.warn(event.remark, stacklevel=2)
    return out


def translate_prepared(
    volume: Volume,
    model: Model,
    side: Side,
    looked: Prepared,
    *,
    planes: Planes = "one",
    maps: Sequence[tuple[ErrorMap, Image]] = (),
) -> Volume:
    """A volume that `prepare` has looked at, in the other contrast."""
    label, out = model.config.label(side), blank(volume.data.shape)
    place: dict[str, Any] = {"affine": volume.affine, "spacing": volume.spacing, "planes": planes}
    for _ in stream(volume.data, model, to=label, out=out, intensity=looked.intensity, maps=maps, **place):
        pass
    return replace(
        volume,
        data=out,
        contrast=label,
        looks=label,
        name=f"{label} (synthetic) from {volume.name}",
        dtype=model.about.ranges[side].dtype,
        provenance=looked.provenance,
        notes=(),
    )


def blank(shape: tuple[int, ...]) -> Image:
    """Zeros; where they are many, in a temporary file, which goes with the array. Raises `Refusal` on a full disk."""
    size = 4 * math.prod(shape)
    if size <= IN_MEMORY:
        return np.zeros(shape, np.float32)
    with tempfile.TemporaryFile() as file:
        reserve(file.fileno(), size, tempfile.gettempdir())
        return np.memmap(file, np.float32, "r+", shape=shape)


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse what is no image. Raises `Refusal` with a sentence."""
    if len(shape) < 2 or 0 in shape:
        raise Refusal(f"The image has shape {shape}; it needs rows and columns in its last two axes.")


def views_for(
    planes: Planes, plane: Plane, affine: Affine | None, spacing: tuple[float, float, float] | None
) -> list[View]:
    """The model's plane, or all three, its own first; without an affine the stored slices stand for its own."""
    if planes == "one":
        return [View.of(plane, affine, spacing)]
    if affine is not None:
        return [View.of(p, affine) for p in (plane, *(p for p in PLANES if p != plane))]
    axes = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
    return [View(a, spacing=spacing and (spacing[a[0]], spacing[a[1]], spacing[a[2]])) for a in axes]


def _average(made: Image, at: slice, part: Image, so_many: int) -> None:
    """Make slices the mean of so many planes, of which `part` is the last: what is there is always an image."""
    made[at] = part if so_many == 1 else made[at] + (part - made[at]) / so_many


def volumes_in(data: Any) -> Iterator[Any]:
    """The (Z, Y, X) parts of (..., Z, Y, X); a single slice is a part of one."""
    if data.ndim == 2:
        yield data[None]
    else:
        for index in np.ndindex(data.shape[:-3]):
            yield data[index]


def _slabs(seen: Any, batch: int) -> Iterator[tuple[int, int]]:
    """First and last slice of what is read at once: whole chunks of a lazy array, or else a batch."""
    most = max(1, SLAB // (4 * math.prod(seen.shape[1:])))
    thick = max(batch, min(most, seen.chunks[0][0])) if hasattr(seen, "chunks") else batch
    for first in range(0, len(seen), thick):
        yield first, min(first + thick, len(seen))


def _ahead(items: Iterator[ItemT]) -> Iterator[ItemT]:
    """The same items, each made in a thread of its own while the one before it is in use."""
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = maker.submit(next, items, None)
            yield item
