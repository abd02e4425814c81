"""Fit slices into the frame that the networks see, without stretching, and take them out again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.transform import resize

from .volume import Image

AIR = np.float32(-1)  # padding looks like the background


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a slice of `shape` lies in a frame of `framed`: scaled to `scaled`, then centred."""

    shape: tuple[int, int]
    scaled: tuple[int, int]
    framed: tuple[int, int]

    @classmethod
    def of(cls, shape: tuple[int, int], size: int, multiple: int) -> Frame:
        """For slices of (rows, columns): a square of `size`, or for 0 the next multiple of `multiple`."""
        if size == 0:
            rows, columns = (-(-side // multiple) * multiple for side in shape)
            return cls(shape, shape, (rows, columns))
        zoom = size / max(shape)
        height, width = (max(1, round(side * zoom)) for side in shape)
        return cls(shape, (height, width), (size, size))

    def put(self, slices: Image) -> Image:
        """(N, rows, columns) in [-1, 1] to (N, *framed), padded with air."""
        out = np.full((len(slices), *self.framed), AIR, np.float32)
        out[self._window()] = _resize(slices, self.scaled)
        return out

    def take(self, framed: Image) -> Image:
        """The inverse of `put`: (N, *framed) to (N, rows, columns)."""
        return _resize(framed[self._window()], self.shape)

    def _window(self) -> tuple[slice, slice, slice]:
        top, left = ((big - small) // 2 for big, small in zip(self.framed, self.scaled, strict=True))
        return slice(None), slice(top, top + self.scaled[0]), slice(left, left + self.scaled[1])


def _resize(slices: Image, shape: tuple[int, int]) -> Image:
    if slices.shape[1:] == shape:
        return slices
    smaller = shape[0] < slices.shape[1]
    scaled = [resize(s, shape, order=1 if smaller else 3, mode="edge", anti_aliasing=smaller) for s in slices]
    result: Image = np.clip(np.stack(scaled), -1, 1).astype(np.float32)  # cubic overshoots at edges
    return result
