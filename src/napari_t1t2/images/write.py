"""Synthetic volumes to files that say what they are: the one door to all writers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import tifffile
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from ..atomic import written_file
from ..errors import Refusal
from ..provenance import Provenance
from .dicom_header import pseudonym
from .dicom_write import write_dicom
from .names import TIFF, is_nifti, stem
from .nifti_write import write_nifti
from .pixels import as_stored
from .volume import Volume


def write_image(path: Path, volume: Volume, provenance: Provenance | None = None) -> list[Path]:
    """Write a volume with its provenance inside, or another one; the ending of the path tells the kind of file.

    .png (one slice, 8 or 16 bit), .tif (any stack), .nii or .nii.gz with a JSON file beside it, or for a path without
    an ending a folder of DICOM files. Written beside and renamed, so that no half file is ever met. Returns the
    files; raises `Refusal` with a sentence.
    """
    check_ending(path, volume)
    volume = replace(volume, provenance=provenance or volume.provenance)
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_nifti(path):
        return write_nifti(path, volume)
    if not path.suffix:
        return write_dicom(path, volume)
    description = said.to_json() if (said := volume.told()) else None
    data = as_stored(volume)
    with written_file(path) as partial:
        if path.suffix.casefold() == ".png":
            info = PngInfo()
            if description:
                info.add_text("Description", description)
            Pillow.fromarray(data[0]).save(partial, pnginfo=info)
        else:
            pages = data[0] if len(data) == 1 else data
            tifffile.imwrite(partial, pages, photometric="minisblack", description=description)
    return [path]


def name_for(volume: Volume, contrast: str) -> str:
    """What a synthetic version of a volume is called: a NIfTI of a NIfTI, a DICOM folder of a series.

    A name that says T1 must not stand on a synthetic T2; BIDS has `desc-` for that. Pictures keep their names.
    """
    path = volume.path or Path(volume.name)
    contrast = re.sub(r"[^A-Za-z0-9]+", "", contrast) or "other"
    if volume.files and volume.anonymous:  # the series' description may be a name
        return f"series-{pseudonym(f'{volume.uid} {volume.name} {path.name}')}_synthetic-{contrast}"
    if volume.files:
        return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', volume.name)}_synthetic-{contrast}"
    if is_nifti(path):
        ending = ".nii" if path.suffix.casefold() == ".nii" else ".nii.gz"
        bids = re.fullmatch(r"(sub-.*)_[A-Za-z0-9]+", stem(path))
        suffix = f"{contrast}w" if contrast in ("T1", "T2", "PD") else contrast
        return (f"{bids[1]}_desc-synthetic_{suffix}" if bids else f"{stem(path)}_synthetic-{contrast}") + ending
    ending = _ending_for(volume)
    kept = (".png", ".tif", ".tiff") if ending == ".png" else (".tif", ".tiff")
    return path.name if path.suffix.casefold() in kept else f"{path.stem}{ending}"


def _ending_for(volume: Volume) -> str:
    """What holds a picture without loss: .png for one slice of 8 or 16 bits, else .tif."""
    return ".png" if len(volume.data) == 1 and volume.dtype in ("uint8", "uint16") else ".tif"


def check_ending(path: Path, volume: Volume) -> None:
    """Refuse a file name whose kind cannot hold the volume. Raises `Refusal` with a sentence."""
    suffix = path.suffix.casefold()
    if suffix and not is_nifti(path) and suffix not in (*TIFF, ".png"):
        raise Refusal(
            f"{path.name}: synthetic images are written as .png, .tif, .nii, .nii.gz or a folder of DICOM; "
            "change the ending."
        )
    if suffix in (".hdr", ".img", ".mgz", ".mgh"):
        raise Refusal(f"{path.name}: volumes are written as .nii or .nii.gz; change the ending.")
    if suffix == ".png" and len(volume.data) > 1:
        raise Refusal(f"{path.name}: a PNG holds one slice, the image has {len(volume.data)}; write a .tif.")
    if suffix == ".png" and _ending_for(volume) != ".png":
        raise Refusal(f"{path.name}: {volume.dtype} does not fit into a PNG; write a .tif.")
