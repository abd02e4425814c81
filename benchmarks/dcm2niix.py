"""Compare what is read of DICOM with what dcm2niix makes of it. Prints a Markdown table.

    python benchmarks/dcm2niix.py DATA_FOLDER [FOLDER ...]

dcm2niix is the converter of the field (https://github.com/rordenlab/dcm2niix; Debian: dcm2niix). Every folder below
those given is converted by it, and so are the test files of pydicom, pydicom-data and nibabel where they are installed.
Each MR series is then read here: with the same affine (1e-3 mm) and the same values, or refused by name; else the
difference is told. Both are turned to the nearest right-anterior-superior storage first. Of a folder that holds one
image several times, as tests of encodings do, each file is looked at alone.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np

from napari_t1t2.images.dicom import read_stacks
from napari_t1t2.images.dicom_slices import is_dicom
from napari_t1t2.images.quiet import quiet
from napari_t1t2.images.volume import Volume

PACKAGES = {"pydicom": "data/test_files", "data_store": "data", "nibabel": "nicom/tests/data"}
PLACE, VALUES = 1e-3, 1e-4  # mm; of the range of values


@dataclass
class Series:
    """One series of a folder: what is read here, why the rest is not, and what dcm2niix made of it."""

    folder: str
    title: str
    modality: str
    ours: list[Volume] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    theirs: list[nibabel.Nifti1Image] = field(default_factory=list)


def main() -> None:
    """Convert, read, compare, print."""
    parser = ArgumentParser(description="Compare what is read of DICOM with what dcm2niix makes of it.")
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--all", action="store_true", help="also list what is equal")
    args = parser.parse_args()
    if not shutil.which("dcm2niix"):
        sys.exit("dcm2niix is not installed: apt-get install dcm2niix.")
    verdicts: Counter[str] = Counter()
    print("| folder | series | verdict |\n|---|---|---|")
    with TemporaryDirectory() as temporary:
        for folder in folders_in([*args.data, *packaged()]):
            for files in apart(folder):
                series = look(folder, files, Path(temporary))
                said = verdict(series)
                verdicts[said.split(":")[0]] += 1
                if args.all or not said.startswith(("equal", "no MR")):
                    print(f"| {series.folder} | {series.title} | {said} |", flush=True)
    print("\n| verdict | series |\n|---|---|", *(f"| {what} | {n} |" for what, n in verdicts.most_common()), sep="\n")


def packaged() -> Iterator[Path]:
    """The folders of test files in the packages that are installed."""
    for name, below in PACKAGES.items():
        with suppress(ImportError):
            if (found := find_spec(name)) and found.origin:
                yield Path(found.origin).parent / below


def folders_in(roots: Iterable[Path]) -> Iterator[Path]:
    """Every folder that holds DICOM files, those below it aside."""
    for root in roots:
        for folder in sorted({path.parent for path in root.rglob("*") if path.is_file()}):
            if any(is_dicom(path) or path.name.endswith(".dcm.gz") for path in folder.iterdir() if path.is_file()):
                yield folder


def apart(folder: Path) -> Iterator[list[Path]]:
    """The DICOM files of each series of a folder, and those that claim to be one image each alone."""
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and (p.name.endswith(".dcm.gz") or is_dicom(p))]
    of = {path: identify(path) for path in files}
    often = Counter(said.image for said in of.values())
    groups: dict[tuple[str, ...], list[Path]] = {}
    for path, said in of.items():
        groups.setdefault(said.series if often[said.image] == 1 else (path.name,), []).append(path)
    yield from groups.values()


def look(folder: Path, files: list[Path], temporary: Path) -> Series:
    """Read one series, some files of a folder, twice."""
    inputs, outputs = (temporary / name for name in ("in", "out"))
    for made in (inputs, outputs):
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
    copies = [inputs / path.name.removesuffix(".gz") for path in files]
    for path, copy in zip(files, copies, strict=True):
        copy.write_bytes(gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes())
    said = identify(copies[0])
    volumes, skipped = read_stacks(copies)
    refused = list(dict.fromkeys(left_out.why for left_out in skipped))
    convert = ["dcm2niix", "-z", "n", "-d", "0", "-f", "%s", "-o", outputs, inputs]
    subprocess.run(list(map(str, convert)), capture_output=True, timeout=120, check=False)
    theirs = [nibabel.load(path) for path in sorted(outputs.glob("*.nii"))]
    name = folder.name if len(files) > 1 else f"{folder.name}/{files[0].name}"
    return Series(name, said.title, said.modality, [v for _, v in volumes], refused, theirs)


@dataclass(frozen=True)
class Identity:
    """What a file says of itself."""

    series: tuple[str, ...]
    title: str
    modality: str
    image: str


def identify(path: Path) -> Identity:
    """Series, title, modality and UID of a file, compressed or not."""
    from pydicom import dcmread

    tags = "SeriesNumber", "SeriesDescription", "Modality", "SOPInstanceUID"
    of = "PatientID", "StudyInstanceUID", "SeriesInstanceUID"
    with quiet(), (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        try:
            ds = dcmread(file, stop_before_pixels=True, force=True)
            number, title, modality, image = (str(ds.get(tag) or "") for tag in tags)
            return Identity(
                tuple(str(ds.get(tag, "")) for tag in of), f"{number} {title}", modality, image or path.name
            )
        except Exception:
            return Identity((path.name,), path.name, "broken", path.name)


def verdict(series: Series) -> str:
    """How both compare, in words."""
    if series.modality != "MR":
        return f"no MR: {series.modality or 'no modality'}"
    if not series.ours:
        why = " ".join(series.refused)
        return f"refused{', as dcm2niix does' if not series.theirs else ''}: {why}"
    if not series.theirs:
        return f"read, where dcm2niix makes nothing: {'; '.join(v.series for v in series.ours)}"
    told = [min(differences(volume, other) for other in each_volume(series.theirs)) for volume in series.ours]
    worst = max(told)
    return worst[1] if worst[0] else "equal"


def each_volume(images: list[nibabel.Nifti1Image]) -> Iterator[nibabel.Nifti1Image]:
    """Each volume of 3D and 4D images."""
    for image in images:
        data = np.atleast_3d(np.asarray(image.dataobj))
        for volume in np.moveaxis(data, 3, 0) if data.ndim == 4 else [data]:
            yield nibabel.Nifti1Image(grey(volume), image.affine)


def grey(data: np.ndarray) -> np.ndarray:
    """Float values; of colours the mean."""
    if data.dtype.names:
        return np.mean([data[name].astype(np.float64) for name in data.dtype.names], axis=0)
    return data.astype(np.float64)


def differences(volume: Volume, theirs: nibabel.Nifti1Image) -> tuple[int, str]:
    """How bad it is (0: equal) and how to say it."""
    ours = volume.data.T.astype(np.float64)
    other = theirs.get_fdata()
    if volume.affine is None:
        turned = (ours[::x, ::y, ::z] for x, y, z in product((1, -1), repeat=3))
        same = any(a.shape == other.shape and close(a, other) for a in turned)
        return (1, "read without a place: values equal") if same else (5, f"differs: {shapes(ours, other)}, no place")
    mine, its = (nibabel.as_closest_canonical(image) for image in (nibabel.Nifti1Image(ours, volume.affine), theirs))
    a, b = mine.get_fdata(), its.get_fdata()
    if a.shape != b.shape:
        return 5, f"differs: {shapes(a, b)}"
    corners = np.array([[*np.array(a.shape) * corner, 1] for corner in product((0, 1), repeat=3)]).T
    off = float(np.abs(mine.affine @ corners - its.affine @ corners).max())
    if off > PLACE and np.abs(mine.affine - its.affine).max() > PLACE:
        return 4, f"differs: place off by {off:.3g} mm"
    if close(a, b):
        return 0, "equal"
    slope, inter = np.polyfit(b.ravel(), a.ravel(), 1)
    if np.abs(a - slope * b - inter).max() <= VALUES * np.ptp(a):
        return 2, f"values in other units: {slope:.5g} times those of dcm2niix, {inter:+.3g}"
    return 3, f"differs: values, by up to {np.abs(a - b).max():.4g} of {np.ptp(b):.4g}"


def shapes(a: np.ndarray, b: np.ndarray) -> str:
    """Both shapes."""
    return " and ".join("x".join(map(str, shape)) for shape in (a.shape, b.shape))


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether values are equal."""
    return bool(np.abs(a - b).max() <= VALUES * np.ptp(b))


if __name__ == "__main__":
    main()
