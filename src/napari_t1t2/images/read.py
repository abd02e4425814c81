"""Files and folders in, volumes out: the one door to all readers. What cannot be used is named, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UnusableError, shown
from .clues import subject_of
from .contrast import contrast_of
from .dicom import in_order, read_dicoms, read_stacks
from .dicom_slices import by_series
from .folder import Folder, choose, files_in, named
from .names import DOCUMENTS, SIDECARS, TIFF, is_known, is_nifti, is_second_half, refuse_missing
from .nifti import read_nifti
from .pictures import picture_provenance, read_picture, read_tiff
from .pixels import kind_of, make_finite, refuse_blank
from .quiet import decoding
from .volume import VOXEL, Skipped, Volume

LOSSY = frozenset({".jpg", ".jpeg"})  # nobody keeps labels in these
Source = tuple[Path, ...]  # files that are read together


def read_folder(folder: Path, contrast: str = "", *, series: str = "", frame: int = 0) -> Folder:
    """Read every PNG, TIFF, JPEG, BMP, NIfTI, MGH and DICOM file of a folder and of the folders in it.

    What looks like another `contrast`, by its name or headers, is left out and named, so that one folder of T1 and T2
    series serves both. With `series`, names or parts of them with commas between, these are taken and no others; a
    whole name, which may hold commas, stands for itself alone. Of a 4D file the volume numbered `frame` is taken.
    Raises `UnusableError` where the folder is missing or holds no usable image.
    """
    return choose(read_all(folder, frame=frame), contrast, series)


def read_all(folder: Path, *, frame: int = 0) -> Folder:
    """Read every image of a folder and of the folders in it, whatever it shows; there may be none.

    Files of one name in several folders are told apart by their folder, and so are the heads they show. Raises
    `UnusableError` where it is no folder.
    """
    return named(folder, *read_files(files_in(folder), frame=frame))


def read_files(paths: Sequence[Path], *, frame: int = 0) -> tuple[list[Volume], list[Skipped]]:
    """Read files of any kind; DICOM slices become one volume a series. What cannot be used is named."""
    return gathered([read_source(source, frame=frame) for source in sources_in(paths)])


def sources_in(paths: Sequence[Path]) -> list[Source]:
    """What can be read one after the other: pictures and volumes alone, then each DICOM series; documents are left."""
    images = [p for p in paths if p.suffix.casefold() not in SIDECARS and not is_second_half(p)] or paths
    series, unknown = by_series(path for path in images if not is_known(path))
    some = series or any(map(is_known, images))  # else all are named
    alone = {path for path in unknown if not some or path.suffix.casefold() not in DOCUMENTS}
    return [(path,) for path in images if is_known(path) or path in alone] + series


@dataclass(frozen=True, slots=True)
class Part:
    """What one source held, and for DICOM where each volume stands among those of other series."""

    volumes: list[Volume]
    skipped: list[Skipped]
    orders: list[Any] = field(default_factory=list)


def read_source(source: Source, *, frame: int = 0) -> Part:
    """Read one of `sources_in`."""
    path = source[0]
    found: Sequence[tuple[Any, Volume]] = []
    if not is_known(path):
        found, skipped = read_stacks(source)
    else:
        try:
            found, skipped = [(None, read_image(path, frame=frame))], []
        except UnusableError as error:
            skipped = [Skipped(path, str(error).removeprefix(f"{path.name}: "))]
    odd = [(v.path or Path(v.name), _why_impossible(v)) for _, v in found]
    skipped += [Skipped(path, why) for path, why in odd if why]
    kept = [one for one, (_, why) in zip(found, odd, strict=True) if not why]
    return Part([v for _, v in kept], skipped, [order for order, _ in kept if order])


def gathered(parts: Sequence[Part]) -> tuple[list[Volume], list[Skipped]]:
    """The volumes of all sources, DICOM last and by the number of its series; and what was skipped."""
    alone = [v for part in parts if not part.orders for v in part.volumes]
    stacks = [pair for part in parts for pair in zip(part.orders, part.volumes, strict=False)]
    return alone + in_order(stacks), [s for part in parts for s in part.skipped]


def _why_impossible(volume: Volume) -> str:
    """A sentence where the voxels cannot be those of a head."""
    if not volume.spacing or all(VOXEL[0] <= mm <= VOXEL[1] for mm in volume.spacing):
        return ""
    sides = "x".join(f"{mm:.4g}" for mm in volume.spacing)
    return f"its voxels are {sides} mm, which no scan of a head has; correct the header."


def read_image(path: Path, contrast: str = "", *, flat: bool = False, frame: int = 0, mask: bool = False) -> Volume:
    """Read one PNG, JPEG, BMP, TIFF, NIfTI, MGH or DICOM file; a stack becomes a volume.

    Colour becomes grey and is noted. An image of one value is refused unless `flat` allows it; of a 4D file, the
    volume numbered `frame` is read. A NIfTI mask is refused unless it is asked for. Raises `UnusableError` with a
    sentence where the file cannot be used.
    """
    if is_nifti(path):
        return read_nifti(path, contrast, flat=flat, frame=frame, mask=mask)
    refuse_missing(path)
    if not is_known(path):
        read, refused = read_dicoms([path])
        if not read:
            raise UnusableError(str(refused[0]))
        return replace(read[0], contrast=contrast)
    with decoding(path):
        data, notes, spacing = read_tiff(path) if path.suffix.casefold() in TIFF else (*read_picture(path), None)
        provenance = picture_provenance(path)
    values, more = make_finite(data.astype(np.float32), path.name)
    stack = values.reshape(-1, *values.shape[-2:])
    refuse_blank(stack, path.name, flat=flat, two_values=True)
    return Volume(
        data=stack,
        name=path.stem,
        contrast=contrast,
        looks=(path.suffix.casefold() not in LOSSY and kind_of(stack)) or contrast_of([path.stem]),
        spacing=spacing,
        dtype=data.dtype.name,
        path=path,
        subject=subject_of(path, len(stack) > 1),
        series=shown(path.name),
        provenance=provenance,
        notes=notes + more,
    )
