"""What is looked at before an image is translated, for the command and the window alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import __version__
from ..config import Side, other
from ..data.seen import trained_on
from ..images.intensity import Intensity, range_for
from ..images.pixels import evenly
from ..images.volume import Image, Volume
from ..model.saved import Model
from ..provenance import Provenance
from .familiarity import unfamiliar

if TYPE_CHECKING:
    from torch import Tensor

TRAINED_ON = "The model was trained on this image: the result says nothing about how it does on new ones."
NOT_FAMILIAR = "This model holds no description of its training images, so unusual input cannot be detected."
GENERAL = (
    "The general model made this: it was not trained on images like yours. A model of your own is closer, and can be "
    "checked on held-out patients."
)
OF_SYNTHETIC = "It is synthetic itself: what is made of it is even further from a scan."
SAMPLED = 32  # slices of lazy data that its range is measured on


class ErrorMap(Protocol):
    """Who says what error to expect of each pixel of a synthetic image."""

    remark: str | None  # a sentence on how far it can be relied on, if any

    @property
    def most(self) -> float:
        """The largest error that is expected of any pixel, as a part of the target's range."""

    def expected(self, x: Tensor, y: Tensor) -> Image:
        """The absolute error to expect, (N, H, W), as a part of the target's range, of `translation.batches`."""

    def describe(self) -> dict[str, Any]:
        """What a map says of itself: keys of `Provenance`, in place of what the synthetic image says."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """The range to read the data with, what the result shall say of itself, and sentences for the user."""

    intensity: Intensity
    provenance: Provenance
    remarks: tuple[str, ...]

    def of_errors(self, error_map: ErrorMap) -> Provenance:
        """What a map says of itself."""
        said = self.provenance.to_dict() | error_map.describe()
        made = Provenance.from_dict(said)
        assert made is not None
        return made


def prepare(
    volume: Volume,
    model: Model,
    to: Side,
    *,
    shared: tuple[Intensity, str | None] | None = None,
    error_maps: Sequence[ErrorMap] = (),
    resampled: bool = False,
) -> Prepared:
    """Look at a volume before it is translated; raises `Refusal` where it is all of one value.

    Its data may also be lazy, or several volumes, (..., rows, columns). `shared` is the range to read them with, of
    `ranges_for`, where others share it; `error_maps` are who say what error to expect. A `resampled` volume is a
    coarser level of an image, whose finest level the model may know.
    """
    data, affine, spacing = volume.data, volume.affine, volume.spacing
    intensity, unusual = shared or input_range(data, model, to)
    odd = unfamiliar(data, model.about.familiar, model.config, to, intensity, affine=affine, spacing=spacing)
    seen = trained_on(data, affine, model.about.seen, model.config.plane)
    label = model.config.label(to)
    already = volume.looks.casefold() == label.casefold()
    remarks = (
        GENERAL if model.about.card.get("general") else None,
        None if model.about.familiar else NOT_FAMILIAR,
        unusual,
        unusual_spacing(model, spacing),
        odd,
        TRAINED_ON if seen else None,
        f"It says it is {label} already; it is translated as asked." if already else None,
        OF_SYNTHETIC if volume.synthetic else None,
        *(error_map.remark for error_map in error_maps),
    )
    says = replace(
        provenance(model, to, volume.origin),
        unfamiliar=None if odd is None else bool(odd),
        seen_in_training=seen or (None if resampled else seen),
        source_synthetic=volume.synthetic,
    )
    return Prepared(intensity, says, tuple(dict.fromkeys(filter(None, remarks))))


def provenance(model: Model, to: Side, source: str) -> Provenance:
    """What an image made by a model says of itself, without what `prepare` finds out."""
    return Provenance(
        contrast=model.config.label(to),
        # a longer path may name a person
        model=f"{model.about.path.resolve().parent.name}/{model.about.path.name}",
        model_sha256=model.sha256,
        step=model.about.step,
        general_model=model.about.card.get("general") or None,
        source=source,
        version=__version__,
        precision=None if model.precision == "float32" else model.precision,
    )


def input_range(data: Any, model: Model, to: Side) -> tuple[Intensity, str | None]:
    """The range to read `data` (..., rows, columns) with, and a sentence if unusual; of lazy data, by a few slices."""
    slices = math.prod(data.shape[:-2])
    sample = data if isinstance(data, np.ndarray) else np.stack([_slice(data, i) for i in evenly(slices, SAMPLED)])
    return range_for(sample, slices, model.about.ranges[other(to)])


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
