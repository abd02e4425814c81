"""Sixteen numbers that describe one slice: its outline, the dark band of its skull, its small structures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter, grey_closing, grey_opening, zoom

from ..images.head import Mask, head_mask
from ..images.volume import Image

Numbers = npt.NDArray[np.float64]
SIDE = 64  # pixels: the square root of the area that each head is brought to
SMALLEST = 100  # pixels of a head that can be judged
SECTORS, LAYERS, LAYER = 16, 12, 1.5  # of the profiles that look for the skull; a layer's thickness in pixels

# Of the outline, and how much each may differ between neighbouring slices of two heads: height by width, the part of
# its bounding box that it fills, its length, how well it covers its mirror images (left to right, top to bottom), how
# wide its first and last rows and columns are, which is much where it is cut off straight.
TYPICAL = np.array((0.08, 0.03, 0.25, 0.06, 0.08, 0.15, 0.15, 0.15, 0.15))
OUTLINE = np.s_[: len(TYPICAL)]
SKULL = len(TYPICAL)
STRUCTURES = np.s_[SKULL + 1 :]  # which tell the contrasts apart
NUMBERS = SKULL + 7


def describe(image: Image) -> Numbers | None:
    """The numbers of one slice (rows, columns) in [-1, 1], those of the outline in typical differences.

    None where there is no head.
    """
    mask = head_mask(image)
    if mask.sum() < SMALLEST:
        return None
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box, factor = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], SIDE / mask.sum() ** 0.5
    smooth = gaussian_filter((image[box] + 1) / 2, max(0.0, (1 / factor - 1) / 2))
    grey, soft = (zoom(i, factor, order=1, grid_mode=True, mode="nearest") for i in (smooth, mask[box] * 1.0))
    head = soft > 0.5
    depth = distance_transform_edt(np.pad(head, 1))[1:-1, 1:-1]
    area, across, down = head.sum(), head.sum(axis=1), head.sum(axis=0)
    rim = area - binary_erosion(head).sum()
    outline = [np.log(len(across) / len(down)), area / head.size, np.log(rim**2 / area)]
    outline += [(head & turned).sum() / (head | turned).sum() for turned in (head[:, ::-1], head[::-1])]
    outline += [w[i] / w.max() for w in (across, down) for i in (1, -2)]  # the outermost are a matter of chance
    return np.array([*np.array(outline) / TYPICAL, _skull(grey, head, depth), *_structures(grey, head, depth)])


def _skull(grey: Image, head: Mask, depth: Numbers) -> float:
    """How dark a band lies below the surface between brighter ones, from 0 to 1, in a quarter of all directions."""
    y, x = np.nonzero(head)
    turn = np.arctan2(y - y.mean(), x - x.mean()) / (2 * np.pi) + 0.5
    sector = (turn * SECTORS).astype(int) % SECTORS
    layer = np.minimum(depth[head] / LAYER, LAYERS).astype(int)  # what lies deeper is one more layer
    cell, shape = sector * (LAYERS + 1) + layer, (SECTORS, LAYERS + 1)
    count, total = (np.bincount(cell, w, SECTORS * (LAYERS + 1)).reshape(shape) for w in (None, grey[head]))
    profile = (total / np.maximum(count, 1))[:, :LAYERS]
    outer = np.maximum.accumulate(profile, axis=1)
    inner = np.maximum.accumulate(profile[:, ::-1], axis=1)[:, ::-1]
    return float(np.percentile((np.minimum(outer, inner) - profile).max(axis=1), 75))


def _structures(grey: Image, head: Mask, depth: Numbers) -> list[float]:
    """How much stronger small bright structures are than small dark ones of three sizes, below the scalp and deeper.

    Sulci and vessels are dark in T1 and bright in T2.
    """
    zones = [head & (depth > top * SIDE) & (depth <= bottom * SIDE) for top, bottom in ((0.08, 0.2), (0.2, 9.0))]
    found: list[float] = []
    for size in (3, 5, 9):
        hats = grey - grey_opening(grey, (size, size)), grey_closing(grey, (size, size)) - grey
        for zone in zones:
            bright, dark = (hat[zone].sum() / max(1, zone.sum()) for hat in hats)
            found.append(float(np.log((bright + 0.01) / (dark + 0.01))))
    return found
