"""File names: which kind of image they promise, their stems and their natural order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import Refusal

pass


TIFF = frozenset({".tif", ".tiff"})
READABLE = TIFF | {".png", ".jpg", ".jpeg", ".bmp"}
SIDECARS = frozenset({".json", ".tsv", ".bval", ".bvec"})  # lie beside images in BIDS folders


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that puts `Image #9` before `Image #10`."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def is_second_half(path: Path) -> bool:
    """Whether a header file only describes an .img that lies beside it."""
    return path.suffix.casefold() == ".hdr" and path.with_suffix(".img").is_file()


def readable_kinds() -> str:
    """What to give instead of a file that cannot be read."""
    return "PNG, TIFF, JPEG, BMP, NIfTI, MGH or DICOM"


HALVES = {".hdr": ".img", ".img": ".hdr", ".hdr.gz": ".img.gz", ".img.gz": ".hdr.gz"}
NIFTI = (".nii", ".nii.gz", *HALVES, ".mgh", ".mgz")


def is_nifti(path: Path) -> bool:
    """Whether the name is one of a NIfTI, Analyze or FreeSurfer volume."""
    return bool(ending_of(path))


def stem(path: Path) -> str:
    """The name without its ending, `.nii.gz` and the like as one."""
    return path.name.removesuffix(ending_of(path)) or path.name


def ending_of(path: Path) -> str:
    """The ending as it is written; empty where it is none of `NIFTI`."""
    return next((path.name[-len(end) :] for end in NIFTI if path.name.casefold().endswith(end)), "")


EXPECTED_ERROR = ("_desc-expectedError_", "_expected-error.")  # in the names of files that hold the error to expect


def refuse_expected_error(paths: Sequence[Path]) -> None:
    """Raises `Refusal` where a file holds the error to expect of an image, by its name."""
    if path := next((path for path in paths if holds_expected_error(path)), None):
        raise Refusal(f"{path.name} holds the error to expect of an image: give the image itself.")


def holds_expected_error(path: Path) -> bool:
    """Whether a file says by its name that it holds the error to expect of an image."""
    return any(mark in path.name for mark in EXPECTED_ERROR)
