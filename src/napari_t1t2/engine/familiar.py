"""Whether an image looks like those a model was trained on: a few numbers of each slice, and limits for them.

They are read from the slice itself, without a network: its outline, how bright the head is at which depth below its
surface, its fine structure, its symmetries. What heads differ in cannot be learned from the one or two of a small
training set, so two things were learned beforehand from other heads (benchmarks/questions.py), and are kept below:
how much each number differs between heads, and how to tell a bare brain from a whole head and a plane from another.

A slice is unusual where it answers one of these questions otherwise than the training slices do, where its small
bright and dark structures are those of the other contrast (linear discriminant; sulci and vessels are dark in T1 and
bright in T2), or where it is far from the nearest training slice (Pimentel et al. 2014, Signal Processing 99:215).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import (
    binary_erosion,
    binary_fill_holes,
    distance_transform_edt,
    gaussian_filter,
    grey_closing,
    grey_opening,
    uniform_filter,
    zoom,
)
from scipy.ndimage import label as parts_of

from ..images.frame import Frame
from ..images.intensity import Intensity
from ..images.plane import View
from ..images.volume import Affine, Image
from .config import ModelConfig, Side, other
from .stored import Images

if TYPE_CHECKING:
    from .files import About

Numbers = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]  # (Z, Y, X) in mm
SIDE = 64  # pixels: the square root of the area that each head is brought to
AIR = 0.15  # of the range; the median of a head lies at half of it or above
SMALLEST = 100  # pixels of a head that can be judged
DEPTHS = (0.0, 0.03, 0.06, 0.1, 0.15, 0.22, 0.32, 9.0)  # below the surface, in sides
SECTORS, LAYERS, LAYER = 16, 12, 1.5  # of the profiles that look for the skull; a layer's thickness in pixels
SCALES = (1, 2, 4, 8)  # pixels, of the fine structure

# What is measured, and how much it differs between neighbouring slices of two heads (lit p01 and p12, BrainWeb).
GROUPS: dict[str, tuple[float, ...]] = {
    "the outline": (0.08, 0.03, 0.25, 0.03, 0.05),
    "the range of brightness": (0.06, 0.05, 0.04, 0.03, 0.1),
    "the brightness below the surface": (0.06, 0.04, 0.12, 0.05, 0.1, *(0.04, 0.06, 0.04, 0.05) * 2, 0.04),
    "the dark band of the skull": (0.5, 0.5, 0.5),
    "the fine structure": (0.2, 0.4) * 4,
    "the symmetry": (0.07, 0.2, 0.01, 0.003),
    "the straight edges": (0.15,) * 4,
    "the widths": (0.08,) * 7,  # from here on, they only serve the questions
    "small bright and dark structures": (0.25,) * 12,
}
NAMES = tuple(GROUPS)
TYPICAL = np.concatenate([np.array(group) for group in GROUPS.values()])
GROUP_OF = np.repeat(np.arange(len(GROUPS)), [len(group) for group in GROUPS.values()])
NOVEL = 7  # groups that tell how far two slices are apart
NUMBERS = int((GROUP_OF < NOVEL).sum())
EXTENT = 1  # where the share of its bounding box that a head fills is among the numbers
TOP_HATS = 12  # the last numbers: they tell the contrasts apart

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
# fmt: on
ANSWERS = {  # where the training slices answer no, and where they answer yes
    "bare": ("no scalp and no skull, as if they had been removed", "scalp and skull, which the training images lack"),
    "plane": ("its shape, as if it were cut in another plane",) * 2,
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
LITTLE = 0.4  # of the largest slice of a volume: less head than this, near vertex and neck, is not judged


@dataclass(frozen=True, eq=False)
class Known:
    """What a model keeps of the training slices of one contrast."""

    rows: Numbers  # (slices, NUMBERS), in typical differences
    limit: float  # the distance to the nearest that few slices exceed which were left out
    answers: Numbers  # (questions, 2), lowest and highest
    towards: Numbers  # (TOP_HATS,), weights that grow towards the other contrast
    beyond: float  # what few slices exceed


@dataclass(frozen=True, eq=False)
class Judged:
    """Why each of some slices is unusual."""

    far: Mask  # (slices,), from all training slices
    groups: npt.NDArray[np.intp]  # (slices,), of the numbers that are most so
    apart: Numbers  # (slices, NUMBERS), the difference from the nearest training slice
    answers: npt.NDArray[np.intp]  # (slices, questions), -1 or 1 where below or above those of the training slices
    strange: Mask  # (slices,), like the other contrast

    @property
    def odd(self) -> Mask:
        """Which slices are unusual in any way."""
        odd: Mask = self.far | self.strange | (self.answers != 0).any(axis=1)
        return odd


def describe(image: Image) -> Numbers | None:
    """The numbers of one slice (rows, columns) in [-1, 1], in typical differences; None where there is no head."""
    unit: Image = (image + np.float32(1)) / np.float32(2)
    found = _head(unit)
    if found is None:
        return None
    grey, head = found
    depth = distance_transform_edt(np.pad(head, 1))[1:-1, 1:-1]
    inside, area, (rows, columns) = grey[head], head.sum(), head.shape
    rim = area - binary_erosion(head).sum()
    numbers = [np.log(rows / columns), area / head.size, np.log(rim**2 / area)]
    numbers += [(head & turned).sum() / (head | turned).sum() for turned in (head[:, ::-1], head[::-1])]

    low, quarter, middle, upper, high = np.percentile(inside, (5, 25, 50, 75, 95))
    numbers += [middle, low - middle, quarter - middle, upper - middle, high - middle]
    for top, bottom in pairwise(DEPTHS):
        ring = grey[head & (depth > top * SIDE) & (depth <= bottom * SIDE)]
        numbers += [ring.mean() - middle, ring.std()] if ring.size else [0.0, 0.0]
    numbers += list(np.log(np.percentile(_dips(grey, head, depth), (25, 50, 75)) + 0.03))

    deep = binary_erosion(head, iterations=SIDE // 10)
    deep = deep if deep.any() else head
    weight = deep.astype(np.float32)
    finer = grey
    for scale in SCALES:
        coarser = gaussian_filter(grey * weight, scale) / np.maximum(gaussian_filter(weight, scale), 1e-3)
        detail = (finer - coarser)[deep]
        numbers += [np.log(detail.std() + 0.003), _skewness(detail)]
        finer = coarser

    smooth = gaussian_filter(grey, 1.5)
    for turn in (np.s_[:, ::-1], np.s_[::-1]):
        both = head & head[turn]
        numbers.append(_correlation(smooth[both], smooth[turn][both]))
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    light = inside - inside.mean()
    numbers += [(light * y[head]).mean(), abs((light * x[head]).mean())]

    across, down = head.sum(axis=1), head.sum(axis=0)
    across, down = across[across > 0], down[down > 0]
    numbers += [side[i] / side.max() for side in (across, down) for i in (min(1, len(side) - 1), max(0, len(side) - 2))]
    where = np.linspace(0, 1, 9)[1:-1]
    numbers += list(np.interp(where, np.linspace(0, 1, len(across)), across) / SIDE)
    numbers += _top_hats(grey, head, depth)
    described: Numbers = np.array(numbers, np.float64) / TYPICAL
    return described


def learn(t1: Images, t1_owners: Sequence[str], t2: Images, t2_owners: Sequence[str]) -> dict[Side, Known]:
    """What to keep of the training slices, (N, rows, columns) in [-1, 1], of subjects that may be unknown ("").

    The distance lets pass 95 % of the slices of subjects left out, or of blocks of neighbours where subjects are few or
    unknown, as a slice is nearly the one beside it. Empty where there are too few slices to tell.
    """
    measured: list[tuple[Numbers, npt.NDArray[np.intp]]] = []
    for images, owners in ((t1, t1_owners), (t2, t2_owners)):
        chosen = _evenly(len(images), FITTED)
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
        kept = _evenly(len(rows), KEPT)
        near: list[float] = []
        for block in np.unique(blocks):
            out, rest = blocks == block, kept[blocks[kept] != block]
            if len(rest):
                near += _apart(rows[out], rows[rest]).max(axis=-1).min(axis=1).tolist()
        limit = float(np.clip(MARGIN * np.quantile(near, 0.95), *LIMITS))
        answers = np.array([_usual(answer) for answer in _answers(rows).T])
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


def unfamiliar(
    data: Any,
    about: About,
    to: Side,
    intensity: Intensity,
    *,
    affine: Affine | None = None,
    spacing: Spacing | None = None,
) -> str | None:
    """A sentence where data (..., rows, columns) do not look like the training set, as `stream` would read them.

    Empty where they do, and None where the model does not tell. Of a series the first volume is judged, by up to 32
    of its slices in the model's plane: more than half of them must be unusual.
    """
    if not about.familiar:
        return None
    config, side = about.config, other(to)
    rows = _measured(data, config, intensity, affine, spacing)
    return "" if rows is None else _sentence(rows, about.familiar[side], config.label(side), config.label(to))


def resembles_other(
    data: Any, about: About, side: Side, intensity: Intensity, *, affine: Affine | None, spacing: Spacing | None
) -> bool:
    """Whether data of one `side`, as in `unfamiliar`, rather look like the other; False where that is not known."""
    rows = _measured(data, about.config, intensity, affine, spacing) if about.familiar else None
    return rows is not None and bool(judge(rows, about.familiar[side]).strange.mean() > 0.5)


def _measured(
    data: Any, config: ModelConfig, intensity: Intensity, affine: Affine | None, spacing: Spacing | None
) -> Numbers | None:
    """What `describe` gives of the slices that are judged; None where no head is seen."""
    view = View.of(config.plane, affine, spacing)
    seen = view.apply(data[None] if data.ndim == 2 else data[(0,) * (data.ndim - 3)])
    # one look-up for all: of a lazy array each chunk is read once, whatever the plane
    slices = np.asarray(seen[_evenly(len(seen), JUDGED)], dtype=np.float32)
    slices = np.nan_to_num(slices, nan=intensity.low, posinf=intensity.high, neginf=intensity.low)
    slices = slices[intensity.shows_anatomy(slices)]
    if not len(slices):
        return None
    between = view.spacing and view.spacing[1:]
    frame = Frame.of(slices.shape[1:], config.size, config.multiple, spacing=between, pixel=config.pixel)
    framed = frame.put(intensity.to_unit(slices))
    extent = (framed > 2 * AIR - 1).mean(axis=(1, 2))
    described = [describe(image) for image in framed[extent >= LITTLE * extent.max()]]
    rows = [numbers for numbers in described if numbers is not None]
    return np.stack(rows) if rows else None


def judge(rows: Numbers, known: Known) -> Judged:
    """What is unusual about each of `rows`, from `describe`."""
    groups = _apart(rows, known.rows)
    worst = groups.max(axis=-1)
    nearest, each = worst.argmin(axis=1), np.arange(len(rows))
    answers, (low, high) = _answers(rows), known.answers.T
    return Judged(
        worst.min(axis=1) > known.limit,
        groups[each, nearest].argmax(axis=1),
        rows[:, :NUMBERS] - known.rows[nearest],
        (answers > high).astype(np.intp) - (answers < low),
        rows[:, -TOP_HATS:] @ known.towards > known.beyond,
    )


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


def _sentence(rows: Numbers, known: Known, own: str, strange: str) -> str:
    judged, n = judge(rows, known), len(rows)
    odd = judged.odd
    if odd.mean() <= 0.5:
        return ""
    count = f"{odd.sum()} of {n} slices" if n > 1 else ""
    what, end = "image" if n > 1 else "slice", "The result is not to be trusted."
    reasons: Counter[str] = Counter()
    for name, ways in zip(QUESTIONS, judged.answers.T, strict=True):
        for way, reason in zip((1, -1), ANSWERS[name], strict=True):
            reasons[reason] += int((ways == way).sum())
    fills = np.median(judged.apart[odd], axis=0)[EXTENT] > 4
    if not fills and judged.strange.sum() >= max(judged.far.sum(), *reasons.values()):
        return f"This {what} looks like the {strange} images of the training set, not the {own} ones{_in(count)}. {end}"
    reasons += Counter(NAMES[g] for g in judged.groups[judged.far])
    reason = "it fills its frame, as a photograph does" if fills else reasons.most_common(1)[0][0]
    return (
        f"This {what} does not look like the {own} images that the model was trained on"
        f"{_in('; '.join(filter(None, (count, f'most unusual: {reason}'))))}. {end}"
    )


def _in(text: str) -> str:
    return f" ({text})" if text else ""


def _answers(rows: Numbers) -> Numbers:
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


def _apart(rows: Numbers, known: Numbers) -> Numbers:
    """Root mean square difference of each two in each group of numbers, (rows, known, groups)."""
    squares = np.minimum((rows[:, None, :NUMBERS] - known[:, :NUMBERS]) ** 2, FAR**2)
    within = GROUP_OF[:NUMBERS]
    return np.stack([np.sqrt(squares[..., g == within].mean(axis=-1)) for g in range(NOVEL)], axis=-1)


def _head(grey: Image) -> tuple[Image, Mask] | None:
    """The largest thing in the slice, cut out and brought to one size."""
    parts, n = parts_of(binary_fill_holes(uniform_filter(grey, 3) > AIR))
    sizes = np.bincount(parts.ravel(), minlength=2)[1:]
    if not n or sizes.max() < SMALLEST:
        return None
    head = parts == 1 + sizes.argmax()
    rows, columns = (np.flatnonzero(head.any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    factor = SIDE / sizes.max() ** 0.5
    cut = gaussian_filter(grey[box], max(0.0, (1 / factor - 1) / 2))
    sized, mask = (
        zoom(image, factor, order=1, grid_mode=True, mode="nearest") for image in (cut, head[box].astype(np.float32))
    )
    return sized, mask > 0.5


def _dips(grey: Image, head: Mask, depth: Numbers) -> Numbers:
    """How dark a band lies below the surface between brighter ones, as the skull does, in each direction."""
    y, x = np.nonzero(head)
    angle = np.arctan2(y - y.mean(), x - x.mean()) / (2 * np.pi) + 0.5
    layer = (depth[head] / LAYER).astype(int)
    shallow = layer < LAYERS
    cell = ((angle * SECTORS).astype(int) % SECTORS * LAYERS + layer)[shallow]
    count, total = (
        np.bincount(cell, weights, SECTORS * LAYERS).reshape(SECTORS, LAYERS) for weights in (None, grey[head][shallow])
    )
    profile = np.where(count > 0, total / np.maximum(count, 1), -1)
    outer = np.maximum.accumulate(profile, axis=1)
    inner = np.maximum.accumulate(profile[:, ::-1], axis=1)[:, ::-1]
    dips: Numbers = np.where(count > 0, np.minimum(outer, inner) - profile, 0).max(axis=1)
    return dips


def _top_hats(grey: Image, head: Mask, depth: Numbers) -> list[float]:
    """How much stronger small bright structures are than small dark ones of that size, below the scalp and deeper."""
    zones = [head & (depth > top * SIDE) & (depth <= bottom * SIDE) for top, bottom in ((0.08, 0.2), (0.2, 9.0))]
    numbers: list[float] = []
    for size in (3, 5, 9):
        hats = grey - grey_opening(grey, (size, size)), grey_closing(grey, (size, size)) - grey
        for zone in zones:
            bright, dark = (hat[zone] if zone.any() else np.zeros(1) for hat in hats)
            numbers.append(np.log((bright.mean() + 0.01) / (dark.mean() + 0.01)))
            numbers.append(np.log((np.percentile(bright, 95) + 0.02) / (np.percentile(dark, 95) + 0.02)))
    return numbers


def _skewness(values: Image) -> float:
    """Its cube root, as a few bright vessels would dwarf all else."""
    spread = values.std()
    return float(np.cbrt((((values - values.mean()) / spread) ** 3).mean())) if spread > 1e-4 else 0.0


def _correlation(one: Image, two: Image) -> float:
    return float(np.corrcoef(one, two)[0, 1]) if one.size > 1 and min(one.std(), two.std()) > 1e-4 else 0.0


def _evenly(n: int, most: int) -> npt.NDArray[np.intp]:
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp))
