"""Many files at once: which of them the command line translates and where to, and which belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .images.clues import contrast_of, paired
from .images.dicom import is_dicom, read_dicoms
from .images.nifti import is_nifti
from .images.read import READABLE, files_in, read_files, read_folder
from .images.volume import Volume
from .images.write import check_ending, name_for

if TYPE_CHECKING:
    from .engine.checkpoint import Model
    from .engine.config import Side

DOUBT = ("_desc-expectedError_", "_expected-error.")  # in the names of files that hold the error to expect
FILES = (".png", ".tif", ".tiff", ".nii", ".nii.gz")  # endings that no folder for results has


def sources(
    inputs: Sequence[Path], contrast: str, *, series: str = "", frame: int = 0
) -> tuple[list[Volume], list[str]]:
    """The volumes of one folder that look like a contrast, or of files; and what to tell of them.

    Raises `ValueError` with a sentence: of files, each must be usable.
    """
    _refuse_doubt(inputs)
    folder = next((path for path in inputs if path.is_dir()), None)
    if folder and len(inputs) > 1:
        raise ValueError(f"{folder} is a folder: give one folder, or files.")
    if folder:
        read = read_folder(folder, contrast, series=series, frame=frame)
        return read.volumes, read.notes()
    volumes, skipped = read_files(inputs, frame=frame)
    if skipped:
        raise ValueError("\n".join(map(str, skipped)))
    return volumes, []


def targets_for(
    volumes: Sequence[Volume], given: Path, out: Path, model: Model, to: Side, *, overwrite: bool = False
) -> list[Path]:
    """Where the synthetic version of each volume goes: below `out` as they lie below `given`, or to the file `out`.

    Raises `ValueError` with a sentence for whatever could not be written.
    """
    folder = given if given.is_dir() else None
    made = [replace(v, dtype=model.about.ranges[to].dtype) for v in volumes]
    if one_file := len(volumes) == 1 and bool(out.suffix) and not out.is_dir() and not folder:
        check_ending(out, made[0])
    elif out.is_file() or out.name.casefold().endswith(FILES):
        raise ValueError(f"{out} is a file name: give a folder for the results.")
    targets: list[Path] = []
    for volume in made:
        deeper = volume.path.parent.relative_to(folder) if folder and volume.path and not volume.files else Path()
        target = out if one_file else out / deeper / name_for(volume, model.config.label(to))
        if target.resolve() in {v.path.resolve() for v in volumes if v.path}:
            raise ValueError(f"{target} is one of the inputs: give another --out.")
        if target.is_dir() and any(target.iterdir()):
            raise ValueError(f"{target} exists, and DICOM series are never replaced: give another --out.")
        if target.exists() and not target.is_dir() and not overwrite:
            raise ValueError(f"{target} exists: give --overwrite to replace it, or another --out.")
        if target in targets:
            raise ValueError(f"Two inputs would both become {target}: rename one, or translate them one by one.")
        targets.append(target)
    return targets


def doubt_targets(targets: Sequence[Path], *, overwrite: bool = False) -> list[Path]:
    """Where the error to expect of each result goes: beside it. Raises `ValueError` where a file is there already."""
    beside: list[Path] = []
    for target in targets:
        begin, dot, ending = target.name.partition(".nii") if is_nifti(target) else (target.stem, "", target.suffix)
        bids = begin.replace("_desc-synthetic_", "_desc-expectedError_")
        path = target.with_name((bids if bids != begin else f"{begin}_expected-error") + dot + ending)
        if path.exists() and not overwrite:
            raise ValueError(f"{path} exists: give --overwrite to replace it, or another --out.")
        beside.append(path)
    return beside


def pairs_in(
    fake: Path, real: Path, contrasts: tuple[str, str] | None = None
) -> tuple[dict[str, tuple[Path | Volume, Path | Volume]], list[str]]:
    """Synthetic and real images that belong together, of two files or folders, and the names of those left alone.

    Or the two `contrasts` of the same heads: sub-01_T1w.nii.gz and sub-01_T2w.nii.gz, even of one folder.
    A file is given to be read; a DICOM series is read. Raises `ValueError` with a sentence.
    """
    for path in (fake, real):
        if not path.exists():
            raise ValueError(f"{path} does not exist: check the name.")
    _refuse_doubt((fake, real))
    fakes, reals = (_images_in(path) if path.is_dir() else {path: path} for path in (fake, real))
    if len(fakes) == len(reals) == 1:  # no name is needed to tell that they belong together
        return {fake.stem: (next(iter(fakes.values())), next(iter(reals.values())))}, []
    if contrasts:
        fakes, reals = (
            {path: image for path, image in images.items() if contrast_of([path.name]) in ("", label)}
            for images, label in zip((fakes, reals), contrasts, strict=True)
        )
    if fake.is_dir() != real.is_dir():
        raise ValueError("Give two files, or two folders with equal names.")
    pairs = paired(fakes, reals, across=contrasts is not None)
    if not pairs:
        raise ValueError(f"No file of {fake} has the name of one in {real}.")
    met = {path for pair in pairs.values() for path in pair}
    alone = [path.name for path in (*fakes, *reals) if path not in met]
    return {name: (fakes[one], reals[other]) for name, (one, other) in pairs.items()}, alone


def _refuse_doubt(paths: Sequence[Path]) -> None:
    if path := next((path for path in paths if _holds_doubt(path)), None):
        raise ValueError(f"{path.name} holds the error to expect of an image: give the image itself.")


def _holds_doubt(path: Path) -> bool:
    return any(mark in path.name for mark in DOUBT)


def _images_in(folder: Path) -> dict[Path, Path | Volume]:
    """The image files of a folder, to be read one by one, by their place in it; of DICOM, the series."""
    files = [path for path in files_in(folder) if not _holds_doubt(path)]
    known = [path for path in files if is_nifti(path) or path.suffix.casefold() in READABLE]
    series, _ = read_dicoms([path for path in files if path not in known and is_dicom(path)])
    placed: dict[Path, Path | Volume] = {path.relative_to(folder): path for path in known}
    return placed | {Path(volume.name.replace("/", "_")): volume for volume in series}
