"""Whether an image looks like those a model was trained on: a few numbers of each slice, and limits for them.

Contrast, plane, scalp and skull are read from the slice itself, without a network: its outline, how bright the head
is at which depth below its surface, its fine structure, its symmetries. A slice is as unusual as it is far from the
nearest training slice (novelty by nearest neighbour; Pimentel et al. 2014, Signal Processing 99:215). Distances are
counted in typical differences between two heads, as one or two training heads cannot tell how much heads differ.
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
    uniform_filter,
    zoom,
)
from scipy.ndimage import label as parts_of

from ..images.frame import Frame
from ..images.intensity import Intensity
from ..images.plane import View
from ..images.volume import Affine, Image
from .config import Side, other
from .stored import Images

if TYPE_CHECKING:
    from .files import About

Numbers = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
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
}
NAMES = tuple(GROUPS)
TYPICAL = np.concatenate([np.array(group) for group in GROUPS.values()])
GROUP_OF = np.repeat(np.arange(len(GROUPS)), [len(group) for group in GROUPS.values()])
EXTENT = 1  # where the share of its bounding box that a head fills is among the numbers
SKULL = sum(len(group) for group in list(GROUPS.values())[:3]) + 1  # the median depth of the dark band

FITTED, KEPT, JUDGED = 320, 40, 32  # slices: measured, stored in the model, looked at in a volume
FEWEST = 5  # slices that can stand for a training set
BLOCKS = 5  # of neighbouring slices, left out in turn where there are fewer subjects: of two, one says too little
LIMITS = 1.7, 2.3  # between which the limit is held: one head knows too little of others, a bare brain lies at 2.4
MARGIN = 1.1  # of what 95 % of the slices left out keep to
FAR = 5.0  # typical differences; more counts as no more
LITTLE = 0.4  # of the largest slice of a volume: less head than this, near vertex and neck, is not judged


@dataclass(frozen=True, eq=False)
class Known:
    """What a model keeps of the training slices of one contrast."""

    rows: Numbers  # (slices, numbers), in typical differences
    limit: float  # the distance to the nearest that few slices exceed which were left out
    closer: float  # the same of the log of the distance over that to the other contrast's slices


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
    described: Numbers = np.array(numbers, np.float64) / TYPICAL
    return described


def learn(t1: Images, t1_owners: Sequence[str], t2: Images, t2_owners: Sequence[str]) -> dict[Side, Known]:
    """What to keep of the training slices, (N, rows, columns) in [-1, 1], of subjects that may be unknown ("").

    The limits let pass 95 % of the slices of subjects left out, or of blocks of neighbours where subjects are few or
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
    kept = [_evenly(len(rows), KEPT) for rows, _ in measured]
    learned: list[Known] = []
    for (rows, blocks), mine, (strange, _), theirs in zip(measured, kept, measured[::-1], kept[::-1], strict=True):
        near: list[float] = []
        ratio: list[float] = []
        for block in np.unique(blocks):
            out, rest = blocks == block, mine[blocks[mine] != block]
            if not len(rest):
                continue
            worst, mean = _overall(_apart(rows[out], rows[rest]))
            near += worst.min(axis=1).tolist()
            ratio += np.log(mean.min(axis=1) / _overall(_apart(rows[out], strange[theirs]))[1].min(axis=1)).tolist()
        limit = np.clip(MARGIN * np.quantile(near, 0.95), *LIMITS)
        closer = max(0.0, MARGIN * np.quantile(ratio, 0.95))
        learned.append(Known(np.round(rows[mine], 1), round(float(limit), 3), round(float(closer), 3)))
    return {"t1": learned[0], "t2": learned[1]}


def unfamiliar(
    data: Any,
    about: About,
    to: Side,
    intensity: Intensity,
    *,
    affine: Affine | None = None,
    spacing: tuple[float, float, float] | None = None,
) -> str | None:
    """A sentence where data (..., rows, columns) do not look like the training set, as `stream` would read them.

    Empty where they do, and None where the model does not tell. Of a series the first volume is judged, by up to 32
    of its slices in the model's plane: more than half of them must be unusual.
    """
    if not about.familiar:
        return None
    config = about.config
    view = View.of(config.plane, affine, spacing)
    seen = view.apply(data[None] if data.ndim == 2 else data[(0,) * (data.ndim - 3)])
    # one look-up for all: of a lazy array each chunk is read once, whatever the plane
    slices = np.asarray(seen[_evenly(len(seen), JUDGED)], dtype=np.float32)
    slices = np.nan_to_num(slices, nan=intensity.low, posinf=intensity.high, neginf=intensity.low)
    slices = slices[intensity.shows_anatomy(slices)]
    if not len(slices):
        return ""
    between = view.spacing and view.spacing[1:]
    frame = Frame.of(slices.shape[1:], config.size, config.multiple, spacing=between, pixel=config.pixel)
    framed = frame.put(intensity.to_unit(slices))
    extent = (framed > 2 * AIR - 1).mean(axis=(1, 2))
    described = [describe(image) for image in framed[extent >= LITTLE * extent.max()]]
    rows = [numbers for numbers in described if numbers is not None]
    return _sentence(np.stack(rows), about.familiar, other(to), about) if rows else ""


def judge(rows: Numbers, known: Mapping[Side, Known], side: Side) -> tuple[Mask, Mask, npt.NDArray[np.intp], Numbers]:
    """Of each of `rows`: is it too far from all training slices, is it closer to the other side's.

    And which group of numbers is the most unusual, and the differences from the training slice that is nearest.
    """
    mine, theirs = known[side], known[other(side)]
    groups = _apart(rows, mine.rows)
    worst, mean = _overall(groups)
    strange = _overall(_apart(rows, theirs.rows))[1].min(axis=1)
    nearest, each = worst.argmin(axis=1), np.arange(len(rows))
    far = worst.min(axis=1) > mine.limit
    closer = np.log(mean.min(axis=1) / strange) > mine.closer
    return far, closer, groups[each, nearest].argmax(axis=1), rows - mine.rows[nearest]


def to_json(known: Mapping[Side, Known]) -> dict[str, Any]:
    """For the header of a model file."""
    return {
        side: {"rows": np.rint(10 * k.rows).astype(int).tolist(), "limit": k.limit, "closer": k.closer}
        for side, k in known.items()
    }


def from_json(stored: Mapping[str, Any]) -> dict[Side, Known]:
    """The inverse. Empty where other numbers were stored, by another version. Raises what a damaged one gives."""
    sides: tuple[Side, Side] = ("t1", "t2")
    known = {s: Known(np.array(stored[s]["rows"], float) / 10, **_limits(stored[s])) for s in sides if stored}
    return {} if any(k.rows.shape[1:] != TYPICAL.shape for k in known.values()) else known


def _limits(stored: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(stored[name]) for name in ("limit", "closer")}


def _sentence(rows: Numbers, known: Mapping[Side, Known], side: Side, about: About) -> str:
    far, closer, groups, apart = judge(rows, known, side)
    odd, n = far | closer, len(rows)
    if odd.mean() <= 0.5:
        return ""
    count = f"{odd.sum()} of {n} slices" if n > 1 else ""
    own, strange = about.config.label(side), about.config.label(other(side))
    what, end = "image" if n > 1 else "slice", "The result is not to be trusted."
    if closer.mean() > 0.5 and np.mean(far & _beyond(rows, known[other(side)])) <= 0.5:
        return f"This {what} looks like the {strange} images of the training set, not the {own} ones{_in(count)}. {end}"
    reason = Counter(NAMES[g] for g in groups[odd]).most_common(1)[0][0]
    difference = np.median(apart[odd], axis=0)
    if difference[EXTENT] > 4:
        reason = "it fills its frame, as a photograph does"
    elif difference[SKULL] < -2 and reason in (NAMES[3], NAMES[2]):
        reason = "no dark band below the surface, as if the skull had been removed"
    elif reason == "the symmetry":
        reason += ", as if it were cut in another plane"
    said = f"most unusual: {reason}"
    return (
        f"This {what} does not look like the {own} images that the model was trained on"
        f"{_in('; '.join(filter(None, (count, said))))}. {end}"
    )


def _beyond(rows: Numbers, known: Known) -> Mask:
    far: Mask = _overall(_apart(rows, known.rows))[0].min(axis=1) > known.limit
    return far


def _in(text: str) -> str:
    return f" ({text})" if text else ""


def _apart(rows: Numbers, known: Numbers) -> Numbers:
    """Root mean square difference of each two in each group of numbers, (rows, known, groups)."""
    squares = np.minimum((rows[:, None] - known) ** 2, FAR**2)
    return np.stack([np.sqrt(squares[..., g == GROUP_OF].mean(axis=-1)) for g in range(len(GROUPS))], axis=-1)


def _overall(groups: Numbers) -> tuple[Numbers, Numbers]:
    """Of the most unusual group, so that one is enough; and over all groups, never 0."""
    return groups.max(axis=-1), np.sqrt((groups**2).mean(axis=-1)) + 1e-6


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


def _skewness(values: Image) -> float:
    """Its cube root, as a few bright vessels would dwarf all else."""
    spread = values.std()
    return float(np.cbrt((((values - values.mean()) / spread) ** 3).mean())) if spread > 1e-4 else 0.0


def _correlation(one: Image, two: Image) -> float:
    return float(np.corrcoef(one, two)[0, 1]) if one.size > 1 and min(one.std(), two.std()) > 1e-4 else 0.0


def _evenly(n: int, most: int) -> npt.NDArray[np.intp]:
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp))
