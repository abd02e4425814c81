"""Seeded batches of slices: a batch depends on the seed and the step alone, so runs resume exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..config import TrainConfig
from .inputs import hold
from .stored import HeldSlices, Images

SHIFT = 8  # of the side; whole slices of pairs are moved by up to one part of it


class Bank:
    """Slices, on the device if they fit into memory. A batch depends on the seed and the step alone: runs resume."""

    def __init__(
        self,
        images: Images,
        config: TrainConfig,
        device: torch.device,
        stream: int,
        chosen: npt.NDArray[np.intp] | None = None,
        part: slice = slice(None),
        moved: bool = False,
    ) -> None:
        self._moved = moved  # where a crop is the whole slice, at random: else few pairs are learned by heart
        self._part = part  # of each batch, the slices that are for this process
        self._slices = hold(images, config.model) if isinstance(images, np.ndarray) else images
        self._held = torch.from_numpy(self._slices.inputs).to(device) if isinstance(self._slices, HeldSlices) else None
        self._chosen = np.arange(len(images)) if chosen is None else chosen
        self._config = config
        self._device = device
        self._stream = stream  # tells the two contrasts' random numbers apart
        self._epochs: dict[int, npt.NDArray[np.intp]] = {}

    def batch(self, step: int) -> Tensor:
        """(B, 1 or 2, H, W): each slice once per epoch, in a new order every epoch, cropped and mirrored at random."""
        c, (_, height, width) = self._config, self._slices.shape
        rng = np.random.default_rng((c.seed, self._stream, step))
        rows, columns = (min(c.crop or side, side) for side in (height, width))
        made: list[Tensor] = []
        for place, index in enumerate(self._order(step * c.batch, c.batch)):
            top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
            down, right = (
                int(rng.integers(-(side // SHIFT), side // SHIFT + 1)) if self._moved and side == cut else 0
                for side, cut in ((height, rows), (width, columns))
            )
            mirrored = c.flip and rng.random() < 0.5  # drawn for every slice, so that all processes draw alike
            if place in range(c.batch)[self._part]:
                image = self._crop(index, slice(top, top + rows), slice(left, left + columns))
                image = image.flip(-1) if mirrored else image
                made.append(_shifted(image, down, right) if down or right else image)
        batch = torch.stack(made)
        if batch.device.type != self._device.type:  # from a file: the copy runs beside what the GPU is doing
            batch = batch.pin_memory() if self._device.type == "cuda" else batch
            batch = batch.to(self._device, non_blocking=True)
        return batch

    def _crop(self, index: int, rows: slice, columns: slice) -> Tensor:
        """(1 or 2, rows, columns)."""
        if self._held is not None:
            return self._held[self._slices.rows[index], :, rows, columns]
        return torch.from_numpy(self._slices.read(index, rows, columns))

    def _order(self, start: int, count: int) -> Sequence[int]:
        n = len(self._chosen)
        epochs = range(start // n, (start + count - 1) // n + 1)
        self._epochs = {e: self._epochs[e] if e in self._epochs else self._permutation(e) for e in epochs}
        order = np.concatenate([self._epochs[e] for e in epochs])
        chosen: list[int] = self._chosen[order[start % n : start % n + count]].tolist()
        return chosen

    def _permutation(self, epoch: int) -> npt.NDArray[np.intp]:
        """Of all that are chosen; a millisecond for each 100 000, so it is kept while the epoch lasts."""
        rng = np.random.default_rng((self._config.seed, self._stream + 2, epoch))
        return rng.permutation(len(self._chosen))


def _shifted(image: Tensor, down: int, right: int) -> Tensor:
    """(1 or 2, H, W), moved by whole pixels; what comes in is air."""
    air = image.new_tensor([-1, 0])[: len(image)].view(-1, 1, 1)
    return pad(image - air, (right, -right, down, -down)) + air
