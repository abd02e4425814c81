"""Whether an image looks like those a model was trained on, or is out of distribution.

Sixteen numbers of each slice tell, without a network (data/features.py). A slice is out of distribution where its
outline is far from that of every training slice (Pimentel et al. 2014, Signal Processing 99:215), where it lacks the
skull that they have, or has one that they lack, or where its small structures are those of the other contrast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..config import ModelConfig, Side, other
from ..data.features import NUMBERS, SKULL, STRUCTURES, describe
from ..images.frame import Frame
from ..images.head import Mask, head_masks
from ..images.intensity import Intensity
from ..images.pixels import evenly
from ..images.plane import View
from ..images.volume import Affine
from ..model.known import BAND, Known, distances

JUDGED = 32  # slices that are looked at in a volume
LITTLE = 0.4  # of the largest head in them: a smaller one, near vertex and neck, is not judged
CONTRAST = "the other contrast"
OUTLINE = "its outline, as of another plane, a cropped head or a photograph"
LACKING = "no scalp and no skull, as if they had been removed"
PRESENT = "scalp and skull, which the training images lack"


def unfamiliar(
    data: Any,
    known: Mapping[Side, Known],
    config: ModelConfig,
    to: Side,
    intensity: Intensity,
    *,
    affine: Affine | None = None,
    spacing: tuple[float, float, float] | None = None,
) -> str | None:
    """A sentence where data (..., rows, columns), as `stream` would read them, are out of distribution.

    Empty where they are not, and None where the model holds no description of its training images. Of a series the
    first volume is judged, by some slices in the model's plane: more than half of them must be out of distribution.
    """
    if not known:
        return None
    ways = judge(data, known[other(to)], config, intensity, View.of(config.plane, affine, spacing))
    odd = np.logical_or.reduce(list(ways.values()))
    if not odd.size or odd.mean() <= 0.5:
        return ""
    own, strange = config.label(other(to)), config.label(to)
    count, what = (f"{odd.sum()} of {len(odd)} slices", "image") if len(odd) > 1 else ("", "slice")
    reason = max(ways, key=lambda way: ways[way].sum())  # of equals the first
    found = f"looks like the {strange} images of the training set, not the {own} ones"
    if reason != CONTRAST:
        found = f"does not look like the {own} images that the model was trained on"
        count = "; ".join(filter(None, (count, f"most unusual: {reason}")))
    return f"This {what} {found}{f' ({count})' if count else ''}. The result is not to be trusted."


def judge(data: Any, known: Known, config: ModelConfig, intensity: Intensity, view: View) -> dict[str, Mask]:
    """The ways to be out of distribution, and which of the slices that are judged, (slices,), are so; see above.

    Empty where no slice shows anatomy.
    """
    seen = view.apply(data[None] if data.ndim == 2 else data[(0,) * (data.ndim - 3)])
    # one look-up for all: of a lazy array each chunk is read once, whatever the plane
    slices = np.asarray(seen[evenly(len(seen), JUDGED)], dtype=np.float32)
    slices = np.nan_to_num(slices, nan=intensity.low, posinf=intensity.high, neginf=intensity.low)
    if not len(slices := slices[intensity.shows_anatomy(slices)]):
        return {}
    between = view.spacing and view.spacing[1:]
    frame = Frame.of(slices.shape[1:], config.size, config.multiple, spacing=between, pixel=config.pixel)
    framed = frame.put(intensity.to_unit(slices))
    extent = head_masks(framed).mean(axis=(1, 2))
    described = [describe(image) for image in framed[extent >= LITTLE * extent.max()]]
    rows = np.array([numbers for numbers in described if numbers is not None]).reshape(-1, NUMBERS)
    skull = np.zeros(len(rows), bool) if known.skull is None else (rows[:, SKULL] > BAND) != known.skull
    return {
        OUTLINE: distances(rows, known.outlines).min(axis=1) > known.limit,
        PRESENT if known.skull is False else LACKING: skull,
        CONTRAST: rows[:, STRUCTURES] @ known.towards > known.beyond,
    }
