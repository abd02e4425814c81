"""Synthetic volumes to files that say what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    suffix = path.suffix.casefold()
    if suffix not in WRITABLE:
        raise ValueError(f"{path.name}: synthetic images are written as .png or .tif; change the ending.")
    if suffix == ".png" and len(volume.data) > 1:
        raise ValueError(f"{path.name}: a PNG holds one slice, the image has {len(volume.data)}; write a .tif.")
    path.parent.mkdir(parents=True, exist_ok=True)
    description = json.dumps(provenance, ensure_ascii=True)
    partial = path.with_name(f".{path.stem}.partial{suffix}")
    if suffix == ".png":
        info = PngInfo()
        info.add_text("Description", description)
        Pillow.fromarray(as_stored(volume, of="png")[0]).save(partial, pnginfo=info)
    else:
        data = as_stored(volume)
        tifffile.imwrite(
            partial, data[0] if len(data) == 1 else data, photometric="minisblack", description=description
        )
    partial.replace(path)


def as_stored(volume: Volume, of: str = "") -> np.ndarray[Any, np.dtype[Any]]:
    """The data in the type the volume's files stored; integers are rounded and clipped to their limits."""
    dtype = np.dtype(volume.dtype)
    if of == "png" and dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{volume.name}: {dtype} does not fit into a PNG; write a .tif.")
    if not np.issubdtype(dtype, np.integer):
        return volume.data.astype(np.float32)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(volume.data.astype(np.float64)), limits.min, limits.max).astype(dtype)
