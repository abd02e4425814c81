"""What the widgets tell one another: the last model that was trained, and which images are chosen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from qtpy.QtCore import QObject, QSettings, Signal

from ..config import Side
from ..data.seen import images_in

if TYPE_CHECKING:
    import napari

    from ..model.about import About


class Memory(QObject):
    """Kept in the user's settings, also after napari was closed. `model_changed` carries the path."""

    model_changed = Signal(str)

    @property
    def last_model(self) -> Path | None:
        """The model file trained last, if it is still there."""
        path = Path(str(self._settings().value("last_model", "")))
        return path if path.is_file() else None

    @last_model.setter
    def last_model(self, path: Path) -> None:
        self._settings().setValue("last_model", str(path.resolve()))
        self.model_changed.emit(str(path.resolve()))

    def _settings(self) -> QSettings:
        return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "napari-t1t2", "napari-t1t2")


@dataclass(frozen=True)
class Chosen:
    """The images of one contrast: their folder, series and volume number, and what the contrast is called."""

    folder: Path
    series: str
    label: str
    volume: int


class Selection(QObject):
    """What was loaded last, of each contrast; one for each viewer. `changed` carries the side."""

    changed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.chosen: dict[Side, Chosen] = {}

    def choose(self, side: Side, chosen: Chosen) -> None:
        """Tell everybody."""
        self.chosen[side] = chosen
        self.changed.emit(side)


memory = Memory()
_selections: WeakKeyDictionary[napari.Viewer, Selection] = WeakKeyDictionary()


def selection_of(viewer: napari.Viewer) -> Selection:
    """The one that all docks of a window share."""
    return _selections.setdefault(viewer, Selection())


def described(about: About) -> str:
    """What a model is, in one line."""
    c = about.config
    finer = f", {c.pixel:.2g} mm" if c.pixel else ""
    images = images_in(about.seen)
    return f"Trained {about.step:,} steps on {images} images, {c.t1_label} and {c.t2_label}, {c.plane}{finer}."
