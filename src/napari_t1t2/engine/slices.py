"""The slices of one contrast, ready for the networks, and seeded batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_erosion, binary_fill_holes, gaussian_filter
from torch import Tensor

from ..images.frame import Frame
from ..images.intensity import Intensity, measure_set
from ..images.read import Folder
from ..images.volume import Image
from .config import ModelConfig, TrainConfig
from .networks import SMALLEST

EMPTY = 0.01  # a slice with less of its pixels above the background than this shows no anatomy
BACKGROUND = -0.9


@dataclass(frozen=True, eq=False)
class Slices:
    """One contrast as the networks see it, its range, and what the user should know."""

    images: Image  # (N, H, W) in [-1, 1]
    intensity: Intensity
    notes: tuple[str, ...]

    def summary(self) -> str:
        """Count, size and range in one line."""
        (n, height, width), i = self.images.shape, self.intensity
        return f"the networks see {n} slices of {height}x{width}, {i.low:g} to {i.high:g} as -1 to 1"


def prepare(folder: Folder, model: ModelConfig) -> Slices:
    """Rescale, drop empty slices, fit into the frame. Raises `ValueError` with a sentence."""
    sizes = folder.sizes()
    if not model.size and len(sizes) > 1:
        (rows, columns), *_ = sizes
        odd = next(v for v in folder.volumes if v.data.shape[1:] != (rows, columns))
        raise ValueError(
            f"{folder.path} mixes sizes: most slices are {rows}x{columns}, but "
            f"{odd.path.name if odd.path else odd.name} is {odd.data.shape[1]}x{odd.data.shape[2]}. "
            "Set size (64, 128, ...) to fit each into a square without stretching, or remove the others."
        )
    ranges, spoken = measure_set(folder.volumes)
    notes = folder.notes()
    framed: list[Image] = []
    empty = 0
    for volume, intensity in zip(folder.volumes, ranges, strict=True):
        unit = intensity.to_unit(volume.data)
        anatomy = (unit > BACKGROUND).mean(axis=(1, 2)) >= EMPTY
        empty += int((~anatomy).sum())
        if anatomy.any():
            frame = Frame.of(unit.shape[1:], model.size, model.multiple)
            framed.append(frame.put(unit[anatomy]))
    if empty:
        notes.append(f"{empty} slices without anatomy were left out")
    if model.size and len(sizes) > 1:
        notes.append(f"slices of {len(sizes)} sizes were fitted into {model.size}x{model.size} without stretching")
    if not framed:
        raise ValueError(f"{folder.path}: every slice is empty; there is nothing to learn from.")
    return Slices(np.concatenate(framed), spoken, tuple(f"{folder.path.name}: {note}" for note in notes))


def split(images: Image, config: TrainConfig, where: Path) -> tuple[Image, Image]:
    """Training slices and held-out ones, the latter from the middle.

    Raises `ValueError` where too few or too small slices are left.
    """
    n, side = len(images), min(images.shape[1:])
    if n <= config.hold_out:
        raise ValueError(
            f"{where} has {n} usable slice{'s' * (n != 1)}, but {config.hold_out} must be held out for the previews: "
            f"training needs at least {config.hold_out + 1}. Add images."
        )
    if (seen := min(side, config.crop or side)) < SMALLEST:
        raise ValueError(
            f"{where}: the networks would see slices of {side} pixels in crops of {seen}, but the discriminators need "
            f"{SMALLEST}. Raise crop or size, or give larger slices."
        )
    first = (n - config.hold_out) // 2
    kept = np.r_[0:first, first + config.hold_out : n]
    return images[kept], images[first : first + config.hold_out]


def polarity(images: Image) -> float:
    """Whether fine structure inside the head is dark (negative) or bright (positive) against what surrounds it.

    The skewness of slices minus their local mean, away from the scalp. The sulci are dark in T1 (about -0.9 in five
    sets of real and simulated heads) and bright in T2 (about 1.3); it needs no pairs and no common pose.
    """
    found: list[float] = []
    for image in images[:: max(1, len(images) // 20)]:
        inside = binary_erosion(binary_fill_holes(image > BACKGROUND), iterations=image.shape[0] // 10)
        if not inside.any():
            continue
        weight = inside.astype(np.float32)
        around = gaussian_filter(image * weight, 4) / np.maximum(gaussian_filter(weight, 4), 1e-3)
        detail = (gaussian_filter(image, 1) - around)[inside]
        if detail.std() > 0:
            found.append(float((((detail - detail.mean()) / detail.std()) ** 3).mean()))
    return float(np.mean(found)) if found else 0.0


class Bank:
    """Slices on the device. The batch of a step depends on the seed and the step alone, so a run resumes exactly."""

    def __init__(self, images: Image, config: TrainConfig, device: torch.device, stream: int) -> None:
        self._slices = torch.from_numpy(images).to(device)
        self._config = config
        self._stream = stream  # tells the two contrasts' random numbers apart

    def batch(self, step: int) -> Tensor:
        """(B, 1, H, W): each slice once per epoch, in a new order every epoch, cropped and mirrored at random."""
        c, (_, height, width) = self._config, self._slices.shape
        rng = np.random.default_rng((c.seed, self._stream, step))
        rows, columns = (min(c.crop or side, side) for side in (height, width))
        made: list[Tensor] = []
        for index in self._order(step * c.batch, c.batch):
            top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
            image = self._slices[index, top : top + rows, left : left + columns]
            made.append(image.flip(-1) if c.flip and rng.random() < 0.5 else image)
        return torch.stack(made)[:, None]

    def _order(self, start: int, count: int) -> Sequence[int]:
        n = len(self._slices)
        epochs = range(start // n, (start + count - 1) // n + 1)
        order = np.concatenate(
            [np.random.default_rng((self._config.seed, self._stream + 2, e)).permutation(n) for e in epochs]
        )
        chosen: list[int] = order[start % n : start % n + count].tolist()
        return chosen
