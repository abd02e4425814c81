"""DICOM in: any mixture of files, one volume for each series, echo and time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UnusableError, shown
from .contrast import judged, reason
from .dicom_header import provenance_of
from .dicom_places import distrust_places, near, note_parts, note_uneven_steps, number_places, step_of
from .dicom_said import b_value, said_of
from .dicom_slices import SAME, Slice, Vector, slices_of, title_of
from .names import natural
from .pixels import refuse_blank
from .plane import plane_of
from .quiet import quiet
from .vocabulary import NOBODY
from .volume import Affine, Image, Skipped, Volume, spacing_of

Order = tuple[float, tuple[Any, ...]]  # of a volume among others: the number of its series, that of its first slice
REPEATED = 5  # volumes of the same places in one series, at most; more are times, directions or echoes of a map
FEW, ALIKE = 12, 0.7  # slices of a scout in one plane, at most; the cosine between the normals of two planes
ECHO, SIDE = 0.02, 0.002  # parts by which echo times, and sides of pixels, differ within one volume, as GE writes them

HEAD = (  # anonymisers delete some of these
    *("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "StudyDate", "AccessionNumber"),
    *("SeriesNumber", "SeriesDescription", "StackID"),
)
REPEATS = (  # what may tell slices at one place apart, the surest first
    *("EchoNumbers", "EchoTime"),
    "InversionTime",
    "FlipAngle",
    "ContrastBolusAgent",
    "TemporalPositionIndex",
    "TemporalPositionIdentifier",
    "FrameType",
    "ImageType",  # magnitude and phase, water and fat
    "ComplexImageComponent",
    "PartOfComplex",
    "DiffusionBValue",
    "AcquisitionNumber",
    "FrameAcquisitionNumber",
    "ImageComments",
    "TriggerTime",
    "TemporalPositionTimeOffset",
    "AcquisitionTime",
)


def read_dicoms(paths: Sequence[Path]) -> tuple[list[Volume], list[Skipped]]:
    """Read any mixture of DICOM files, in any order, and say of each that cannot be used why.

    Slices are sorted by their position. A series becomes several volumes where it holds several sizes,
    orientations, echoes or times.
    """
    found, skipped = read_stacks(paths)
    return in_order(found), skipped


def read_stacks(paths: Sequence[Path]) -> tuple[list[tuple[Order, Volume]], list[Skipped]]:
    """The volumes as `read_dicoms` finds them, each with its place among those of other series."""
    slices: list[Slice] = []
    found: list[tuple[Order, Volume]] = []
    skipped: list[Skipped] = []
    seen: set[Hashable] = set()
    with quiet():
        for path in sorted(set(paths), key=lambda path: (natural(path), path)):
            try:
                read = slices_of(path)
            except UnusableError as error:
                skipped.append(Skipped(path, str(error).removeprefix(f"{shown(path.name)}: ")))
                continue
            uid, position = read[0].text("SOPInstanceUID") or str(path), str(read[0].position)
            image = uid, position, hash(read[0].stored.tobytes())  # a careless anonymiser gives one UID to many
            if image in seen:
                skipped.append(Skipped(path, "another file here holds the same image; one is enough."))
            else:
                seen.add(image)
                slices += read
        stacks = _group_into_stacks(slices)
        for stack, told in zip(stacks, _told_by_series(stacks), strict=True):
            try:
                found.append((_order_of(stack), _make_volume(stack, *told)))
            except UnusableError as error:
                skipped += [Skipped(path, str(error)) for path in _files_of(stack)]
    return found, skipped


def in_order(found: Sequence[tuple[Order, Volume]]) -> list[Volume]:
    """Volumes of any number of series by the series' number, each with a name of its own."""
    return _name_apart(note_parts([volume for _, volume in sorted(found, key=lambda pair: pair[0])]))


def _group_into_stacks(slices: list[Slice]) -> list[list[Slice]]:
    """The slices of each volume, in order: of one series, size, echo time, direction, and one for each place."""
    often = Counter(s.text("SeriesInstanceUID") for s in slices)
    pixels = [(s.pixel(), s.number("EffectiveEchoTime", "EchoTime")) for s in slices]
    same_echo = near((echo for _, echo in pixels if echo), ECHO)
    same_side = near((side for pixel, _ in pixels if pixel is not None for side in pixel), SIDE)

    def kind(s: Slice) -> Hashable:
        spacing, echo, uid = s.pixel(), s.number("EffectiveEchoTime", "EchoTime"), s.text("SeriesInstanceUID")
        return (
            (often[uid] == 1 and title_of(s.header)) or uid,
            s.path if s.axes is None and s.header.get("NumberOfFrames") else None,  # else two files look like one
            *(s.text(tag) for tag in HEAD),
            s.stored.shape,
            echo and same_echo[echo],
            spacing is not None and tuple(same_side[side] for side in spacing),
            s.axes is None,
        )

    stacks: list[list[Slice]] = []
    for alike in _group(kind, slices):
        directions: list[list[Slice]] = []
        for s in alike:
            for stack in directions:
                if s.axes is None or stack[0].axes is None or np.abs(s.axes - stack[0].axes).max() < SAME:
                    stack.append(s)
                    break
            else:
                directions.append([s])
        stacks += [part for stack in directions for part in _split_repeats(distrust_places(stack), REPEATS)]
    return sorted(stacks, key=_order_of)


def _told_by_series(stacks: list[list[Slice]]) -> list[tuple[str, int]]:
    """Of each stack what the others of its series tell: the kind of object, or nothing; and how many echoes it has."""
    uids = [_uid_of(stack) for stack in stacks]
    titles = [title_of(stack[0].header) for stack in stacks]
    echoes: dict[str, set[str]] = {}
    planes: dict[str, dict[str, Vector]] = {}
    weighted: set[str] = set()
    places: Counter[tuple[str, int, str]] = Counter()
    for uid, title, stack in zip(uids, titles, stacks, strict=True):
        first = stack[0]
        echoes.setdefault(uid, set()).add(first.text("EffectiveEchoTime", "EchoTime"))
        weighted |= {uid} if uid and b_value(first) > 0 else set()
        if first.axes is not None:
            places[uid, len(stack), str(first.position)] += 1
            for series in {uid, title} - {""}:
                planes.setdefault(series, {})[str(first.axes)] = first.axes
    told = []
    for uid, title, stack in zip(uids, titles, stacks, strict=True):
        axes, count = stack[0].axes, places[uid, len(stack), str(stack[0].position)] if uid else 0
        others = planes.get(uid or title, {}).values() if len(stack) <= FEW else ()
        if axes is not None and any(abs(np.cross(*other) @ np.cross(*axes)) < ALIKE for other in others):
            kind = "localizer"  # few slices, and its series has others in another plane
        else:  # a b-value of 0 is one among others
            kind = "diffusion" if uid in weighted else f"series of {count} images" * (count > REPEATED)
        told.append((kind, len(echoes[uid]) if uid else 1))
    return told


def _uid_of(stack: list[Slice]) -> str:
    """The SeriesInstanceUID of the slices; empty where they have several, or none."""
    uids = {s.text("SeriesInstanceUID") for s in stack}
    return uids.pop() if len(uids) == 1 else ""


def _order_of(stack: list[Slice]) -> Order:
    return stack[0].number("SeriesNumber") or 0, min(s.order() for s in stack)


def _group(key: Callable[[Slice], Hashable], slices: list[Slice]) -> list[list[Slice]]:
    groups: dict[Hashable, list[Slice]] = {}
    for s in sorted(slices, key=Slice.order):
        groups.setdefault(key(s), []).append(s)
    return list(groups.values())


def _split_repeats(stack: list[Slice], keywords: Sequence[str]) -> list[list[Slice]]:
    """Split what shows the same places again, by the first keywords that tell the times apart."""
    places = len(set(number_places(stack)))
    if places == len(stack):
        return [[s for _, s in sorted(zip(number_places(stack), stack, strict=True), key=lambda pair: pair[0])]]
    if not keywords:  # nothing does, but perhaps their order
        return _split_runs(sorted(stack, key=Slice.order), places)
    keyword, *others = keywords
    parts = _group(lambda s: s.text(keyword), stack)
    if len(parts) > 1 and max(len(set(number_places(part))) for part in parts) == places:
        return [whole for part in parts for whole in _split_repeats(part, keywords)]
    return _split_repeats(stack, others)


def _split_runs(ordered: list[Slice], places: int) -> list[list[Slice]]:
    """Slices of which each run shows every place once, as volumes; else all together, which cannot be a volume.

    A volume whose slices are taken now from one echo, now from another, would be wrong without looking wrong.
    """
    alone: dict[Hashable, Slice] = {}  # a copy under another UID is the same slice
    for place, s in zip(number_places(ordered), ordered, strict=True):
        alone.setdefault((place, s.stored.tobytes()), s)
    if len(alone) == places:
        note = f"copies of other slices left out: {len(ordered) - places}"
        return _split_repeats([replace(s, notes=(*s.notes, note)) for s in alone.values()], ())
    numbers = number_places(ordered)
    starts = range(0, len(ordered), places)
    told = len({s.number("InstanceNumber") for s in ordered}) == len(ordered)
    if told and all(len(set(numbers[start : start + places])) == places for start in starts):
        return [_split_repeats(ordered[start : start + places], ())[0] for start in starts]
    return [ordered]


def _make_volume(stack: list[Slice], kind: str, echoes: int) -> Volume:
    """One volume of slices that belong together; of a `kind`, if its series tells. Raises `UnusableError`."""
    first, count = stack[0], len(stack)
    if (places := len(set(number_places(stack)))) < count:
        raise UnusableError(
            f"series {first.text('SeriesNumber')} has {count} slices of {places} places, and no tag tells those of one "
            "place apart (echoes, phases or repeats): export each by itself."
        )
    data, dtype = _rescale(stack)
    notes = [*dict.fromkeys(note for s in stack for note in s.notes), *note_uneven_steps(stack)]
    if first.text("PhotometricInterpretation") == "MONOCHROME1":
        data = data.min() + data.max() - data
        notes.append("low values were white (MONOCHROME1) and were inverted")
    if not np.isfinite((data.min(), data.max())).all():
        raise UnusableError("its rescale slope and intercept give values that are not finite; export it again.")
    refuse_blank(data)
    if (modality := first.text("Modality")) not in ("", "MR"):
        notes.append(f"the header says modality {modality}, not MR")
    if first.text("BurnedInAnnotation").upper() == "YES":
        notes.append("the header says that text is burned into its pixels")
    if any(s.number("PhilipsScaleSlope") for s in stack):
        notes.append("values are in the floating point units of Philips (2005,100E), which viewers do not show")
    if first.text("LossyImageCompression") == "01":
        notes.append("the image was once compressed with loss")
    if first.axes is None and count > 1:
        notes.append("the headers give no positions; the slices are in the order of their numbers")
    if first.pixel() is None:
        notes.append("the header does not say how large a pixel is: the spacing is not known")

    affine, pixel = _affine_of(stack), first.pixel()
    said = said_of(first, kind, echoes)
    te, tr = said.te, said.tr
    whose = [first.text(tag) for tag in ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID")]
    number, what = first.text("SeriesNumber"), said.texts[0] or said.texts[1] or first.path.stem
    times = [f"{name} {time:g} ms" for name, time in (("TE", te), ("TR", tr)) if time]
    spacing = (step_of(first), float(pixel[0]), float(pixel[1])) if pixel is not None else None
    if affine is not None:
        spacing = spacing_of(affine)
    slices = f"{count} {plane_of(affine)} slice{'s' * (count > 1)}".replace("  ", " ")
    return Volume(
        data=data,
        name=f"{number} {what}".strip(),
        series=", ".join([f"{number}: {what}" if number else what, *times, slices]),
        looks=judged(said),
        why=reason(said),
        spacing=spacing,
        affine=affine,
        dtype=dtype,
        path=first.path,
        files=_files_of(stack),
        subject=next((text for text in whose if text and not NOBODY.fullmatch(text)), ""),
        uid=_uid_of(stack),
        provenance=provenance_of(first.header),
        notes=tuple(notes),
    )


def _rescale(stack: list[Slice]) -> tuple[Image, str]:
    """(Z, Y, X) in the units of the header, and the type that holds them: an integer one where all steps are whole."""
    data = np.empty((len(stack), *stack[0].stored.shape), np.float32)
    whole = all(np.issubdtype(s.stored.dtype, np.integer) for s in stack)
    for plane, s in zip(data, stack, strict=True):
        slope, intercept = s.number("RescaleSlope") or 1.0, s.number("RescaleIntercept") or 0.0
        if scale := s.number("PhilipsScaleSlope"):  # Chenevert et al., Transl Oncol 2014
            slope, intercept = 1 / scale, intercept / (slope * scale)
        plane[:] = s.stored * slope + intercept
        whole &= slope.is_integer() and intercept.is_integer()
    types = (stack[0].stored.dtype.name, "int16", "uint16", "int32") if whole else ()
    limits = ((name, np.iinfo(name)) for name in types)
    return data, next((name for name, i in limits if i.min <= data.min() and data.max() <= i.max), "float32")


def _affine_of(stack: list[Slice]) -> Affine | None:
    """(X, Y, Z, 1) index to RAS+ mm; DICOM's x and y point the other way."""
    first, last, pixel = stack[0], stack[-1], stack[0].pixel()
    if first.axes is None or first.position is None or last.position is None or pixel is None:
        return None
    affine = np.eye(4)
    affine[:3, 0] = first.axes[0] * pixel[1]  # along a row, from column to column: the second of PixelSpacing
    affine[:3, 1] = first.axes[1] * pixel[0]
    alone = np.cross(*first.axes) * step_of(first)
    affine[:3, 2] = (last.position - first.position) / (len(stack) - 1) if len(stack) > 1 else alone
    affine[:3, 3] = first.position
    affine[:2] *= -1
    return affine


def _files_of(stack: list[Slice]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(s.path for s in stack))


def _name_apart(volumes: list[Volume]) -> list[Volume]:
    """The volumes with a count behind each name and series that another has too."""
    counts: dict[tuple[str, str], int] = {}

    def unique(field: str, text: str) -> str:
        counts[field, text] = nth = counts.get((field, text), 0) + 1
        return text if nth == 1 else unique(field, f"{text} ({nth})")

    return [replace(v, name=unique("name", v.name), series=unique("series", v.series)) for v in volumes]
