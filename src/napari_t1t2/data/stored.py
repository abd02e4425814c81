"""Slices in a file, for sets that memory does not hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from ..images.volume import Image

STEP = np.float32(2**-14)  # of the numbers stored: an eighth of float16's next to 1, and -1, 0 and 1 are exact

Images: TypeAlias = "Image | StoredSlices"  # (N, H, W)
Stored = npt.NDArray[np.int16]


def coded(inputs: Image) -> Stored:
    """What the networks take, within -2 and 2, as it is stored: half the bytes, at most 3e-5 off."""
    steps: Stored = np.rint(inputs / STEP).astype(np.int16)
    return steps


class StoredSlices:
    """(N, H, W) slices in [-1, 1] of a file; those asked for are read, and nothing else is held.

    They are read, not mapped: mapped pages count as this process's memory until something drops them, and a cold page
    at a time is slow (0.9 to 2.7 ms a slice of 256x256 against 0.4 ms; what the system still holds takes 0.05 ms).
    """

    def __init__(self, path: Path, channels: int, side: tuple[int, int], rows: npt.NDArray[np.intp]) -> None:
        self.path = path
        self.shape = (len(rows), *side)
        self._channels = channels
        self._rows = rows  # where each slice lies in the file
        self._file = path.open("rb", buffering=0)  # held: the slices stay readable where the folder is replaced

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, chosen: int | np.integer[Any]) -> Image: ...
    @overload
    def __getitem__(self, chosen: npt.NDArray[np.intp]) -> StoredSlices: ...
    def __getitem__(self, chosen: int | np.integer[Any] | npt.NDArray[np.intp]) -> Image | StoredSlices:
        """One slice, or those of the indices given, unread."""
        if isinstance(chosen, np.ndarray):
            return StoredSlices(self.path, self._channels, (self.shape[1], self.shape[2]), self._rows[chosen])
        image: Image = self.stored(int(chosen))[0] * STEP
        return image

    def stored(self, index: int) -> Stored:
        """(C, H, W) of one slice, in steps of `STEP`: the image, and its depth where the networks take that."""
        shape = self._channels, *self.shape[1:]
        size = int(np.prod(shape))
        self._file.seek(int(self._rows[index]) * size * np.int16().itemsize)
        return np.fromfile(self._file, np.int16, size).reshape(shape)
