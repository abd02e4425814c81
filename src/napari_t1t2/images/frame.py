"""Fit slices into the square that the networks are given, without stretching, and take them out again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .volume import Affine, Image

AIR = np.float32(-1)  # padding looks like the background


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a slice of `shape` lies in a frame of `framed`: scaled to `scaled`, then centred."""

    shape: tuple[int, int]
    scaled: tuple[int, int]
    framed: tuple[int, int]

    @classmethod
    def of(
        cls,
        shape: tuple[int, int],
        size: int,
        multiple: int,
        *,
        spacing: tuple[float, float] | None = None,
        pixel: float = 0.0,
    ) -> Frame:
        """For slices of (rows, columns), of (row, column) `spacing` in mm where that is known.

        With a spacing and a `pixel`, also in mm, a pixel is brought to that size along both axes. Otherwise slices
        keep their pixels, or are fitted into a square of `size`. Sides are rounded up to `multiple`, and to `size`.
        """
        zoom = (size / max(shape),) * 2 if size else (1.0, 1.0)
        if spacing and pixel:
            zoom = (spacing[0] / pixel, spacing[1] / pixel)
        height, width = (max(1, round(side * z)) for side, z in zip(shape, zoom, strict=True))
        rows, columns = (max(size, -(-side // multiple) * multiple) for side in (height, width))
        return cls(shape, (height, width), (rows, columns))

    def padded_to(self, framed: tuple[int, int]) -> Frame:
        """The same with more air around it."""
        return replace(self, framed=framed)

    def put(self, slices: Image) -> Image:
        """(N, rows, columns) in [-1, 1] to (N, *framed), padded with air."""
        out = np.full((len(slices), *self.framed), AIR, np.float32)
        out[self._window()] = _resize(slices, self.scaled)
        return out

    def take(self, framed: Image) -> Image:
        """The inverse of `put`: (N, *framed) to (N, rows, columns)."""
        return _resize(framed[self._window()], self.shape)

    def affine(self) -> Affine:
        """(column, row, slice) index in the frame to that in the slices."""
        _, *window = self._window()
        to_slice: Affine = np.eye(4)
        for axis, side in enumerate((1, 0)):
            zoom = self.scaled[side] / self.shape[side]
            to_slice[axis, axis] = 1 / zoom
            to_slice[axis, 3] = (0.5 - window[side].start) / zoom - 0.5
        return to_slice

    def _window(self) -> tuple[slice, slice, slice]:
        top, left = ((big - small) // 2 for big, small in zip(self.framed, self.scaled, strict=True))
        return slice(None), slice(top, top + self.scaled[0]), slice(left, left + self.scaled[1])


def _resize(slices: Image, shape: tuple[int, int]) -> Image:
    from skimage.transform import resize  # brings scipy, as in `intensity`

    if slices.shape[1:] == shape:
        return slices
    smaller = shape[0] < slices.shape[1] or shape[1] < slices.shape[2]
    scaled = [resize(s, shape, order=1 if smaller else 3, mode="edge", anti_aliasing=smaller) for s in slices]
    result: Image = np.clip(np.stack(scaled), -1, 1).astype(np.float32)  # cubic overshoots at edges
    return result
