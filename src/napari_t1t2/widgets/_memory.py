"""What the widgets remember: the last model that was trained, also after napari was closed."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QObject, QSettings, Signal


class Memory(QObject):
    """Kept in the user's settings. `model_changed` carries the path."""

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


memory = Memory()
