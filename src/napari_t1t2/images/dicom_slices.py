"""DICOM files to slices: decoded, with what their headers say of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..errors import UnusableError, shown
from .dicom_mosaic import places_of_tiles, unfold
from .foreign import what_else
from .limits import refuse_bomb, refuse_deflated_bomb, refuse_other_size
from .names import KINDS, natural, refuse_missing
from .pixels import said_of_colour, to_grey
from .quiet import decoding, quiet

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

Vector = npt.NDArray[np.float64]
Identity = tuple[str, str, bool]  # the series, its title, and whether it holds no image

TITLE = ("SeriesNumber", "StudyInstanceUID", "PatientID", "SeriesDescription")
IDENTITY = ["SOPClassUID", "Rows", "NumberOfFrames", "SeriesInstanceUID", *TITLE]
SAME = 0.01  # mm along the normal within which two slices show one place; also how far directions may differ
PRIVATE = (  # what vendors say in elements of their own, and what we call it
    ("PhilipsScaleSlope", 0x2005, "Philips MR Imaging DD 001", 0x0E),
    ("PrivateBValue", 0x2001, "Philips Imaging DD 001", 0x03),
    ("PrivateBValue", 0x0019, "SIEMENS MR HEADER", 0x0C),
    ("PrivateBValue", 0x0065, "Image Private Header", 0x09),  # United Imaging
    ("BValuesOfGE", 0x0043, "GEMS_PARM_01", 0x39),
    ("PartOfComplex", 0x0043, "GEMS_PARM_01", 0x2F),  # 0 magnitude, 1 phase, 2 real, 3 imaginary
)
CODECS = {  # of imagecodecs, for what neither pydicom nor Pillow decodes
    "1.2.840.10008.1.2.4.51": "jpeg8_decode",  # JPEG of 12 bits
    "1.2.840.10008.1.2.4.57": "jpeg8_decode",  # lossless JPEG
    "1.2.840.10008.1.2.4.70": "jpeg8_decode",
    "1.2.840.10008.1.2.4.80": "jpegls_decode",
    "1.2.840.10008.1.2.4.81": "jpegls_decode",
}


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """One slice as stored: a file, or a frame of one."""

    path: Path
    header: Dataset  # of the whole file, without its pixels
    own: dict[str, Any]  # what an enhanced file's functional groups say of this frame
    index: int
    stored: npt.NDArray[Any]  # (rows, columns)
    notes: tuple[str, ...]
    position: Vector | None = None  # of the first pixel, (3,) in mm, LPS as DICOM has it
    axes: Vector | None = None  # (2, 3): where a row's pixels lead, and a column's

    def value(self, keyword: str) -> Any:
        """What is said of this slice, by its functional groups or else by the header; None for nothing."""
        if keyword in self.own:
            return self.own[keyword]
        with suppress(Exception):  # a value that is none, as letters in a number
            return self.header.get(keyword)
        return None

    def numbers(self, keyword: str, count: int) -> Vector | None:
        """So many finite numbers that a tag holds, or None."""
        with suppress(TypeError, ValueError):
            values = np.array(_parted(self.value(keyword), count), np.float64).ravel()
            if len(values) == count and np.isfinite(values).all():
                return values
        return None

    def number(self, *keywords: str) -> float | None:
        """The number that the first of these tags to have one holds."""
        found = (self.numbers(keyword, 1) for keyword in keywords)
        return next((float(values[0]) for values in found if values is not None), None)

    def pixel(self) -> Vector | None:
        """Mm from row to row and from column to column."""
        spacing = self.numbers("PixelSpacing", 2)
        return spacing if spacing is not None and spacing.min() > 0 else None

    def text(self, *keywords: str) -> str:
        """The text of the first of these tags to have one, its white space folded."""
        texts = (" ".join(str(self.value(keyword) or "").split()) for keyword in keywords)
        return shown(next((text for text in texts if text), ""))

    def order(self) -> tuple[Any, ...]:
        """Where it comes among slices that have no position, or share one."""
        return self.number("InstanceNumber") or 0, natural(self.path), self.index


def _parted(value: Any, count: int) -> Any:
    """What a tag holds; of numbers that were left as text, for commas in them or a type for text (GE, 7 T), each."""
    if isinstance(value, bytes) and len(value) == 8 * count:  # of an element that no dictionary knows
        return np.frombuffer(value, "<f8")
    texts = [value] if isinstance(value, str) else list(value) if hasattr(value, "append") else []
    if not any(isinstance(text, str) for text in texts):
        return value
    parts = "\\".join(map(str, texts)).split("\\")
    if len(parts) == 1 < count and "." in parts[0]:
        parts = parts[0].split(",")
    return [part.replace(",", ".") for part in parts]


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its first bytes; a header without preamble counts."""
    return _identify(path) is not None


def by_series(
    paths: Iterable[Path], known: Mapping[Path, Identity | None] = MappingProxyType({})
) -> tuple[list[tuple[Path, ...]], list[Path]]:
    """The DICOM files of each series, whose slices belong to no other; and the files that are no DICOM.

    What does not say its series is kept together. Beside images, DICOM that holds none, as reports, is passed over.
    Those whose identity is `known` are not opened again.
    """
    series: dict[str, list[Path]] = {}
    titles: dict[str, str] = {}
    others: list[Path] = []
    mute: dict[str, list[Path]] = {}
    for path in paths:
        if (identity := known[path] if path in known else identity_of(path)) is None:
            others.append(path)
            continue
        uid, title, empty = identity
        (mute if empty else series).setdefault(uid, []).append(path)
        titles[uid] = title
    alone = {uid: titles[uid] for uid, files in series.items() if len(files) == 1}
    joined: dict[str, list[Path]] = {}
    for uid, files in series.items():
        joined.setdefault(alone.get(uid) or uid, []).extend(files)
    return [tuple(files) for files in (joined or mute).values()], others


def identity_of(path: Path) -> Identity | None:
    """Of a DICOM file, as far as it can be read; None for other files."""
    if (header := _identify(path)) is None:
        return None
    uid, title, empty = "", "", False
    with suppress(Exception):  # a value that is none
        uid = str(header.get("SeriesInstanceUID", ""))
        empty = not header.get("Rows") and header.get("SOPClassUID") is not None
        title = "" if header.get("NumberOfFrames") else title_of(header)
    return uid, title, empty


def title_of(header: Any) -> str:
    """What slices share whose scanner gave each a series of its own (Canon); empty where the series has no number."""
    said = [""] * len(TITLE)
    for i, tag in enumerate(TITLE):
        with suppress(Exception):  # a value that is none, or of no type that DICOM knows
            said[i] = str(header.get(tag, ""))
    return " ".join(said) if said[0] not in ("", "None") else ""


def _identify(path: Path) -> Dataset | None:
    """What tells the kind and the series of a DICOM file, as far as it can be read; None for other files."""
    try:
        with path.open("rb") as file, quiet():
            if (signed := _begins(file)) is None:
                return None
            from pydicom import Dataset, dcmread

            header = Dataset()
            with suppress(Exception):
                _refuse_deflated_bomb(path, file)
                header = dcmread(file, force=True, specific_tags=IDENTITY, stop_before_pixels=True)
            return header if signed or len(header) else None
    except OSError:
        return None


def _begins(file: BinaryIO) -> bool | None:
    """Whether an open file carries DICOM's signature; None where it cannot be DICOM even without one."""
    start = file.read(132)
    file.seek(0)
    if start[128:] == b"DICM":
        return True
    return False if start[:2] in (b"\x02\0", b"\x08\0", b"\0\x08") else None  # the group that a header begins with


def slices_of(path: Path) -> list[Slice]:
    """The slices of one file, decoded. Raises `UnusableError` with a sentence."""
    from pydicom import dcmread

    refuse_missing(path)
    with decoding(path):
        with path.open("rb") as file:
            signed = _begins(file)
            if signed:
                _refuse_deflated_bomb(path, file)
            header = None if signed is None else dcmread(file, force=True)
        if header is None or not (signed or len(header)):
            raise UnusableError(what_else(path) or f"not an image that can be read here; give {KINDS}.")
        _refuse_no_image(header)
        pixels = int(header.Rows) * int(header.Columns) * int(header.get("NumberOfFrames") or 1)
        stored = pixels * int(header.get("SamplesPerPixel") or 1) * int(header.get("BitsAllocated") or 8) // 8
        refuse_bomb(path, stored, stored + 4 * pixels)
        places = places_of_tiles(header)
        frames, notes = _decode(header)
        del header.PixelData  # decoded above; a series in memory twice is enough
        own = [_read_groups(header, i) for i in range(len(frames))]
        if places:
            frames, notes = unfold(frames[0], len(places)), (*notes, f"a mosaic, unfolded into {len(places)} slices")
            own = [own[0] | {"ImagePositionPatient": place} for place in places]
        slices = [
            Slice(path, header, said, i, frame, notes) for i, (said, frame) in enumerate(zip(own, frames, strict=True))
        ]
    placed = places or len(frames) == 1 or "PerFrameFunctionalGroupsSequence" in header  # else one stands for many
    return [_place(s) for s in slices] if placed else slices


def _read_groups(header: Dataset, index: int) -> dict[str, Any]:
    """What the functional groups say of one frame, or of all, without the sequences they are wrapped in."""
    shared, each = (header.get(f"{of}FunctionalGroupsSequence") or () for of in ("Shared", "PerFrame"))
    groups = *shared[:1], *each[index : index + 1]
    macros = [e.value[0] for group in groups for e in group if e.VR == "SQ" and e.value]
    said = {element.keyword: element.value for macro in macros for element in macro if element.keyword}
    for keyword, group, creator, element in PRIVATE:
        for dataset in (header, *macros):
            with suppress(Exception):  # a private value may be anything
                said[keyword] = dataset.private_block(group, creator)[element].value
    return said


def _refuse_no_image(header: FileDataset) -> None:
    """Refuse what is no image, or no image of the kind wanted, before its pixels are looked at."""
    if not len(header):
        raise UnusableError("the file ends before its pixels do; it is truncated, copy it again.")
    kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    name = getattr(kind, "name", "") or "DICOM object of no stated kind"
    if "Directory" in name:
        raise UnusableError("the index of a disc (DICOMDIR), not an image; give the images that lie beside it.")
    if "Segmentation" in name:
        raise UnusableError(f"a mask ({name}), not an image; leave it out.")
    if not header.get("Rows") or not header.get("Columns"):
        raise UnusableError(f"holds no image ({name}); leave it out.")
    if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
        raise UnusableError(f"holds numbers that were computed ({name}), not an image as scanned; leave it out.")
    if "PixelData" not in header:
        raise UnusableError("has no pixel data; it was cut off or never held them, so copy or export it again.")


def _decode(header: FileDataset) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """The stored values, (frames, rows, columns), and what was done to them."""
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
    from pydicom.pixels.utils import get_expected_length, pixel_array
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    notes: tuple[str, ...] = ()
    if "TransferSyntaxUID" not in header.file_meta:
        if header["PixelData"].is_undefined_length:
            raise UnusableError("does not say how its pixels are compressed (no transfer syntax); export it again.")
        implicit, little = header.original_encoding
        plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        header.file_meta.TransferSyntaxUID = plain
        notes += ("no transfer syntax is stated; the pixels were read as uncompressed",)
    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_compressed and (has := len(header.PixelData)) < (wants := get_expected_length(header)):
        raise UnusableError(f"only {has} of {wants} bytes of its pixels are there; it is truncated, copy it again.")
    low = 0 if syntax.is_compressed else max(0, (header.get("HighBit") or 0) + 1 - header.BitsStored)
    header.BitsStored += low  # pydicom takes the lowest bits for the stored ones, and drops overlays in higher ones
    pixels = _decompress(header) if syntax.is_compressed else pixel_array(header)
    if low:
        pixels = pixels >> low
    palette = header.PhotometricInterpretation == "PALETTE COLOR"
    if palette:
        pixels = apply_color_lut(pixels, header)
    if palette or header.SamplesPerPixel > 1:
        notes += (said_of_colour(pixels),)
        pixels = to_grey(pixels)
    if header.get("ModalityLUTSequence"):
        pixels = apply_modality_lut(pixels, header)
        notes += ("its values are those of the table in its header (Modality LUT)",)
    if padding := header.get("PixelPaddingValue"):
        holes = pixels == np.array(int(padding)).astype(pixels.dtype)  # the header may give -2000 as 63536
        if holes.any() and not holes.all():
            pixels = np.where(holes, min(pixels[~holes].min(), pixels.dtype.type(0)), pixels)
            notes += ("padding around the image was set to the lowest value",)
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)  # so that equal slices have equal bytes
    return native.reshape(-1, header.Rows, header.Columns), notes


def _decompress(header: FileDataset) -> npt.NDArray[Any]:
    """The pixels, by the decoder that bears broken data; GDCM comes last, as it then ends the whole process."""
    from pydicom.encaps import generate_frames
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array

    syntax, count = header.file_meta.TransferSyntaxUID, int(header.get("NumberOfFrames") or 1)

    def frames() -> Iterator[bytes]:
        for frame in generate_frames(header.PixelData, number_of_frames=count):
            refuse_other_size(frame, (header.Rows, header.Columns))
            yield frame

    if codec := CODECS.get(syntax):
        with suppress(ImportError):  # imagecodecs may be built without it
            import imagecodecs

            decode = getattr(imagecodecs, codec)
            pixels = np.stack([decode(frame) for frame in frames()])
            unused = pixels.itemsize * 8 - header.BitsStored
            signed = pixels.dtype.name.removeprefix("u")
            return (pixels << unused).view(signed) >> unused if header.PixelRepresentation else pixels
    plugins = get_decoder(syntax).available_plugins
    if not plugins:
        raise UnusableError(f"is compressed by {syntax.name}, for which no decoder is installed; convert it first.")
    if "JPEG" in syntax.name:
        list(frames())
    return pixel_array(header, decoding_plugin=next((p for p in ("pydicom", "pillow") if p in plugins), ""))


def _refuse_deflated_bomb(path: Path, file: BinaryIO) -> None:
    """Refuse a deflated DICOM file that holds too much: pydicom would inflate all of it at once."""
    from pydicom.filereader import _read_file_meta_info, read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    read_preamble(file, force=True)
    if _read_file_meta_info(file).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        refuse_deflated_bomb(path, file)
    file.seek(0)


def _place(s: Slice) -> Slice:
    """The slice with its position and directions, where the header gives both and they make sense."""
    position, directions = s.numbers("ImagePositionPatient", 3), s.numbers("ImageOrientationPatient", 6)
    if position is None or directions is None:
        return s
    axes = directions.reshape(2, 3)
    right = np.abs(axes @ axes.T - np.eye(2)).max() < SAME
    return replace(s, position=position, axes=axes) if right else s
