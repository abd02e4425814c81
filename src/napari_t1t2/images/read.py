"""Files and folders in, volumes out. What cannot be used is named, with the reason."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image as Pillow
from PIL import ImageOps

from .volume import Skipped, UnusableError, Volume

TIFF = frozenset({".tif", ".tiff"})
READABLE = TIFF | {".png", ".jpg", ".jpeg", ".bmp"}
GREY = frozenset({"1", "L", "I", "I;16", "I;16B", "I;16L", "F"})  # Pillow's modes of one channel


@dataclass(frozen=True, slots=True)
class Folder:
    """What a folder held: the usable volumes in natural order, and the rest."""

    path: Path
    volumes: list[Volume]
    skipped: list[Skipped]

    def sizes(self) -> dict[tuple[int, int], int]:
        """How many slices there are of each (rows, columns), the most frequent first."""
        count: Counter[tuple[int, int]] = Counter()
        for volume in self.volumes:
            count[volume.data.shape[1], volume.data.shape[2]] += len(volume.data)
        return dict(count.most_common())

    def summary(self) -> str:
        """Count, sizes, type and range in one line."""
        if not self.volumes:
            return "no usable images"
        sizes = ", ".join(f"{n} of {rows}x{columns}" for (rows, columns), n in self.sizes().items())
        types = ", ".join(dict.fromkeys(v.dtype for v in self.volumes))
        low, high = min(v.data.min() for v in self.volumes), max(v.data.max() for v in self.volumes)
        return f"{len(self.volumes)} images; slices: {sizes}; {types}; values {low:g} to {high:g}"

    def notes(self) -> list[str]:
        """What was done to a file on the way in, and which files were left out and why."""
        done = [f"{v.path.name if v.path else v.name}: {note}" for v in self.volumes for note in v.notes]
        return done + [f"skipped {s}" for s in self.skipped]


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that puts `Image #9` before `Image #10`."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def files_in(folder: Path) -> list[Path]:
    """The folder's files in natural order, hidden ones left out. Raises `UnusableError` where it is no folder."""
    if folder == Path():
        raise UnusableError("No folder was given: choose one for each contrast.")
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UnusableError(f"{folder} {what}: give a folder of images.")
    return sorted((p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")), key=natural)


def read_folder(folder: Path, contrast: str = "") -> Folder:
    """Read every image of a folder (not of folders in it).

    Raises
    ------
    UnusableError
        Where the folder is missing or holds no usable image; a sentence that names it.
    """
    volumes: list[Volume] = []
    skipped: list[Skipped] = []
    for path in files_in(folder):
        try:
            volumes.append(read_image(path, contrast))
        except UnusableError as error:
            skipped.append(Skipped(path, str(error).removeprefix(f"{path.name}: ")))
    if not volumes:
        reasons = "; ".join(map(str, skipped[:3])) + (f"; and {len(skipped) - 3} more" if len(skipped) > 3 else "")
        found = f"none of its {len(skipped)} files can be used ({reasons})" if skipped else "it is empty"
        raise UnusableError(f"{folder} holds no images: {found}. Give a folder of {_readable()} files.")
    return Folder(folder, volumes, skipped)


def read_image(path: Path, contrast: str = "", *, flat: bool = False) -> Volume:
    """Read one PNG, JPEG, BMP or TIFF, a TIFF stack as a volume.

    Colour becomes grey and is noted. An image of one value is refused unless `flat` allows it.
    Raises `UnusableError` with a sentence where the file cannot be used.
    """
    if not path.is_file():
        raise UnusableError(f"{path} does not exist: check the name.")
    suffix = path.suffix.casefold()
    if suffix not in READABLE:
        raise UnusableError(f"{path.name}: not an image that can be read here; give {_readable()}.")
    if path.stat().st_size == 0:
        raise UnusableError(f"{path.name}: the file is empty (0 bytes); copy it again.")
    try:
        data, notes = _read_tiff(path) if suffix in TIFF else _read_picture(path)
    except UnusableError:
        raise
    except Exception as error:  # decoders raise whatever they like on broken files
        reason = str(error).replace(f" {str(path)!r}", "").rstrip(".") or type(error).__name__
        raise UnusableError(f"{path.name}: cannot be decoded ({reason}); is it truncated, or no image?") from error

    dtype = data.dtype.name
    values = data.astype(np.float32)
    if not (finite := np.isfinite(values)).all():
        if not finite.any():
            raise UnusableError(f"{path.name}: no pixel is a finite number.")
        notes += (f"{(~finite).sum()} pixels are NaN or infinite and were set to the lowest value",)
        values = np.where(finite, values, values[finite].min())
    if not flat and values.min() == values.max():
        raise UnusableError(f"{path.name}: every pixel is {values.flat[0]:g}; there is no image in it; leave it out.")
    stack = values.reshape(-1, *values.shape[-2:])
    return Volume(data=stack, name=path.stem, contrast=contrast, dtype=dtype, path=path, notes=notes)


def to_grey(data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """RGB or RGBA in the last axis to luminance (ITU-R BT.601), of the same type; alpha is dropped."""
    red, green, blue = (data[..., i].astype(np.float64) for i in range(3))
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    return (np.rint(grey) if np.issubdtype(data.dtype, np.integer) else grey).astype(data.dtype)


class GreyView:
    """A colour array, (..., rows, columns, 3 or 4), seen as grey; converted where it is indexed, lazily."""

    def __init__(self, colour: Any) -> None:
        self._colour = colour
        self.shape: tuple[int, ...] = tuple(colour.shape[:-1])

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        return to_grey(np.asarray(self._colour[index]))


def _read_picture(path: Path) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    with Pillow.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode in GREY:
            data = np.asarray(picture)
            return (data.astype(np.uint8) if data.dtype == bool else data), ()
        notes = ("transparency was dropped",) if "A" in picture.getbands() or "transparency" in picture.info else ()
        return _grey(np.asarray(picture.convert("RGB")), notes)


def _read_tiff(path: Path) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
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


def _grey(colour: npt.NDArray[Any], notes: tuple[str, ...]) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    if (colour[..., :1] == colour[..., :3]).all():  # stored as colour, grey all the same
        return colour[..., 0], notes
    return to_grey(colour), (*notes, "colour was turned to grey")


def _readable() -> str:
    return "PNG, TIFF, JPEG or BMP"
