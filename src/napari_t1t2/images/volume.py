"""What every reader returns and every writer takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from ..errors import shown
from ..provenance import NOTICE as NOTICE
from ..provenance import Provenance

Image = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]  # (4, 4)
THINNED = 8  # pixels along each side of a slice that stand for it, where there are more slices than memory holds
VOXEL = 0.02, 100.0  # mm, the smallest and largest side that is believed


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """One image or stack of slices, in the units of its file and in the order in which the file stores it.

    A 2D image is a volume of one slice. `spacing` is (Z, Y, X) in mm; None where the file does not say,
    as in a PNG. `dtype` is the type the file stored, so that a writer can go back to it.
    """

    data: Image  # (Z, Y, X)
    name: str
    contrast: str = ""  # what the user says it is
    looks: str = ""  # what its name and headers say it is; see `clues`
    why: str = ""  # it looks so: which name or header says it
    spacing: tuple[float, float, float] | None = None
    affine: Affine | None = None  # (X, Y, Z, 1) index to RAS+ mm
    dtype: str = "float32"
    path: Path | None = None
    files: tuple[Path, ...] = ()  # of a DICOM series, one a slice, in the order of the slices
    subject: str = ""  # whose head it is, where a name or header says so; never written to a file
    series: str = ""  # what to call it when choosing, such as "3: t2_tse_tra" or the file's name
    uid: str = ""  # the SeriesInstanceUID of `files`, which tells whether they still are what was read
    provenance: Provenance | None = None  # what it says of itself where no scanner made it
    anonymous: bool = False  # whether what is written of it must not tell whose it is
    notes: tuple[str, ...] = ()  # what was done on the way in, e.g. "RGB turned to grey"

    @property
    def synthetic(self) -> bool:
        """Whether it says that no scanner made it."""
        return self.provenance is not None

    def told(self) -> Provenance | None:
        """What is written of its origin: of an anonymous one, without the name of the file it was made from."""
        return replace(self.provenance, source=None) if self.provenance and self.anonymous else self.provenance

    def why_not(self) -> str | None:
        """The end of a sentence where it holds no image, or half of one, as `Provenance.why_not`."""
        return self.provenance.why_not() if self.provenance else None

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files that it was read of."""
        return self.files or tuple(filter(None, (self.path,)))

    @property
    def origin(self) -> str:
        """What an image that is made of it says that it was made of: no path, which may name a person."""
        return self.path.name if self.path else self.name


@dataclass(frozen=True, kw_only=True, eq=False)
class Outline(Volume):
    """A volume as its names and headers tell of it. Where it is not `held`, its data are `unread`."""

    source: tuple[Path, ...] = ()  # files that are read together
    number: int = 0  # among the volumes of its source
    frame: int = 0  # the volume number that the source is read with
    held: bool = True
    sample: Image | None = None  # of a single slice that was let go, some of its pixels

    def let_go(self) -> Self:
        """The same without voxels: it keeps its shape, and of a single slice some hundred pixels."""
        kept = None
        if len(self.data) == 1 and self.held:
            rows, columns = (max(1, side // THINNED) for side in self.data.shape[1:])
            kept = self.data[:, ::rows, ::columns].copy()
        return replace(self, data=unread(self.data.shape), held=False, sample=self.sample if kept is None else kept)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that could not be used, and why, as a sentence."""

    path: Path
    why: str

    def __str__(self) -> str:
        return shown(f"{self.path.name}: {self.why}")


def unread(shape: tuple[int, ...]) -> Image:
    """What stands for voxels that are on disk: NaN of their shape, which take no memory."""
    return np.broadcast_to(np.float32(np.nan), shape)


def spacing_of(affine: Affine) -> tuple[float, float, float]:
    """(Z, Y, X) in mm: the lengths of the affine's columns."""
    x, y, z = (float(v) for v in np.linalg.norm(affine[:3, :3], axis=0))
    return z, y, x
