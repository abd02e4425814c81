"""A layer that fills while its pixels are made, and what the user looks at meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from napari.components import Dims
from napari.layers import Image as ImageLayer
from napari.layers import Layer

from ..runs.child import Slice

RENAME = 0.1  # of a layer that fills between two of its names: each takes napari 50 ms


@dataclass(eq=False)
class Filling:
    """A layer that fills while the job runs, and says so in its name and metadata until it is full."""

    layer: ImageLayer
    name: str  # what it is called in the end
    called: str  # what it is called now, unless the user has renamed it
    said: float = 0.0  # the part that its name says

    def show(self, fraction: float) -> None:
        """Draw what is there, and say how much that is."""
        if fraction == 1:
            self.layer.metadata = {k: v for k, v in self.layer.metadata.items() if k != "complete"}
        if self.layer.name == self.called and (fraction == 1 or fraction - self.said >= RENAME):
            self.layer.name = self.name if fraction == 1 else f"{self.name}, {fraction:.0%} done"
            self.called, self.said = self.layer.name, fraction
        self.layer.refresh()


class Looking:
    """What the user looks at; the window writes it, the job reads it."""

    at: Slice | None = None

    def follow(self, layer: Layer | None, level: int, dims: Dims) -> None:
        """Note which slice of a layer is on screen, as an index of its pixels; none in 3D or along other axes."""
        self.at = None
        if layer is None or layer.ndim < 3 or dims.ndim < layer.ndim:
            return
        seen = [axis - (dims.ndim - layer.ndim) for axis in dims.displayed]
        if len(seen) != 2 or min(seen) < layer.ndim - 3:
            return
        point = np.array(dims.point[-layer.ndim :])
        point[seen] = 0  # as napari takes a slice of an oblique layer
        several = getattr(layer, "multiscale", False)
        index = np.rint(layer.world_to_data(point) / (layer.downsample_factors[level] if several else 1))
        if all(0 <= index[axis] < layer.data.shape[axis] for axis in range(layer.ndim) if axis not in seen):
            self.at = tuple(None if axis in seen else int(i) for axis, i in enumerate(index))
