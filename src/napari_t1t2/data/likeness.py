"""Whether two slices of different contrasts show the same place: by mutual information, never by outlines.

Of slices shuffled between real heads, 44 % overlap with a Dice of 0.9; but the true partner shares more information
than its neighbours one and two slices away, and among all slices of a head it stands out (benchmarks/RESULTS.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.metrics import normalized_mutual_information
from skimage.transform import resize

from ..images.head import head_mask
from ..images.volume import Image

COARSE, BINS = 64, 16  # pixels and grey values with which all slices are compared with all
FINALISTS = 4  # that are then compared as they are
CLEAR = 1.15  # times as much as the second best, or a partner is not believed
USUAL = 1.25  # times as much in the median, or no partner in a folder is: there, none stands out
CHUNK = 128  # slices that are compared at once


@dataclass(frozen=True, eq=False)
class Couple:
    """A T1 slice, the T2 slice that may show the same place, and others from near by."""

    t1: Image
    t2: Image
    near: list[Image]

    def agrees(self) -> bool:
        """Whether the partner tells more of the slice than any of its neighbours does."""
        own = shared(self.t1, self.t2)
        return all(own > shared(self.t1, other) for other in self.near)


def shared(one: Image, other: Image) -> float:
    """Normalised mutual information within both outlines (Studholme et al., 1999): 1 for none, 2 at most."""
    head = head_mask(one) | head_mask(other)
    return float(normalized_mutual_information(one[head], other[head], bins=32)) if head.any() else 1.0


def rough(image: Image) -> npt.NDArray[np.uint8]:
    """A slice in [-1, 1] as few pixels of few grey values, flat; what `partners` takes."""
    small = resize(image, (COARSE, COARSE), order=1, anti_aliasing=True)
    grey: npt.NDArray[np.uint8] = np.clip((small + 1) / 2 * BINS, 0, BINS - 1).astype(np.uint8).ravel()
    return grey


def partners(ours: Sequence[npt.NDArray[np.uint8]], theirs: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.intp]:
    """Of each of our `rough` slices, the indices of those of theirs that share most with it, (N, up to `FINALISTS`)."""
    mine = _one_hot(ours)
    shares = np.empty((len(ours), len(theirs)), np.float32)
    for start in range(0, len(theirs), CHUNK):
        others = _one_hot(theirs[start : start + CHUNK])
        joint = mine.reshape(-1, COARSE**2) @ others.reshape(-1, COARSE**2).T
        joint = joint.reshape(len(mine), BINS, len(others), BINS)
        shares[:, start : start + CHUNK] = _normalised(joint.transpose(0, 2, 1, 3))
    best: npt.NDArray[np.intp] = np.argsort(-shares, axis=1)[:, :FINALISTS]
    return best


def clear_partners(shares: Sequence[dict[int, float]]) -> dict[int, int]:
    """Of each of ours the one of theirs that shares clearly most with it, and it with that; `shared` of the finalists.

    None at all where partners do not stand out as a rule, as between two patients.
    """
    best = {i: max(own, key=own.__getitem__) for i, own in enumerate(shares) if len(own) > 1}
    ratios = {i: _ratio(shares[i]) for i in best}
    if not ratios or np.median(list(ratios.values())) < USUAL:
        return {}
    back: dict[int, int] = {}
    for i, j in best.items():
        if j not in back or shares[i][j] > shares[back[j]][j]:
            back[j] = i
    return {i: j for i, j in best.items() if ratios[i] >= CLEAR and back[j] == i}


def _ratio(own: dict[int, float]) -> float:
    first, second = sorted(own.values())[:-3:-1]
    return (first - 1) / max(second - 1, 1e-3)


def _one_hot(slices: Sequence[npt.NDArray[np.uint8]]) -> Image:
    """(N, BINS, pixels), 1 where a pixel has a grey value."""
    made: Image = (np.stack(slices)[:, None] == np.arange(BINS, dtype=np.uint8)[:, None]).astype(np.float32)
    return made


def _normalised(joint: Image) -> Image:
    """Normalised mutual information of joint histograms (..., BINS, BINS), in which air over air does not count."""
    joint[..., 0, 0] = 0
    joint /= np.maximum(joint.sum(axis=(-2, -1), keepdims=True), 1)

    def entropy(share: Image) -> Image:
        made: Image = -(share * np.log(np.maximum(share, 1e-12)))
        return made

    both = entropy(joint).sum(axis=(-2, -1))
    each = entropy(joint.sum(axis=-1)).sum(axis=-1) + entropy(joint.sum(axis=-2)).sum(axis=-1)
    normalised: Image = each / np.maximum(both, 1e-9)
    return normalised
