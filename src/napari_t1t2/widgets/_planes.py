"""Axial, coronal and sagittal slices of several layers side by side, through one cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Layer
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, qRgb
from qtpy.QtWidgets import QWidget

from ..images.plane import WORLD
from ..images.volume import Image
from ._layers import pixels_of, to_world

if TYPE_CHECKING:
    import napari

ROWS = (  # the axis across a plane, those that lead down and right in it, whether the first is mirrored, and the ends
    ("axial", 0, (1, 2), False, "APRL"),
    ("coronal", 1, (0, 2), True, "SIRL"),
    ("sagittal", 2, (0, 1), True, "SIAP"),
)
MOST = 384  # pixels along a side
TITLE = 34  # height of what stands above, in pixels of the screen
KEYS = {
    Qt.Key.Key_Left: (1, -1),
    Qt.Key.Key_Right: (1, 1),
    Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
    Qt.Key.Key_PageUp: (2, -1),
    Qt.Key.Key_PageDown: (2, 1),
}


class PlanesWindow(QWidget):
    """A row for each plane, a column for each layer. Click, drag or use the arrow keys: the cursor is napari's own."""

    def __init__(self, parent: QWidget, viewer: napari.Viewer) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.setWindowTitle("Three planes: synthetic images, not for diagnosis")
        self.setAccessibleName("axial, coronal and sagittal slices through one cursor")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(360, 320)
        self._viewer = viewer
        self._row = 0  # the plane that the keys move in
        self._slices: dict[Any, QImage] = {}
        self.layers: list[Layer] = []
        viewer.dims.events.current_step.connect(self._on_moved)

    def show_layers(self, layers: Sequence[Layer]) -> None:
        """Show these, which are images of at most three axes; the first one's place is what is shown."""
        for layer in self.layers:
            for name in ("contrast_limits", "colormap", "set_data", "data"):
                getattr(layer.events, name).disconnect(self._on_changed)
        self.layers = list(layers)
        for layer in self.layers:
            for name in ("contrast_limits", "colormap", "set_data", "data"):
                getattr(layer.events, name).connect(self._on_changed)
        self._slices.clear()
        if layers:
            low, high = (np.r_[0, 0, 0, end][-3:] for end in layers[0].extent.world)
            steps = np.linalg.norm(to_world(layers[0])[:3, :3], axis=0)
            self._low, self._high = low, np.maximum(high, low)
            self._pixel = max(float(steps[1:].min()), float((high - low).max()) / MOST)
        self.update()

    @property
    def cursor_at(self) -> npt.NDArray[np.float64]:
        """Where the cursor is in the world, (3,)."""
        at: npt.NDArray[np.float64] = np.r_[0, 0, 0, self._viewer.dims.point][-3:].astype(float)
        return at

    def move_cursor(self, row: int, down: float, right: float, across: float | None = None) -> None:
        """Put the cursor to a place of a plane's axes; napari's sliders follow, and what lies outside is moved in."""
        _, axis, (first, second), _, _ = ROWS[row]
        at = self.cursor_at
        at[first], at[second] = down, right
        at[axis] = at[axis] if across is None else across
        at = np.clip(at, self._low, self._high)
        ndim = self._viewer.dims.ndim
        self._row = row
        axes = range(max(0, ndim - 3), ndim)
        self._viewer.dims.set_point(list(axes), at[-len(axes) :].tolist())
        self.update()

    def slice_of(self, layer: Layer, row: int) -> Image:
        """The plane of a row through the cursor, (down, right), interpolated in the layer; NaN outside of it."""
        from scipy.ndimage import map_coordinates

        _, axis, (first, second), mirrored, _ = ROWS[row]
        sides = [max(1, int((self._high - self._low)[a] / self._pixel) + 1) for a in (first, second)]
        down, right = (self._low[a] + self._pixel * np.arange(n) for a, n in zip((first, second), sides, strict=True))
        world = np.empty((3, *sides))
        world[axis] = self.cursor_at[axis]
        world[first], world[second] = (down[::-1] if mirrored else down)[:, None], right
        back = np.linalg.inv(to_world(layer))
        at = np.tensordot(back[:3, :3], world, 1) + back[:3, 3, None, None]
        data = np.asarray(pixels_of(layer)[0])
        data = data.reshape((1, *data.shape)[-3:])
        found: Image = map_coordinates(data, at, np.float32, order=1, mode="nearest")
        outside = [(a < -0.5) | (a > n - 0.5) for a, n in zip(at, data.shape, strict=True)]
        found[np.logical_or.reduce(outside)] = np.nan
        return found

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw all slices, names above, the cursor, and the patient's sides where they are known."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor("black"))
        for column, layer in enumerate(self.layers):
            painter.setPen(QColor("white"))
            title = QRectF(column * self._width, 0, self._width, TITLE)
            name = painter.fontMetrics().elidedText(layer.name, Qt.TextElideMode.ElideMiddle, int(self._width) - 8)
            painter.drawText(title, Qt.AlignmentFlag.AlignCenter, f"{name}\n{self._value(layer)}")
            for row, (name, _, (first, second), mirrored, ends) in enumerate(ROWS):
                image, box = self._image(layer, row), self._box(row, column)
                painter.drawImage(box, image)
                at = self.cursor_at
                x, y = ((at - self._low) / np.maximum(self._high - self._low, 1e-9))[[second, first]]
                spot = QPointF(box.x() + x * box.width(), box.y() + (1 - y if mirrored else y) * box.height())
                painter.setPen(QColor(255, 200, 60, 150))
                painter.drawLine(QPointF(box.x(), spot.y()), QPointF(box.right(), spot.y()))
                painter.drawLine(QPointF(spot.x(), box.y()), QPointF(spot.x(), box.bottom()))
                painter.setPen(QColor("white"))
                known = layer.metadata.get("world") == WORLD
                sides = zip(ends, ("Top", "Bottom", "Left", "Right"), strict=True) if known else ()
                for letter, side in sides:
                    where = getattr(Qt.AlignmentFlag, f"Align{side}") | (
                        Qt.AlignmentFlag.AlignHCenter if side in ("Top", "Bottom") else Qt.AlignmentFlag.AlignVCenter
                    )
                    painter.drawText(box, where, letter)
                painter.drawText(box.adjusted(3, 0, 0, 0), Qt.AlignmentFlag.AlignBottom, name)
        painter.end()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Put the cursor where the mouse is, and go on while it is dragged."""
        if event is None or not self.layers:
            return
        for row in range(len(ROWS)):
            for column in range(len(self.layers)):
                if (box := self._box(row, column)).contains(event.position()):
                    x = (event.position().x() - box.x()) / box.width()
                    y = (event.position().y() - box.y()) / box.height()
                    _, _, (first, second), mirrored, _ = ROWS[row]
                    parts = np.zeros(3)
                    parts[first], parts[second] = 1 - y if mirrored else y, x
                    at = self._low + parts * (self._high - self._low)
                    self.move_cursor(row, float(at[first]), float(at[second]))

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Only sent while a button is held."""
        self.mousePressEvent(event)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Arrows move the cursor in the plane that was clicked last, Page Up and Down across it."""
        if event is None or event.key() not in KEYS or not self.layers:
            super().keyPressEvent(event)
            return
        which, step = KEYS[Qt.Key(event.key())]
        _, axis, (first, second), mirrored, _ = ROWS[self._row]
        at = self.cursor_at
        moved = (first, second, axis)[which]
        at[moved] += step * self._pixel * (-1 if which == 0 and mirrored else 1)
        self.move_cursor(self._row, at[first], at[second], at[axis])

    def _on_moved(self, _: Any = None) -> None:
        self.update()

    def _on_changed(self, _: Any = None) -> None:
        self._slices.clear()
        self.update()

    @property
    def _width(self) -> float:
        return float(self.width()) / max(1, len(self.layers))

    def _box(self, row: int, column: int) -> QRectF:
        """Where a slice is drawn, as large as fits."""
        sides = self._high - self._low + self._pixel
        heights = [sides[down] for _, _, (down, _), _, _ in ROWS]
        widths = [sides[right] for _, _, (_, right), _, _ in ROWS]
        scale = min((self._width - 6) / max(widths), (self.height() - TITLE - 12) / sum(heights))
        top = TITLE + sum(h * scale + 4 for h in heights[:row])
        left = column * self._width + (self._width - widths[row] * scale) / 2
        return QRectF(left, top, widths[row] * scale, heights[row] * scale)

    def _image(self, layer: Layer, row: int) -> QImage:
        """The slice in the colours of its layer; made anew where the cursor left its plane or the layer changed."""
        key = layer.unique_id, row, round(float(self.cursor_at[ROWS[row][1]]) / self._pixel, 2)
        if key not in self._slices:
            if len(self._slices) > 100:
                self._slices.clear()
            found = self.slice_of(layer, row)
            low, high = layer.contrast_limits
            levels = np.nan_to_num(np.clip((found - low) / ((high - low) or 1), 0, 1) * 255).astype(np.uint8)
            levels = np.ascontiguousarray(levels)
            image = QImage(levels.tobytes(), *levels.shape[::-1], levels.shape[1], QImage.Format.Format_Indexed8)
            colours = np.rint(255 * layer.colormap.map(np.linspace(0, 1, 256))).astype(int)
            image.setColorTable([qRgb(*colour[:3].tolist()) for colour in colours])
            self._slices[key] = image.copy()
        return self._slices[key]

    def _value(self, layer: Layer) -> str:
        """What the layer holds at the cursor."""
        index = np.rint(np.linalg.inv(to_world(layer)) @ [*self.cursor_at, 1])[:3].astype(int)
        data = pixels_of(layer)[0]
        shape = (1, *data.shape)[-3:]
        if any(not 0 <= i < n for i, n in zip(index, shape, strict=True)):
            return ""
        return f"{float(np.asarray(data[tuple(index[-data.ndim :])])):.4g} at the cursor"
