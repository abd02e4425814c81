"""PNG, JPEG, BMP and TIFF in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image as Pillow
from PIL import ImageOps

from ..errors import UnusableError
from ..provenance import NOTICE, Provenance
from .limits import refuse_bomb
from .names import TIFF
from .pixels import to_grey

GREY = frozenset({"1", "L", "I", "I;16", "I;16B", "I;16L", "F"})  # Pillow's modes of one channel


def read_picture(path: Path) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """The pixels of a PNG, JPEG or BMP, (rows, columns), and what was done to them."""
    with path.open("rb") as file:
        if (deep := _deep_colour(path, file)) is not None:
            return _grey(deep[..., :3], ("transparency was dropped",) if deep.shape[-1] == 4 else ())
        with Pillow.open(file) as opened:
            stored = opened.width * opened.height * len(opened.getbands())
            refuse_bomb(path, stored, 8 * stored)
            picture = ImageOps.exif_transpose(opened)
            if picture.mode in GREY:
                data = np.asarray(picture)
                return (data.astype(np.uint8) if data.dtype == bool else data), ()
            clear = "A" in picture.getbands() or "transparency" in picture.info
            return _grey(np.asarray(picture.convert("RGB")), ("transparency was dropped",) if clear else ())


def _deep_colour(path: Path, file: BinaryIO) -> npt.NDArray[Any] | None:
    """A PNG of 16 bits in colour, (rows, columns, 3 or 4), of which Pillow would keep 8; None for other files."""
    begin = file.read(26)
    file.seek(0)
    if not begin.startswith(b"\x89PNG") or begin[24] != 16 or begin[25] not in (2, 6):
        return None
    import imagecodecs

    pixels = int.from_bytes(begin[16:20]) * int.from_bytes(begin[20:24])
    refuse_bomb(path, 8 * pixels, 36 * pixels)
    decoded: npt.NDArray[Any] = imagecodecs.png_decode(file.read())
    return decoded


def read_tiff(path: Path) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """The pixels of a TIFF, (rows, columns) or (pages, rows, columns), and what was done to them."""
    with tifffile.TiffFile(path) as tiff:
        if not tiff.series:
            raise UnusableError(f"{path.name}: the TIFF holds no image.")
        series = tiff.series[0]
        refuse_bomb(path, series.nbytes, series.nbytes + 4 * series.size)
        data, axes, page = series.asarray(), series.axes, series.keyframe
    notes: tuple[str, ...] = ()
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        data, notes = _grey(np.moveaxis(page.colormap[:, data] >> 8, 0, -1).astype(np.uint8), ())
    elif page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and data.dtype.kind == "u":
        data, notes = np.iinfo(data.dtype).max - data, ("low values were white and were inverted",)
    elif "S" in axes and data.shape[axes.index("S")] in (3, 4):  # samples may lie in planes, before rows and columns
        data, notes = _grey(np.moveaxis(data, axes.index("S"), -1)[..., :3], ())
    data = data.squeeze() if data.ndim > 3 else data
    if data.ndim not in (2, 3) or not data.size:
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
