"""NIfTI, Analyze and FreeSurfer volumes in; NIfTI out, in the place where its source was."""

from __future__ import annotations

import gzip
import json
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from .. import __version__
from .clues import contrast_of, subject_of
from .intensity import measure
from .volume import NOTICE, Affine, Image, UnusableError, Volume, spacing_of

HALVES = {".hdr": ".img", ".img": ".hdr", ".hdr.gz": ".img.gz", ".img.gz": ".hdr.gz"}
NIFTI = (".nii", ".nii.gz", *HALVES, ".mgh", ".mgz")
LONGEST = 32767  # voxels along an axis of NIfTI-1
SIDES = {"L": "left", "R": "right", "A": "anterior", "P": "posterior", "S": "superior", "I": "inferior"}
UNITS = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}  # codes of a header that is not in mm
PLACE = (  # fields of a header that say where the voxels are
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z"),
)


def is_nifti(path: Path) -> bool:
    """Whether the name is one of a NIfTI, Analyze or FreeSurfer volume."""
    return bool(_ending(path))


def stem(path: Path) -> str:
    """The name without its ending, `.nii.gz` and the like as one."""
    return path.name.removesuffix(_ending(path)) or path.name


def read_nifti(path: Path, contrast: str = "", *, flat: bool = False, frame: int = 0) -> Volume:
    """Read one NIfTI-1 or -2, Analyze, MGH or MGZ file in its own storage order; of a 4D one, volume `frame`.

    Masks are refused, and so is an image of one value unless `flat` allows it. Raises `UnusableError` with a
    sentence where the file cannot be used.
    """
    from .read import finite

    with _opened(path) as (image, notes):
        synthetic = _said(image) is not None
        affine, placed = _affine_of(image)
        data, dtype, made = _voxels_of(image.dataobj, path.name, frame)
        filled: tuple[str, ...] = ()
        if not (np.isfinite(data.min()) and np.isfinite(data.max())):
            data, filled = finite(data, path.name)
    low, high = data.min(), data.max()
    if low == high and not flat:
        raise UnusableError(f"{path.name}: every voxel is {low:g}; there is no image in it; leave it out.")
    if low < high and all(((plane == low) | (plane == high)).all() for plane in data):
        raise UnusableError(
            f"{path.name}: holds only the values {low:g} and {high:g}: a mask, not an image; leave it out."
        )
    return Volume(
        data=data,
        name=stem(path),
        contrast=contrast,
        looks=contrast_of([stem(path), path.parent.name]),
        spacing=None if affine is None else spacing_of(affine),
        affine=affine,
        dtype=dtype,
        path=path,
        subject=subject_of(path, stack=True),
        series=path.name,
        synthetic=synthetic,
        notes=notes + placed + made + filled,
    )


def write_nifti(path: Path, volume: Volume, provenance: dict[str, Any] | None) -> list[Path]:
    """Write a .nii or .nii.gz and, if it is synthetic, a BIDS sidecar beside; returns the paths.

    A synthetic image says so in its header: in the description, and in full in an extension. With `provenance`
    None the image is a real one. Raises `ValueError` with a sentence.
    """
    from .write import written_beside

    if _ending(path).casefold() not in (".nii", ".nii.gz"):
        raise ValueError(f"{path.name}: a NIfTI file is written as .nii or .nii.gz; change the ending.")
    sidecar = path.with_name(f"{stem(path)}.json")
    if provenance and sidecar.exists() and not _is_ours(sidecar):
        raise ValueError(f"{path.name}: {sidecar.name} beside it belongs to another image; choose another name.")
    image = _image_of(volume, provenance)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as partial, ExitStack() as stack:
        file: Any = stack.enter_context(partial.open("wb"))
        if path.suffix.casefold() == ".gz":  # no name and no time inside: the same image makes the same file
            file = stack.enter_context(gzip.GzipFile("", "wb", compresslevel=3, fileobj=file, mtime=0))
        image.to_stream(file)
    if not provenance:
        if sidecar.exists() and _is_ours(sidecar):  # of a synthetic image that was here before
            sidecar.unlink()
        return [path]
    with written_beside(sidecar) as partial:
        partial.write_text(json.dumps(_bids(provenance), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [path, sidecar]


def read_provenance(path: Path) -> dict[str, Any] | None:
    """What a synthetic NIfTI says of itself; None where it says nothing. Raises `UnusableError` with a sentence."""
    with _opened(path) as (image, _):
        return _said(image)


def _said(image: Any) -> dict[str, Any] | None:
    for extension in getattr(image.header, "extensions", ()):
        with suppress(ValueError, TypeError):  # a comment of somebody else
            said = json.loads(extension.get_content().rstrip(b"\0"))
            if isinstance(said, dict) and "synthetic" in said:
                return said
    return None


def _ending(path: Path) -> str:
    """The ending as it is written; empty where it is none of `NIFTI`."""
    return next((path.name[-len(end) :] for end in NIFTI if path.name.casefold().endswith(end)), "")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """The image, its voxels still on disk, and what is odd about the file. Whatever fails becomes a sentence."""
    if not path.is_file():
        raise UnusableError(f"{path} does not exist: check the name.")
    if path.stat().st_size == 0:
        raise UnusableError(f"{path.name}: the file is empty (0 bytes); copy it again.")
    ending = _ending(path)
    if half := HALVES.get(ending.casefold()):
        other = path.with_name(stem(path) + (half.upper() if ending.isupper() else half))
        if not other.is_file():
            raise UnusableError(f"{path.name}: {other.name}, its other half, is not beside it; copy both files.")
    with ExitStack() as stack:
        try:
            yield _load(path, ending.casefold(), stack)
        except UnusableError:
            raise
        except Exception as error:  # nibabel, gzip and zlib raise whatever they like on broken files
            raise UnusableError(f"{path.name}: {_why(error, path)}") from error


def _load(path: Path, ending: str, stack: ExitStack) -> tuple[Any, tuple[str, ...]]:
    """The image, silently; by its content where its ending is wrong about compression."""
    import nibabel
    from nibabel import imageglobals

    stack.enter_context(warnings.catch_warnings(action="ignore"))
    stack.enter_context(np.errstate(all="ignore"))
    stack.callback(imageglobals.logger.setLevel, imageglobals.logger.level)
    imageglobals.logger.setLevel(100)

    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    notes: tuple[str, ...] = ()
    if zipped == ending.endswith("gz") or ending in HALVES:
        image: Any = nibabel.load(path)
    else:
        stream: Any = stack.enter_context(gzip.GzipFile(path) if zipped else path.open("rb"))
        size = stream.read(4)
        kind: Any = nibabel.MGHImage if "mg" in ending else nibabel.Nifti1Image
        if 540 in (int.from_bytes(size, "little"), int.from_bytes(size, "big")):
            kind = nibabel.Nifti2Image
        stream.seek(0)
        image = kind.from_stream(stream)
        notes = (f"it is {'' if zipped else 'not '}compressed, against its name",)
    if not isinstance(image, nibabel.AnalyzeImage | nibabel.MGHImage):
        raise UnusableError(f"{path.name}: is a {type(image).__name__}, not a volume; give a NIfTI volume.")
    return image, notes


def _why(error: Exception, path: Path) -> str:
    """What was found and what to do."""
    reason = (str(error) or type(error).__name__).replace(f' of "{path}"', "").splitlines()[0].rstrip(".")
    if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
        return f"its compressed data end early or are damaged ({reason}); copy it again."
    if isinstance(error, MemoryError):
        return f"its voxels do not fit into memory ({reason}); crop it, or is its header damaged?"
    return f"cannot be read ({reason}); is it damaged, or no NIfTI file?"


def _affine_of(image: Any) -> tuple[Affine | None, tuple[str, ...]]:
    """(X, Y, Z, 1) index to RAS+ mm, and what had to be assumed; None where not even the size of a voxel is known."""
    import nibabel

    header, axes_of = image.header, cast("Any", nibabel.aff2axcodes)
    affine = np.array(image.affine, np.float64)
    notes: tuple[str, ...] = ()
    if not _is_regular(affine):
        notes = ("its affine is singular or not finite: the size of the voxels is kept, the orientation assumed",)
        if "qform_code" in header and header["qform_code"] > 0 and _is_regular(header.get_qform()):
            notes = ("its sform is singular or not finite: the qform was taken",)
            affine = header.get_qform()
        elif hasattr(header, "get_base_affine"):
            affine = header.get_base_affine()
        if not _is_regular(affine):
            return None, ("its header holds no usable size of a voxel",)
    elif (
        header["qform_code"] == header["sform_code"] == 0
        if "qform_code" in header
        else isinstance(image, nibabel.AnalyzeImage) and np.array_equal(affine, header.get_best_affine())
    ):
        axes = "-".join(SIDES[str(side)] for side in axes_of(affine))
        notes = (f"its header holds no orientation: its axes were taken to run {axes}",)
    if "xyzt_units" in header and (unit := UNITS.get(int(header["xyzt_units"]) & 7)):
        affine[:3] *= unit[1]
        notes += (f"its header is in {unit[0]}; turned to mm",)
    return affine, notes


def _is_regular(affine: Affine) -> bool:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and (lengths > 0).all()):
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-6)


def _voxels_of(proxy: Any, name: str, frame: int) -> tuple[Image, str, tuple[str, ...]]:
    """One volume, (Z, Y, X); the type it was stored in; and what was done to it.

    Read plane by plane: nibabel would hold a compressed file twice, and a scaled one in float64.
    """
    from nibabel.openers import ImageOpener

    dtype: np.dtype[Any] = proxy.dtype
    columns, rows, planes = (*proxy.shape, 1, 1)[:3]
    if len(proxy.shape) < 2 or 0 in proxy.shape:
        raise UnusableError(f"{name}: shape {proxy.shape} is not one of an image; export the volume again.")
    frames = math.prod(proxy.shape[3:])
    if not 0 <= frame < frames:
        there = f"{frames} volumes, 0 to {frames - 1}" if frames > 1 else "one volume, number 0"
        raise UnusableError(f"{name}: holds {there}; there is no number {frame}.")
    size = columns * rows * dtype.itemsize
    data = np.empty((planes, rows, columns), np.float32)
    with ImageOpener(proxy.file_like) as file:
        file.seek(proxy.offset + frame * planes * size)
        for z, plane in enumerate(data):
            block = file.read(size)
            if len(block) < size:
                raise UnusableError(f"{name}: it is truncated, {z} of {planes} slices are there; copy it again.")
            plane[:] = _real(np.frombuffer(block, dtype).reshape(rows, columns), float(proxy.slope), float(proxy.inter))
        file.read(2**20)  # to the end of a compressed file, where its checksum is looked at

    notes: tuple[str, ...] = ()
    if frames > 1:
        notes += (f"{len(proxy.shape)}D with {frames} volumes: number {frame} was taken",)
    if dtype.names:
        return data, "uint8", (*notes, "colour was turned to grey")
    if dtype.kind == "c":
        return data, "float32", (*notes, "complex values: their magnitude was taken")
    whole = dtype.kind in "iu" and float(proxy.slope).is_integer() and float(proxy.inter).is_integer()
    inside = whole and np.iinfo(dtype).min <= data.min() and data.max() <= np.iinfo(dtype).max
    return data, dtype.name if inside else "float32", notes


def _real(stored: npt.NDArray[Any], slope: float, inter: float) -> npt.NDArray[Any]:
    """A plane in its units: scaled, of colours the luminance, of complex values the magnitude."""
    from .read import to_grey

    real = stored
    if stored.dtype.names:
        real = to_grey(np.stack([stored[band] for band in "RGB"], axis=-1))
    elif (slope, inter) != (1, 0):
        real = stored * np.float64(slope) + inter
    return np.abs(real) if real.dtype.kind == "c" else real


def _image_of(volume: Volume, provenance: dict[str, Any] | None) -> Any:
    """The volume as an image of nibabel, its header made from nothing: no name of a patient is handed on."""
    import nibabel

    from .write import as_stored

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
    with suppress(ValueError):  # of one value: nothing to window
        window = measure([volume.data])
        header["cal_min"], header["cal_max"] = window.low, window.high
    _place(header, volume)
    if provenance:
        label = str(provenance.get("contrast", ""))[:48].encode("ascii", "replace")
        header["descrip"] = b"SYNTHETIC %s - not for diagnosis" % label
        said = json.dumps(provenance, default=str).encode()
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
        with suppress(UnusableError), _opened(volume.path) as (image, _):
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


NAMES = {  # in a sidecar, of what not every synthetic image says
    "meaning": "Description",
    "calibrated": "Calibrated",
    "unfamiliar": "UnfamiliarSource",
    "seen_in_training": "SourceSeenInTraining",
}


def _bids(provenance: dict[str, Any]) -> dict[str, Any]:
    source = provenance.get("source", [])
    made_by = {
        "Name": "napari-t1t2",
        "Version": provenance.get("version", __version__),
        "Model": provenance.get("model"),
        "ModelSHA256": provenance.get("model_sha256"),
        "Step": provenance.get("step"),
    }
    return {
        "SyntheticImage": True,
        "Contrast": provenance.get("contrast"),
        **{NAMES[key]: provenance[key] for key in NAMES if key in provenance},
        "Notice": provenance.get("notice", NOTICE),
        "Sources": [str(s) for s in source] if isinstance(source, list | tuple) else [str(source)],
        "GeneratedBy": [made_by],
    }


def _is_ours(sidecar: Path) -> bool:
    with suppress(OSError, ValueError):
        return json.loads(sidecar.read_text(encoding="utf-8")).get("SyntheticImage") is True
    return False
