"""File names: which kind of image they promise, their stems, their other halves and their natural order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import Refusal, UnusableError

TIFF = frozenset({".tif", ".tiff"})
READABLE = TIFF | {".png", ".jpg", ".jpeg", ".bmp"}
SIDECARS = frozenset({".json", ".tsv", ".bval", ".bvec"})  # lie beside images in BIDS folders
DOCUMENTS = frozenset({".pdf", ".htm", ".html", ".xml", ".inf", ".ini", ".exe", ".dll"})  # on an exported disc
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
HALVES = {".hdr": ".img", ".img": ".hdr", ".hdr.gz": ".img.gz", ".img.gz": ".hdr.gz"}
NIFTI = (".nii", ".nii.gz", *HALVES, ".mgh", ".mgz")
KINDS = "PNG, TIFF, JPEG, BMP, NIfTI, MGH or DICOM"  # what can be read
# in the names of files that hold the error to expect of an image, or half the width of its intervals
EXPECTED_ERROR = ("_desc-expectedError_", "_expected-error.", "_desc-interval_", "_interval.")


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that puts `Image #9` before `Image #10`."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def ending_of(path: Path) -> str:
    """The ending as it is written; empty where it is none of `NIFTI`."""
    return next((path.name[-len(end) :] for end in NIFTI if path.name.casefold().endswith(end)), "")


def is_nifti(path: Path) -> bool:
    """Whether the name is one of a NIfTI, Analyze or FreeSurfer volume."""
    return bool(ending_of(path))


def is_known(path: Path) -> bool:
    """Whether the name alone promises a picture or a volume; DICOM files are called anything."""
    return is_nifti(path) or path.suffix.casefold() in READABLE


def stem(path: Path) -> str:
    """The name without its ending, `.nii.gz` and the like as one."""
    return path.name.removesuffix(ending_of(path)) or path.name


def other_half(path: Path) -> Path | None:
    """The .img of a .hdr, the .hdr of an .img; None for files that are whole."""
    ending = ending_of(path)
    half = HALVES.get(ending.casefold(), "")
    return path.with_name(stem(path) + (half.upper() if ending.isupper() else half)) if half else None


def is_second_half(path: Path) -> bool:
    """Whether a header file only describes an .img that lies beside it."""
    image = other_half(path) if ".hdr" in ending_of(path).casefold() else None
    return image is not None and image.is_file()


def refuse_missing(path: Path) -> None:
    """Raises `UnusableError` where a file does not exist or is empty."""
    if path.is_symlink() and not path.exists():
        raise UnusableError(
            f"{path.name}: a link to a file that is not there; with DataLad or git-annex, fetch its content first."
        )
    if not path.is_file():
        raise UnusableError(f"{path} does not exist: check the name.")
    if path.stat().st_size == 0:
        raise UnusableError(f"{path.name}: the file is empty (0 bytes); copy it again.")


def refuse_expected_error(paths: Sequence[Path]) -> None:
    """Raises `Refusal` where a file holds the error to expect of an image, by its name."""
    if path := next((path for path in paths if holds_expected_error(path)), None):
        raise Refusal(f"{path.name} holds the error to expect of an image: give the image itself.")


def holds_expected_error(path: Path) -> bool:
    """Whether a file says by its name that it holds the error to expect of an image."""
    return any(mark in path.name for mark in EXPECTED_ERROR)


def map_beside(image: Path, title: str = "expected error") -> Path:
    """Where the map of that title of a synthetic image goes."""
    first, *rest = title.split()
    begin, dot, ending = image.name.partition(".nii") if is_nifti(image) else (image.stem, "", image.suffix)
    bids = begin.replace("_desc-synthetic_", f"_desc-{first}{''.join(rest).title()}_")
    return image.with_name((bids if bids != begin else f"{begin}_{'-'.join((first, *rest))}") + dot + ending)
