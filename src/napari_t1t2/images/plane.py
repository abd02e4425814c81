"""Anatomical planes: the same slices of a head, whatever the order in which its file stores the voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .volume import Affine, spacing_of

Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")

# Where slices, rows and columns lead, as a radiologist's screen shows them: the patient's left on the right.
TOWARDS: dict[Plane, str] = {"axial": "SPL", "coronal": "PIL", "sagittal": "LIP"}
LETTERS = ("RL", "AP", "SI")  # the ends of the axes of RAS+ space, the positive one first
WORLD = "left, posterior, superior in mm"  # what the world's x, y and z mean for layers of ours, as in ITK and DICOM


@dataclass(frozen=True, slots=True)
class View:
    """How (..., Z, Y, X) voxels are seen as (..., slice, row, column): axes in another order, some of them mirrored.

    `spacing` is (slice, row, column) in mm, or None where it is not known.
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)
    spacing: tuple[float, float, float] | None = None

    @classmethod
    def of(cls, plane: Plane, affine: Affine | None, spacing: tuple[float, float, float] | None = None) -> View:
        """The view of a plane, from the affine (X, Y, Z index to RAS+ mm); oblique ones count as the nearest plane.

        Without an affine the voxels are seen as they are stored.
        """
        return cls(spacing=spacing) if affine is None else cls.towards(TOWARDS[plane], affine)

    @classmethod
    def towards(cls, letters: str, affine: Affine) -> View:
        """The view whose slices, rows and columns lead where three letters say, as in "SPL"."""
        from nibabel.orientations import io_orientation

        stored = {int(world): (axis, sign) for axis, (world, sign) in enumerate(io_orientation(affine))}
        mm = spacing_of(affine)
        axes, flips = [], []
        for letter in letters:
            axis, sign = stored[next(i for i, ends in enumerate(LETTERS) if letter in ends)]
            axes.append(2 - axis)
            flips.append((sign > 0) != (letter in "RAS"))
        back, down, across = (mm[axis] for axis in axes)
        return cls((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]), (back, down, across))

    def apply(self, data: Any) -> Any:
        """(..., Z, Y, X) seen as (..., slice, row, column); nothing is copied, and dask arrays stay lazy."""
        leading = data.ndim - 3
        seen = data.transpose(*range(leading), *(leading + axis for axis in self.axes))
        return seen[(..., *(slice(None, None, -1 if flip else 1) for flip in self.flips))]

    def shape(self, stored: tuple[int, ...]) -> tuple[int, int, int]:
        """(slices, rows, columns) of voxels stored in (Z, Y, X)."""
        slices, rows, columns = (stored[axis] for axis in self.axes)
        return slices, rows, columns

    def undo(self, seen: Any) -> Any:
        """The inverse of `apply`."""
        leading = seen.ndim - 3
        back = seen[(..., *(slice(None, None, -1 if flip else 1) for flip in self.flips))]
        return back.transpose(*range(leading), *(leading + self.axes.index(axis) for axis in range(3)))

    def affine(self, affine: Affine, shape: tuple[int, ...]) -> Affine:
        """The affine of the view, (column, row, slice) index to RAS+ mm, of voxels stored in `shape` (Z, Y, X)."""
        to_stored = np.zeros((4, 4))
        to_stored[3, 3] = 1
        for seen, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            to_stored[2 - axis, 2 - seen] = -1 if flip else 1
            to_stored[2 - axis, 3] = shape[axis] - 1 if flip else 0
        moved: Affine = affine @ to_stored
        return moved


def stored_towards(affine: Affine) -> str:
    """Where the stored (Z, Y, X) axes lead: "SPL" for DICOM's usual order, "SAR" for that of many NIfTI files."""
    from nibabel.orientations import aff2axcodes

    return "".join(aff2axcodes(affine))[::-1]


def plane_of(affine: Affine | None) -> str:
    """The plane in which slices are stored; empty where that is not known."""
    if affine is None:
        return ""
    return ("sagittal", "coronal", "axial")[int(np.abs(np.cross(affine[:3, 0], affine[:3, 1])).argmax())]
