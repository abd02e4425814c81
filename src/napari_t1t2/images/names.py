"""File names: which kind of image they promise, their stems, their other halves and their natural order."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from ..errors import UnusableError
from ..provenance import MAPS, Map

TIFF = frozenset({".tif", ".tiff"})
READABLE = TIFF | {".png", ".jpg", ".jpeg", ".bmp"}
SIDECARS = frozenset({".json", ".tsv", ".bval", ".bvec"})  # lie beside images in BIDS folders
DOCUMENTS = frozenset({".pdf", ".htm", ".html", ".xml", ".inf", ".ini", ".exe", ".dll"})  # on an exported disc
HALVES = {".hdr": ".img", ".img": ".hdr", ".hdr.gz": ".img.gz", ".img.gz": ".hdr.gz"}
NIFTI = (".nii", ".nii.gz", *HALVES, ".mgh", ".mgz")
KINDS = "PNG, TIFF, JPEG, BMP, NIfTI, MGH or DICOM"  # what can be read


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that puts `Image #9` before `Image #10`."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def ending_of(path: Path) -> str:
    """The ending as it is written; empty where it is none of `NIFTI`."""
    return next((path.name[-len(end) :] for end in NIFTI if path.name.casefold().endswith(end)), "")


def is_nifti(path: Path) -> bool:
    """Whether the name is one of a NIfTI, Analyze or FreeSurfer volume, and not of DICOM that is called .img."""
    ending = ending_of(path)
    half = other_half(path) if ending.casefold() == ".img" else None
    if half and not half.is_file():
        with suppress(OSError), path.open("rb") as file:
            return file.read(132)[128:] != b"DICM"
    return bool(ending)


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


def _marks(title: Map) -> tuple[str, str]:
    """In the name of a map: between two words of BIDS, and else before the ending."""
    first, *rest = title.split()
    return f"_desc-{first}{''.join(rest).title()}_", f"_{'-'.join((first, *rest))}"


def map_title(path: Path) -> Map | None:
    """The title of the map that a file is called like; its header may know better."""
    of = {title: _marks(title) for title in MAPS}
    return next((title for title, (bids, end) in of.items() if bids in path.name or f"{end}." in path.name), None)


def map_beside(image: Path, title: Map = "expected error") -> Path:
    """Where the map of that title of a synthetic image goes."""
    bids, end = _marks(title)
    begin, dot, ending = image.name.partition(".nii") if is_nifti(image) else (image.stem, "", image.suffix)
    named = begin.replace("_desc-synthetic_", bids)
    return image.with_name((named if named != begin else f"{begin}{end}") + dot + ending)
