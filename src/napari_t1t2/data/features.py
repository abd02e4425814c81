"""A few numbers that describe one slice: its outline, brightness by depth, fine structure, symmetry."""

from __future__ import annotations

from itertools import pairwise

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

from ..images.volume import Image

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
