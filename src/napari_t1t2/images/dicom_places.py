"""What the positions of DICOM slices say: which lie at one place, whether steps are even, and parts of one scan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import permutations

import numpy as np

from ..errors import UnusableError
from .dicom_slices import SAME, Slice
from .volume import Affine, Volume

TILT = 0.5  # degrees between the step from slice to slice and the slices' normal, as rounded headers never make
GAP, UNEVEN = 0.2, 0.05  # of a step: beyond the first a slice is missing, beyond the second it is worth a note


def near(values: Iterable[float], apart: float) -> dict[float, float]:
    """For each value the least of those that lie within a part `apart` of the next: rounding divides none."""
    first: dict[float, float] = {}
    before = begin = 0.0
    for value in sorted(set(values)):
        begin = begin if begin and value <= before * (1 + apart) else value
        first[value], before = begin, value
    return first


def number_places(stack: list[Slice]) -> list[int]:
    """The number of each slice's place along the normal; slices at one place share it."""
    if stack[0].axes is None:
        return list(range(len(stack)))
    along = np.array([s.position for s in stack]) @ np.cross(*stack[0].axes)
    order = np.argsort(along, kind="stable")
    steps = np.r_[0, np.cumsum(np.diff(along[order]) > SAME)]
    return [int(place) for place in steps[np.argsort(order)]]


def distrust_places(stack: list[Slice]) -> list[Slice]:
    """The slices, without their positions where these are all the same and their locations are not."""
    locations = {s.number("SliceLocation") for s in stack}
    if len(locations) < max(3, len(stack)) or stack[0].axes is None or len(set(number_places(stack))) > 1:
        return stack
    note = "all its slices claim one position, which their SliceLocation denies"
    return [replace(s, position=None, axes=None, notes=(*s.notes, note)) for s in stack]


def note_uneven_steps(stack: list[Slice]) -> list[str]:
    """A note where the steps between slices differ. Raises `UnusableError` where one is missing."""
    if stack[0].axes is None or len(stack) < 3:
        return []
    positions = np.array([s.position for s in stack])
    steps = np.diff(positions, axis=0)
    typical = steps[np.argsort(np.linalg.norm(steps, axis=1))[(len(steps) - 1) // 2]]
    length = float(np.linalg.norm(typical))
    off = np.linalg.norm(steps - typical, axis=1) / length
    worst = int(off.argmax())
    lengths = f"{np.linalg.norm(steps[worst]):.4g} mm, elsewhere {length:.4g} mm"
    where = f"from slice {worst + 1} to {worst + 2} of {len(stack)} the step is {lengths}"
    if off[worst] > GAP:
        series = f"series {stack[0].text('SeriesNumber')}".strip()
        raise UnusableError(f"{series} has a gap: {where}; is a file missing? Copy the whole series again.")
    notes = [f"slices are unevenly spaced: {where}; their mean is used"] if off[worst] > UNEVEN else []
    times = length / abs(stack[0].number("SpacingBetweenSlices") or np.inf)
    if round(times) > 1 and abs(times - round(times)) < UNEVEN:
        said = f"its slices lie {length:.4g} mm apart, and its header says {length / times:.4g} mm"
        notes.append(f"{said}: are {round(times) - 1} of {round(times)} files missing? Their places were taken")
    whole = positions[-1] - positions[0]
    tilt = float(np.degrees(np.arccos(min(1.0, whole @ np.cross(*stack[0].axes) / np.linalg.norm(whole)))))
    if tilt > TILT:
        notes.append(
            f"each slice lies aside of the one before: a gantry tilted by {tilt:.3g} degrees, as the affine is"
        )
    return notes


def step_of(s: Slice) -> float:
    """Mm to the next slice, where positions do not tell."""
    return abs(s.number("SpacingBetweenSlices") or s.number("SliceThickness") or 1.0)


def note_parts(volumes: list[Volume]) -> list[Volume]:
    """The volumes, with a note on those that go on where another of their name and size ends, and on that one."""
    alike: dict[tuple[str, str, tuple[int, ...]], list[tuple[int, Affine, int]]] = {}
    for i, v in enumerate(volumes):
        if v.affine is not None and len(v.data) > 1:
            alike.setdefault((v.subject, v.name, v.data.shape[1:]), []).append((i, v.affine, len(v.data)))
    parts: set[int] = set()
    for group in alike.values():
        for (i, below, count), (j, above, _) in permutations(group, 2):
            if np.linalg.norm(below @ [0, 0, count, 1] - above[:, 3]) < np.linalg.norm(below[:3, 2]) / 2:
                parts |= {i, j}
    note = "another volume of its name goes on where it ends: one scan in two parts? Export it as one series"
    return [replace(v, notes=(*v.notes, note)) if i in parts else v for i, v in enumerate(volumes)]
