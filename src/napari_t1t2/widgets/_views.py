"""Two layers as one picture: curtain, checkerboard, blink, difference; on 2D and volumes, in every plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from napari.layers import Layer
from napari.utils import Colormap
from qtpy.QtCore import QObject, QTimer, Signal

from ..errors import Refusal
from ..images.volume import Affine, Image
from ..provenance import Provenance
from ._layers import affine_in_window, pixels_of, place_of, share_space, to_world

if TYPE_CHECKING:
    import napari

Way = Literal["curtain", "checkerboard", "blink", "difference"]
WAYS: tuple[Way, ...] = get_args(Way)
LIMITS = ("contrast_limits",)
BLINK = 600  # ms; slower than what can harm people with photosensitive epilepsy (3 Hz)
OF_PLACE = ("world", "stored_towards")  # what saving, and the three planes, must know
ONE_PIXEL = 1e-3  # part of it by which two grids may differ


class Composite:
    """Two images put together slice by slice, when napari asks: what `Image` layers take for an array.

    It lies on the grid of the first layer; the second is interpolated where it has another. Raises `Refusal` where
    the two cannot be laid over each other.
    """

    def __init__(self, one: Layer, other: Layer) -> None:
        self._layers = one, other  # their data may change
        pixels, second = (pixels_of(layer)[0] for layer in self._layers)
        self.shape, self.ndim, self.size, self.dtype = pixels.shape, pixels.ndim, pixels.size, np.dtype(np.float32)
        self.way: Way = "curtain"
        self.at = 0.5  # where the curtain hangs, from left to right; of a checkerboard, how small its squares are
        self.turned = False  # whether blinking shows the second
        self.gain, self.offset = 1.0, 0.0  # that bring the second into the units of the first
        self.seen = (1, 2)  # of the three axes of the world, those that lead down and right on screen
        self._world = to_world(one)
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in (1, *self.shape)[-3:]])).reshape(3, -1)
        where = self._world[:3, :3] @ corners + self._world[:3, 3:]
        self._low, self._high = where.min(axis=1), where.max(axis=1)
        placed = share_space(one, other)
        alike = self.shape == second.shape
        self._to_other: Affine | None = None
        if placed and not (alike and np.allclose(to_world(one), to_world(other), atol=ONE_PIXEL)):
            lps = np.linalg.inv(affine_in_window(other)) @ affine_in_window(one)  # (x, y, z) of one to those of other
            order = [2, 1, 0, 3]
            self._to_other = lps[np.ix_(order, order)]
        if (self._to_other is None and not alike) or (self._to_other is not None and max(self.ndim, other.ndim) > 3):
            raise Refusal(
                f"{one.name!r} and {other.name!r} do not lie in one place: choose layers of one shape, or such that "
                "say where they lie."
            )

    def __getitem__(self, key: Any) -> Image:
        key = (*(key if isinstance(key, tuple) else (key,)), *[slice(None)] * self.ndim)[: self.ndim]
        one = np.asarray(pixels_of(self._layers[0])[0][key], np.float32)
        if self.way == "blink" and not self.turned:
            return one
        other = self._second(key) * np.float32(self.gain) + np.float32(self.offset)
        if self.way == "blink":
            return other
        if self.way == "difference":
            return one - other
        second = self._is_second(key)
        return np.where(second, other, one)

    def part_at(self, right: float) -> float:
        """How far from left to right a place of the world lies, 0 to 1."""
        axis = self.seen[1]
        part = (right - self._low[axis]) / max(self._high[axis] - self._low[axis], 1e-9)
        return float(np.clip(part, 0, 1))

    def _grid(self, key: tuple[Any, ...]) -> list[Any]:
        """Of each of the last three axes its indices, to be broadcast; numbers where there is one alone."""
        cut = [np.arange(n)[k] for k, n in zip(key[-3:], self.shape[-3:], strict=True)]
        many = [axis for axis, indices in enumerate(cut) if np.ndim(indices)]
        for place, axis in enumerate(many):
            cut[axis] = cut[axis].reshape([-1 if i == place else 1 for i in range(len(many))])
        return [0] * (3 - len(cut)) + cut

    def _is_second(self, key: tuple[Any, ...]) -> npt.NDArray[np.bool_]:
        grid, (down, right) = self._grid(key), self.seen
        along = {
            axis: (sum(self._world[axis, i] * grid[i] for i in range(3)) + self._world[axis, 3] - self._low[axis])
            for axis in self.seen
        }
        width = max(self._high[right] - self._low[right], 1e-9)
        if self.way == "curtain":
            return np.asarray(along[right] > self.at * width)
        square = width / (2 + 14 * self.at)
        return np.asarray((np.floor(along[right] / square) + np.floor(along[down] / square)) % 2 == 1)

    def _second(self, key: tuple[Any, ...]) -> Image:
        second = pixels_of(self._layers[1])[0]
        if self._to_other is None:
            return np.asarray(second[key], np.float32)
        from scipy.ndimage import map_coordinates

        grid, data = self._grid(key), np.asarray(second, np.float32)
        at = [sum(row[i] * grid[i] for i in range(3)) + row[3] for row in self._to_other[:3]]
        where = np.broadcast_arrays(*at, np.empty(np.broadcast_shapes(*(np.shape(g) for g in grid))))[:3]
        made: Image = map_coordinates(data.reshape((1, *data.shape)[-3:]), where, order=1, cval=float(data.min()))
        return made


DIFFERENCES = {  # maps of differences and of errors that people who do not tell red from green can read
    "blue - orange": (Colormap([[0.3, 0.7, 1], [0, 0, 0], [1, 0.55, 0.2]], name="blue-black-orange"), "inferno"),
    "purple - green": (Colormap([[0.75, 0.5, 1], [0, 0, 0], [0.45, 0.9, 0.4]], name="purple-black-green"), "magma"),
    "black - white": ("gray", "gray"),
}


class View(QObject):
    """The layer in which two others are one picture, and whatever moves it; gone when `close` is called."""

    hung = Signal(float)  # where the mouse has moved the curtain
    shows = Signal(str)  # the name of the layer that blinking shows

    def __init__(self, parent: QObject, viewer: napari.Viewer) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.layer: Layer | None = None
        self.layers: tuple[Layer, ...] = ()
        self._before: list[Any] = []  # their contrast limits
        self._same = True
        self._timer = QTimer(self)
        self._timer.setInterval(BLINK)
        self._timer.timeout.connect(self._on_blink)
        for change in ("order", "ndisplay"):
            getattr(viewer.dims.events, change).connect(self._on_dims)

    def show(self, one: Layer, other: Layer, way: Way, *, same: bool, at: float) -> None:
        """Show two layers in one; with the `same` contrast limits, or each with its own. Raises `Refusal`."""
        if (one, other) != self.layers or self.layer is None:
            made = Composite(one, other)  # refuses before anything is changed
            self._release()
            self.layers, self._before = (one, other), [layer.contrast_limits for layer in (one, other)]
            self._put(made)
            for layer in self.layers:
                layer.events.contrast_limits.connect(self._on_limits)
        assert self.layer is not None
        self.layer.data.way, self.layer.data.at, self._same = way, at, same
        self.layer.name = f"{way}: {one.name} | {other.name}"
        self._viewer.layers.unlink_layers([self.layer, *self.layers], LIMITS)
        if way == "difference":
            self.layer.contrast_limits = np.diff(one.contrast_limits)[0] / 2 * np.array([-1, 1])
        else:
            self.layer.contrast_limits = one.contrast_limits
        if same and way != "difference":
            other.contrast_limits = one.contrast_limits
            self._viewer.layers.link_layers([self.layer, *self.layers], LIMITS)
        (self._timer.start if way == "blink" else self._timer.stop)()
        self._on_limits()
        self._on_dims()

    def hang(self, at: float) -> None:
        """Move the curtain, or change the size of the squares."""
        if self.layer is not None and at != self.layer.data.at:
            self.layer.data.at = at
            self.layer.refresh(extent=False, thumbnail=False)

    def close(self) -> None:
        """Take the layer away, and give the two their own contrast limits back."""
        self._timer.stop()
        self._release()
        layer, self.layer, self.layers = self.layer, None, ()
        if layer is not None:
            self._viewer.mouse_move_callbacks.remove(self._on_mouse)
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _put(self, made: Composite) -> None:
        """Into the layer that is there: where layers go and come in one frame, software OpenGL crashes."""
        one = self.layers[0]
        shown = place_of(one).geometry
        if self.layer is not None and self.layer.ndim == one.ndim:
            for name, value in ({"data": made} | shown).items():
                setattr(self.layer, name, value)
            return
        if self.layer is not None:
            self._viewer.layers.remove(self.layer)
        else:
            self._viewer.mouse_move_callbacks.append(self._on_mouse)
        active = self._viewer.layers.selection.active
        says = Provenance(kind="comparison", contrast="comparison", meaning="two images in one picture")
        about = {key: one.metadata[key] for key in OF_PLACE if key in one.metadata} | says.to_dict()
        self.layer = self._viewer.add_image(
            made, name="comparison", contrast_limits=one.contrast_limits, rgb=False, metadata=about, **shown
        )
        self._viewer.layers.selection.active = active

    def _release(self) -> None:
        for layer, limits in zip(self.layers, self._before, strict=True):
            layer.events.contrast_limits.disconnect(self._on_limits)
            if layer in self._viewer.layers:
                together = [one for one in (self.layer, *self.layers) if one in self._viewer.layers]
                self._viewer.layers.unlink_layers(together, LIMITS)
                layer.contrast_limits = limits
        self._before, self.layers = [], ()

    def _on_limits(self, _: Any = None) -> None:
        """With limits of its own, the second is brought into the units of the first."""
        if self.layer is None or len(self.layers) != 2:
            return
        made = self.layer.data
        (low, high), (low_other, high_other) = (layer.contrast_limits for layer in self.layers)
        made.gain = 1.0 if self._same else (high - low) / ((high_other - low_other) or 1)
        made.offset = 0.0 if self._same else low - made.gain * low_other
        self.layer.refresh(extent=False, thumbnail=False)

    def _on_dims(self, _: Any = None) -> None:
        if self.layer is None:
            return
        dims = self._viewer.dims
        down, right = (axis - dims.ndim + 3 for axis in dims.displayed[-2:])
        if min(down, right) >= 0:
            self.layer.data.seen = (down, right)
        self.layer.refresh()

    def _on_blink(self) -> None:
        if self.layer is not None:
            self.layer.data.turned = not self.layer.data.turned
            self.layer.refresh(extent=False, thumbnail=False)
            self.shows.emit(self.layers[self.layer.data.turned].name)

    def _on_mouse(self, viewer: Any, event: Any) -> None:
        if self.layer is not None and "Shift" in event.modifiers and self.layer.data.way == "curtain":
            self.hung.emit(self.layer.data.part_at(event.position[viewer.dims.displayed[-1]]))
