"""DICOM in: any mixture of files, one volume for each series, echo and time."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .clues import contrast_of
from .volume import Affine, Image, Skipped, UnusableError, Volume, spacing_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

Vector = npt.NDArray[np.float64]
Order = tuple[float, tuple[Any, ...]]  # of a volume among others: the number of its series, that of its first slice

SAME = 0.01  # mm along the normal within which two slices show one place; also how far directions may differ
GAP, UNEVEN = 0.2, 0.05  # of a step: beyond the first a slice is missing, beyond the second it is worth a note

REPEATS = (  # what may tell slices at one place apart, the surest first
    "EchoNumbers",
    "TemporalPositionIndex",
    "TemporalPositionIdentifier",
    "FrameType",
    "ImageType",  # magnitude and phase, water and fat
    "DiffusionBValue",
    "AcquisitionNumber",
    "FrameAcquisitionNumber",
    "TriggerTime",
    "AcquisitionTime",
)
CODECS = {  # of imagecodecs, for what neither pydicom nor Pillow decodes
    "1.2.840.10008.1.2.4.51": "jpeg8_decode",  # JPEG of 12 bits
    "1.2.840.10008.1.2.4.57": "jpeg8_decode",  # lossless JPEG
    "1.2.840.10008.1.2.4.70": "jpeg8_decode",
    "1.2.840.10008.1.2.4.80": "jpegls_decode",
    "1.2.840.10008.1.2.4.81": "jpegls_decode",
}


@dataclass(frozen=True, slots=True, eq=False)
class _Slice:
    """One slice as stored: a file, or a frame of one."""

    path: Path
    header: Dataset  # of the whole file, without its pixels
    own: dict[str, Any]  # what an enhanced file's functional groups say of this frame
    index: int
    stored: npt.NDArray[Any]  # (rows, columns)
    notes: tuple[str, ...]
    position: Vector | None = None  # of the first pixel, (3,) in mm, LPS as DICOM has it
    axes: Vector | None = None  # (2, 3): where a row's pixels lead, and a column's

    def said(self, keyword: str) -> Any:
        """What is said of this slice, by its functional groups or else by the header; None for nothing."""
        if keyword in self.own:
            return self.own[keyword]
        with suppress(Exception):  # a value that is none, as letters in a number
            return self.header.get(keyword)
        return None

    def numbers(self, keyword: str, count: int) -> Vector | None:
        with suppress(TypeError, ValueError):
            values = np.array(self.said(keyword), np.float64).ravel()
            if len(values) == count and np.isfinite(values).all():
                return values
        return None

    def number(self, *keywords: str) -> float | None:
        found = (self.numbers(keyword, 1) for keyword in keywords)
        return next((float(values[0]) for values in found if values is not None), None)

    def pixel(self) -> Vector | None:
        """Mm from row to row and from column to column."""
        spacing = self.numbers("PixelSpacing", 2)
        return spacing if spacing is not None and spacing.min() > 0 else None

    def text(self, *keywords: str) -> str:
        texts = (" ".join(str(self.said(keyword) or "").split()) for keyword in keywords)
        return next((text for text in texts if text), "")

    def order(self) -> tuple[Any, ...]:
        """Where it comes among slices that have no position, or share one."""
        from .read import natural

        return self.number("InstanceNumber") or 0, natural(self.path), self.index


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its first bytes; a header without preamble counts."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    if start[128:] == b"DICM":
        return True
    if start[:2] not in (b"\x02\0", b"\x08\0", b"\0\x08"):  # the group that such a header begins with
        return False
    from pydicom import dcmread

    with quiet(), suppress(Exception):
        return len(dcmread(path, force=True, specific_tags=["SOPClassUID", "Rows"], stop_before_pixels=True)) > 0
    return False


def read_dicoms(paths: Sequence[Path]) -> tuple[list[Volume], list[Skipped]]:
    """Read any mixture of DICOM files, in any order, and say of each that cannot be used why.

    Slices are sorted by their position. A series becomes several volumes where it holds several sizes,
    orientations, echoes or times.
    """
    found, skipped = read_stacks(paths)
    return in_order(found), skipped


def by_series(paths: Sequence[Path]) -> list[tuple[Path, ...]]:
    """The files of each series, whose slices belong to no other; what does not say its series is kept together."""
    from pydicom import dcmread

    series: dict[str, list[Path]] = {}
    for path in paths:
        uid = ""
        with quiet(), suppress(Exception):
            header = dcmread(path, force=True, specific_tags=["SeriesInstanceUID"], stop_before_pixels=True)
            uid = str(header.get("SeriesInstanceUID", ""))
        series.setdefault(uid, []).append(path)
    return [tuple(files) for files in series.values()]


def read_stacks(paths: Sequence[Path]) -> tuple[list[tuple[Order, Volume]], list[Skipped]]:
    """The volumes as `read_dicoms` finds them, each with its place among those of other series."""
    from .read import natural

    slices: list[_Slice] = []
    found: list[tuple[Order, Volume]] = []
    skipped: list[Skipped] = []
    seen: dict[Hashable, Path] = {}
    with quiet():
        for path in sorted(set(paths), key=lambda path: (natural(path), path)):
            try:
                read = _slices_of(path)
            except UnusableError as error:
                skipped.append(Skipped(path, str(error)))
                continue
            uid, position = read[0].text("SOPInstanceUID") or str(path), str(read[0].position)
            image = uid, position, hash(read[0].stored.tobytes())  # a careless anonymiser gives one UID to many
            if (other := seen.setdefault(image, path)) != path:
                skipped.append(Skipped(path, f"the same image as {other.name}; one is enough."))
            else:
                slices += read
        for stack in _stacks(slices):
            try:
                found.append((_order(stack), _volume(stack)))
            except UnusableError as error:
                skipped += [Skipped(path, str(error)) for path in _files(stack)]
    return found, skipped


def in_order(found: Sequence[tuple[Order, Volume]]) -> list[Volume]:
    """Volumes of any number of series by the series' number, each with a name of its own."""
    return _told_apart([volume for _, volume in sorted(found, key=lambda pair: pair[0])])


def _slices_of(path: Path) -> list[_Slice]:
    """The slices of one file, decoded. Raises `UnusableError` with a sentence that does not name it."""
    from pydicom import dcmread

    if not is_dicom(path):
        raise UnusableError("not a DICOM file; leave it out.")
    try:
        header = dcmread(path, force=True)
        _check(header)
        frames, notes = _decoded(header)
        del header.PixelData  # decoded above; a series in memory twice is enough
        shared = _grouped(header, "SharedFunctionalGroupsSequence", 0)
        own = (shared | _grouped(header, "PerFrameFunctionalGroupsSequence", i) for i in range(len(frames)))
        slices = [
            _Slice(path, header, said, i, frame, notes) for i, (said, frame) in enumerate(zip(own, frames, strict=True))
        ]
    except UnusableError:
        raise
    except Exception as error:  # pydicom and its decoders raise whatever they like on broken files
        reason = " ".join(str(error).split()).split("plugins: ")[-1][:160].rstrip(".:") or type(error).__name__
        raise UnusableError(f"cannot be decoded ({reason}); is it truncated, or no DICOM?") from error
    placed = len(frames) == 1 or "PerFrameFunctionalGroupsSequence" in header  # else one position stands for many
    return [_placed(s) for s in slices] if placed else slices


def _grouped(header: Dataset, groups: str, index: int) -> dict[str, Any]:
    """What the functional groups of one frame say, without the sequences they are wrapped in."""
    if index >= len(header.get(groups) or ()):
        return {}
    macros = (e.value[0] for e in header[groups][index] if e.VR == "SQ" and e.value and not e.tag.is_private)
    return {element.keyword: element.value for macro in macros for element in macro}


def _check(header: FileDataset) -> None:
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
    if "PixelData" not in header:
        raise UnusableError("has no pixel data; it was cut off or never held them, so copy or export it again.")
    if "MOSAIC" in (header.get("ImageType") or ()):
        raise UnusableError("a Siemens mosaic: all slices tiled into one image; convert it with dcm2niix first.")


def _decoded(header: FileDataset) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """The stored values, (frames, rows, columns), and what was done to them."""
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import get_expected_length, pixel_array
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    from .read import to_grey

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
    pixels = _decompressed(header) if syntax.is_compressed else pixel_array(header)
    palette = header.PhotometricInterpretation == "PALETTE COLOR"
    if palette:
        pixels = apply_color_lut(pixels, header)
    if palette or header.SamplesPerPixel > 1:
        pixels = to_grey(pixels)
        notes += ("colour was turned to grey",)
    if padding := header.get("PixelPaddingValue"):
        holes = pixels == np.array(int(padding)).astype(pixels.dtype)  # the header may give -2000 as 63536
        if holes.any() and not holes.all():
            pixels = np.where(holes, min(pixels[~holes].min(), pixels.dtype.type(0)), pixels)
            notes += ("padding around the image was set to the lowest value",)
    return pixels.reshape(-1, header.Rows, header.Columns), notes


def _decompressed(header: FileDataset) -> npt.NDArray[Any]:
    """The pixels, by the decoder that bears broken data; GDCM comes last, as it then ends the whole process."""
    from pydicom.encaps import generate_frames
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array

    syntax = header.file_meta.TransferSyntaxUID
    if codec := CODECS.get(syntax):
        with suppress(ImportError):  # imagecodecs may be built without it
            import imagecodecs

            decode, count = getattr(imagecodecs, codec), int(header.get("NumberOfFrames") or 1)
            pixels = np.stack([decode(frame) for frame in generate_frames(header.PixelData, number_of_frames=count)])
            unused = pixels.itemsize * 8 - header.BitsStored
            signed = pixels.dtype.name.removeprefix("u")
            return (pixels << unused).view(signed) >> unused if header.PixelRepresentation else pixels
    plugins = get_decoder(syntax).available_plugins
    if not plugins:
        raise UnusableError(f"is compressed by {syntax.name}, for which no decoder is installed; convert it first.")
    return pixel_array(header, decoding_plugin=next((p for p in ("pydicom", "pillow") if p in plugins), ""))


def _placed(s: _Slice) -> _Slice:
    """The slice with its position and directions, where the header gives both and they make sense."""
    position, directions = s.numbers("ImagePositionPatient", 3), s.numbers("ImageOrientationPatient", 6)
    if position is None or directions is None:
        return s
    axes = directions.reshape(2, 3)
    right = np.abs(axes @ axes.T - np.eye(2)).max() < SAME
    return replace(s, position=position, axes=axes) if right else s


def _stacks(slices: list[_Slice]) -> list[list[_Slice]]:
    """The slices of each volume, in order: of one series, size, echo time, direction, and one for each place."""

    def kind(s: _Slice) -> Hashable:
        spacing, echo = s.pixel(), s.number("EffectiveEchoTime", "EchoTime")
        series = s.text("SeriesInstanceUID"), s.text("SeriesNumber"), s.text("StackID")
        return (
            *series,
            s.stored.shape,
            echo and round(echo, 1),
            spacing is not None and tuple(spacing.round(3)),
            s.axes is None,
        )

    stacks: list[list[_Slice]] = []
    for alike in _by(kind, slices):
        directions: list[list[_Slice]] = []
        for s in alike:
            for stack in directions:
                if s.axes is None or stack[0].axes is None or np.abs(s.axes - stack[0].axes).max() < SAME:
                    stack.append(s)
                    break
            else:
                directions.append([s])
        stacks += [part for stack in directions for part in _separated(stack, REPEATS)]
    return sorted(stacks, key=_order)


def _order(stack: list[_Slice]) -> Order:
    return stack[0].number("SeriesNumber") or 0, min(s.order() for s in stack)


def _by(key: Callable[[_Slice], Hashable], slices: list[_Slice]) -> list[list[_Slice]]:
    groups: dict[Hashable, list[_Slice]] = {}
    for s in sorted(slices, key=_Slice.order):
        groups.setdefault(key(s), []).append(s)
    return list(groups.values())


def _separated(stack: list[_Slice], keywords: Sequence[str]) -> list[list[_Slice]]:
    """Split what shows the same places again, by the first keywords that tell the times apart."""
    places = len(set(_places(stack)))
    if places == len(stack):
        return [[s for _, s in sorted(zip(_places(stack), stack, strict=True), key=lambda pair: pair[0])]]
    if not keywords:  # nothing does: the first of each place
        ordered = sorted(stack, key=_Slice.order)
        first: dict[int, _Slice] = {}
        for place, s in zip(_places(ordered), ordered, strict=True):
            first.setdefault(place, s)
        note = f"{len(stack) - places} slices at the place of another were left out; the first of each was taken"
        return [[replace(first[place], notes=(*first[place].notes, note)) for place in sorted(first)]]
    keyword, *others = keywords
    parts = _by(lambda s: s.text(keyword), stack)
    if len(parts) > 1 and max(len(set(_places(part))) for part in parts) == places:
        return [whole for part in parts for whole in _separated(part, keywords)]
    return _separated(stack, others)


def _places(stack: list[_Slice]) -> list[int]:
    """The number of each slice's place along the normal; slices at one place share it."""
    if stack[0].axes is None:
        return list(range(len(stack)))
    along = np.array([s.position for s in stack]) @ np.cross(*stack[0].axes)
    order = np.argsort(along, kind="stable")
    steps = np.r_[0, np.cumsum(np.diff(along[order]) > SAME)]
    return [int(place) for place in steps[np.argsort(order)]]


def _volume(stack: list[_Slice]) -> Volume:
    """One volume of slices that belong together. Raises `UnusableError` with a sentence."""
    first, count = stack[0], len(stack)
    data, dtype = _rescaled(stack)
    notes = [*dict.fromkeys(note for s in stack for note in s.notes), *_uneven(stack)]
    if first.text("PhotometricInterpretation") == "MONOCHROME1":
        data = data.min() + data.max() - data
        notes.append("low values were white (MONOCHROME1) and were inverted")
    low, high = data.min(), data.max()
    if not np.isfinite((low, high)).all():
        raise UnusableError("its rescale slope and intercept lead to numbers beyond all bounds; export it again.")
    if low == high:
        raise UnusableError(f"every pixel is {low:g}; there is no image in it; leave it out.")
    if ((data == low) | (data == high)).all():
        raise UnusableError(f"holds only the values {low:g} and {high:g}: a mask, not an image; leave it out.")
    if (modality := first.text("Modality")) not in ("", "MR"):
        notes.append(f"the header says modality {modality}, not MR")
    if first.text("LossyImageCompression") == "01":
        notes.append("the image was once compressed with loss")
    if first.axes is None and count > 1:
        notes.append("the headers give no positions; the slices are in the order of their numbers")

    affine, pixel = _affine(stack), first.pixel()
    te, tr = first.number("EffectiveEchoTime", "EchoTime"), first.number("RepetitionTime")
    said = [first.text(k) for k in ("SeriesDescription", "ProtocolName", "AcquisitionContrast", "SequenceName")]
    looks = contrast_of(said, te=te, tr=tr, ti=first.number("InversionTime", "InversionTimes"))
    number, what = first.text("SeriesNumber"), said[0] or said[1] or first.path.stem
    times = [f"{name} {time:g} ms" for name, time in (("TE", te), ("TR", tr)) if time]
    spacing = (_between(first), float(pixel[0]), float(pixel[1])) if pixel is not None else None
    if affine is not None:
        spacing = spacing_of(affine)
    slices = f"{count} {_plane(affine)} slice{'s' * (count > 1)}".replace("  ", " ")
    return Volume(
        data=data,
        name=f"{number} {what}".strip(),
        series=", ".join([f"{number}: {what}" if number else what, *times, slices]),
        looks=looks or contrast_of([first.path.name, first.path.parent.name]),
        spacing=spacing,
        affine=affine,
        dtype=dtype,
        path=first.path,
        files=_files(stack),
        subject=first.text("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID"),
        uid=first.text("SeriesInstanceUID"),
        synthetic="SYNTHETIC" in first.text("ImageType"),
        notes=tuple(notes),
    )


def _rescaled(stack: list[_Slice]) -> tuple[Image, str]:
    """(Z, Y, X) in the units of the header, and the type that holds them: an integer one where all steps are whole."""
    data = np.empty((len(stack), *stack[0].stored.shape), np.float32)
    whole = all(np.issubdtype(s.stored.dtype, np.integer) for s in stack)
    for plane, s in zip(data, stack, strict=True):
        slope, intercept = s.number("RescaleSlope") or 1.0, s.number("RescaleIntercept") or 0.0
        plane[:] = s.stored * slope + intercept
        whole &= slope.is_integer() and intercept.is_integer()
    types = (stack[0].stored.dtype.name, "int16", "uint16", "int32") if whole else ()
    limits = ((name, np.iinfo(name)) for name in types)
    return data, next((name for name, i in limits if i.min <= data.min() and data.max() <= i.max), "float32")


def _uneven(stack: list[_Slice]) -> list[str]:
    """A note where the steps between slices differ. Raises `UnusableError` where one is missing."""
    if stack[0].axes is None or len(stack) < 3:
        return []
    steps = np.diff([s.position for s in stack], axis=0)
    typical = steps[np.argsort(np.linalg.norm(steps, axis=1))[(len(steps) - 1) // 2]]
    off = np.linalg.norm(steps - typical, axis=1) / np.linalg.norm(typical)
    worst = int(off.argmax())
    lengths = f"{np.linalg.norm(steps[worst]):.4g} mm, elsewhere {np.linalg.norm(typical):.4g} mm"
    where = f"from slice {worst + 1} to {worst + 2} of {len(stack)} the step is {lengths}"
    if off[worst] > GAP:
        series = f"series {stack[0].text('SeriesNumber')}".strip()
        raise UnusableError(f"{series} has a gap: {where}; is a file missing? Copy the whole series again.")
    return [f"slices are unevenly spaced: {where}; their mean is used"] if off[worst] > UNEVEN else []


def _affine(stack: list[_Slice]) -> Affine | None:
    """(X, Y, Z, 1) index to RAS+ mm; DICOM's x and y point the other way."""
    first, last, pixel = stack[0], stack[-1], stack[0].pixel()
    if first.axes is None or first.position is None or last.position is None or pixel is None:
        return None
    affine = np.eye(4)
    affine[:3, 0] = first.axes[0] * pixel[1]  # along a row, from column to column: the second of PixelSpacing
    affine[:3, 1] = first.axes[1] * pixel[0]
    if len(stack) > 1:
        affine[:3, 2] = (last.position - first.position) / (len(stack) - 1)
    else:
        affine[:3, 2] = np.cross(*first.axes) * _between(first)
    affine[:3, 3] = first.position
    affine[:2] *= -1
    return affine


def _between(s: _Slice) -> float:
    """Mm to the next slice, where positions do not tell."""
    return abs(s.number("SpacingBetweenSlices") or s.number("SliceThickness") or 1.0)


def _plane(affine: Affine | None) -> str:
    if affine is None:
        return ""
    return ("sagittal", "coronal", "axial")[int(np.abs(np.cross(affine[:3, 0], affine[:3, 1])).argmax())]


def _files(stack: list[_Slice]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(s.path for s in stack))


def _told_apart(volumes: list[Volume]) -> list[Volume]:
    """The volumes with a count behind each name and series that another has too."""
    counts: dict[tuple[str, str], int] = {}

    def unique(field: str, text: str) -> str:
        counts[field, text] = nth = counts.get((field, text), 0) + 1
        return text if nth == 1 else unique(field, f"{text} ({nth})")

    return [replace(v, name=unique("name", v.name), series=unique("series", v.series)) for v in volumes]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what pydicom says of odd headers from the terminal: what matters is in the notes."""
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before
