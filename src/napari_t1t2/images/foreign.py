"""What a file that cannot be read is instead, by its first bytes: a pointer, an archive, a web page, another kind."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

UNPACK, RENAME = "which is not looked into; unpack it first", "against its name; give it an ending that says so"
ANNEX = "a pointer of git-annex, whose content was not fetched: run `git annex get` or `datalad get`"
PAGE = "a web page, as a failed download leaves; download the file again"
PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
GZ = (".nii.gz", ".img.gz", ".hdr.gz", ".mgz")
ARCHIVES: dict[bytes, tuple[str, tuple[str, ...]]] = {
    **{b"PK\3\4": ("ZIP", (".docx", ".xlsx", ".pptx")), b"7z\xbc\xaf": ("7z", ()), b"Rar!": ("RAR", ())},
    **{b"\x1f\x8b": ("gzip", GZ), b"BZh": ("bzip2", ()), b"\xfd7zXZ": ("xz", ()), b"\x28\xb5\x2f\xfd": ("zstd", ())},
}
SIGNS: tuple[tuple[int, bytes, str, tuple[str, ...]], ...] = (  # where, what it tells, endings that promise as much
    (0, b"version https://git-lfs", "a pointer of Git LFS, whose content was not fetched: run `git lfs pull`", ()),
    (0, b"/annex/objects/", ANNEX, ()),
    (0, b"../.git/annex/", ANNEX, ()),
    (0, b"bplist00", "a placeholder of iCloud, whose content was not fetched: download it in the Finder", ()),
    *((0, sign, f"an archive ({kind}), {UNPACK}", own) for sign, (kind, own) in ARCHIVES.items()),
    (257, b"ustar", f"an archive (tar), {UNPACK}", ()),
    (0, b"<!doctype html", PAGE, (".htm", ".html")),
    (0, b"<html", PAGE, (".htm", ".html")),
    *((0, sign, f"a picture, {RENAME}", PICTURES) for sign in (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*")),
    (344, b"n+1\0", f"NIfTI, {RENAME}", (".nii", ".nii.gz")),
    (128, b"DICM", f"DICOM, {RENAME}", ()),
)


def what_else(path: Path) -> str:
    """What a file is by its first bytes, against its name, and what to do; empty where they say nothing else."""
    with suppress(OSError), path.open("rb") as file:
        begin = file.read(512).lower()
        if begin and not any(begin):
            return "is filled with zeros, as an aborted copy leaves; copy it again."
        for at, sign, what, own in SIGNS:
            if begin.startswith(sign.lower(), at) and not path.name.casefold().endswith(own):
                return f"is {what}."
    return ""
