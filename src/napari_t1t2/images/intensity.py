"""Robust rescaling of a contrast's units to the networks' [-1, 1], and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .volume import Image, Volume

LOW, HIGH = 0.5, 99.9  # percentiles; the top one keeps cerebrospinal fluid in T2 and fat in T1
SAMPLES = 4_000_000  # pixels that a percentile is measured on, at most


@dataclass(frozen=True, slots=True)
class Intensity:
    """The values of a contrast that become -1 and 1, and the type its files stored."""

    low: float
    high: float
    dtype: str = "float32"
    per_stack: bool = False  # every stack was measured by itself, as scanners differ; single slices share a range

    def to_unit(self, data: Image) -> Image:
        """Units to [-1, 1]; what lies outside is clipped."""
        unit = (data.astype(np.float32) - np.float32(self.low)) * np.float32(2 / (self.high - self.low)) - np.float32(1)
        clipped: Image = np.clip(unit, -1, 1, out=unit)
        return clipped

    def from_unit(self, unit: Image) -> Image:
        """[-1, 1] to units."""
        return (unit + np.float32(1)) * np.float32((self.high - self.low) / 2) + np.float32(self.low)


def measure(data: Sequence[Image], dtype: str = "float32") -> Intensity:
    """The range between two percentiles of all slices together. Raises `ValueError` on flat data."""
    total = sum(d.size for d in data)
    step = max(1, total // SAMPLES)
    sample = np.concatenate([np.asarray(d).reshape(-1)[::step] for d in data])
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        raise ValueError("No pixel of the image is a finite number: choose another image.")
    low, high = (float(v) for v in np.percentile(sample, (LOW, HIGH)))
    if high <= low:  # nearly empty: take all there is
        low, high = float(sample.min()), float(sample.max())
    if high <= low:
        raise ValueError(f"Every pixel is {low:g}: there is nothing to see in the image, choose another.")
    return Intensity(low, high, dtype)


def measure_set(volumes: Sequence[Volume]) -> tuple[list[Intensity], Intensity]:
    """The range of each volume, and the one that speaks for the set.

    A stack has a range of its own. Single slices say too little alone, a slice near the vertex above all, so
    those of one type share one range. The largest group speaks for the set.
    """
    groups: dict[str, list[int]] = {}
    for i, volume in enumerate(volumes):
        groups.setdefault(volume.dtype if len(volume.data) == 1 else f"stack {i}", []).append(i)
    ranges: dict[int, Intensity] = {}
    for members in groups.values():
        first = volumes[members[0]]
        found = measure([volumes[i].data for i in members], first.dtype)
        ranges |= dict.fromkeys(members, replace(found, per_stack=len(first.data) > 1))
    largest = max(groups.values(), key=lambda members: sum(volumes[i].data.size for i in members))
    return [ranges[i] for i in range(len(volumes))], ranges[largest[0]]


def range_for(sample: Image, slices: int, trained: Intensity) -> tuple[Intensity, str | None]:
    """The range to read new data with, and a sentence where it is not the obvious one.

    As in training: stacks are measured by themselves if the training stacks were, other images are read with the
    training range. Data that plainly come in other units are measured by themselves in any case.
    """
    own = measure([sample])
    if trained.per_stack and slices > 1:
        return own, None
    span, reach = trained.high - trained.low, own.high - trained.low
    if span / 4 <= reach <= span * 1.5 and own.low >= trained.low - span / 4:
        return trained, None
    return own, (
        f"The values go from {own.low:g} to {own.high:g}, those of the training images from {trained.low:g} to "
        f"{trained.high:g}: the range was measured on this image instead."
    )
