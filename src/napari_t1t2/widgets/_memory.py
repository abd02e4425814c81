"""What the widgets tell one another, and what they remember: the last model, which images are chosen, the rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import QObject, QSettings, Signal

from ..config import Side, TrainConfig

if TYPE_CHECKING:
    import napari

MOST = 100  # run folders


def preferred(name: str, default: Any) -> Any:
    """What the user has set in napari's preferences; the default before napari 0.9, which has no page for plugins."""
    try:
        from napari.settings import get_plugin_settings

        return getattr(get_plugin_settings("napari-t1t2").training, name)
    except (ImportError, AttributeError, KeyError):
        return default


def with_preferences(config: TrainConfig) -> TrainConfig:
    """A config with what the user has set in napari's preferences."""
    return replace(config, device=preferred("device", "auto"), threads=preferred("threads", 0))


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

    @property
    def home(self) -> Path:
        """The folder of all trainings that name no other one."""
        return Path(preferred("runs", "") or "~/napari-t1t2").expanduser()

    def new_run_folder(self) -> Path:
        """A folder for the next training, named by the time, that is not there yet."""
        folder = self.home / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        names = (folder if n == 1 else folder.with_name(f"{folder.name}_{n}") for n in count(1))
        return next(name for name in names if not name.exists())

    @property
    def run_folders(self) -> list[Path]:
        """Where trainings were begun, the newest first."""
        return [Path(run) for run in self.recall("runs").get("folders", [])]

    def add_run(self, run: Path, instead: Path | None = None) -> None:
        """Remember where a training was begun, or that it has moved."""
        folders = [one for one in self.run_folders if one not in (run, instead)]
        self.remember("runs", {"folders": [str(one) for one in [run, *folders][:MOST]]})

    def remember(self, what: str, values: Mapping[str, Any]) -> None:
        """Keep plain values and paths over restarts, under a name."""
        self._settings().setValue(what, json.dumps(values, default=str))

    def recall(self, what: str) -> dict[str, Any]:
        """What was kept under a name; paths come back as text. Empty where nothing was, or nothing that can be read."""
        with suppress(ValueError):
            if isinstance(kept := json.loads(str(self._settings().value(what, ""))), dict):
                return kept
        return {}

    def forget(self, what: str) -> None:
        """Keep it no longer."""
        self._settings().remove(what)

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
