"""Which slices show the same place in both contrasts: proposed by names, geometry and likeness, verified by the images.

A wrong pair teaches a wrong thing, so nothing is believed unseen. Volumes of one head are aligned first (`exams`);
pictures pair by name or, where their names tell nothing, by what they show (`likeness`).
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..config import TrainConfig
from ..errors import Refusal
from ..events import Reading
from ..images.folder import together
from ..images.frame import AIR
from ..images.head import head_mask
from ..images.pixels import evenly
from ..images.volume import Image
from .exams import SERIES, Exam, aligned, best_of_series, on_grid_of
from .inputs import as_input
from .likeness import CHUNK, Couple, clear_partners, partners, rough, shared
from .slices import Slices
from .sources import Stop, work_through
from .split import Split
from .stored import HeldSlices, Images

COMPARED = 12  # slices of a series that are looked at
AGREE = 0.75  # of them must fit their partner better than its neighbours
ENOUGH = 4  # series of fewer slices are judged together: one slice may agree by chance
COVERED = 0.7  # of a head that a partner on another grid must show
EXAMS = 48  # that are aligned at most, spread over all: more would take long and teach little
SEARCHED = 2000  # pictures of each contrast that are compared with all of the other, at most: a minute
HELD = 2**29  # bytes of pairs that are made and held, at most

Made = tuple[Exam, Image, Image]  # an exam with (n, H, W) slices of both contrasts


@dataclass(frozen=True, eq=False)
class Pairs:
    """T1 and T2 slices of the same places, of one shape, and what the user should know."""

    images: tuple[Images, ...] = ()  # of T1 and of T2; empty where there are none
    exams: tuple[Exam, ...] = ()  # that were looked at, those that are not used with the reason
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return len(self.images[0]) if self.images else 0


def find_pairs(
    t1: Slices, t2: Slices, parts: Split, config: TrainConfig, stop: Stop = lambda: False
) -> Generator[Reading, None, Pairs]:
    """The pairs among the slices that are trained on.

    Says every second how far it is, and then asks `stop`. Raises `Refusal` where pairs by name are asked for and there
    are none, or where nothing else is left to learn from.
    """
    if config.pairs == "off" or not config.paired_weight:
        return Pairs()
    first, second = config.model.t1_label, config.model.t2_label
    notes: list[str] = []
    exams, named = _by_name(t1, t2, parts, config, notes)
    if config.pairs == "auto" and (heads := len({exam.t1 for exam in exams})) > EXAMS:
        notes.append(f"{heads} {first} volumes may have a partner: {EXAMS} of them, spread over all, are aligned.")
    made, exams = yield from _of_exams(t1, t2, parts, exams, config, stop)
    agreed = yield from work_through(partial(_agree, t1, t2), series := _by_series(t1, named), "pairing", stop, config)
    flat = [couple for couples, good in zip(series, agreed, strict=True) if good for couple in couples]
    if refused := sum(map(len, series)) - len(flat):
        notes.append(f"{refused} {first} slices have a {second} slice of equal name that shows another place.")
    if config.pairs == "auto":
        flat += yield from _by_likeness(t1, t2, parts, {ours for ours, _ in flat}, config, notes, stop)
    notes += together((f"{e.files[0]} and {e.files[1]} are not used as pairs", e.refused) for e in exams if e.refused)
    images = _gathered(t1, t2, made, flat, config)
    found = Pairs(images, tuple(exams), tuple(notes))
    if found.count:
        moved = [e.alignment.shift for e in exams if e.alignment and not e.refused]
        by = f" in {len(made)} exams, aligned (moved by {min(moved):.1f} to {max(moved):.1f} mm)" if moved else ""
        note = f"{found.count} {first} slices have a matching {second} slice{by} and are trained on as pairs."
        return replace(found, notes=(*notes, note))
    unpaired = (config.adversarial_weight, config.cycle_weight, config.structure_weight, config.identity_weight)
    if config.pairs == "names" or not any(unpaired):
        raise Refusal(
            f"paired_weight is {config.paired_weight:g}, but no slice of {config.t1_folder} has a partner in "
            f"{config.t2_folder}{f' ({notes[0]})' if notes else ''}: give partners equal names, or train unpaired "
            "(pairs off, and an adversarial weight)."
        )
    return found


def _by_name(
    t1: Slices, t2: Slices, parts: Split, config: TrainConfig, notes: list[str]
) -> tuple[list[Exam], list[tuple[int, int]]]:
    """Exams, and pairs of slices that are no volumes in space, whose names say that they belong together."""
    ours, theirs = (set(s.owners[chosen].tolist()) for s, chosen in zip((t1, t2), parts.train, strict=True))
    partner: defaultdict[str, list[int]] = defaultdict(list)
    for j, key in enumerate(t2.keys):
        partner[key].append(j)
    often = Counter(t1.keys)
    twice: dict[str, str] = {}
    exams: list[Exam] = []
    named: list[tuple[int, int]] = []
    for i, key in enumerate(t1.keys):
        found = [j for j in partner[key] if j in theirs] if key and i in ours else []
        volumes = [j for j in found if _lies_in_space(t1, i) and _lies_in_space(t2, j)]
        if volumes and (config.pairs == "auto" or max(often[key], len(partner[key])) == 1):
            exams += [Exam(i, j, (t1.files[i], t2.files[j])) for j in volumes[:SERIES]]
        elif found and max(often[key], len(partner[key])) > 1:
            twice[key] = t1.names[i]
        elif found and not (_lies_in_space(t1, i) or _lies_in_space(t2, found[0])):
            named += _places_in_common(t1, i, t2, found[0], parts)
    if twice:
        notes.append(
            f"{len(twice)} name{'s' * (len(twice) != 1)} that both contrasts have occur more than once, "
            f"{next(iter(twice.values()))} for one: these images are not paired by name. Give each a name of its own."
        )
    return exams, named


def _lies_in_space(slices: Slices, volume: int) -> bool:
    return bool(slices.affines) and slices.affines[volume] is not None


def _places_in_common(t1: Slices, i: int, t2: Slices, j: int, parts: Split) -> list[tuple[int, int]]:
    """The slices of two pictures or stacks that are at the same places in them."""
    mine, others = np.flatnonzero(t1.owners == i), np.flatnonzero(t2.owners == j)
    if len(mine) == len(others) == 1:
        return [(int(mine[0]), int(others[0]))]
    where = {int(t2.places[n]): int(n) for n in others}
    return [(n, where[place]) for n in mine.tolist() if (place := int(t1.places[n])) in where]


def _by_series(t1: Slices, named: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Pairs that are judged together: of one stack, of pictures whose names differ in a number, and the rest."""
    series: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for pair in named:
        owner = int(t1.owners[pair[0]])
        alone = np.count_nonzero(t1.owners == owner) == 1
        series[re.sub(r"\d+\D*$", "", t1.keys[owner]) if alone else f"{owner} "].append(pair)
    large = [pairs for pairs in series.values() if len(pairs) >= ENOUGH]
    rest = [pair for pairs in series.values() if len(pairs) < ENOUGH for pair in pairs]
    return [*large, rest] if rest else large


def _agree(t1: Slices, t2: Slices, pairs: list[tuple[int, int]]) -> bool:
    """Whether slices evenly spread over a series fit their partners better than what is beside these."""
    height, width = _frame(t1, t2)

    def couple(pair: tuple[int, int]) -> Couple:
        near = [n for step in (-2, -1, 1, 2) if 0 <= (n := pair[1] + step) < len(t2.images)]
        own, *others = (_padded(t2.images[n], height, width) for n in (pair[1], *near))
        return Couple(_padded(t1.images[pair[0]], height, width), own, others)

    return _mostly([couple(pairs[n]) for n in evenly(len(pairs), COMPARED)])


def _mostly(couples: list[Couple]) -> bool:
    told = [couple.agrees() for couple in couples if couple.near]
    return bool(told) and sum(told) >= AGREE * len(told)


def _of_exams(
    t1: Slices, t2: Slices, parts: Split, exams: list[Exam], config: TrainConfig, stop: Stop
) -> Generator[Reading, None, tuple[list[Made], list[Exam]]]:
    """The pairs of slices of exams, and the exams with what became of them."""
    left: list[Exam] = []
    if config.pairs == "auto":
        heads = sorted({exam.t1 for exam in exams})
        some = {heads[n] for n in evenly(len(heads), EXAMS)}
        exams = yield from work_through(
            partial(aligned, t1, t2), [e for e in exams if e.t1 in some], "aligning", stop, config
        )
        exams, left = best_of_series(exams)
    each = 8 * math.prod(t1.images.shape[1:]) * max(1, len(exams))  # bytes of a pair for every exam
    most = max(ENOUGH, HELD // each)
    made = yield from work_through(lambda exam: _slices_of(t1, t2, parts, exam, most), exams, "pairing", stop, config)
    return [one for one in made if not one[0].refused], [*(exam for exam, _, _ in made), *left]


def _slices_of(t1: Slices, t2: Slices, parts: Split, exam: Exam, most: int) -> Made:
    """At most so many pairs of slices of an exam, verified."""
    none: Image = np.zeros((0, *t1.images.shape[1:]), np.float32)
    if not np.isin(np.flatnonzero(t2.owners == exam.t2), parts.train[1]).all():
        return replace(exam, refused="the T2 is held out"), none, none
    places, there = on_grid_of(t1, t2, exam)
    trained = set(parts.train[0].tolist())
    covered = [p for p, n in places.items() if n in trained and _covers(there[p], t1.images[n])]
    there = np.nan_to_num(there, nan=float(AIR))
    if len(covered) < ENOUGH:
        return replace(exam, refused="the other one lies elsewhere"), none, none

    def couple(place: int) -> Couple:
        near = [there[at] for step in (-2, -1, 1, 2) if 0 <= (at := place + step) < len(there)]
        return Couple(t1.images[places[place]], there[place], near)

    if not _mostly([couple(covered[n]) for n in evenly(len(covered), COMPARED)]):
        return replace(exam, refused="where they lie upon each other, they show other places"), none, none
    chosen = [covered[n] for n in evenly(len(covered), most)]
    ours = np.stack([t1.images[places[p]] for p in chosen])
    return replace(exam, slices=len(chosen)), ours, there[chosen]


def _covers(other: Image, image: Image) -> bool:
    head = head_mask(image)
    return bool(head.any()) and float(np.isfinite(other[head]).mean()) >= COVERED


def _by_likeness(
    t1: Slices, t2: Slices, parts: Split, known: set[int], config: TrainConfig, notes: list[str], stop: Stop
) -> Generator[Reading, None, list[tuple[int, int]]]:
    """Pictures whose names tell nothing, with those of the other contrast that show the same."""
    ours, theirs = (
        [n for n in chosen.tolist() if alone[s.owners[n]] and not _lies_in_space(s, int(s.owners[n]))]
        for s, chosen in zip((t1, t2), parts.train, strict=True)
        for alone in [np.bincount(s.owners) == 1]
    )
    ours = [n for n in ours if n not in known]
    if min(len(ours), len(theirs)) < ENOUGH:
        return []
    if max(len(ours), len(theirs)) > SEARCHED:
        notes.append(f"More than {SEARCHED} pictures are not compared with each other: give partners equal names.")
        return []
    height, width = _frame(t1, t2)

    def image(slices: Slices, n: int) -> Image:
        return _padded(slices.images[n], height, width)

    both = yield from work_through(
        lambda of: rough(image(*of)), [*((t1, n) for n in ours), *((t2, n) for n in theirs)], "pairing", stop, config
    )
    mine = [both[start : min(start + CHUNK, len(ours))] for start in range(0, len(ours), CHUNK)]
    found = yield from work_through(lambda some: partners(some, both[len(ours) :]), mine, "pairing", stop, config)
    finalists = np.concatenate(found)

    def compare(row: int) -> dict[int, float]:
        own = image(t1, ours[row])
        return {int(m): shared(own, image(t2, theirs[m])) for m in finalists[row]}

    shares = yield from work_through(compare, range(len(ours)), "pairing", stop, config)
    return [(ours[i], theirs[j]) for i, j in clear_partners(shares).items()]


def _frame(t1: Slices, t2: Slices) -> tuple[int, int]:
    """(rows, columns) that hold the slices of both."""
    height, width = (max(a, b) for a, b in zip(t1.images.shape[1:], t2.images.shape[1:], strict=True))
    return height, width


def _padded(image: Image, height: int, width: int) -> Image:
    """With air around it; sides are even, so the middle stays the middle."""
    rows, columns = height - image.shape[0], width - image.shape[1]
    if not rows and not columns:
        return image
    around = (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)
    return np.pad(image, around, constant_values=AIR)


def _gathered(
    t1: Slices, t2: Slices, made: list[Made], flat: list[tuple[int, int]], config: TrainConfig
) -> tuple[Images, ...]:
    """All pairs, of T1 and of T2. Where they are slices as they are, nothing is copied."""
    if not made and not flat:
        return ()
    indices = np.array(flat, np.intp).reshape(-1, 2)
    if not made and t1.images.shape[1:] == t2.images.shape[1:]:
        return t1.images[indices[:, 0]], t2.images[indices[:, 1]]
    height, width = _frame(t1, t2)
    indices = indices[evenly(len(indices), int(HELD // (8 * height * width)))] if len(indices) else indices
    images: list[Images] = []
    for slices, side, stacks in (
        (t1, 0, [ours for _, ours, _ in made]),
        (t2, 1, [theirs for _, _, theirs in made]),
    ):
        flat_ones = [slices.images[n] for n in indices[:, side].tolist()]
        own = [_padded(image, height, width) for image in [*(i for stack in stacks for i in stack), *flat_ones]]
        images.append(HeldSlices(as_input(np.stack(own), config.model).numpy(), np.arange(len(own))))
    return tuple(images)
