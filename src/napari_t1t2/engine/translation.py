"""A slice, stack or volume of one contrast in, the other out, in the target contrast's units."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..images.frame import Frame
from ..images.intensity import Intensity, range_for
from ..images.plane import PLANES, Plane, View
from ..images.volume import NOTICE, Affine, Image, Volume
from .checkpoint import Model
from .config import Planes, Side, other
from .device import autocast
from .events import Translated
from .slices import as_input

if TYPE_CHECKING:
    from .trust import Doubt

PIXELS_AT_ONCE = 8 * 256 * 256  # bounds memory, whatever the size of a slice
SLAB = 64 * 2**20  # bytes read at once, where the data come in thick chunks
TRAINED_ON = "The model was trained on this image: the result says nothing about how it does on new ones."
NOT_FAMILIAR = (
    "This model cannot warn of images unlike those it was trained on: it saw few, or comes from an earlier version, "
    "which training it on (resume) mends."
)
OF_SYNTHETIC = "It is synthetic itself: what is made of it is even further from a scan."
IN_MEMORY = 2 * 2**30  # bytes; a larger result lives in a temporary file
DataT = TypeVar("DataT", Volume, Image)
ItemT = TypeVar("ItemT")


def provenance(model: Model, to: Side, source: str, odd: str | None = None) -> dict[str, Any]:
    """What a layer or file must say of itself; `odd` is what `unfamiliar` says of the source."""
    # a longer path to the model may name a person
    said: dict[str, Any] = {
        "synthetic": True,
        "contrast": model.config.label(to),
        "notice": NOTICE,
        "model": f"{model.about.path.resolve().parent.name}/{model.about.path.name}",
        "model_sha256": model.sha256,
        "step": model.about.step,
        "source": source,
        "version": __version__,
    }
    if model.precision != "float32":
        said["precision"] = model.precision
    if odd is not None:
        said["unfamiliar"] = bool(odd)
    return said


def input_range(data: Any, model: Model, to: Side) -> tuple[Intensity, str | None]:
    """The range to read `data` (..., rows, columns) with, and a sentence if unusual; of lazy data, by a few slices."""
    slices = math.prod(data.shape[:-2])
    sample = data if isinstance(data, np.ndarray) else np.stack([_slice(data, i) for i in _some(slices)])
    return range_for(sample, slices, model.about.ranges[other(to)])


def remarks(
    model: Model,
    to: Side,
    *,
    unusual: str | None,
    spacing: tuple[float, float, float] | None,
    odd: str | None,
    seen: bool | None,
    looks: str = "",
    synthetic: bool = False,
    doubt: Doubt | None = None,
) -> list[str]:
    """All that is to be said of an image before it is translated.

    `unusual` is from `input_range`, `odd` from `unfamiliar`; `looks` is the contrast that it says it is; of `doubt` the
    error to expect is asked.
    """
    label = model.config.label(to)
    said = (
        None if model.about.familiar else NOT_FAMILIAR,
        unusual,
        unusual_spacing(model, spacing),
        odd,
        TRAINED_ON if seen else None,
        f"It says it is {label} already; it is translated as asked." if looks.casefold() == label.casefold() else None,
        OF_SYNTHETIC if synthetic else None,
        doubt.remark if doubt else None,
    )
    return [sentence for sentence in said if sentence]


def unusual_spacing(model: Model, spacing: tuple[float, float, float] | None) -> str | None:
    """A sentence where the image and the model do not both know the size of a pixel."""
    if model.config.pixel and not spacing:
        return (
            "The image does not say its spacing, so its pixels are used as they are; those of the training images "
            f"were brought to {model.config.pixel:.3g} mm."
        )
    if spacing and not model.config.pixel:
        return "The model was trained on images without a spacing, so the pixels are used as they are."
    return None


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
    doubt: tuple[Doubt, Image] | None = None,
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
        "three" averages the results of axial, coronal and sagittal slices, against flicker from slice to slice: three
        times as many slices, and more where the voxels are thick, as the model's pixels are square.
    out
        Same shape as the data, float32, zeros; by default it is made, and only the last event is of use.
    intensity
        The range to read the data with; by default `input_range` decides, for each (Z, Y, X) volume.
    doubt
        Who says what error to expect, and where to put it: same shape as `out`, zeros, in the target's units.
    stop
        Ends early once it says so.
    """
    check_shape(data.shape)
    side = model.config.side(to)
    target = model.about.ranges[side]
    out = blank(data.shape) if out is None else out
    views = _views(planes if data.ndim > 2 else "one", model.config.plane, affine, spacing)
    doubted = doubt[1] if doubt else out
    blocks = list(zip(_volumes(data), _volumes(out), _volumes(doubted), strict=True))
    total = sum(view.apply(o).shape[0] for _, o, _ in blocks for view in views)
    done = 0
    for block, result, doubts in blocks:
        source = intensity or input_range(block, model, side)[0]
        for view in views:
            seen, made = view.apply(block), view.apply(result)
            for start, frame, x, y in batches(seen, view, model, side, source):
                if stop():
                    return
                at = slice(start, start + len(y))
                made[at] += target.from_unit(frame.take(y[:, 0].float().cpu().numpy())) / len(views)
                if doubt:
                    part = frame.take(doubt[0].expected(x, y))
                    view.apply(doubts)[at] += part * np.float32((target.high - target.low) / len(views))
                done += len(y)
                yield Translated(done, total)


def batches(
    seen: Any, view: View, model: Model, side: Side, source: Intensity
) -> Iterator[tuple[int, Frame, Tensor, Tensor]]:
    """Batches of (slice, row, column) data: the number of the first slice, their frame, and in it source and result.

    The source is (N, 1, H, W), or with its depth (N, 2, H, W), and the result (N, 1, H, W), in [-1, 1].
    """
    network = model.generators[side]
    device = next(network.parameters()).device
    frame = Frame.of(
        seen.shape[1:],
        model.config.size,
        model.config.multiple,
        spacing=view.spacing and view.spacing[1:],
        pixel=model.config.pixel,
    )
    batch = max(1, PIXELS_AT_ONCE // math.prod(frame.framed))

    def prepared() -> Iterator[tuple[int, Tensor]]:
        for first, last in _slabs(seen, batch):
            slab = np.asarray(seen[first:last], dtype=np.float32)
            for start in range(first, last, batch):
                chunk = slab[start - first : min(start + batch, last) - first]
                chunk = np.nan_to_num(chunk, nan=source.low, posinf=source.high, neginf=source.low)
                yield start, as_input(frame.put(source.to_unit(chunk)), model.config)

    for start, images in _ahead(prepared()):
        x = images.to(device)
        with torch.inference_mode(), autocast(device, model.precision):
            y = network(x)
        yield start, frame, x, y


def translate(
    data: DataT,
    model: Model,
    *,
    to: str,
    planes: Planes = "one",
    intensity: Intensity | None = None,
    doubt: tuple[Doubt, Image] | None = None,
) -> DataT:
    """The whole volume or array at once: `stream`, drained.

    Parameters
    ----------
    data
        A `Volume`, translated in the model's plane at the model's pixel size; or an array of shape
        (..., rows, columns), taken as it is.
    model
        From `load_model`.
    to
        The contrast to make, by its name in the model: "T2" turns T1 into T2.
    planes
        See `stream`.
    intensity
        The range to read the data with; by default `input_range` decides.
    doubt
        See `stream`.

    Returns
    -------
    The same kind and shape, a volume with the same affine, in the units of the target contrast's training images.
    """
    array = data.data if isinstance(data, Volume) else data
    check_shape(array.shape)
    out = blank(array.shape)
    affine, spacing = (data.affine, data.spacing) if isinstance(data, Volume) else (None, None)
    where: dict[str, Any] = {"affine": affine, "spacing": spacing, "planes": planes}
    for _ in stream(array, model, to=to, out=out, intensity=intensity, doubt=doubt, **where):
        pass
    if not isinstance(data, Volume):
        return out
    side = model.config.side(to)
    label = model.config.label(side)
    return replace(
        data,
        data=out,
        contrast=label,
        looks=label,
        name=f"{label} (synthetic) from {data.name}",
        dtype=model.about.ranges[side].dtype,
        notes=(NOTICE,),
    )


def blank(shape: tuple[int, ...]) -> Image:
    """Zeros; in a temporary file, which goes with the array, where they are many."""
    if 4 * math.prod(shape) <= IN_MEMORY:
        return np.zeros(shape, np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=shape)


def flicker(data: Image, head: Any = None) -> float:
    """How much neighbouring slices differ: the mean absolute difference along the first axis, (slice, row, column).

    Compare it with that of a real volume of the same head: what exceeds it is not anatomy.
    """
    steps = np.abs(np.diff(data.astype(np.float32), axis=0))
    return float(steps.mean() if head is None else steps[head[1:] & head[:-1]].mean())


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse what is no image. Raises `ValueError` with a sentence."""
    if len(shape) < 2 or 0 in shape:
        raise ValueError(f"The image has shape {shape}; it needs rows and columns in its last two axes.")


def _views(
    planes: Planes, plane: Plane, affine: Affine | None, spacing: tuple[float, float, float] | None
) -> list[View]:
    """The model's plane, or all three, its own first; without an affine the stored slices stand for its own."""
    if planes == "one":
        return [View.of(plane, affine, spacing)]
    if affine is not None:
        return [View.of(p, affine) for p in (plane, *(p for p in PLANES if p != plane))]
    axes = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
    return [View(a, spacing=spacing and (spacing[a[0]], spacing[a[1]], spacing[a[2]])) for a in axes]


def _volumes(data: Any) -> Iterator[Any]:
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


def _slice(data: Any, index: int) -> Image:
    return np.asarray(data[np.unravel_index(index, data.shape[:-2])], dtype=np.float32)


def _some(slices: int) -> list[int]:
    """Up to 32 slice numbers, spread evenly."""
    return sorted(set(np.linspace(0, slices - 1, min(slices, 32)).round().astype(int).tolist()))
