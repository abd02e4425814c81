"""Synthetic volumes to files that say what they are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import tifffile
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from .read import TIFF
from .volume import Volume

WRITABLE = TIFF | {".png"}


def write_image(path: Path, volume: Volume, provenance: dict[str, Any]) -> None:
    """Write a PNG (one slice, 8 or 16 bit) or a TIFF (any stack), with the provenance inside.

    Written beside and renamed, so that no half file is ever met. Raises `ValueError` with a sentence.
    """
    check_ending(path, slices=len(volume.data), dtype=volume.dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    description = json.dumps(provenance, ensure_ascii=True)
    data = as_stored(volume)
    with written_beside(path) as partial:
        if path.suffix.casefold() == ".png":
            info = PngInfo()
            info.add_text("Description", description)
            Pillow.fromarray(data[0]).save(partial, pnginfo=info)
        else:
            pages = data[0] if len(data) == 1 else data
            tifffile.imwrite(partial, pages, photometric="minisblack", description=description)


def ending_for(slices: int, dtype: str) -> str:
    """What holds such an image without loss: .png for one slice of 8 or 16 bits, else .tif."""
    return ".png" if slices == 1 and dtype in ("uint8", "uint16") else ".tif"


def check_ending(path: Path, *, slices: int, dtype: str) -> None:
    """Refuse a file name whose kind cannot hold the image. Raises `ValueError` with a sentence."""
    suffix = path.suffix.casefold()
    if suffix not in WRITABLE:
        raise ValueError(f"{path.name}: synthetic images are written as .png or .tif; change the ending.")
    if suffix == ".png" and slices > 1:
        raise ValueError(f"{path.name}: a PNG holds one slice, the image has {slices}; write a .tif.")
    if suffix == ".png" and ending_for(slices, dtype) != ".png":
        raise ValueError(f"{path.name}: {dtype} does not fit into a PNG; write a .tif.")


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` at the end.

    A power cut, a full disk or an error leaves the old file or the new one, never half of one.
    """
    partial = path.with_name(f".{path.stem}.{uuid4().hex[:8]}.partial{path.suffix}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def as_stored(volume: Volume) -> np.ndarray[Any, np.dtype[Any]]:
    """The data in the type the volume's files stored; integers are rounded and clipped to their limits."""
    dtype = np.dtype(volume.dtype)
    if not np.issubdtype(dtype, np.integer):
        return volume.data.astype(np.float32)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(volume.data.astype(np.float64)), limits.min, limits.max).astype(dtype)
