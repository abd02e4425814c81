"""Prepared slices: in memory or, for sets that memory does not hold, in a file."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Any, Self, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from ..images.volume import Image

STEP = np.float32(2**-14)  # of the numbers stored: an eighth of float16's next to 1, and -1, 0 and 1 are exact

Images: TypeAlias = "Image | PreparedSlices"  # (N, H, W)
Stored = npt.NDArray[np.int16]


def coded(inputs: Image) -> Stored:
    """What the networks take, within -2 and 2, as it is stored: half the bytes, at most 3e-5 off."""
    steps: Stored = np.rint(inputs / STEP).astype(np.int16)
    return steps


class PreparedSlices:
    """(N, H, W) slices in [-1, 1], each with its depth where the networks take that; `rows` says where each lies."""

    def __init__(self, side: tuple[int, int], rows: npt.NDArray[np.intp]) -> None:
        self.shape = (len(rows), *side)
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, chosen: int | np.integer[Any]) -> Image: ...
    @overload
    def __getitem__(self, chosen: npt.NDArray[np.intp]) -> Self: ...
    def __getitem__(self, chosen: int | np.integer[Any] | npt.NDArray[np.intp]) -> Image | Self:
        """One slice (H, W), or those of the indices given, of which nothing is read or copied."""
        if not isinstance(chosen, np.ndarray):
            image: Image = self.read(int(chosen))[0]
            return image
        part = copy(self)
        PreparedSlices.__init__(part, (self.shape[1], self.shape[2]), self.rows[chosen])
        return part

    def read(self, index: int, rows: slice = slice(None), columns: slice = slice(None)) -> Image:
        """(C, rows, columns) of one slice: the image, and its depth where the networks take that."""
        raise NotImplementedError


class HeldSlices(PreparedSlices):
    """Slices in memory, as `inputs` of (rows, C, H, W)."""

    def __init__(self, inputs: Image, rows: npt.NDArray[np.intp]) -> None:
        super().__init__((inputs.shape[2], inputs.shape[3]), rows)
        self.inputs = inputs

    def read(self, index: int, rows: slice = slice(None), columns: slice = slice(None)) -> Image:
        """A view of the slice."""
        return self.inputs[self.rows[index], :, rows, columns]


class _Held(FileIO):
    """A file to be read, closed with the last of those that read it: slices and parts of them come and go."""

    def __del__(self) -> None:
        self.close()


class StoredSlices(PreparedSlices):
    """Slices in a file; those asked for are read, by several threads if need be, and nothing else is held.

    They are read, not mapped: mapped pages count as this process's memory until something drops them, and a cold page
    at a time is slow (0.9 to 2.7 ms a slice of 256x256 against 0.4 ms; what the system still holds takes 0.05 ms).
    """

    def __init__(self, path: Path, channels: int, side: tuple[int, int], rows: npt.NDArray[np.intp]) -> None:
        super().__init__(side, rows)
        self._each = channels, *side
        self._change: Callable[[Image], Image] | None = None
        self._file = _Held(path)  # held: the slices stay readable where the folder is replaced
        self._reading = Lock()

    def read(self, index: int, rows: slice = slice(None), columns: slice = slice(None)) -> Image:
        """The slice from the file, in float32."""
        size = int(np.prod(self._each))
        with self._reading:
            self._file.seek(int(self.rows[index]) * size * np.int16().itemsize)
            stored: Stored = np.fromfile(self._file, np.int16, size)
        inputs: Image = stored.reshape(self._each)[:, rows, columns] * STEP
        if self._change:
            inputs[0] = self._change(inputs[0])
        return inputs

    def change(self, change: Callable[[Image], Image]) -> None:
        """Read other intensities from now on, here and in parts that are taken from now on."""
        self._change = change


def change_intensities(images: Images, change: Callable[[Image], Image]) -> None:
    """Of all slices, from now on; those in memory are changed in place."""
    if isinstance(images, StoredSlices):
        images.change(change)
        return
    held = images.inputs[:, 0] if isinstance(images, HeldSlices) else np.asarray(images)
    for image in held:  # one at a time: less is copied
        image[:] = change(image)
