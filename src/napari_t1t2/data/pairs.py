"""Which slices show the same place in both contrasts: proposed by names and geometry, verified by the images.

A wrong pair teaches a wrong thing, so nothing is believed unseen. Outlines do not tell: of slices shuffled between
real heads, 44 % overlap with a Dice of 0.9. Mutual information does: the true partner has more of it than its
neighbours one and two slices away (benchmarks/RESULTS.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from skimage.metrics import normalized_mutual_information

from ..config import TrainConfig
from ..errors import Refusal
from ..images.frame import AIR
from ..images.head import head_mask
from ..images.volume import Affine, Image
from .slices import Slices
from .split import Split
from .stored import Images

JUDGED = 12  # slices of a series that are looked at
AGREE = 0.75  # of them must fit their partner better than its neighbours
FEW = 4  # series of fewer slices are judged together: one slice may agree by chance
STACKS = 3  # that are looked at where pairs are not asked for, or else JUDGED pictures
COVERED = 0.7  # of a head that a partner on another grid must show


@dataclass(frozen=True, eq=False)
class Pairs:
    """T1 and T2 slices of the same places, of one shape, and what the user should know."""

    images: tuple[Images, Images]  # empty while paired_weight is 0
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


Look = Callable[[], Image]


@dataclass(frozen=True, eq=False)
class Unseen:
    """A couple whose slices are read when somebody looks, as all of them may be more than memory holds."""

    t1: Look
    t2: Look
    near: list[Look]
    indices: tuple[int, int] | None  # where both are slices as they are

    def seen(self) -> Couple:
        """The couple."""
        return Couple(self.t1(), self.t2(), [other() for other in self.near])


def find_pairs(t1: Slices, t2: Slices, parts: Split, config: TrainConfig) -> Pairs:
    """The pairs among the slices that are trained on. Raises `Refusal` where they are asked for and there are none.

    Single pictures pair by name, stacks by subject and session; a stack on another grid of the same space is brought
    to the grid of its partner.
    """
    often = Counter(t2.keys)
    partner = {key: i for i, key in enumerate(t2.keys) if key and often[key] == 1}
    trained = [set(s.owners[chosen].tolist()) for s, chosen in zip((t1, t2), parts.train, strict=True)]
    once = {key for key, times in Counter(t1.keys).items() if times == 1}
    named = [
        (i, partner[key])
        for i, key in enumerate(t1.keys)
        if key in once and key in partner and i in trained[0] and partner[key] in trained[1]
    ]
    looked = named if config.paired_weight else _some(named, t1)
    proposed: dict[str, list[Unseen]] = {}
    few: list[Unseen] = []
    kept: list[Unseen] = []
    count = refused = apart = 0

    def judge(couples: list[Unseen]) -> None:
        nonlocal count, refused
        if not _agree(couples):
            refused += len(couples)
            return
        count += len(couples)
        if config.paired_weight:  # else the images of one series at a time are enough
            kept.extend(couples)

    for i, j in looked:
        key, couples = t1.keys[i], _couples(t1, i, t2, j, parts)
        apart += not couples
        if len(couples) >= FEW:
            judge(couples)
        else:
            proposed.setdefault(re.sub(r"\d+\D*$", "", key) if len(couples) == 1 else key, []).extend(couples)
    for couples in proposed.values():
        if len(couples) < FEW:
            few += couples
        else:
            judge(couples)
    judge(few)
    part = f" (of {len(looked)} images that were looked at)" if len(looked) < len(named) else ""
    notes = [f"{refused} slices of equal names do not show the same place and stay unpaired{part}"] if refused else []
    if apart:
        notes.append(f"{apart} images have a partner by name that lies elsewhere, and stay unpaired{part}")
    if not config.paired_weight:
        if count and len(looked) < len(named):
            notes.append(
                f"{len(named)} images have a partner by name, and of {len(looked)} that were looked at {count} "
                "slices pair up (verified by their images); paired_weight would use the pairs there are"
            )
        elif count:
            notes.append(f"{count} slices pair up (verified by their images); paired_weight would use them")
        return Pairs((np.empty((0, 0, 0), np.float32),) * 2, count, tuple(notes))
    if not kept:
        raise Refusal(
            f"paired_weight is {config.paired_weight:g}, but no slice of {config.t1_folder} has a partner in "
            f"{config.t2_folder}{f' ({notes[0]})' if notes else ''}: give partners equal names, or set it to 0."
        )
    notes.append(f"{count} slices pair up and are used as pairs")
    indices = [c.indices for c in kept if c.indices]
    if len(indices) == count:
        ours, theirs = np.array(indices, np.intp).T
        return Pairs((t1.images[ours], t2.images[theirs]), count, tuple(notes))
    return Pairs((np.stack([c.t1() for c in kept]), np.stack([c.t2() for c in kept])), count, tuple(notes))


def _some(named: list[tuple[int, int]], t1: Slices) -> list[tuple[int, int]]:
    """Of pairs by name as many as tell whether such pairs are worth using: all would take long, unasked for."""
    most = JUDGED if len(t1.images) == len(t1.names) else STACKS
    return named[:: -(-len(named) // most) or 1]


def _couples(t1: Slices, i: int, t2: Slices, j: int, parts: Split) -> list[Unseen]:
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
    stack: dict[int, Look] = {place: partial(_padded, t2.images, n, height, width) for place, n in where.items()}
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
    couples: list[Unseen] = []
    for n in mine.tolist():
        place = int(t1.places[n])
        near = [stack[place + step] for step in (-2, -1, 1, 2) if place + step in stack]
        if place in stack and near:
            own = partial(_padded, t1.images, n, height, width)
            couples.append(Unseen(own, stack[place], near, (n, where[place]) if alike else None))
    return couples


def _agree(couples: list[Unseen]) -> bool:
    """Whether slices evenly spread over a series fit their partners."""
    some = couples[:: -(-len(couples) // JUDGED) or 1]
    return bool(some) and sum(c.seen().agrees() for c in some) >= AGREE * len(some)


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
    from nibabel.nifti1 import Nifti1Image
    from nibabel.processing import resample_from_to

    first, last = min(stack), max(stack)
    shape = next(iter(stack.values())).shape
    data = np.stack([stack.get(z, np.full(shape, AIR, np.float32)) for z in range(first, last + 1)])
    begins = [np.eye(4), np.eye(4)]
    begins[0][2, 3], begins[1][2, 3] = first, places.start
    target = (shape[1], shape[0], len(places)), onto @ begins[1]
    moved = resample_from_to(Nifti1Image(data.T, grid @ begins[0]), target, order=1, cval=np.nan)
    return dict(zip(places, np.asarray(moved.dataobj, np.float32).T, strict=True))
