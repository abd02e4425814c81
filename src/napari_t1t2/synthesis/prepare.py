"""What is looked at before an image is translated: range, contrast, familiarity, seen in training, remarks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..config import Side, other
from ..images.intensity import Intensity, range_for
from ..images.pixels import evenly
from ..images.volume import NOTICE, Image
from ..model.saved import Model

if TYPE_CHECKING:
    from .uncertainty import Doubt

TRAINED_ON = "The model was trained on this image: the result says nothing about how it does on new ones."
NOT_FAMILIAR = (
    "This model cannot warn of images unlike those it was trained on: it saw few, or comes from an earlier version, "
    "which training it on (resume) mends."
)
SAMPLED = 32  # slices of lazy data that its range is measured on
OF_SYNTHETIC = "It is synthetic itself: what is made of it is even further from a scan."


def provenance(model: Model, to: Side, source: str, odd: str | None = None) -> dict[str, Any]:
    """What a layer or file must say of itself; `odd` is what `unfamiliar` says of the source."""
    # a longer path to the model may name a person
    said: dict[str, Any] = {
        "synthetic": True,
        "contrast": model.config.label(to),
        "notice": NOTICE,
        "model": f"{model.about.path.resolve().parent.name}/{model.about.path.name}",
        "model_sha256": model.sha256,
        "step": model.about.step,
        "source": source,
        "version": __version__,
    }
    if model.precision != "float32":
        said["precision"] = model.precision
    if odd is not None:
        said["unfamiliar"] = bool(odd)
    return said


def input_range(data: Any, model: Model, to: Side) -> tuple[Intensity, str | None]:
    """The range to read `data` (..., rows, columns) with, and a sentence if unusual; of lazy data, by a few slices."""
    slices = math.prod(data.shape[:-2])
    sample = data if isinstance(data, np.ndarray) else np.stack([_slice(data, i) for i in evenly(slices, SAMPLED)])
    return range_for(sample, slices, model.about.ranges[other(to)])


def remarks(
    model: Model,
    to: Side,
    *,
    unusual: str | None,
    spacing: tuple[float, float, float] | None,
    odd: str | None,
    seen: bool | None,
    looks: str = "",
    synthetic: bool = False,
    doubt: Doubt | None = None,
) -> list[str]:
    """All that is to be said of an image before it is translated.

    `unusual` is from `input_range`, `odd` from `unfamiliar`; `looks` is the contrast that it says it is; of `doubt` the
    error to expect is asked.
    """
    label = model.config.label(to)
    said = (
        None if model.about.familiar else NOT_FAMILIAR,
        unusual,
        unusual_spacing(model, spacing),
        odd,
        TRAINED_ON if seen else None,
        f"It says it is {label} already; it is translated as asked." if looks.casefold() == label.casefold() else None,
        OF_SYNTHETIC if synthetic else None,
        doubt.remark if doubt else None,
    )
    return [sentence for sentence in said if sentence]


def unusual_spacing(model: Model, spacing: tuple[float, float, float] | None) -> str | None:
    """A sentence where the image and the model do not both know the size of a pixel."""
    if model.config.pixel and not spacing:
        return (
            "The image does not say its spacing, so its pixels are used as they are; those of the training images "
            f"were brought to {model.config.pixel:.3g} mm."
        )
    if spacing and not model.config.pixel:
        return "The model was trained on images without a spacing, so the pixels are used as they are."
    return None


def _slice(data: Any, index: int) -> Image:
    return np.asarray(data[np.unravel_index(index, data.shape[:-2])], dtype=np.float32)
