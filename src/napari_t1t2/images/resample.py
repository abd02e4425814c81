"""Voxels from one grid to another."""

from __future__ import annotations

from typing import Any

import numpy as np

from .volume import Affine, Image

EXACT = 1e-3  # of a voxel


def resample(
    data: Any, affine: Affine, shape: tuple[int, ...], onto_affine: Affine, *, order: int, outside: float
) -> Image:
    """(Z, Y, X) voxels on a grid of another `shape` (Z, Y, X), both with their (X, Y, Z) index to RAS+ mm.

    An `order` of 1 is linear, 0 the nearest neighbour; `outside` is what stands where there are no voxels.
    """
    from nibabel.nifti1 import Nifti1Image
    from nibabel.processing import resample_from_to

    between = np.linalg.inv(affine) @ onto_affine
    if np.allclose(between, between.round(), atol=EXACT):  # the same voxels in another order: no rounding at the edge
        order, onto_affine = 0, affine @ between.round()
    grid = shape[::-1], onto_affine
    moved = resample_from_to(Nifti1Image(data.T, affine), grid, order=order, cval=outside)
    return np.asarray(moved.dataobj, np.float32).T
