"""A slice, stack or volume of one contrast in, the other out, in the target contrast's units."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch

from ..images.frame import Frame
from ..images.intensity import Intensity, range_for
from ..images.volume import NOTICE, Image, Volume
from .checkpoint import Model
from .config import Side, other
from .events import Translated

PIXELS_AT_ONCE = 8 * 256 * 256  # bounds memory, whatever the size of a slice
DataT = TypeVar("DataT", Volume, Image)


def provenance(model: Model, to: Side, source: str) -> dict[str, Any]:
    """What a layer or file must say of itself."""
    return {
        "synthetic": True,
        "contrast": model.config.label(to),
        "notice": NOTICE,
        "model": str(model.about.path),
        "model_sha256": model.sha256,
        "step": model.about.step,
        "source": source,
    }


def input_range(data: Any, model: Model, to: Side) -> tuple[Intensity, str | None]:
    """The range to read `data` (..., rows, columns) with, measured on few slices of it, and a sentence if unusual."""
    slices = math.prod(data.shape[:-2])
    return range_for(np.stack([_slice(data, i) for i in _some(slices)]), slices, model.about.ranges[other(to)])


def stream(
    data: Any, model: Model, *, to: str, stop: Callable[[], bool] = lambda: False, intensity: Intensity | None = None
) -> Iterator[Translated]:
    """Translate (..., rows, columns) in batches; anything with a shape that can be indexed will do, dask too.

    Ends early once `stop` says so. Each slice is read once (and a few for their range), and never all at once.
    """
    check_shape(data.shape)
    side = model.config.side(to)
    network, target = model.generators[side], model.about.ranges[side]
    device = next(network.parameters()).device
    source = intensity or input_range(data, model, side)[0]
    frame = Frame.of(tuple(data.shape[-2:]), model.config.size, model.config.multiple)
    total = math.prod(data.shape[:-2])
    batch = max(1, PIXELS_AT_ONCE // math.prod(frame.framed))
    for start in range(0, total, batch):
        if stop():
            return
        chunk = np.stack([_slice(data, i) for i in range(start, min(start + batch, total))])
        framed = torch.from_numpy(frame.put(source.to_unit(np.nan_to_num(chunk, nan=source.low))))
        with torch.inference_mode():
            made = network(framed[:, None].to(device))[:, 0].float().cpu().numpy()
        yield Translated(start, total, target.from_unit(frame.take(made)))


def translate(data: DataT, model: Model, *, to: str, intensity: Intensity | None = None) -> DataT:
    """The whole volume or array at once: `stream`, drained.

    Parameters
    ----------
    data
        A `Volume`, or an array of shape (..., rows, columns); any number of leading axes.
    model
        From `load_model`.
    to
        The contrast to make, by its name in the model: "T2" turns T1 into T2.
    intensity
        The range to read the data with; by default `input_range` decides.

    Returns
    -------
    The same kind and shape, in the units of the target contrast's training images.
    """
    if isinstance(data, Volume):
        made = translate(data.data, model, to=to, intensity=intensity)
        side = model.config.side(to)
        label = model.config.label(side)
        return replace(
            data,
            data=made,
            contrast=label,
            name=f"{label} (synthetic) from {data.name}",
            dtype=model.about.ranges[side].dtype,
            notes=(NOTICE,),
        )
    check_shape(data.shape)
    out = np.empty(data.shape, np.float32)
    flat = out.reshape(-1, *data.shape[-2:])
    for event in stream(data, model, to=to, intensity=intensity):
        flat[event.start : event.start + len(event.slices)] = event.slices
    return out


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse what is no image. Raises `ValueError` with a sentence."""
    if len(shape) < 2 or 0 in shape:
        raise ValueError(f"The image has shape {shape}; it needs rows and columns in its last two axes.")


def _slice(data: Any, index: int) -> Image:
    return np.asarray(data[np.unravel_index(index, data.shape[:-2])], dtype=np.float32)


def _some(slices: int) -> list[int]:
    """Up to 32 slice numbers, spread evenly."""
    return sorted(set(np.linspace(0, slices - 1, min(slices, 32)).round().astype(int).tolist()))
