"""PNG, JPEG, BMP and TIFF in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image as Pillow
from PIL import ImageOps

from ..errors import UnusableError
from ..provenance import NOTICE, Provenance
from .names import TIFF
from .pixels import to_grey

GREY = frozenset({"1", "L", "I", "I;16", "I;16B", "I;16L", "F"})  # Pillow's modes of one channel


def read_picture(path: Path) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """The pixels of a PNG, JPEG or BMP, (rows, columns), and what was done to them."""
    with Pillow.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode in GREY:
            data = np.asarray(picture)
            return (data.astype(np.uint8) if data.dtype == bool else data), ()
        notes = ("transparency was dropped",) if "A" in picture.getbands() or "transparency" in picture.info else ()
        return _grey(np.asarray(picture.convert("RGB")), notes)


def read_tiff(path: Path) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """The pixels of a TIFF, (rows, columns) or (pages, rows, columns), and what was done to them."""
    with tifffile.TiffFile(path) as tiff:
        if not tiff.series:
            raise UnusableError(f"{path.name}: the TIFF holds no image.")
        series = tiff.series[0]
        data, axes = series.asarray(), series.axes
    notes: tuple[str, ...] = ()
    if axes.endswith("S") and data.shape[-1] in (3, 4):
        data, notes = _grey(data, ())
    data = data.squeeze() if data.ndim > 3 else data
    if data.ndim not in (2, 3):
        raise UnusableError(
            f"{path.name}: shape {data.shape} is not one image or one stack; save one channel and time."
        )
    return data, notes


def picture_provenance(path: Path) -> Provenance | None:
    """What a synthetic picture says of itself in its description; None where it says nothing."""
    if path.suffix.casefold() in TIFF:
        with tifffile.TiffFile(path) as tiff:
            said = tiff.pages[0].description  # type: ignore[union-attr]
    else:
        with Pillow.open(path) as opened:
            said = str(opened.info.get("Description", ""))
    return Provenance.from_json(said) or (Provenance() if NOTICE in said else None)  # a preview or a figure


def _grey(colour: npt.NDArray[Any], notes: tuple[str, ...]) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    if (colour[..., :1] == colour[..., :3]).all():  # stored as colour, grey all the same
        return colour[..., 0], notes
    return to_grey(colour), (*notes, "colour was turned to grey")
