"""Slices that somebody looks at, made before their turn in a volume that is being translated."""

from __future__ import annotations

import numpy as np

from ..config import Planes, Side
from ..errors import Refusal
from ..images.intensity import Intensity
from ..images.volume import Image, Volume
from ..model.saved import Model
from .prepare import input_range
from .translation import batches, views_for, volumes_in


class Glimpses:
    """Slices in whatever plane, each made by itself into `made`, (..., Z, Y, X), that `stream` fills.

    Those of another plane than the model's are what the networks make of such a slice; they stay until the model's
    own slices take their place, and never replace any of these.
    """

    def __init__(self, volume: Volume, made: Image, model: Model, to: Side, planes: Planes) -> None:
        self._model, self._to = model, to
        self._parts = list(zip(volumes_in(volume.data), volumes_in(made), strict=True))
        self._views = views_for("three" if made.ndim > 2 else "one", model.config.plane, volume.affine, volume.spacing)
        self._planes = len(self._views) if planes == "three" else 1
        self._leading = made.shape[:-3]
        self._shown: set[tuple[int | None, ...]] = set()
        self.ranges: dict[int, Intensity] = {}

    def show(self, at: tuple[int | None, ...], done: int) -> bool:
        """Make a slice unless it is there, an index of the data with None along its two axes; whether it was made.

        `done` slices have had their turn.
        """
        if at in self._shown or len(self._views) == 1:
            return False
        self._shown.add(at)
        *leading, z, y, x = at
        number = int(np.ravel_multi_index([i or 0 for i in leading], self._leading)) if leading else 0
        block, result = self._parts[number]
        axis, index = next((a, i) for a, i in enumerate((z, y, x)) if i is not None)

        # of the model's own slices, in the order of their turns, those that are still to come
        own = self._views[0]
        count = block.shape[own.axes[0]]
        turn = sum(block.shape[view.axes[0]] for view in self._views[: self._planes])
        had = min(max(done - number * turn, 0), count)
        coming = [slice(None)] * 3
        coming[own.axes[0]] = slice(0, count - had) if own.flips[0] else slice(had, count)
        if had == count or (axis == own.axes[0] and index not in range(count)[coming[axis]]):
            return False

        # the networks' answer to that slice alone, put where it is still to come
        view = next(v for v in self._views if v.axes[0] == axis)
        if number not in self.ranges:
            try:
                self.ranges[number] = input_range(block, self._model, self._to)[0]
            except Refusal:  # all of one value: whoever translates it says so
                return False
        seen_at = block.shape[axis] - 1 - index if view.flips[0] else index
        seen = view.apply(block)[seen_at : seen_at + 1]
        ((_, frame, _, y_made),) = batches(seen, view, self._model, self._to, self.ranges[number])
        values = self._model.about.ranges[self._to].synthetic(frame.take(y_made[:, 0].float().cpu().numpy()))
        there = view.undo(values)
        into, of = list(coming), list(coming)
        into[axis], of[axis] = slice(index, index + 1), slice(None)
        result[tuple(into)] = there[tuple(of)]
        return True
