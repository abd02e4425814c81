"""What a model keeps of how its training slices look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import Side
from ..data.features import GROUP_OF, NOVEL, NUMBERS, TOP_HATS, Numbers, describe
from ..data.stored import Images
from ..images.pixels import evenly

# Weights in hundredths, of the numbers from the first on, and what is added: fitted by benchmarks/questions.py.
# fmt: off
QUESTIONS: dict[str, tuple[float, tuple[int, ...]]] = {
    "bare": (8.22, (
        13, -36, -30, -13, -3, 133, 58, 68, -38, -38, -40, 60, 56, -43, 58, -73, -32, -47, -22, 1, 10, 41, 1,
        33, -56, -51, -45, 0, 4, 14, -1, 12, -1, -3,
    )),
    "plane": (-18.49, (
        -18, 21, 23, -5, 11, -57, 43, -9, 13, 3, -68, 24, -42, -25, 0, 6, -39, 27, 1, 53, -38, -1, -7, -6,
        -31, 8, 7, -35, -1, -9, -6, 12, -6, 11, 10, -10, -21, -4, -2, 44, 1, 80, 46, 28, 27,
    )),
}
SHRINK = 0.3  # of the typical differences, added to the covariance of the contrasts
MIXED = 0.2  # of the training slices answer otherwise: then the question tells nothing
OPEN = 1000.0  # no limit

FITTED, KEPT, JUDGED = 320, 40, 32  # slices: measured, stored in the model, looked at in a volume
FEWEST = 5  # slices that can stand for a training set
BLOCKS = 5  # of neighbouring slices, left out in turn where there are fewer subjects: of two, one says too little
LIMITS = 2.6, 2.9  # between which the limit is held: a head left out reached 2.7, a photograph begins at 2.9
MARGIN = 1.1  # of what 95 % of the training slices keep to
FAR = 5.0  # typical differences; more counts as no more


@dataclass(frozen=True, eq=False)
class Known:
    """What a model keeps of the training slices of one contrast."""

    rows: Numbers  # (slices, NUMBERS), in typical differences
    limit: float  # the distance to the nearest that few slices exceed which were left out
    answers: Numbers  # (questions, 2), lowest and highest
    towards: Numbers  # (TOP_HATS,), weights that grow towards the other contrast
    beyond: float  # what few slices exceed


def learn(t1: Images, t1_owners: Sequence[str], t2: Images, t2_owners: Sequence[str]) -> dict[Side, Known]:
    """What to keep of the training slices, (N, rows, columns) in [-1, 1], of subjects that may be unknown ("").

    The distance lets pass 95 % of the slices of subjects left out, or of blocks of neighbours where subjects are few or
    unknown, as a slice is nearly the one beside it. Empty where there are too few slices to tell.
    """
    measured: list[tuple[Numbers, npt.NDArray[np.intp]]] = []
    for images, owners in ((t1, t1_owners), (t2, t2_owners)):
        chosen = evenly(len(images), FITTED)
        numbers = [describe(images[i]) for i in chosen]
        there = [i for i, n in enumerate(numbers) if n is not None]
        if len(there) < FEWEST:
            return {}
        names = [owners[chosen[i]] for i in there]
        several = len(set(names)) >= BLOCKS and "" not in names
        blocks = np.unique(names, return_inverse=True)[1] if several else np.arange(len(there)) * BLOCKS // len(there)
        measured.append((np.stack([n for n in numbers if n is not None]), blocks))
    learned: list[Known] = []
    for (rows, blocks), (others, _) in zip(measured, measured[::-1], strict=True):
        kept = evenly(len(rows), KEPT)
        near: list[float] = []
        for block in np.unique(blocks):
            out, rest = blocks == block, kept[blocks[kept] != block]
            if len(rest):
                near += distances(rows[out], rows[rest]).max(axis=-1).min(axis=1).tolist()
        limit = float(np.clip(MARGIN * np.quantile(near, 0.95), *LIMITS))
        answers = np.array([_usual(answer) for answer in answers_of(rows).T])
        towards = _between(rows[:, -TOP_HATS:], others[:, -TOP_HATS:])
        middle = float(towards @ (rows.mean(axis=0) + others.mean(axis=0))[-TOP_HATS:] / 2)
        beyond = max(middle, float(np.quantile(rows[:, -TOP_HATS:] @ towards, 0.95)))
        learned.append(
            Known(
                np.round(rows[kept, :NUMBERS], 1),
                round(limit, 3),
                np.round(answers, 2),
                np.round(towards, 3),
                round(beyond, 3),
            )
        )
    return {"t1": learned[0], "t2": learned[1]}


def to_json(known: Mapping[Side, Known]) -> dict[str, Any]:
    """For the header of a model file."""
    return {
        side: {
            "rows": np.rint(10 * k.rows).astype(int).tolist(),
            "limit": k.limit,
            "answers": k.answers.tolist(),
            "towards": k.towards.tolist(),
            "beyond": k.beyond,
        }
        for side, k in known.items()
    }


def from_json(stored: Mapping[str, Any]) -> dict[Side, Known]:
    """The inverse. Empty where other numbers were stored, by another version. Raises what a damaged one gives."""
    sides: tuple[Side, Side] = ("t1", "t2")
    if not stored or any("towards" not in stored[side] for side in sides):
        return {}
    known = {
        side: Known(
            np.array(stored[side]["rows"], float) / 10,
            float(stored[side]["limit"]),
            np.array(stored[side]["answers"], float),
            np.array(stored[side]["towards"], float),
            float(stored[side]["beyond"]),
        )
        for side in sides
    }
    shapes = {(k.rows.shape[1:], k.answers.shape, k.towards.shape) for k in known.values()}
    return known if shapes == {((NUMBERS,), (len(QUESTIONS), 2), (TOP_HATS,))} else {}


def answers_of(rows: Numbers) -> Numbers:
    """(slices, questions): above 0 for yes."""
    found = [bias + rows[:, : len(weights)] @ np.array(weights) / 100 for bias, weights in QUESTIONS.values()]
    return np.stack(found, axis=1)


def _usual(answers: Numbers) -> tuple[float, float]:
    """Lowest and highest answer that is not unusual, after those of the training slices: mostly the side of 0."""
    yes = float((answers > 0).mean())
    low, high = (float(MARGIN * q) for q in np.quantile(answers, (0.05, 0.95)))
    if MIXED < yes < 1 - MIXED:
        return -OPEN, OPEN
    return (min(low, 0.0), OPEN) if yes > 0.5 else (-OPEN, max(high, 0.0))


def _between(rows: Numbers, others: Numbers) -> Numbers:
    """The direction from one set to another that tells them apart best (Fisher's), with typical differences added."""
    within = (np.cov(rows.T) + np.cov(others.T)) / 2 + SHRINK * np.eye(rows.shape[1])
    direction: Numbers = np.linalg.solve(within, others.mean(axis=0) - rows.mean(axis=0))
    return direction


def distances(rows: Numbers, known: Numbers) -> Numbers:
    """Root mean square difference of each two in each group of numbers, (rows, known, groups)."""
    squares = np.minimum((rows[:, None, :NUMBERS] - known[:, :NUMBERS]) ** 2, FAR**2)
    within = GROUP_OF[:NUMBERS]
    return np.stack([np.sqrt(squares[..., g == within].mean(axis=-1)) for g in range(NOVEL)], axis=-1)
