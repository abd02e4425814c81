"""NIfTI out, in the place where its source was, with a BIDS sidecar."""

from __future__ import annotations

import gzip
import json
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..atomic import written_file
from ..errors import Refusal, UnusableError
from .intensity import measure
from .names import ending_of, is_nifti
from .nifti import opened_nifti, read_sidecar, said_beside, sidecar_of
from .pixels import as_stored
from .volume import Volume

LONGEST = 32767  # voxels along an axis of NIfTI-1
PLACE = (  # fields of a header that say where the voxels are
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z"),
)


def write_nifti(path: Path, volume: Volume) -> list[Path]:
    """Write a .nii or .nii.gz and, if it is synthetic, a BIDS sidecar beside; returns the paths.

    A synthetic image says so in its header: in the description, and in full in an extension. Raises `Refusal` with a
    sentence.
    """
    if ending_of(path).casefold() not in (".nii", ".nii.gz"):
        raise Refusal(f"{path.name}: a NIfTI file is written as .nii or .nii.gz; change the ending.")
    sidecar, provenance = sidecar_of(path), volume.told()
    if provenance and sidecar.exists() and not read_sidecar(path):
        raise Refusal(f"{path.name}: {sidecar.name} beside it belongs to another image; choose another name.")
    image = _image_of(volume)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_file(path) as partial, ExitStack() as stack:
        file: Any = stack.enter_context(partial.open("wb"))
        if path.suffix.casefold() == ".gz":  # no name and no time inside: the same image makes the same file
            file = stack.enter_context(gzip.GzipFile("", "wb", compresslevel=3, fileobj=file, mtime=0))
        image.to_stream(file)
    if not provenance:
        if read_sidecar(path):  # of a synthetic image that was here before
            sidecar.unlink()
        return [path]
    of_source = said_beside(volume.path) if volume.path else {}
    said = provenance.to_sidecar() | {"SkullStripped": bool(of_source.get("SkullStripped"))}  # which BIDS must know
    with written_file(sidecar) as partial:
        partial.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [path, sidecar]


def _image_of(volume: Volume) -> Any:
    """The volume as an image of nibabel, its header made from nothing: no name of a patient is handed on."""
    import nibabel

    dtype = volume.dtype
    if dtype in ("int64", "uint64"):  # which few readers take
        dtype = "int32" if np.abs(volume.data).max() < 2**31 else "float32"
    data: npt.NDArray[Any] = volume.data
    if np.dtype(dtype).kind in "iu":
        data = np.empty(volume.data.shape, dtype)
        for z in range(len(data)):  # by slices, as rounding takes float64
            data[z] = as_stored(replace(volume, data=volume.data[z : z + 1], dtype=dtype))[0]

    kind: Any = nibabel.Nifti2Image if max(data.shape) > LONGEST else nibabel.Nifti1Image
    image = kind(data.T, None)
    header = image.header
    header.set_slope_inter(1, 0)
    header.set_xyzt_units("mm")
    with suppress(Refusal):  # of one value: nothing to window
        window = measure([volume.data])
        header["cal_min"], header["cal_max"] = window.low, window.high
    _place(header, volume)
    if provenance := volume.told():
        header["descrip"] = provenance.stamp(79).encode("ascii", "replace")
        said = provenance.to_json().encode()
        header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", said))
    return image


def _place(header: Any, volume: Volume) -> None:
    """Set where the voxels are: as the source's header says it, to the bit, or anew if the affine is another."""
    if volume.affine is None:
        if volume.spacing:
            header.set_zooms(volume.spacing[::-1])
        return
    code = 1
    if volume.path and is_nifti(volume.path):
        with suppress(UnusableError), opened_nifti(volume.path) as (image, _):
            source = image.header
            for field in (field for field in PLACE if field in source):
                header[field] = source[field]
            if "pixdim" in source:
                header["pixdim"][0] = -1 if source["pixdim"][0] < 0 else 1
                header["pixdim"][1:4] = source["pixdim"][1:4]
                code = int(header["sform_code"] or header["qform_code"] or 1)
                if np.array_equal(header.get_best_affine(), volume.affine):
                    return
    header.set_sform(volume.affine, code)
    header.set_qform(volume.affine, code)
    off = np.abs(header.get_qform() - volume.affine)[:3] @ (*header.get_data_shape(), 1)
    if off.max() > 0.01:  # mm, in the farthest corner: the affine is sheared, which quaternions cannot say
        header["qform_code"] = 0
