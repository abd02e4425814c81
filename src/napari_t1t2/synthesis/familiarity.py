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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..config import ModelConfig, Side, other
from ..data.features import AIR, EXTENT, NAMES, NUMBERS, TOP_HATS, Mask, Numbers, describe
from ..images.frame import Frame
from ..images.intensity import Intensity
from ..images.pixels import evenly
from ..images.plane import View
from ..images.volume import Affine
from ..model.known import JUDGED, QUESTIONS, Known, answers_of, distances

if TYPE_CHECKING:
    from ..model.about import About


Spacing = tuple[float, float, float]  # (Z, Y, X) in mm
# fmt: on
ANSWERS = {  # where the training slices answer no, and where they answer yes
    "bare": ("no scalp and no skull, as if they had been removed", "scalp and skull, which the training images lack"),
    "plane": ("its shape, as if it were cut in another plane",) * 2,
}
LITTLE = 0.4  # of the largest slice of a volume: less head than this, near vertex and neck, is not judged


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
    slices = np.asarray(seen[evenly(len(seen), JUDGED)], dtype=np.float32)
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
    groups = distances(rows, known.rows)
    worst = groups.max(axis=-1)
    nearest, each = worst.argmin(axis=1), np.arange(len(rows))
    answers, (low, high) = answers_of(rows), known.answers.T
    return Judged(
        worst.min(axis=1) > known.limit,
        groups[each, nearest].argmax(axis=1),
        rows[:, :NUMBERS] - known.rows[nearest],
        (answers > high).astype(np.intp) - (answers < low),
        rows[:, -TOP_HATS:] @ known.towards > known.beyond,
    )


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
