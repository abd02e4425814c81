"""Which slices show the same place in both contrasts: proposed by names and geometry, verified by the images.

A wrong pair teaches a wrong thing, so nothing is believed unseen. Outlines do not tell: of slices shuffled between
real heads, 44 % overlap with a Dice of 0.9. Mutual information does: the true partner has more of it than its
neighbours one and two slices away (benchmarks/RESULTS.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial

import numpy as np
from skimage.metrics import normalized_mutual_information

from ..config import TrainConfig
from ..errors import Refusal
from ..events import Reading
from ..images.frame import AIR
from ..images.head import head_mask
from ..images.resample import resample
from ..images.volume import Affine, Image
from .inputs import as_input
from .slices import Slices
from .sources import Stop, work_through
from .split import Split
from .stored import HeldSlices, Images

COMPARED = 12  # slices of a series that are looked at
AGREE = 0.75  # of them must fit their partner better than its neighbours
ENOUGH = 4  # series of fewer slices are judged together: one slice may agree by chance
STACKS = 3  # that are looked at where pairs are not asked for, or else COMPARED pictures
COVERED = 0.7  # of a head that a partner on another grid must show


@dataclass(frozen=True, eq=False)
class Pairs:
    """T1 and T2 slices of the same places, of one shape, and what the user should know."""

    images: tuple[Images, ...]  # of T1 and of T2; empty while paired_weight is 0
    count: int  # of the pairs that were looked at
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Couple:
    """A T1 slice, the T2 slice that names or geometry give it, and others from near by."""

    t1: Image
    t2: Image
    near: list[Image]

    def agrees(self) -> bool:
        """Whether the partner tells more of the slice than any of its neighbours does."""
        own = _mutual(self.t1, self.t2)
        return all(own > _mutual(self.t1, other) for other in self.near)


@dataclass(frozen=True, eq=False)
class UnreadCouple:
    """A couple whose slices are read when they are compared, as all of them may be more than memory holds."""

    t1: Callable[[], Image]
    t2: Callable[[], Image]
    near: list[Callable[[], Image]]
    indices: tuple[int, int] | None  # where both are slices as they are

    def read(self) -> Couple:
        """The couple."""
        return Couple(self.t1(), self.t2(), [other() for other in self.near])


def find_pairs(
    t1: Slices, t2: Slices, parts: Split, config: TrainConfig, stop: Stop = lambda: False
) -> Generator[Reading, None, Pairs]:
    """The pairs among the slices that are trained on. Raises `Refusal` where they are asked for and there are none.

    Single pictures pair by name, stacks by subject and session; a stack on another grid of the same space is brought
    to the grid of its partner. Says every second how far it is, and then asks `stop`.
    """
    named, notes = _name_pairs(t1, t2, parts)
    looked = named if config.paired_weight else _some(named, t1)

    def propose(pair: tuple[int, int]) -> list[UnreadCouple]:
        return _couples(t1, pair[0], t2, pair[1], parts)

    def prepare(couple: UnreadCouple) -> Image:
        return as_input(np.stack([couple.t1(), couple.t2()]), config.model).numpy()

    proposed = yield from work_through(propose, looked, "pairing", stop, config)
    series = _by_series([(t1.keys[i], couples) for (i, _), couples in zip(looked, proposed, strict=True)])
    agreed = yield from work_through(_agree, series, "pairing", stop, config)
    kept = [couple for couples, good in zip(series, agreed, strict=True) if good for couple in couples]
    count, first, second = len(kept), config.model.t1_label, config.model.t2_label
    part = f" ({len(looked)} of {len(named)} images of equal names were checked)" if len(looked) < len(named) else ""
    if refused := sum(map(len, series)) - count:
        notes.append(f"{refused} {first} slices have a {second} slice of equal name that shows another place{part}.")
    if apart := sum(not couples for couples in proposed):
        notes.append(f"{apart} {first} images have a {second} image of equal name that lies elsewhere{part}.")
    matching = f"{count} {first} slices have a matching {second} slice"
    if not config.paired_weight:
        if count:
            notes.append(f"{matching}{part}. To train on such pairs, set paired_weight above 0.")
        return Pairs((), count, tuple(notes))
    if not kept:
        raise Refusal(
            f"paired_weight is {config.paired_weight:g}, but no slice of {config.t1_folder} has a partner in "
            f"{config.t2_folder}{f' ({notes[0]})' if notes else ''}: give partners equal names, or set it to 0."
        )
    notes.append(f"{matching} and are trained on as pairs.")
    indices = [c.indices for c in kept if c.indices]
    if len(indices) == count:
        ours, theirs = np.array(indices, np.intp).T
        return Pairs((t1.images[ours], t2.images[theirs]), count, tuple(notes))
    made = yield from work_through(prepare, kept, "pairing", stop, config)
    both = (HeldSlices(np.stack([pair[i] for pair in made]), np.arange(count)) for i in (0, 1))
    return Pairs(tuple(both), count, tuple(notes))


def _name_pairs(t1: Slices, t2: Slices, parts: Split) -> tuple[list[tuple[int, int]], list[str]]:
    """The T1 and T2 volumes of equal names that are trained on, and a note on names that are not unique."""
    partner = {key: j for j, key in enumerate(t2.keys)}
    often, others = Counter(t1.keys), Counter(t2.keys)
    shared = [(i, partner[key], key) for i, key in enumerate(t1.keys) if key and key in partner]
    ours, theirs = (set(s.owners[chosen].tolist()) for s, chosen in zip((t1, t2), parts.train, strict=True))
    twice = {key: t1.names[i] for i, _, key in shared if max(often[key], others[key]) > 1}
    notes = [
        f"{len(twice)} name{'s' * (len(twice) != 1)} that both contrasts have occur more than once, "
        f"{next(iter(twice.values()))} for one: these images are not paired. Give each image a name of its own."
    ] if twice else []  # fmt: skip
    return [(i, j) for i, j, key in shared if key not in twice and i in ours and j in theirs], notes


def _by_series(proposed: list[tuple[str, list[UnreadCouple]]]) -> list[list[UnreadCouple]]:
    """Couples that are judged together, each with the key of its volume: stacks, pictures by name, and the rest."""
    series = [couples for _, couples in proposed if len(couples) >= ENOUGH]
    small: dict[str, list[UnreadCouple]] = {}
    for key, couples in proposed:
        if len(couples) < ENOUGH:
            small.setdefault(re.sub(r"\d+\D*$", "", key) if len(couples) == 1 else key, []).extend(couples)
    series += [couples for couples in small.values() if len(couples) >= ENOUGH]
    rest = [couple for couples in small.values() if len(couples) < ENOUGH for couple in couples]
    return [*series, rest] if rest else series


def _some(named: list[tuple[int, int]], t1: Slices) -> list[tuple[int, int]]:
    """Of pairs by name as many as tell whether such pairs are worth using: all would take long, unasked for."""
    most = COMPARED if len(t1.images) == len(t1.names) else STACKS
    return named[:: -(-len(named) // most) or 1]


def _couples(t1: Slices, i: int, t2: Slices, j: int, parts: Split) -> list[UnreadCouple]:
    """The slices of a T1 volume with those of a T2 volume at the same places, both trained on."""
    height, width = (max(a, b) for a, b in zip(t1.images.shape[1:], t2.images.shape[1:], strict=True))
    mine, others = np.flatnonzero(t1.owners == i), np.flatnonzero(t2.owners == j)
    mine = mine[np.isin(mine, parts.train[0])]
    if not len(mine) or not np.isin(others, parts.train[1]).all():
        return []
    grid, other_grid = (
        None if (a := s.affines[k]) is None else a @ _shift(s.images.shape, height, width)
        for s, k in ((t1, i), (t2, j))
    )
    if (grid is None) != (other_grid is None):
        return []
    if len(others) == 1:  # a picture: those before and after it in the folder are its neighbours
        first = int(others[0])
        where = {
            int(t1.places[mine[0]]) + n - first: n for n in range(max(0, first - 2), min(len(t2.images), first + 3))
        }
    else:
        where = {int(t2.places[n]): int(n) for n in others}
    stack: dict[int, Callable[[], Image]] = {
        place: partial(_padded, t2.images, n, height, width) for place, n in where.items()
    }
    moved = grid is not None and other_grid is not None and not np.allclose(grid, other_grid, atol=1e-2)
    if moved:
        if len(others) == 1 or grid is None or other_grid is None:
            return []
        places = range(int(t1.places[mine].min()), int(t1.places[mine].max()) + 1)
        made = _moved({place: look() for place, look in stack.items()}, other_grid, grid, places)
        covered = [n for n in mine.tolist() if _covers(made[int(t1.places[n])], _padded(t1.images, n, height, width))]
        stack = {place: partial(np.nan_to_num, image, nan=float(AIR)) for place, image in made.items()}
        mine = np.array(covered, np.intp)
    alike = not moved and t1.images.shape[1:] == t2.images.shape[1:]
    couples: list[UnreadCouple] = []
    for n in mine.tolist():
        place = int(t1.places[n])
        near = [stack[place + step] for step in (-2, -1, 1, 2) if place + step in stack]
        if place in stack and near:
            own = partial(_padded, t1.images, n, height, width)
            couples.append(UnreadCouple(own, stack[place], near, (n, where[place]) if alike else None))
    return couples


def _agree(couples: list[UnreadCouple]) -> bool:
    """Whether slices evenly spread over a series fit their partners."""
    some = couples[:: -(-len(couples) // COMPARED) or 1]
    return bool(some) and sum(c.read().agrees() for c in some) >= AGREE * len(some)


def _mutual(one: Image, other: Image) -> float:
    """Normalised mutual information within both outlines (Studholme et al., 1999): 1 for none, 2 at most."""
    head = head_mask(one) | head_mask(other)
    return float(normalized_mutual_information(one[head], other[head], bins=32)) if head.any() else 1.0


def _covers(other: Image, image: Image) -> bool:
    head = head_mask(image)
    return bool(head.any()) and float(np.isfinite(other[head]).mean()) >= COVERED


def _padded(images: Images, index: int, height: int, width: int) -> Image:
    """One with air around it; sides are even, so the middle stays the middle."""
    image = images[index]
    rows, columns = height - image.shape[0], width - image.shape[1]
    if not rows and not columns:
        return image
    around = (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)
    return np.pad(image, around, constant_values=AIR)


def _shift(shape: tuple[int, ...], height: int, width: int) -> Affine:
    """(column, row, slice) index in the padded slices to that in the slices."""
    moved: Affine = np.eye(4)
    moved[:2, 3] = -((width - shape[2]) // 2), -((height - shape[1]) // 2)
    return moved


def _moved(stack: dict[int, Image], grid: Affine, onto: Affine, places: range) -> dict[int, Image]:
    """Slices by their place, brought linearly from one grid to another; NaN where there are none."""
    first, last = min(stack), max(stack)
    rows, columns = next(iter(stack.values())).shape
    data = np.stack([stack.get(z, np.full((rows, columns), AIR, np.float32)) for z in range(first, last + 1)])
    begins = [np.eye(4), np.eye(4)]
    begins[0][2, 3], begins[1][2, 3] = first, places.start
    shape = len(places), rows, columns
    moved = resample(data, grid @ begins[0], shape, onto @ begins[1], order=1, outside=np.nan)
    return dict(zip(places, moved, strict=True))
