"""What a model keeps of how its training slices look."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import Side, TrainConfig
from ..data.features import OUTLINE, SKULL, STRUCTURES, Numbers, describe
from ..data.sources import Stop, finish, work_through
from ..data.stored import Images
from ..events import Reading
from ..images.pixels import evenly

Indices = npt.NDArray[np.intp]
VERSION = 2  # of what is kept
FITTED, KEPT = 320, 40  # slices: measured, stored in the model
FEWEST = 5  # slices that can stand for a training set
BLOCKS = 5  # of neighbouring slices, left out in turn: a slice is nearly the one beside it
LIMITS = 1.0, 1.5  # between which the limit is held: outlines of two heads, of two planes (benchmarks/RESULTS.md)
MARGIN = 1.1  # of what 95 % of the training slices keep to
BAND = 0.125  # of the range: the skull of whole heads is darker than what lies around it by more than that
MOST = 0.8  # of the training slices must have it, or lack it, for this to tell anything
SHRINK = 0.3  # added to the correlations of small structures


@dataclass(frozen=True, eq=False)
class Known:
    """What a model keeps of the training slices of one contrast."""

    outlines: Numbers  # (slices, numbers), in typical differences
    limit: float  # the distance to the nearest that few slices exceed which were left out
    skull: bool | None  # whether the slices have one; None where some do
    towards: Numbers  # weights of the small structures: their sum grows towards the other contrast
    beyond: float  # what lies nearer to the other


def learn(t1: Images, t1_chosen: Indices, t2: Images, t2_chosen: Indices) -> dict[Side, Known]:
    """`learning` to its end."""
    return finish(learning(((t1, t1_chosen), (t2, t2_chosen)), TrainConfig()))


def learning(
    sets: Sequence[tuple[Images, Indices]], config: TrainConfig, stop: Stop = lambda: False
) -> Generator[Reading, None, dict[Side, Known]]:
    """What to keep of the training slices of T1 and T2, those chosen of (N, rows, columns) in [-1, 1].

    Empty where there are too few to tell. Says every second how far it is, and then asks `stop`.
    """
    measured: list[Numbers] = []
    for images, chosen in sets:
        some = [images[i] for i in chosen[evenly(len(chosen), FITTED)]]
        made = yield from work_through(describe, some, "describing", stop, config)
        found = [numbers for numbers in made if numbers is not None]
        if len(found) < FEWEST:
            return {}
        measured.append(np.stack(found))
    one, two = measured
    return {"t1": _known(one, two), "t2": _known(two, one)}


def _known(rows: Numbers, others: Numbers) -> Known:
    kept, block = evenly(len(rows), KEPT), np.arange(len(rows)) * BLOCKS // len(rows)
    near = [distances(rows[block == b], rows[kept[block[kept] != b]]).min(axis=1) for b in range(BLOCKS)]
    has = float((rows[:, SKULL] > BAND).mean())
    # Fisher's direction, which tells two sets apart best
    own, other = rows[:, STRUCTURES], others[:, STRUCTURES]
    spread = (own.std(axis=0) + other.std(axis=0)) / 2 + 1e-6
    within = (np.cov((own / spread).T) + np.cov((other / spread).T)) / 2 + SHRINK * np.eye(own.shape[1])
    towards = np.linalg.solve(within, (other.mean(axis=0) - own.mean(axis=0)) / spread) / spread
    return Known(
        np.round(rows[kept, OUTLINE], 1),
        round(float(np.clip(MARGIN * np.quantile(np.concatenate(near), 0.95), *LIMITS)), 3),
        None if 1 - MOST < has < MOST else has > 0.5,
        np.round(towards, 3),
        round(float(towards @ (own.mean(axis=0) + other.mean(axis=0)) / 2), 3),
    )


def distances(rows: Numbers, others: Numbers) -> Numbers:
    """Root mean square difference of each two outlines, (rows, others), in typical differences."""
    apart: Numbers = np.sqrt(((rows[:, None, OUTLINE] - others[:, OUTLINE]) ** 2).mean(axis=-1))
    return apart


def to_json(known: Mapping[Side, Known]) -> dict[str, Any]:
    """For the header of a model file."""
    arrays = {s: {"outlines": k.outlines.tolist(), "towards": k.towards.tolist()} for s, k in known.items()}
    return {"version": VERSION} | {side: asdict(k) | arrays[side] for side, k in known.items()} if known else {}


def from_json(stored: Mapping[str, Any]) -> dict[Side, Known]:
    """The inverse; empty where another version stored other numbers. Raises what a damaged one gives."""
    if stored.get("version") != VERSION:
        return {}
    sides: tuple[Side, Side] = ("t1", "t2")
    read = {side: Known(**stored[side]) for side in sides}
    return {s: replace(k, outlines=np.array(k.outlines), towards=np.array(k.towards)) for s, k in read.items()}
