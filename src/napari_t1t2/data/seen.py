"""Which images a model was trained on, by what is left of them in its file: a few bytes of each slice."""

from __future__ import annotations

from base64 import b64encode
from hashlib import blake2b
from typing import Any

import numpy as np

from ..images.pixels import evenly
from ..images.plane import Plane, View
from ..images.volume import Affine, Volume

VOLUME, MARK = 16, 8  # characters of the fingerprints of a volume and of a slice: 1.8 MB for 200,000 slices
NOT_NOTED = "?"  # stands for slices that an earlier version saw
TELLING = 16  # different values, fewer could be those of another slice
WHOLE = 2**28  # bytes; of larger lazy data some slices are looked at, so many in all:
SAMPLED = 64


def fingerprint(volume: Volume, plane: Plane | None = None) -> str:
    """Equal for equal voxels, whatever the file is called and in whatever order it stores them.

    With a plane, `marks` of the slices in it follow, with spaces between.
    """
    seen = View.of("axial", volume.affine).apply(volume.data)
    whole = blake2b(np.ascontiguousarray(seen).data, digest_size=VOLUME // 2).hexdigest()
    return " ".join([whole, *(marks(View.of(plane, volume.affine).apply(volume.data)) if plane else ())])


def marks(slices: Any) -> set[str]:
    """48 bits of each of (N, rows, columns), by which it is known again; nothing of slices with hardly any values.

    They are of its values sorted, without the lowest: the same for a slice turned, mirrored, or with more or less air
    around. A bit less each, and one volume in thousands would be taken for one of a large training set.
    """
    found = set()
    for image in slices:
        values = np.sort(np.asarray(image, np.float32), axis=None)
        values = values[np.isfinite(values) & (values > values[0])]
        if len(values) > TELLING and np.count_nonzero(np.diff(values)) >= TELLING:
            found.add(b64encode(blake2b(values.data, digest_size=MARK * 6 // 8).digest()).decode())
    return found


def images_in(seen: frozenset[str]) -> int:
    """How many volumes there are in what a model has seen, which holds their slices as well."""
    return sum(len(known) == VOLUME for known in seen)


def seen_in_all(seen: frozenset[str], before: frozenset[str]) -> frozenset[str]:
    """What a resumed run has seen; an earlier version did not note the slices of what it saw."""
    lost = images_in(before - seen) and not any(len(known) == MARK for known in before)
    return seen | before | (frozenset([NOT_NOTED]) if lost else frozenset())


def trained_on(data: Any, affine: Affine | None, seen: frozenset[str], plane: Plane) -> bool | None:
    """Whether one slice or more of data (..., rows, columns) is among what a model has `seen` in its plane.

    False says that none is, value for value: resampled, rescaled, or cropped inside the head it is not known again.
    None where that cannot be known: of lazy data beyond `WHOLE` only some slices are read; and models of earlier
    versions noted whole volumes, of which slices and stacks are not known again.
    """
    whole = isinstance(data, np.ndarray) or data.nbytes <= WHOLE
    stacks = np.asarray(data) if whole else data
    stacks = stacks[None] if stacks.ndim == 2 else stacks
    volumes = [stacks[index] for index in np.ndindex(stacks.shape[:-3])]
    slices = any(len(known) == MARK for known in seen)
    if not slices:
        alike = (Volume(data=np.asarray(v, np.float32), name="", affine=affine) for v in volumes if whole)
        return any(fingerprint(volume) in seen for volume in alike) or None
    told = False
    for volume in volumes:
        view = View.of(plane, affine).apply(volume)
        at = range(len(view)) if whole else evenly(len(view), max(1, SAMPLED // len(volumes)))
        own = marks(view[i] for i in at)
        if own & seen:
            return True
        told |= bool(own)
    return False if whole and told and NOT_NOTED not in seen else None
