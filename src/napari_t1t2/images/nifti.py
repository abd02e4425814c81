"""NIfTI, Analyze and FreeSurfer volumes in."""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from ..errors import UnusableError, shown
from ..provenance import Provenance
from .clues import channel_of, subject_of
from .contrast import judged, reason, said_by
from .limits import Unzipped, refuse_bomb
from .names import HALVES, ending_of, other_half, refuse_missing, stem
from .pixels import COLOURED, kind_of, make_finite, refuse_blank, said_of_colour, to_grey
from .quiet import decoding
from .vocabulary import CONTRASTS
from .volume import Affine, Image, Volume, spacing_of, unread

SIDES = {"L": "left", "R": "right", "A": "anterior", "P": "posterior", "S": "superior", "I": "inferior"}
UNITS = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}  # codes of a header that is not in mm
MANY = 20  # volumes of contrasts in one file, at most; more are times or directions
APART = 1.0  # mm
DISAGREE = 0.02  # of a voxel's side, between the sform and pixdim
INTENTS = {range(2, 25): "statistical map", range(1002, 1004): "label map", range(1004, 1008): "vector field"}
CIFTI = range(3000, 3100)  # intent codes of NIfTI-2 files that hold values on a surface


def read_nifti(
    path: Path, contrast: str = "", *, flat: bool = False, frame: int = 0, mask: bool = False, voxels: bool = True
) -> Volume:
    """Read one NIfTI-1 or -2, Analyze, MGH or MGZ file in its own storage order; of a 4D one, volume `frame`.

    Masks are refused unless one is asked for, and so is an image of one value unless `flat` allows it. Without `voxels`
    only the header is looked at, and the data are as `unread`. Raises `UnusableError` with a sentence where the file
    cannot be used.
    """
    with opened_nifti(path) as (image, notes):
        provenance = _provenance_of(image, beside := said_beside(path))
        affine, placed = _affine_of(image)
        columns, rows, planes = _sides(image.shape, path.name)
        found = unread((planes, rows, columns)), image.get_data_dtype().name, tuple[str, ...]()
        if voxels:
            stored = math.prod(image.shape) * image.get_data_dtype().itemsize
            refuse_bomb(path, stored, 4 * math.prod(image.shape[:3]))
            found = _read_voxels(image.dataobj, path.name, frame)
        case, channel = channel_of(path)
        noted = noted_in(bytes(image.header["descrip"])) if "descrip" in image.header else {}
        said = said_by((*channel, stem(path)), noted | beside, (path.parent.name,))
        of_header = _kind_by_header(image, image.shape[3:])
        looks = of_header or _looks_of_volume(path, judged(said), image.shape[3:], frame)
    data, dtype, made = found
    if not beside and sidecar_of(path).is_file():
        notes += ("the JSON beside it cannot be read: what it says of the image is not known",)
    if voxels:
        data, filled = make_finite(data, path.name)
        made += filled
        refuse_blank(data, path.name, flat=flat, two_values=mask)
    return Volume(
        data=data,
        name=stem(path),
        contrast=contrast,
        looks=(of_values := ("colour map" if COLOURED in made else kind_of(data)) if voxels else "") or looks,
        why="its values" if of_values else "its header" if of_header else reason(said),
        spacing=None if affine is None else spacing_of(affine),
        affine=affine,
        dtype=dtype,
        path=path,
        subject=subject_of(case, stack=True),
        series=shown(path.name),
        provenance=provenance,
        notes=notes + placed + made,
    )


def glance_at_nifti(path: Path) -> Volume | None:
    """What names and the first bytes of a 3D NIfTI-1 file tell, without its place: 30 times as fast as its header.

    None where more must be looked at.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(1024)
        if begin[:2] == b"\x1f\x8b":
            begin = zlib.decompressobj(31).decompress(begin, 352)
        order = "<" if begin[:2] == b"\x5c\x01" else ">"
        count, *sides = struct.unpack(f"{order}8h", begin[40:56])
    except (OSError, zlib.error, struct.error):
        return None
    if begin[344:347] != b"n+1" or any(begin[348:352]) or count != 3 or min(sides[:3]) < 1 or len(begin) < 352:
        return None  # perhaps an extension of our own
    case, channel = channel_of(path)
    beside = said_beside(path)
    said = said_by((*channel, stem(path)), noted_in(begin[148:228]) | beside, (path.parent.name,))
    return Volume(
        data=unread((sides[2], sides[1], sides[0])),
        name=stem(path),
        looks=judged(said),
        why=reason(said),
        path=path,
        subject=subject_of(case, stack=True),
        series=shown(path.name),
        provenance=Provenance.from_sidecar(beside),
    )


def noted_in(descrip: bytes) -> dict[str, Any]:
    """What SPM and dcm2niix note of times and phase in the 80 characters of a header, in the words of a sidecar."""
    text = descrip.decode("latin-1")
    times = {"EchoTime": r"\bTE ?= ?(\d+\.?\d*)", "RepetitionTime": r"\bTR ?= ?(\d+\.?\d*)"}
    found: dict[str, Any] = {key: float(m[1]) / 1000 for key, word in times.items() if (m := re.search(word, text))}
    return found | ({"ImageType": ["P"]} if "phase=1" in text else {})


def _kind_by_header(image: Any, volumes: tuple[int, ...]) -> str:
    """What an intent code, or a fifth dimension, says that is no weighted image; empty where nothing."""
    intent = int(image.header["intent_code"]) if "intent_code" in image.header else 0
    of_intent = next((kind for codes, kind in INTENTS.items() if intent in codes), "")
    return of_intent or ("vector field" if math.prod(volumes[1:]) > 1 else "")  # of a deformation, mostly


def _looks_of_volume(path: Path, looks: str, volumes: tuple[int, ...], number: int) -> str:
    """What one of the volumes of a 4D file looks like, where the file looks so."""
    if looks == "PDT2" and volumes == (2,) and number < 2:
        return ("PD", "T2")[number]  # by echo time, which rises
    count = math.prod(volumes)
    if count > 1 and path.with_name(f"{stem(path)}.bval").is_file():
        return "diffusion"
    many = count > MANY and looks in ("", *CONTRASTS) and not number  # one that the user has numbered is meant
    return f"series of {count} images" if many else looks


def sidecar_of(path: Path) -> Path:
    """The JSON file that may lie beside a volume."""
    return path.with_name(f"{stem(path)}.json")


def said_beside(path: Path) -> dict[str, Any]:
    """What the JSON file beside a volume says; empty where it is nothing that can be read."""
    with suppress(OSError, ValueError):
        said = json.loads(sidecar_of(path).read_bytes())  # in UTF-8 or -16, with a mark or without
        return said if isinstance(said, dict) else {}
    return {}


def read_sidecar(path: Path) -> Provenance | None:
    """What the sidecar of a synthetic volume says of it; None where there is none, or it is of another program."""
    return Provenance.from_sidecar(said_beside(path))


def _provenance_of(image: Any, beside: dict[str, Any]) -> Provenance | None:
    """By the header, or where another program has written it anew, by the sidecar."""
    for extension in getattr(image.header, "extensions", ()):
        with suppress(TypeError, AttributeError):  # an extension that is no text
            if said := Provenance.from_json(extension.get_content().rstrip(b"\0")):
                return said
    return Provenance.from_sidecar(beside)


@contextmanager
def opened_nifti(path: Path) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """The image, its voxels still on disk, and what is odd about the file. Whatever fails becomes a sentence."""
    refuse_missing(path)
    if (other := other_half(path)) and not other.is_file():
        raise UnusableError(f"{path.name}: {other.name}, its other half, is not beside it; copy both files.")
    with decoding(path), path.open("rb") as file:
        yield _load(path, file)


def _load(path: Path, file: BinaryIO) -> tuple[Any, tuple[str, ...]]:
    """The image, from the open file; by its content where its ending is wrong about compression."""
    import nibabel

    ending = ending_of(path).casefold()
    if ending in HALVES:
        return nibabel.load(path), ()
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    stream: Any = Unzipped(path, file) if zipped else file
    size = stream.read(4)
    stream.seek(0)
    kind: Any = nibabel.MGHImage if "mg" in ending else nibabel.Nifti1Image
    if 540 in (int.from_bytes(size, "little"), int.from_bytes(size, "big")):
        kind = nibabel.Nifti2Image
    image = kind.from_stream(stream)
    _restore_zeros(image, stream)
    if not image.dataobj.offset:
        raise UnusableError(f"{path.name}: its voxels would begin within its header (vox_offset 0); export it again.")
    if "intent_code" in image.header and image.header["intent_code"] in CIFTI:
        raise UnusableError(f"{path.name}: holds values on a surface (CIFTI), not a volume; give a NIfTI volume.")
    stream.seek(28)  # goodRASFlag, which nibabel sets
    odd = {
        f"it is {'' if zipped else 'not '}compressed, against its name": zipped != ending.endswith("z"),
        "its header holds no place: coronal slices of 1 mm were assumed, as FreeSurfer does": kind is nibabel.MGHImage
        and stream.read(2) == b"\0\0",
    }
    return image, tuple(note for note, so in odd.items() if so)


def _restore_zeros(image: Any, stream: Any) -> None:
    """Put back the sides of 0 mm that the header of an open file gives its voxels: nibabel makes them 1 mm."""
    stream.seek(0)
    if "pixdim" in image.header:
        kind = image.header.structarr.dtype
        stored = np.frombuffer(stream.read(kind.itemsize), kind)[0]
        image.header["pixdim"][1:4][(stored["pixdim"][1:4] == 0) & (image.header["dim"][1:4] > 1)] = 0


def _affine_of(image: Any) -> tuple[Affine | None, tuple[str, ...]]:
    """(X, Y, Z, 1) index to RAS+ mm, and what had to be assumed; None where not even the size of a voxel is known."""
    import nibabel

    header, axes_of = image.header, cast("Any", nibabel.aff2axcodes)
    affine = np.array(image.affine, np.float64)
    notes: tuple[str, ...] = ()
    if "pixdim" in header and not header["pixdim"][1:4].all():
        if "sform_code" not in header or header["sform_code"] <= 0:
            return None, ("its header gives its voxels a side of 0 mm: their size was taken for unknown",)
        notes = ("its pixdim gives its voxels a side of 0 mm: the sform was taken",)
    if not _is_regular(affine):
        notes = ("its affine is singular or not finite: the size of the voxels is kept, the orientation assumed",)
        if "qform_code" in header and header["qform_code"] > 0 and _is_regular(header.get_qform()):
            notes = ("its sform is singular or not finite: the qform was used",)
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
    if "sform_code" in header and header["sform_code"] > 0 and _is_regular(affine):
        affine, contradiction = _agree(header, affine)
        notes += contradiction
    axes_only = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.abs(axes_only.T @ axes_only - np.eye(3)).max() > DISAGREE:
        notes += ("its axes are not at right angles, as after an affine registration: slices are taken as stored",)
    if "xyzt_units" in header and (unit := UNITS.get(int(header["xyzt_units"]) & 7)):
        affine[:3] *= unit[1]
        notes += (f"its header is in {unit[0]}; turned to mm",)
    return affine, notes


def _agree(header: Any, sform: Affine) -> tuple[Affine, tuple[str, ...]]:
    """The sform, or the qform where pixdim says that the sform is wrong; and what contradicts what."""
    qform = None
    with suppress(Exception):  # a quaternion that is none
        qform = np.array(header.get_qform(), np.float64) if header["qform_code"] > 0 else None
    if qform is None or not _is_regular(qform):
        qform = sform
    pixdim, sides = np.abs(np.array(header["pixdim"][1:4], np.float64)), np.linalg.norm(sform[:3, :3], axis=0)
    if (pixdim > 0).all() and np.abs(sides / pixdim - 1).max() > DISAGREE:
        took = "sform" if qform is sform else "qform"
        mm = ["x".join(f"{side:.3g}" for side in of) for of in (sides, pixdim)]
        return qform, (f"its sform says voxels of {mm[0]}, its pixdim {mm[1]}: the {took} was taken",)
    if np.linalg.det(qform[:3, :3]) * np.linalg.det(sform[:3, :3]) < 0:
        return sform, ("its sform and qform take left for right of each other: the sform was taken; check the sides",)
    ends = np.array([(*corner, 1) for corner in np.ndindex(2, 2, 2)]) * [*np.r_[header["dim"][1:4]], 1]
    apart = np.abs((qform - sform) @ ends.T).max() > APART
    return sform, ("its sform and qform lie apart: the sform was taken",) if apart else ()


def _is_regular(affine: Affine) -> bool:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and (lengths > 0).all()):
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-6)


def _sides(shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """Columns, rows and planes of a volume."""
    if len(shape) < 2 or 0 in shape:
        raise UnusableError(f"{name}: shape {shape} is not that of an image; export the volume again.")
    columns, rows, planes = (*shape, 1, 1)[:3]
    if planes == 1 and len(shape) == 4:
        planes = shape[3]  # slices that a converter counted in the wrong place: X, Y, 1, Z
    return columns, rows, planes


def _read_voxels(proxy: Any, name: str, number: int) -> tuple[Image, str, tuple[str, ...]]:
    """One volume, (Z, Y, X); the type it was stored in; and what was done to it.

    Read plane by plane: nibabel would hold a compressed file twice, and a scaled one in float64.
    """
    from nibabel.openers import ImageOpener

    dtype: np.dtype[Any] = proxy.dtype
    columns, rows, planes = _sides(proxy.shape, name)
    volumes = math.prod(proxy.shape[2:]) // planes
    if volumes == 1:
        number = 0  # numbers are for 4D files
    if not 0 <= number < volumes:
        raise UnusableError(
            f"{name}: holds {volumes} volumes, 0 to {volumes - 1}; there is no number {number}: choose another."
        )
    size = columns * rows * dtype.itemsize
    slope, inter = float(proxy.slope), float(proxy.inter)
    data = np.empty((planes, rows, columns), np.float32)
    of_colour = ""
    with ImageOpener(proxy.file_like) as file:
        file.seek(proxy.offset + number * planes * size)
        for z, plane in enumerate(data):
            block = file.read(size)
            if len(block) < size:
                raise UnusableError(f"{name}: it is truncated, {z} of {planes} slices are there; copy it again.")
            stored = np.frombuffer(block, dtype).reshape(rows, columns)
            plane[:] = _scale(stored, slope, inter)
            if dtype.names and of_colour != COLOURED:
                of_colour = said_of_colour(np.stack([stored[band] for band in "RGB"], axis=-1))
        file.read(2**20)  # to the end of a compressed file, where its checksum is looked at

    notes: tuple[str, ...] = ()
    if volumes > 1:
        notes += (f"{len(proxy.shape)}D with {volumes} volumes: number {number} was taken; the volume number chooses",)
    if planes > 1 and proxy.shape[2:3] == (1,):
        notes += (f"its {planes} volumes of one slice were taken for a stack",)
    if dtype.names:
        return data, "uint8", (*notes, of_colour)
    if dtype.kind == "c":
        return data, "float32", (*notes, "complex values: their magnitude was taken")
    whole = dtype.kind in "iu" and slope.is_integer() and inter.is_integer()
    inside = whole and np.iinfo(dtype).min <= data.min() and data.max() <= np.iinfo(dtype).max
    return data, dtype.name if inside else "float32", notes


def _scale(stored: npt.NDArray[Any], slope: float, inter: float) -> npt.NDArray[Any]:
    """A plane in its units: scaled, of colours the luminance, of complex values the magnitude."""
    real = stored
    if stored.dtype.names:
        real = to_grey(np.stack([stored[band] for band in "RGB"], axis=-1))
    elif (slope, inter) != (1, 0):
        real = stored * np.float64(slope) + inter
    return np.abs(real) if real.dtype.kind == "c" else real
