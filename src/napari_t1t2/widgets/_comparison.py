"""What the Evaluate widget asks its worker thread for, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import Refusal
from ..images.volume import Affine, Image, Volume
from ._curve import load_matplotlib
from ._layers import as_volume

if TYPE_CHECKING:
    from ..synthesis.evaluation import Aligned, Score

GAIN = 2.0  # medians further apart than this are likely two scales
FEW = 4096  # voxels; the joint histogram has as many cells


@dataclass(frozen=True, eq=False)
class Source:
    """A layer as the job takes it: the array, (..., rows, columns), and where it lies beside the other."""

    pixels: Any
    name: str
    affine: Affine | None
    dtype: str = ""

    def volume(self, label: int | None = None) -> Volume:
        """Its pixels, read now; with a label, 1 where it is (0: where any is) and 0 elsewhere."""
        data = np.asarray(self.pixels)
        if label is not None:
            data = data == label if label else data != 0
        if not (finite := np.isfinite(data)).all():
            data = np.where(finite, data, data[finite].min(initial=0))
        name = self.name if label is None else f"in {self.name}" + (f", label {label}" if label else "")
        return as_volume(data, name, self.affine, self.dtype)


@dataclass(frozen=True, eq=False)
class Job:
    """What the form asks for."""

    fake: Source
    real: Source
    region: Source | None
    label: int
    own_scale: bool


@dataclass(frozen=True)
class Stage:
    """What the job does next, and how far it is."""

    fraction: float
    text: str


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The last event: the numbers, the difference in the shape of the synthetic layer, and the histogram."""

    score: Score
    difference: Image
    limit: float  # of the difference's colours
    counts: Any  # (real, synthetic)
    edges: Any
    resampled: bool
    notices: tuple[str, ...]


def evaluated(job: Job, stop: Callable[[], bool]) -> Iterator[Stage | Evaluated]:
    """Read the layers, bring them together and score; runs in the worker thread."""
    from ..synthesis.evaluation import align

    yield Stage(0.0, "Reading the layers ...")
    load_matplotlib()
    fake, real = job.fake.volume(), job.real.volume()
    region = job.region.volume(job.label) if job.region else None
    if job.region and region is not None and not region.data.any():
        which = f"no label {job.label}" if job.label else "no labels"
        raise Refusal(f"{job.region.name!r} has {which}: draw some, or choose another.")
    if stop():
        return
    yield Stage(0.2, "Bringing them onto one grid ...")
    aligned = align(fake, real, match_intensities=job.own_scale, region=region)
    if stop():
        return
    yield Stage(0.4, "Scoring ...")
    score = aligned.score()
    if stop():
        return
    yield Stage(0.9, "Drawing ...")
    difference = np.ascontiguousarray(aligned.difference()).reshape(job.fake.pixels.shape)
    limit = float(np.percentile(np.abs(difference), 99.5)) or 1.0
    counts, edges = aligned.joint_histogram()
    notices = tuple(_notices(job, aligned, score))
    yield Evaluated(score, difference, limit, counts, edges, aligned.resampled, notices)


def _notices(job: Job, aligned: Aligned, score: Score) -> Iterator[str]:
    """What was found on the way that changes how the numbers are to be read."""
    if aligned.covered < 0.995:
        yield f"{job.real.name!r} covers {aligned.covered:.0%} of the synthetic head; the rest counts as air."
    if score.head_voxels < FEW:
        yield f"Of {score.head_voxels} voxels {score.region}, NMI is too high to be compared with others."
    fake, real = (float(np.median(image[aligned.inside])) - aligned.low for image in (aligned.fake, aligned.real))
    if not job.own_scale and real > 0 and not 1 / GAIN <= fake / real <= GAIN:
        yield (
            f"{score.region.capitalize()} the synthetic median is {fake / real:.2g} times the real one. MR units are "
            "arbitrary: own scale brings the two together."
        )
