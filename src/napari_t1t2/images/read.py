"""Files and folders in, volumes out: the one door to all readers. What cannot be used is named, with the reason."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ..errors import Refusal, UnusableError, shown
from ..provenance import MAPS, Provenance
from .clues import subject_of
from .contrast import contrast_of
from .dicom import in_order, read_dicoms, read_stacks
from .dicom_header import provenance_of
from .dicom_slices import Identity, by_series, identity_of
from .folder import Folder, choose, files_in, named
from .names import DOCUMENTS, SIDECARS, is_known, is_nifti, is_second_half, map_title, refuse_missing
from .nifti import glance_at_nifti, read_nifti, read_sidecar
from .pictures import picture_provenance, read_picture
from .pixels import COLOURED, kind_of, make_finite, refuse_blank
from .quiet import decoding, quiet
from .volume import VOXEL, Image, Outline, Skipped, Volume

LOSSY = frozenset({".jpg", ".jpeg"})  # nobody keeps labels in these
Source = tuple[Path, ...]  # files that are read together
Step = tuple[int, int, Path]  # so many of so many, and the last
BRIGHT = 0.75  # of the range of a picture, at its edges, where a head has air
HELD = 128 * 2**20  # bytes of voxels that may be held by those who go file by file


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


def sources_in(paths: Sequence[Path], known: Mapping[Path, Identity | None] = MappingProxyType({})) -> list[Source]:
    """What can be read one after the other: pictures and volumes alone, then each DICOM series; documents are left.

    Of files that are no pictures or volumes by name, the identity may be `known`.
    """
    images = [p for p in paths if p.suffix.casefold() not in SIDECARS and not is_second_half(p)] or paths
    series, unknown = by_series((path for path in images if not is_known(path)), known)
    some = series or any(map(is_known, images))  # else all are named
    alone = {path for path in unknown if not some or path.suffix.casefold() not in DOCUMENTS}
    return [(path,) for path in images if is_known(path) or path in alone] + series


@dataclass(frozen=True, slots=True)
class Part:
    """What one source held, and for DICOM where each volume stands among those of other series."""

    volumes: list[Volume]
    skipped: list[Skipped]
    orders: list[Any] = field(default_factory=list)


def read_source(source: Source, *, frame: int = 0, voxels: bool = True) -> Part:
    """Read one of `sources_in`; without `voxels`, of NIfTI and its like only the header."""
    path = source[0]
    found: Sequence[tuple[Any, Volume]] = []
    if not is_known(path):
        found, skipped = read_stacks(source)
    else:
        try:
            found, skipped = [(None, read_image(path, frame=frame, voxels=voxels))], []
        except UnusableError as error:
            skipped = [Skipped(path, str(error).removeprefix(f"{shown(path.name)}: "))]
    odd = [(v.path or Path(v.name), _why_impossible(v)) for _, v in found]
    skipped += [Skipped(path, why) for path, why in odd if why]
    kept = [one for one, (_, why) in zip(found, odd, strict=True) if not why]
    return Part([v for _, v in kept], skipped, [order for order, _ in kept if order])


def look_over(
    paths: Sequence[Path], *, frame: int = 0, places: bool = True
) -> Generator[Step, None, tuple[list[Volume], list[Skipped]]]:
    """`read_files` for more than memory holds: `Outline`s, whose voxels `load` reads one after the other.

    Where all fit into `HELD`, they are read at once. Of more, NIfTI are told by their headers and names, and others
    are read and let go; without `places`, of most NIfTI only names, shape and contrast are told. Yields how many
    files, which may be DICOM, were identified, then how many sources are read; of how many, and the last.
    """
    known: dict[Path, Identity | None] = {}
    for path in (unknown := [path for path in paths if not is_known(path)]):
        known[path] = identity_of(path)
        yield len(known), len(unknown), path
    sources = sources_in(paths, known)
    parts: list[Part] = []
    size, full = 0, False
    for source in sources:
        held = not is_nifti(source[0])
        glance = None if places or held else glance_at_nifti(source[0])
        read = Part([glance], []) if glance else read_source(source, frame=frame, voxels=False)
        if not held and any(len(v.data) == 1 for v in read.volumes):  # single slices share a range
            read, held = read_source(source, frame=frame), True
        told: list[Volume] = [_outline(v, source, n, frame, held=held) for n, v in enumerate(read.volumes)]
        parts.append(replace(read, volumes=told))
        size += sum(v.data.nbytes for v in told)
        if size > HELD:
            for i in range(len(parts) - 1 if full else 0, len(parts)):
                parts[i] = replace(parts[i], volumes=[let_go(v) for v in parts[i].volumes])
            full = True
        yield len(parts), len(sources), source[0]
    if not full:
        for i, source in enumerate(sources):
            if is_nifti(source[0]):
                read = read_source(source, frame=frame)
                parts[i] = replace(read, volumes=[_outline(v, source, n, frame) for n, v in enumerate(read.volumes)])
    return gathered(parts)


def _outline(volume: Volume, source: Source, number: int, frame: int, *, held: bool = True) -> Outline:
    known = {f.name: getattr(volume, f.name) for f in fields(Volume)}
    return Outline(**known, source=source, number=number, frame=frame, held=held)


def let_go(volume: Volume) -> Volume:
    """A volume without its voxels, where these can be read again."""
    return volume.let_go() if isinstance(volume, Outline) else volume


def load(volume: Volume) -> Volume:
    """A volume with its voxels, which are read where it is an outline; it keeps the names that its folder gave it.

    Raises `UnusableError` where they cannot be read, or are no longer those of the outline.
    """
    if not isinstance(volume, Outline):
        return volume
    again: Volume = volume
    if not volume.held:
        part = read_source(volume.source, frame=volume.frame)
        if len(part.volumes) <= volume.number:
            found = part.skipped[0] if part.skipped else f"{volume.source[0].name}: it changed meanwhile; try again."
            raise UnusableError(str(found))
        again = part.volumes[volume.number]
    known = {f.name: getattr(volume, f.name) for f in fields(Volume)}
    of_voxels = ("data", "dtype", "looks", "affine", "spacing", "provenance", "notes")
    return Volume(**known | {name: getattr(again, name) for name in of_voxels})


def provenance_in(path: Path) -> Provenance | None:
    """What a file, or a folder of DICOM, says of itself, without its voxels; None where that is nothing of ours."""
    with suppress(Exception), quiet():  # whatever broken or foreign files lead to
        first = min(path.iterdir()) if path.is_dir() else path
        if is_nifti(first):
            return read_sidecar(first) or read_nifti(first, voxels=False).provenance
        if is_known(first):
            return picture_provenance(first)
        from pydicom import dcmread

        return provenance_of(dcmread(first, stop_before_pixels=True))
    return None


def refuse_maps(paths: Sequence[Path]) -> None:
    """Raises `Refusal` where one of these files is a map and no image: see `why_no_image`."""
    if found := next(((path, why) for path in paths if (why := why_no_image(path))), None):
        raise Refusal(f"{found[0].name} {found[1]}")


def why_no_image(path: Path) -> str | None:
    """The end of a sentence where a file is called like a map: what its header says decides, if it says anything."""
    if not (title := map_title(path)):
        return None
    if said := provenance_in(path):
        return said.why_not()
    return (
        f"is called like a map that {MAPS[title]}, and does not say in its header what it is: give the image "
        "itself. If this is one, rename it."
    )


def gathered(parts: Sequence[Part]) -> tuple[list[Volume], list[Skipped]]:
    """The volumes of all sources, DICOM last and by the number of its series; and what was skipped."""
    alone = [v for part in parts if not part.orders for v in part.volumes]
    stacks = [pair for part in parts for pair in zip(part.orders, part.volumes, strict=False)]
    return alone + in_order(stacks), [s for part in parts for s in part.skipped]


def _kind_of_picture(path: Path, stack: Image, notes: tuple[str, ...]) -> str:
    """What the values, or the colours, of a picture say that it is; empty where nothing."""
    return "colour map" if COLOURED in notes else "" if path.suffix.casefold() in LOSSY else kind_of(stack)


def _bright_around(stack: Image) -> tuple[str, ...]:
    """A note where the edges of pictures are bright, as air is not."""
    edges = np.concatenate([stack[:, (0, -1)].ravel(), stack[:, :, (0, -1)].ravel()])
    low, high = float(stack.min()), float(stack.max())
    bright = high > low and np.median(edges) > low + BRIGHT * (high - low)
    return ("bright around: is it inverted, or a page with an image on it? It was taken as it is",) if bright else ()


def _why_impossible(volume: Volume) -> str:
    """A sentence where the voxels cannot be those of a head."""
    if not volume.spacing or all(VOXEL[0] <= mm <= VOXEL[1] for mm in volume.spacing):
        return ""
    sides = "x".join(f"{mm:.4g}" for mm in volume.spacing)
    return f"its voxels are {sides} mm, which no scan of a head has; correct the header."


def read_image(
    path: Path, contrast: str = "", *, flat: bool = False, frame: int = 0, mask: bool = False, voxels: bool = True
) -> Volume:
    """Read one PNG, JPEG, BMP, TIFF, NIfTI, MGH or DICOM file; a stack becomes a volume.

    Colour becomes grey and is noted. An image of one value is refused unless `flat` allows it; of a 4D file, the
    volume numbered `frame` is read; without `voxels`, of NIfTI only the header. A NIfTI mask is refused unless it is
    asked for. Raises `UnusableError` with a sentence where the file cannot be used.
    """
    if is_nifti(path):
        return read_nifti(path, contrast, flat=flat, frame=frame, mask=mask, voxels=voxels)
    refuse_missing(path)
    if not is_known(path):
        read, refused = read_dicoms([path])
        if not read:
            raise UnusableError(str(refused[0]))
        return replace(read[0], contrast=contrast)
    with decoding(path):
        data, notes, spacing = read_picture(path)
        provenance = picture_provenance(path)
        values, more = make_finite(data.astype(np.float32), path.name)
    stack = values.reshape(-1, *values.shape[-2:])
    refuse_blank(stack, path.name, flat=flat, two_values=True)
    return Volume(
        data=stack,
        name=path.stem,
        contrast=contrast,
        looks=(of_values := _kind_of_picture(path, stack, notes)) or contrast_of([path.stem]),
        why="its values" if of_values else f"named {path.stem!r}" if contrast_of([path.stem]) else "",
        spacing=spacing,
        dtype=data.dtype.name,
        path=path,
        subject=subject_of(path, len(stack) > 1),
        series=shown(path.name),
        provenance=provenance,
        notes=notes + more + _bright_around(stack),
    )
