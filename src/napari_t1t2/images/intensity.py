"""Robust rescaling of a contrast's units to the networks' [-1, 1], and back.

MR units are arbitrary: each volume is scaled by the median of its own head. Of percentiles over the frame or in the
head, the median, landmarks (Nyul and Udupa 1999) and the white-matter peak (WhiteStripe, Shinohara et al. 2014), the
median put the tissues of three patients closest together in T1, as it follows brain where high percentiles follow
fat, and was within noise of the best in T2; benchmarks/RESULTS.md has the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..errors import Refusal
from .volume import Image, Volume

LOW, HIGH = 0.5, 99.9  # percentiles; the top one keeps cerebrospinal fluid in T2 and fat in T1
NEGATIVE = 0.05  # of the range: air is 0, and less below it than this is resampling, not another floor
STILL = 0.05  # of its value: air that lies above 0 varies less than this, tissue more
DARK = 0.2  # of the range: and it is among the darkest
TISSUE = 0.15  # of the median of the head; what is darker may be noise
EMPTY = 0.01  # a slice with less of its pixels in tissue than this shows no anatomy
SAMPLES = 1_000_000  # pixels that a range is measured on, at most


@dataclass(frozen=True, slots=True)
class Intensity:
    """The values of a contrast that become -1 and 1, and the type its files stored."""

    low: float
    high: float
    dtype: str = "float32"
    per_stack: bool = False  # every stack was measured by itself, as scanners differ; single slices share a range
    headroom: float = 1.0  # so many medians of the head lie between low and high
    each: bool = False  # a general model's: every image is measured by itself, single slices too
    air: float | None = None  # around the heads, where networks cannot know: synthetic images are no darker

    def to_unit(self, data: Image) -> Image:
        """Units to [-1, 1]; what lies outside is clipped.

        Where the brightest lies far above the median of the head, as fat does in T1, the scale is bent so that the
        median comes to 0: fluid, dark in T1, would otherwise be next to air.
        """
        unit = (data.astype(np.float32) - np.float32(self.low)) / np.float32(self.high - self.low)
        unit = np.clip(unit, 0, 1, out=unit)
        if self.headroom > 2:
            unit *= self._bend + 1
            unit /= unit / (self._bend + 1) + self._bend
        unit *= 2
        unit -= 1
        return unit

    def from_unit(self, unit: Image) -> Image:
        """[-1, 1] to units."""
        data = (unit + np.float32(1)) / np.float32(2)
        if self.headroom > 2:
            data *= self._bend / (self._bend + 1 - data)
        data *= np.float32(self.high - self.low)
        data += np.float32(self.low)
        return data

    def synthetic(self, unit: Image) -> Image:
        """What networks have made, from [-1, 1] to units, no darker than the air of the images they were trained on."""
        data = self.from_unit(unit)
        return data if self.air is None else np.maximum(data, np.float32(self.air), out=data)

    @property
    def _bend(self) -> np.float32:
        """The c of v -> v (1 + c) / (v + c), from [0, 1] to [0, 1], that brings the median, 1 / headroom, to 1/2."""
        return np.float32(1 / (self.headroom - 2))

    def shows_anatomy(self, data: Image) -> npt.NDArray[np.bool_]:
        """Which of (N, rows, columns) slices show more than air and noise."""
        tissue = data > self.low + TISSUE * (self.high - self.low) / self.headroom
        shown: npt.NDArray[np.bool_] = tissue.mean(axis=(1, 2)) >= EMPTY
        return shown

    def remark(self) -> str | None:
        """A sentence where air was found above 0."""
        about = float(f"{self.low:.3g}")
        return f"Air is at about {about:g}, not 0: it was taken as the darkest." if self.low > 0 else None

    def with_headroom(self, headroom: float) -> Intensity:
        """The same head with another number of its medians between low and high."""
        return replace(self, high=self.low + (self.high - self.low) * headroom / self.headroom, headroom=headroom)


def measure(data: Sequence[Image], dtype: str = "float32") -> Intensity:
    """The range of all slices together, from the air to the brightest of the head. Raises `Refusal` on flat data.

    The head is what is brighter than half of its own median, found by a few iterations from Otsu's threshold: no
    component or hole has to be guessed, and neither air nor noise nor a hot voxel moves it.
    """
    from skimage.filters import threshold_otsu  # brings scipy, a quarter of a second: not when a widget opens

    total = sum(d.size for d in data)
    sample = np.concatenate([_subsample(np.asarray(d), total / SAMPLES) for d in data]).astype(np.float32)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        raise Refusal("No pixel of the image is a finite number: choose another image.")
    low, top = (float(v) for v in np.percentile(sample, (LOW, HIGH)))
    if top <= low:  # nearly empty: take all there is
        low, top = float(sample.min()), float(sample.max())
    if top <= low:
        raise Refusal(f"Every pixel is {low:g}: there is nothing to see in the image, choose another.")
    if low > -NEGATIVE * (top - low) and not _is_offset(data, low, top):
        low = 0.0
    clipped = np.clip(sample, low, top) - low
    threshold, median = float(threshold_otsu(clipped)), top - low
    for _ in range(5):
        if not (head := clipped[clipped > threshold]).size:
            break
        median = float(np.median(head))
        threshold = median / 2
    high = float(np.percentile(head, HIGH)) if head.size else top - low
    return Intensity(low, low + high, dtype, headroom=high / median)


def _is_offset(data: Sequence[Image], low: float, top: float) -> bool:
    """Whether air lies at `low` and not at 0, as where 1000 or 32768 was added to all values.

    Air fills most of the edge of slices, (..., rows, columns), and hardly varies. Where the head fills the frame, the
    edge is tissue, which varies more or is not the darkest.
    """
    if low <= NEGATIVE * (top - low) or any(np.ndim(d) < 2 for d in data):
        return False
    arrays = [np.asarray(d) for d in data]
    sides = [side for a in arrays for side in (a[..., 0, :], a[..., -1, :], a[..., :, 0], a[..., :, -1])]
    edge = float(np.nanmedian(np.concatenate([side.ravel() for side in sides])))
    return edge - low < min(STILL * edge, DARK * (top - low))


def _subsample(data: Image, every: float) -> Image:
    """About one in `every` pixels, evenly along each axis; nothing else is copied."""
    step = max(1, int(np.ceil(every ** (1 / max(1, data.ndim)))))
    return data[tuple(slice(None, None, min(step, max(1, side // 8))) for side in data.shape)].ravel()


def glimpse(volume: Volume) -> Intensity | Image:
    """What `measure_set` must know of a volume: the range of a stack, the pixels of a single slice."""
    return measure([volume.data], volume.dtype) if len(volume.data) > 1 else volume.data


def measure_set(
    volumes: Sequence[Volume], glimpses: Sequence[Intensity | Image] = ()
) -> tuple[list[Intensity], Intensity]:
    """The range of each volume, and the one that speaks for the set: the median of all.

    All have the headroom that half of them need. With `glimpses`, of single slices some pixels suffice, the voxels
    themselves are not looked at.
    """
    seen = glimpses or [glimpse(v) for v in volumes]
    groups = _sharing(volumes)
    own: list[Intensity] = []
    for members in groups:
        stack = seen[members[0]]
        if isinstance(stack, Intensity):
            own.append(replace(stack, per_stack=True))
        else:
            pixels = [pixel for i in members if not isinstance(pixel := seen[i], Intensity)]
            own.append(measure(pixels, volumes[members[0]].dtype))
    headroom = float(np.median([r.headroom for r in own]))
    own = [r.with_headroom(headroom) for r in own]
    sizes = [sum(volumes[i].data.size for i in members) for members in groups]
    like = own[int(np.argmax(sizes))]
    low, high = np.median([(r.low, r.high) for r in own if r.per_stack == like.per_stack], axis=0).tolist()
    ranges = {i: r for r, members in zip(own, groups, strict=True) for i in members}
    spoken = replace(like, low=low, high=high) if like.per_stack else like
    return [ranges[i] for i in range(len(volumes))], spoken


def _sharing(volumes: Sequence[Volume]) -> list[list[int]]:
    """The indices of volumes that share a range: a stack has its own, loose slices of one stored type have one.

    A slice says too little alone, one near the vertex above all.
    """
    groups: dict[str, list[int]] = {}
    for i, volume in enumerate(volumes):
        groups.setdefault(volume.dtype if len(volume.data) == 1 else f"stack {i}", []).append(i)
    return list(groups.values())


def shared_ranges(volumes: Sequence[Volume], trained: Intensity) -> dict[int, tuple[Intensity, str | None]]:
    """`ranges_for` of the loose slices that share one, by index; of those let go, some pixels suffice."""
    found: dict[int, tuple[Intensity, str | None]] = {}
    for members in _sharing(volumes):
        if len(members) > 1:
            seen = [getattr(volumes[i], "sample", None) for i in members]
            pixels = [volumes[i].data if some is None else some for i, some in zip(members, seen, strict=True)]
            found |= dict.fromkeys(members, range_for(pixels, 1, trained))
    return found


def ranges_for(volumes: Sequence[Volume], trained: Intensity) -> list[tuple[Intensity, str | None]]:
    """Of each new volume what `range_for` gives: a stack by itself, loose slices of one stored type together."""
    found: dict[int, tuple[Intensity, str | None]] = {}
    for members in _sharing(volumes):
        first, *more = (volumes[i].data for i in members)
        found |= dict.fromkeys(members, range_for([first, *more] if more else first, len(first), trained))
    return [found[i] for i in range(len(volumes))]


def range_for(sample: Image | Sequence[Image], slices: int, trained: Intensity) -> tuple[Intensity, str | None]:
    """The range to read new data with, one image or several that share it, and a sentence where it is unusual.

    As in training: stacks are measured by themselves if the training stacks were, other images are read with the
    training range. Data that plainly come in other units are measured by themselves in any case.
    """
    own = measure([sample] if isinstance(sample, np.ndarray) else sample).with_headroom(trained.headroom)
    if trained.each or (trained.per_stack and slices > 1):
        return own, own.remark()
    span, reach = trained.high - trained.low, own.high - trained.low
    alike = trained.low - span / 4 <= own.low <= max(0, trained.low + NEGATIVE * span)  # above 0 there is an offset
    if span / 4 <= reach <= span * 1.5 and alike:
        return trained, None
    return own, (
        f"The values go from {own.low:g} to {own.high:g}, those of the training images from {trained.low:g} to "
        f"{trained.high:g}: the range was measured on this image instead."
    )
