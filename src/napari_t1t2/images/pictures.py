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
from .pixels import said_of_colour, to_grey
from .volume import VOXEL

FEW = 10  # channels or time points, at most; more are slices whose axis has the wrong name
MM = {  # units of length, as ImageJ and OME spell them
    **{"mm": 1.0, "millimeter": 1.0, "millimetre": 1.0, "cm": 10.0, "centimeter": 10.0, "m": 1000.0},
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "micrometer"), 0.001),
}
CLEAR = ("transparency was dropped",)
Spacing = tuple[float, float, float]
GREY = frozenset({"1", "L", "I", "I;16", "I;16B", "I;16L", "F"})  # Pillow's modes of one channel


def read_picture(path: Path) -> tuple[npt.NDArray[Any], tuple[str, ...], Spacing | None]:
    """The pixels of a PNG, JPEG, BMP or TIFF, by its content; what was done to them; and (Z, Y, X) in mm.

    Pixels are (rows, columns), of a TIFF of several pages (pages, rows, columns).
    """
    with path.open("rb") as file:
        if _is_tiff(file):
            return _read_tiff(path, file)
        if (deep := _deep_colour(path, file)) is not None:
            clear = CLEAR if deep.shape[-1] in (2, 4) else ()
            return *_grey(deep[..., :3] if deep.shape[-1] > 2 else deep[..., :1], clear), None
        with Pillow.open(file) as opened:
            stored = opened.width * opened.height * len(opened.getbands())
            refuse_bomb(path, stored, 8 * stored)
            count = getattr(opened, "n_frames", 1)
            notes: tuple[str, ...] = (f"the first of its {count} images was taken",) if count > 1 else ()
            picture = ImageOps.exif_transpose(opened)
            if picture.mode in GREY:
                data = np.asarray(picture)
                return (data.astype(np.uint8) if data.dtype == bool else data), notes, None
            if "A" in picture.getbands() or "transparency" in picture.info:
                notes += CLEAR
            return *_grey(np.asarray(picture.convert("RGB")), notes), None


def _is_tiff(file: BinaryIO) -> bool:
    """Whether an open file begins as a TIFF or BigTIFF does; it is back at its beginning."""
    begin = file.read(4)
    file.seek(0)
    return begin in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _deep_colour(path: Path, file: BinaryIO) -> npt.NDArray[Any] | None:
    """A PNG of 16 bits with several channels, (rows, columns, 2 to 4), of which Pillow keeps 8; None for others."""
    begin = file.read(26)
    file.seek(0)
    if not begin.startswith(b"\x89PNG") or begin[24] != 16 or begin[25] not in (2, 4, 6):
        return None
    import imagecodecs

    pixels = int.from_bytes(begin[16:20]) * int.from_bytes(begin[20:24])
    refuse_bomb(path, 8 * pixels, 36 * pixels)
    decoded: npt.NDArray[Any] = imagecodecs.png_decode(file.read())
    return decoded


def _read_tiff(path: Path, file: BinaryIO) -> tuple[npt.NDArray[Any], tuple[str, ...], Spacing | None]:
    """The pixels of an open TIFF, (rows, columns) or (pages, rows, columns), what was done to them, and their sides."""
    notes: tuple[str, ...] = ()
    with tifffile.TiffFile(file) as tiff:
        if not len(tiff.pages) or not tiff.series:  # counted first: a chain of pages that leads back would never end
            raise UnusableError(f"{path.name}: the TIFF holds no image.")
        series = tiff.series[0]
        _refuse_missing(tiff, path)
        refuse_bomb(path, series.nbytes, series.nbytes + 4 * series.size)
        data, axes, page = series.asarray(), series.axes, series.keyframe
        others = tiff.series[1:]
        alike = all((s.shape, s.dtype) == (series.shape, series.dtype) for s in others)
        if others and len(axes) == 2 and alike and not tiff.is_ome:  # which numbers pages, and names images
            data, axes = np.stack([data, *(other.asarray() for other in others)]), f"I{axes}"
        elif others:
            notes = (f"other images in it were left out: {len(others)}",)
        spacing = _spacing_of(tiff)
    if data.dtype.kind == "c":
        raise UnusableError(f"{path.name}: its values are complex; save their magnitude.")
    data, axes, made = _intensity(data, axes, page, path)
    notes += made
    for axis, what in (("C", "channels"), ("S", "channels"), ("T", "time points")):
        if axis in axes and (count := data.shape[axes.index(axis)]) > 1:
            if count <= FEW or data.ndim > 3:
                raise UnusableError(f"{path.name}: its {count} {what} are no slices (axis Z): save one of them.")
            notes += (f"its {count} {what} were taken for slices",)
    data = data.squeeze() if data.ndim > 3 else data
    if data.ndim not in (2, 3) or not data.size:
        raise UnusableError(f"{path.name}: shape {data.shape} is not one image or stack; save one channel and time.")
    turn = page.tags.valueof(274, 1)  # Orientation: which sides of the image its first row and column are
    if turn in range(5, 9):
        data, spacing = data.swapaxes(-1, -2), spacing and (spacing[0], spacing[2], spacing[1])
    data = data[..., :: -1 if turn in (3, 4, 7, 8) else 1, :: -1 if turn in (2, 3, 6, 7) else 1]
    if spacing and not all(VOXEL[0] <= mm <= VOXEL[1] for mm in spacing):
        notes += (f"its pixels of {spacing[1]:.3g}x{spacing[2]:.3g} mm cannot be of a head: the size was ignored",)
        spacing = None
    return data, notes, spacing


def _intensity(
    data: npt.NDArray[Any], axes: str, page: Any, path: Path
) -> tuple[npt.NDArray[Any], str, tuple[str, ...]]:
    """Grey as TIFF's PhotometricInterpretation says, dark where there is nothing; its axes; and what was done.

    Samples, wherever they lie, become grey where they are colour; those that are transparency are dropped, others
    stay an axis S at the end. Raises `UnusableError` for colours for printing and the like.
    """
    kind, known = page.photometric, tifffile.PHOTOMETRIC
    jpeg = kind == known.YCBCR and "JPEG" in getattr(page.compression, "name", "")  # whose decoder makes it RGB
    if kind not in (known.MINISBLACK, known.MINISWHITE, known.RGB, known.PALETTE) and not jpeg:
        raise UnusableError(f"{path.name}: its colours are {getattr(kind, 'name', kind)}: save it as grey or RGB.")
    if kind == known.PALETTE and page.colormap is not None:
        grey, made = _grey(np.moveaxis(_table(page.colormap)[:, data], 0, -1), ())
        return grey, axes, made
    notes: tuple[str, ...] = ()
    if "S" in axes:
        data, axes = np.moveaxis(data, axes.index("S"), -1), axes.replace("S", "") + "S"
        if any(extra.name.endswith("ALPHA") for extra in page.extrasamples):
            data, notes = data[..., : -len(page.extrasamples)], CLEAR
        if kind == known.RGB or jpeg:
            grey, made = _grey(data[..., :3], notes)
            return grey, axes[:-1], made
        if data.shape[-1] == 1:
            data, axes = data[..., 0], axes[:-1]
    if kind == known.MINISWHITE:
        ends = np.iinfo(data.dtype).max if data.dtype.kind == "u" else data.max() + data.min()
        data = ~data if data.dtype == bool else ends - data
        notes += ("low values were white and were inverted",)
    return data, axes, notes


def _table(colours: npt.NDArray[np.uint16]) -> npt.NDArray[Any]:
    """A TIFF's colour map, (3, colours): of 8 bits, as they mostly are, which some programs do not scale, or of 16."""
    if colours.max() < 256:
        return colours.astype(np.uint8)
    high, low = colours >> 8, colours & 255
    return high.astype(np.uint8) if ((low == high) | (low == 0)).all() else colours


def _refuse_missing(tiff: tifffile.TiffFile, path: Path) -> None:
    """Raises `UnusableError` where pages were cut off, or parts of the pixels never written, which would be black."""
    size, missing, parts = path.stat().st_size, 0, 0
    for page in tiff.series[0].pages:
        places = [] if page is None else list(zip(page.dataoffsets, page.databytecounts, strict=False))
        parts += len(places) or 1
        missing += sum(not (at and count and at + count <= size) for at, count in places) if places else 1
    if missing:
        raise UnusableError(f"{path.name}: {missing} of {parts} strips of its pixels are missing; copy it again.")
    if (following := tiff.pages.next_page_offset) is not None:
        tiff.filehandle.seek(following)
        if any(tiff.filehandle.read(tiff.tiff.offsetsize)):
            raise UnusableError(f"{path.name}: it is truncated after page {len(tiff.pages)}; copy it again.")


def _spacing_of(tiff: tifffile.TiffFile) -> Spacing | None:
    """(Z, Y, X) in mm, as ImageJ or OME says; None where neither does: dots per inch are for printers."""
    if tiff.is_ome and tiff.ome_metadata:
        images = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
        pixels = (images[0] if isinstance(images, list) else images)["Pixels"]
        units = (MM.get(str(pixels.get(f"PhysicalSize{axis}Unit", "µm")), 0) for axis in "ZYX")
        sides = [mm * float(pixels.get(f"PhysicalSize{axis}", 0)) for mm, axis in zip(units, "ZYX", strict=True)]
    elif tiff.is_imagej and (said := tiff.imagej_metadata):
        mm = MM.get(str(said.get("unit", "")).replace("\\u00B5", "µ"), 0)
        tags = [tiff.pages[0].tags.get(f"{axis}Resolution") for axis in "YX"]  # type: ignore[union-attr]
        sides = [float(said.get("spacing", 1)) * mm, *(mm * t.value[1] / max(1, t.value[0]) if t else 0 for t in tags)]
    else:
        return None
    sides[0] = abs(sides[0]) or sides[1]
    return (sides[0], sides[1], sides[2]) if min(sides) > 0 else None


def picture_provenance(path: Path) -> Provenance | None:
    """What a synthetic picture says of itself in its description; None where it says nothing."""
    with path.open("rb") as file:
        if _is_tiff(file):
            with tifffile.TiffFile(file) as tiff:
                said = tiff.pages[0].description  # type: ignore[union-attr]
        else:
            with Pillow.open(file) as opened:
                said = str(opened.info.get("Description", ""))
    return Provenance.from_json(said) or (Provenance() if NOTICE in said else None)  # a preview or a figure


def _grey(colour: npt.NDArray[Any], notes: tuple[str, ...]) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    if (colour[..., :1] == colour[..., :3]).all():  # stored as colour, grey all the same
        return colour[..., 0], notes
    return to_grey(colour), (*notes, said_of_colour(colour))
