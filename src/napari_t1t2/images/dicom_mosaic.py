"""Mosaics: one DICOM image that holds all slices of a volume as tiles, as Siemens and United Imaging write them."""

from __future__ import annotations

from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import UnusableError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Vector = npt.NDArray[np.float64]
GRID = 0x0065, "Image Private Header"  # United Imaging: (0065,xx50) is the number of tiles, (0065,xx51) tells of each


def places_of_tiles(header: Dataset) -> list[Vector] | None:
    """The position of each tile's first pixel, (3,) in mm, LPS; None for what is no mosaic.

    Raises `UnusableError` where the private header that tells them was removed.
    """
    if int(header.get("NumberOfFrames") or 1) > 1:  # Siemens XA says MOSAIC of frames that it has unfolded
        return None
    try:
        grid = header.private_block(*GRID)
        return [np.array(tile.ImagePositionPatient, np.float64) for tile in grid[0x51].value][: int(grid[0x50].value)]
    except (KeyError, AttributeError):
        return _by_csa(header) if "MOSAIC" in (header.get("ImageType") or ()) else None


def _by_csa(header: Dataset) -> list[Vector]:
    """The same by the CSA header of Siemens, whose normal tells which way the slices run."""
    from nibabel.nicom.csareader import get_csa_header, get_n_mosaic, get_slice_normal
    from nibabel.nicom.dicomwrappers import MosaicWrapper

    said: Any = get_csa_header(header, "image")
    count = get_n_mosaic(said) if said else 0
    if not count or get_slice_normal(said) is None:
        raise UnusableError(
            "a Siemens mosaic, all slices tiled into one image, without the private header (CSA) that tells how many "
            "there are and which way they run: export it again with private tags, or as single slices."
        )
    mosaic = MosaicWrapper(header, said, count)
    step = header.get("SpacingBetweenSlices") or header.get("SliceThickness")
    if mosaic.image_position is None or not step:
        raise UnusableError("a Siemens mosaic that does not say where its slices lie; export it again.")
    return [mosaic.image_position + k * float(step) * mosaic.slice_normal for k in range(count)]


def unfold(image: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """The tiles (count, rows, columns) of a mosaic (R, C), row by row. Raises `UnusableError` where none fit."""
    side = ceil(sqrt(count))
    rows, columns = (length // side for length in image.shape)
    if image.shape != (rows * side, columns * side):
        size = "x".join(map(str, image.shape))
        raise UnusableError(f"a mosaic of {size} pixels, which {side}x{side} slices do not fill; export it again.")
    return image.reshape(side, rows, side, columns).swapaxes(1, 2).reshape(-1, rows, columns)[:count]
