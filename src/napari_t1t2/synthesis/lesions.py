"""How much of each lesion a synthetic image still shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects, label

from ..errors import Refusal
from ..images.head import head_masks
from ..images.intensity import measure
from ..images.volume import Volume
from .evaluation import align

MARGIN, RING = 2, 3  # voxels: around a lesion that count as neither, as networks blur; and beyond, to compare with
VISIBLE = 0.03  # of the data range: a lesion of less contrast in the real image tells nothing
LOST = 0.2  # a lesion of which less than this is transmitted can hardly be seen


@dataclass(frozen=True, slots=True)
class Lesion:
    """One lesion. A contrast is the mean inside minus that of the tissue around, as a part of the data range."""

    number: int
    voxels: int
    ml: float | None  # where the image says its spacing
    real: float
    synthetic: float
    transmitted: float | None  # synthetic per real contrast; None where the real image hardly shows the lesion

    @property
    def lost(self) -> bool:
        """Whether the synthetic image hardly shows it, or the wrong way round."""
        return self.transmitted is not None and self.transmitted < LOST

    def text(self) -> str:
        """A line for a person."""
        size = f"{self.voxels} voxels" if self.ml is None else f"{self.ml:.2f} ml"
        what = "hardly visible in the real image"
        if self.transmitted is not None:
            what = f"{self.transmitted:.0%} transmitted" + (", LOST" if self.lost else "")
        return f"{self.number}: {size}, contrast {self.real:+.3f} real, {self.synthetic:+.3f} synthetic, {what}"


def lesions_of(fake: Volume, real: Volume, mask: Volume) -> list[Lesion]:
    """Each lesion of a mask, all that is not 0 and hangs together; intensities of the two images are matched first.

    Raises `Refusal` where the mask is empty or lies on no part of the head.
    """
    aligned = align(fake, real, match_intensities=True, region=mask)
    numbers, count = label(aligned.inside, np.ones((3, 3, 3)))
    if not count:
        raise Refusal(f"{mask.name} marks nothing on the synthetic image: give a mask in which lesions are not 0.")
    head = head_masks(measure([aligned.real]).to_unit(aligned.real)) & (numbers == 0)
    spacing = aligned.view.spacing if fake.affine is not None or fake.spacing else None
    found = []
    for number, box in enumerate(find_objects(numbers), start=1):
        near = tuple(slice(max(0, s.start - MARGIN - RING), s.stop + MARGIN + RING) for s in box)
        own = numbers[near] == number
        # in plane only: the next slice may be millimetres away
        distance = np.stack([distance_transform_edt(~one) if one.any() else np.full(one.shape, np.inf) for one in own])
        around = (distance > MARGIN) & (distance <= MARGIN + RING) & head[near]
        if not around.any():
            continue
        shown, made = (
            float((image[near][own].mean() - image[near][around].mean()) / aligned.data_range)
            for image in (aligned.real, aligned.fake)
        )
        ml = float(own.sum() * np.prod(spacing) / 1000) if spacing else None
        part = made / shown if abs(shown) >= VISIBLE else None
        found.append(Lesion(number, int(own.sum()), ml, shown, made, part))
    if not found:
        raise Refusal(f"No lesion of {mask.name} lies in the head: does the mask belong to this image?")
    return found


def summary(lesions: Sequence[Lesion]) -> str:
    """How many are lost, and what is transmitted in the middle."""
    visible = [one.transmitted for one in lesions if one.transmitted is not None]
    if not visible:
        return f"{len(lesions)} lesions, none visible in the real image"
    lost = sum(one.lost for one in lesions)
    return (
        f"{len(visible)} lesions visible in the real image: {np.median(visible):.0%} of their contrast transmitted "
        f"(median), {lost} lost (less than {LOST:.0%})"
    )
