"""Small tools for arrays of pixels: evenly spread indices, finite values, grey from colour, stored types."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UnusableError
from .volume import Image, Volume

LABELS = 150  # different values, at most, of a label map
FLAT = 0.65  # of its neighbouring voxels that have one label; of heads a third at most
SAMPLED = 200_000  # voxels that tell
VIVID = 0.3  # how far a hue lies from the usual one, at least, to be another
COLOURFUL = 0.2  # of what is lit that has such hues, in a map
COLOURED = "its colours, those of a map or a figure, were turned to grey"
PADDED = -1000  # what surrounds a resampled image has such a value or a lower one, if it is not 0
SURROUNDED = 256  # voxels of it at least
FULL = 0.3  # of the voxels of a tissue map that hold nothing else


def evenly(n: int, most: int) -> npt.NDArray[np.intp]:
    """At most so many of the indices 0 to n - 1, spread evenly from the first to the last."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp))


def make_finite(values: Image, name: str) -> tuple[Image, tuple[str, ...]]:
    """The values, their NaN, infinities and far lower padding now the lowest other one, in place; and a note."""
    low, high = values.min(), values.max()
    if np.isfinite(low) and np.isfinite(high):
        padded = low <= PADDED and np.count_nonzero(values == low) >= SURROUNDED
        inside = values.min(where=values > low, initial=high) if padded else low
        if inside - low <= high - inside:
            return values, ()
        np.maximum(values, inside, out=values)
        return values, (f"padding around the image ({low:g}) was set to the lowest value",)
    good = np.isfinite(values)
    if not good.any():
        raise UnusableError(f"{name}: no pixel is a finite number; leave it out.")
    note = f"{(~good).sum()} pixels are NaN or infinite and were set to the lowest value"
    np.copyto(values, values.min(where=good, initial=np.inf), where=~good)  # a large volume is not copied
    return values, (note,)


def refuse_blank(data: Image, name: str = "", *, flat: bool = False, two_values: bool = False) -> None:
    """Raises `UnusableError` where the (Z, Y, X) values of the file `name` show no image.

    That is where all are equal, unless `flat` allows it, or where only two differ, as in masks, unless `two_values` do.
    """
    low, high = data.min(), data.max()
    of_file = f"{name}: " if name else ""
    if low == high and not flat:
        raise UnusableError(f"{of_file}every pixel is {low:g}; there is no image in it; leave it out.")
    if low < high and not two_values and all(((plane == low) | (plane == high)).all() for plane in data):
        raise UnusableError(f"{of_file}holds only the values {low:g} and {high:g}: a mask, not an image; leave it out.")


def kind_of(data: Image) -> str:
    """What values alone say of (Z, Y, X): "label map", "tissue map" (parts of a voxel, 0 to 1), or nothing."""
    some = data.ravel()[:: max(1, data.size // SAMPLED)]
    empty, some = len(some), some[some != 0]
    values = np.unique(some)
    if (len(some) == empty) < len(values) <= LABELS:
        beside = data[..., 1:][data[..., :-1] != 0] == data[..., :-1][data[..., :-1] != 0]
        return "label map" if beside.size and beside.mean() >= FLAT else ""
    if len(values) > 1 and values[-1] == 1 and values[0] > 0 and (some == 1).mean() >= FULL:
        return "tissue map"
    return ""


def to_grey(data: Any) -> Any:
    """RGB or RGBA in the last axis to luminance (ITU-R BT.601), of the same type; alpha is dropped, dask stays lazy."""
    red, green, blue = (data[..., i].astype(np.float64) for i in range(3))
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    return (np.rint(grey) if np.issubdtype(data.dtype, np.integer) else grey).astype(data.dtype)


def said_of_colour(colour: Any) -> str:
    """The note on RGB in the last axis that became grey: of a map or a figure, of many hues, another than of a tint."""
    brightest = np.asarray(colour[..., :3].max(axis=-1), np.float32)
    lit = brightest > 0.2 * brightest.max()
    hues = colour[..., :3][lit] / brightest[lit][:, None]
    other = np.abs(hues - np.median(hues, axis=0)).max(axis=-1, initial=0) > VIVID if lit.any() else lit
    return COLOURED if other.sum() > COLOURFUL * lit.sum() else "colour was turned to grey"


def as_stored(volume: Volume) -> np.ndarray[Any, np.dtype[Any]]:
    """The data in the type the volume's files stored; integers are rounded and clipped to their limits."""
    dtype = np.dtype(volume.dtype)
    if not np.issubdtype(dtype, np.integer):
        return volume.data.astype(np.float32)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(volume.data.astype(np.float64)), limits.min, limits.max).astype(dtype)
