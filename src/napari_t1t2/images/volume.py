"""What every reader returns and every writer takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

NOTICE = "Synthetic image. Not for diagnosis."
Image = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """One image or stack of slices, in the units of its file.

    A 2D image is a volume of one slice. `spacing` is (Z, Y, X) in mm; None where the file does not say,
    as in a PNG. `dtype` is the type the file stored, so that a writer can go back to it.
    """

    data: Image  # (Z, Y, X)
    name: str
    contrast: str = ""
    spacing: tuple[float, float, float] | None = None
    affine: npt.NDArray[np.float64] | None = None  # (4, 4), (X, Y, Z, 1) index to RAS+ mm
    dtype: str = "float32"
    path: Path | None = None
    notes: tuple[str, ...] = ()  # what was done on the way in, e.g. "RGB turned to grey"


class UnusableError(ValueError):
    """A file or folder that cannot be used: a sentence that names it, what was found and what to do."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that could not be used, and why, as a sentence."""

    path: Path
    why: str

    def __str__(self) -> str:
        return f"{self.path.name}: {self.why}"
