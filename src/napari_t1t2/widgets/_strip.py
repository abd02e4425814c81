"""What a training shows while it learns: one strip of pictures in the dock, and layers only for who asks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QGuiApplication, QPainter, QPixmap, QResizeEvent
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QSlider, QWidget

from ..events import Preview
from ..runs.folder import PREVIEW_FOLDER
from ..runs.listing import previews_in
from ._form import stack

if TYPE_CHECKING:
    import napari

    from ..images.volume import Image

HIGHEST = 240  # pixels of the pictures, at most; on a small screen a quarter of it


class Picture(QLabel):
    """A picture that keeps its proportions, with a caption in each of its three columns and two rows."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = QPixmap()
        self.captions: list[str] = []
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        screen = QGuiApplication.primaryScreen()
        self._highest = min(HIGHEST, screen.availableGeometry().height() // 4) if screen else HIGHEST

    def show_picture(self, path: Path) -> None:
        """Show a preview that a run has written."""
        self.whole = QPixmap(str(path))
        self.setAccessibleName(", ".join(self.captions))
        self.updateGeometry()
        self._draw()

    def sizeHint(self) -> QSize:
        """As high as its width allows, within limits."""
        ratio = self.whole.height() / max(1, self.whole.width())
        return QSize(240, min(self._highest, round(self.width() * ratio)) if ratio else 0)

    def minimumSizeHint(self) -> QSize:
        """No more: that of a label is the size of what it shows, which then never shrinks."""
        return self.sizeHint()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Draw it as large as there is room."""
        super().resizeEvent(event)
        self.updateGeometry()
        self._draw()

    def _draw(self) -> None:
        if self.whole.isNull() or self.size().isEmpty():
            return
        dense = self.devicePixelRatioF()
        how = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
        drawn = self.whole.scaled(self.size() * dense, *how)
        drawn.setDevicePixelRatio(dense)
        painter = QPainter(drawn)
        font = painter.font()
        font.setPixelSize(11)
        painter.setFont(font)
        width, height = drawn.width() / dense / 3, drawn.height() / dense / 2
        for n, caption in enumerate(self.captions):
            at = QRectF(n % 3 * width + 3, n // 3 * height, width - 3, height)
            for colour, place in (("black", at.translated(1, 1)), ("white", at)):
                painter.setPen(QColor(colour))
                painter.drawText(place, Qt.TextFlag.TextWordWrap, caption)
        painter.end()
        self.setPixmap(drawn)


class Strip(QWidget):
    """The pictures of a run, the step they are of, a slider through them, and another for the slice."""

    slice_chosen = Signal(float)  # how far up the held-out head, from 0 to 1

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._paths: list[Path] = []
        self._shapes: tuple[tuple[int, int], tuple[int, int]] | None = None
        self.picture = Picture()
        self.step = QLabel()
        self.history, self.slice = QSlider(Qt.Orientation.Horizontal), QSlider(Qt.Orientation.Horizontal)
        self.slice.setRange(0, 100)
        self.slice.setValue(50)
        self.layers = QPushButton("Show as layers")
        self.layers.setToolTip("Add these pictures as layers beside all others. They stay as they are at this step.")
        rows = QGridLayout(controls := QWidget())
        rows.setContentsMargins(0, 0, 0, 0)
        for row, (slider, text, tip) in enumerate(
            (
                (self.history, "step", "Through the previews so far; at the right end, the newest."),
                (self.slice, "slice", "Which slice of the held-out head the next previews show, from bottom to top."),
            )
        ):
            slider.setAccessibleName(f"{text} of the preview")
            slider.setToolTip(tip)
            slider.setMinimumWidth(40)
            rows.addWidget(QLabel(text), row, 0)
            rows.addWidget(slider, row, 1)
        beside = QHBoxLayout(top := QWidget())
        beside.setContentsMargins(0, 0, 0, 0)
        beside.addWidget(self.step, 1)
        beside.addWidget(self.layers)
        stack(self, top, self.picture, controls)
        self.history.valueChanged.connect(self._show)
        self.slice.valueChanged.connect(lambda at: self.slice_chosen.emit(at / 100))
        self.layers.clicked.connect(self.show_layers)
        self.hide()

    def open(self, run: Path, labels: tuple[str, str]) -> None:
        """Show what a run has written so far; nothing where there is nothing yet."""
        t1, t2 = self._labels = labels
        self.picture.captions = [t1, f"{t2} synthetic", f"{t1} again", t2, f"{t1} synthetic", f"{t2} again"]
        self._run, self._shapes = run, None
        self._paths = previews_in(run)
        self._to_newest()

    def move(self, run: Path) -> None:
        """Show the same pictures in another folder, to which they were moved; nothing where there are none any more."""
        self._run, self._paths = run, previews_in(run)
        self._to_newest()

    def add(self, event: Preview) -> None:
        """Show a new preview, unless the user looks at an earlier one."""
        path = self._run / PREVIEW_FOLDER / f"step-{event.step:06d}.png"
        self._shapes = event.t1.shape[:2], event.t2.shape[:2]
        newest = self.history.value() == self.history.maximum()
        if path not in self._paths:
            self._paths.append(path)
        if newest:
            self._to_newest()
        else:
            self.history.setMaximum(len(self._paths) - 1)

    def show_layers(self) -> None:
        """The pictures of this step as layers beside all others, in those of an earlier press; the selection stays."""
        from PIL import Image as Pillow

        if not self._paths:
            return
        try:
            whole = np.asarray(Pillow.open(self._paths[self.history.value()]).convert("L"))
        except OSError:
            self.step.setText("The picture was removed with its run folder.")
            return
        tiles = cut(whole, *(self._shapes or ((whole.shape[0] // 2, whole.shape[1] // 3),) * 2))
        layers = self._viewer.layers
        selected, active = set(layers.selection), layers.selection.active
        extent = layers.extent.world[:, -2:] if len(layers) else np.zeros((2, 2))
        units = next((layer.units[-2:] for layer in layers if len({*layer.units[-2:]}) == 1), None)
        there = {layer.metadata.get("preview"): layer for layer in layers}
        for n, (tile, caption) in enumerate(zip(tiles, self.picture.captions, strict=True)):
            name = f"preview {caption}"
            if name in there and there[name].data.shape == tile.shape:
                there[name].data, there[name].name = tile, f"{name}, step {self._step}"
                continue
            place = extent[0, 0] + n // 3 * (tiles[0].shape[0] + 4), extent[1, 1] + 10 + n % 3 * (tile.shape[1] + 4)
            about = {"preview": name, "synthetic": n % 3 > 0}
            self._viewer.add_image(
                tile,
                name=f"{name}, step {self._step}",
                contrast_limits=(0, 255),
                translate=place,
                metadata=about,
                **({"units": units} if units is not None else {}),
            )
        if selected:
            layers.selection.select_only(active) if active is not None else layers.selection.clear()
            layers.selection.update(selected)

    @property
    def _step(self) -> int:
        return int(self._paths[self.history.value()].stem.removeprefix("step-"))

    def _to_newest(self) -> None:
        with_pictures = bool(self._paths)
        self.setVisible(with_pictures)
        if with_pictures:
            self.history.setMaximum(len(self._paths) - 1)
            self.history.setValue(len(self._paths) - 1)
            self._show()

    def _show(self, _: int = 0) -> None:
        if self._paths:
            self.step.setText(f"Previews, step {self._step:,}")
            self.picture.show_picture(self._paths[self.history.value()])


def cut(whole: Image, t1: tuple[int, int], t2: tuple[int, int]) -> list[Image]:
    """The six pictures of a preview, two rows of three of these shapes (rows, columns), each row from the left."""
    corners = [(0, n * t1[1], *t1) for n in range(3)] + [(t1[0], n * t2[1], *t2) for n in range(3)]
    return [whole[y : y + height, x : x + width] for y, x, height, width in corners]
