"""Load a folder of each contrast, choose their series, and look at them, also as they are prepared for training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from magicgui.widgets import CheckBox, Container
from qtpy.QtCore import QMimeData, QPointF
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from ..config import SIDES, ModelConfig, Side, TrainConfig, spoken
from ..errors import Refusal
from ..events import Failed, Reading
from ..images.contrast import contrast_of
from ._folders import Found, Loaded, look, look_at_sample
from ._form import Folded, field_row, missing_folders, show_sentences, stack
from ._job import JobWidget
from ._layers import BESIDE, beside, keep_beside, right_of
from ._memory import Chosen, memory, selection_of
from ._series import SeriesTable

if TYPE_CHECKING:
    import napari

WIDTH = 460  # pixels of the dock, where the series are listed
EARLIER = " (earlier)"  # in the names of layers whose series are no longer chosen
BEGIN = "Choose a folder of images of each contrast, or drop them here. None at hand? Take the sample heads."


class LoadWidget(JobWidget):
    """Two folder pickers; images become layers, series become rows to choose from, what is wrong becomes sentences."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        self.folders: Container[Any] = Container(widgets=[field_row(TrainConfig, f"{side}_folder") for side in SIDES])
        self.rest: Container[Any] = Container(
            widgets=[
                field_row(ModelConfig, "t1_label"),
                field_row(ModelConfig, "t2_label"),
                field_row(TrainConfig, "t1_series"),
                field_row(TrainConfig, "t2_series"),
                field_row(TrainConfig, "t1_volume"),
                field_row(TrainConfig, "t2_volume"),
                CheckBox(
                    name="prepared",
                    text="Also show them as prepared",
                    tooltip="A second layer of each contrast, and pairs over each other: in the plane and size below, "
                    "resampled, from -1 to 1.",
                ),
                field_row(ModelConfig, "plane"),
                field_row(ModelConfig, "size"),
            ]
        )
        self.form: dict[str, Any] = {row.name: row for row in (*self.folders, *self.rest)}
        self._defaults = {name: row.value for name, row in self.form.items()}
        self.table = SeriesTable()
        self.more = Folded("More settings", self.rest.native)
        self.sample = QPushButton("Sample heads")
        self.sample.setToolTip("Write simulated heads of six people into your folder of trainings, and load them.")
        self.reset = QPushButton("Reset")
        self.reset.setToolTip("Empty all rows, and forget what was remembered of them.")
        beside = QHBoxLayout(buttons := QWidget())
        beside.setContentsMargins(0, 0, 0, 0)
        for button in (self.sample, self.reset):
            beside.addWidget(button)
        form = stack(QWidget(), self.folders.native, buttons, self.table, self.table.more, self.more)
        super().__init__(form, "Load")
        self.setAcceptDrops(True)
        self.status.setText(BEGIN)
        self._viewer = napari_viewer
        self._selection = selection_of(napari_viewer)
        keep_beside(napari_viewer)
        self._summary: list[str] = []
        self._notes: list[str] = []
        self._made: dict[tuple[Side, Path], set[UUID]] = {}
        self._written: dict[Side, str] = dict.fromkeys(SIDES, "")
        self._deselected: set[Side] = set()
        self.table.used.connect(self._on_used)
        for side in SIDES:
            self.form[f"{side}_folder"].changed.connect(lambda _, side=side: self._on_folder(side))
            self.form[f"{side}_label"].changed.connect(lambda _: self.table.name_uses(self._labels()))
        for row in self.form.values():
            row.changed.connect(self.check)
        self.sample.clicked.connect(self._on_sample)
        self.reset.clicked.connect(self._on_reset)
        for name, value in memory.recall("load").items():
            if name in self.form:
                self.form[name].value = value
        self.check()

    def missing(self) -> str:
        """What the button waits for."""
        if not any(self._value(side, "folder") != Path() for side in SIDES):
            return "choose a folder first"
        wrong = missing_folders({f"{side}_folder": self.form[f"{side}_folder"] for side in SIDES})
        try:
            self._model()
        except Refusal as error:
            names = (name for name in self.form if str(error).startswith(spoken(name)))
            wrong[next(names, "t2_label")] = str(error)
        show_sentences(self.folders, wrong)
        if show_sentences(self.rest, wrong):
            self.more.unfold()
        return "see above what is wrong" if wrong else ""

    def start(self) -> Callable[[Callable[[], bool]], Iterator[Loaded | Found | Reading]]:
        """Read the form."""
        rows = {name: row.value for name, row in self.form.items()}
        chosen: dict[Side, Chosen] = {
            side: Chosen(*(rows[f"{side}_{name}"] for name in ("folder", "series", "label", "volume")))
            for side in SIDES
            if rows[f"{side}_folder"] != Path()
        }
        if not chosen:
            raise Refusal("Choose a folder of images first; one of the two is enough to look at.")
        model = self._model()
        for side, one in chosen.items():
            if side in self._deselected and not one.series:
                raise Refusal(f"No series is used as {one.label}: choose one in the table.")
        self._summary, self._notes = [], []
        memory.remember("load", rows)
        of_sample = all(one.folder.parent == sample_home() for one in chosen.values())
        begin = partial(look_at_sample, sample_home()) if of_sample else look
        return lambda stop: begin(chosen, model, prepared=rows["prepared"], stop=stop)

    def on_event(self, event: Loaded | Found | Reading | Failed) -> None:
        """Turn what was read into layers, rows and a summary."""
        match event:
            case Loaded(side=side, chosen=chosen):
                self._show(event)
                if not event.prepared:
                    self._selection.choose(side, chosen)
                self._summary += event.summary
                self._notes += [note for note in event.notes if note not in self._notes]
            case Found(series=series):
                self.table.fill(series, self._labels())
                self.setMinimumWidth(WIDTH if series else 0)
                self._deselected.clear()
                if both := [s.title for s in series if len(s.uses) > 1]:
                    t1, t2 = self._labels().values()
                    self._summary.append(f"{both[0]} is used as {t1} and as {t2}: choose one in the table.")
            case Reading(done=done, total=total):
                self.show_fraction(done / max(1, total), event.text())
                return
            case Failed(sentence=sentence):
                self._summary.append(sentence)
        lines = "\n".join([*self._summary, *self._notes]).splitlines()
        self.status.setText("\n".join(dict.fromkeys(lines)))  # one folder may be that of both contrasts

    def take(self, folders: Sequence[Path], below: str = "") -> None:
        """Fill in folders that were dropped, one where it was dropped (`below` names the row), and load two at once."""
        said = {folder: contrast_of([folder.name]) for folder in folders[:2]}
        if len(said) == 2:
            ordered = sorted(said, key=lambda folder: {"T1": 0, "T2": 2}.get(said[folder], 1))
            self.form["t1_folder"].value, self.form["t2_folder"].value = ordered
            self.go.click()
            return
        free = next((side for side in SIDES if self._value(side, "folder") == Path()), "t1")
        row = below or f"{ {'T1': 't1', 'T2': 't2'}.get(said[folders[0]], free) }_folder"
        self.form[row].value = folders[0]

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Folders may be dropped."""
        if event is not None and folders_in(event.mimeData()) and not self.running:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Take them."""
        if event is not None and not self.running and (folders := folders_in(event.mimeData())):
            self.take(folders, self._row_at(event.position()))
            event.acceptProposedAction()

    def _row_at(self, position: QPointF) -> str:
        """The folder row at a place of this widget; empty where there is none."""
        at = self.mapToGlobal(position.toPoint())
        for name in (f"{side}_folder" for side in SIDES):
            row = self.form[name].native
            if row.isVisible() and row.rect().contains(row.mapFromGlobal(at)):
                return name
        return ""

    def _on_sample(self) -> None:
        for name in (f"{side}_{what}" for side in SIDES for what in ("series", "volume", "label")):
            self.form[name].value = self._defaults[name]
        for side in SIDES:
            self.form[f"{side}_folder"].value = sample_home() / side.upper()
        self.go.click()

    def _on_reset(self) -> None:
        memory.forget("load")
        for name, row in self.form.items():
            if name.endswith("_folder"):
                row.line_edit.value = ""
            else:
                row.value = self._defaults[name]
        self.status.setText(BEGIN)

    def _on_finished(self) -> None:
        self.check()
        if self.state == "completed" and set(self._selection.chosen) == set(SIDES):
            self.offer("Next: train on these", self._selection)

    def _value(self, side: Side, name: str) -> Any:
        return self.form[f"{side}_{name}"].value

    def _model(self) -> ModelConfig:
        """Raises `Refusal` with a sentence."""
        return ModelConfig(**{name: self.form[name].value for name in ("t1_label", "t2_label", "plane", "size")})

    def _show(self, event: Loaded) -> None:
        """Show the layers: those that a choice has had before get the data, those of another one are hidden.

        They are not removed: where layers go and come before the next frame, napari 0.9 with software OpenGL crashes.
        """
        key = event.side, event.chosen.folder
        made = self._made.setdefault(key, set())
        there = [layer for layer in self._viewer.layers if layer.unique_id in made]
        if not event.prepared:  # which come later
            for layer in there:
                layer.visible, layer.name = False, layer.name.removesuffix(EARLIER) + EARLIER
        first = None
        right = {"translate": right_of(self._viewer.layers)} if event.prepared else {}
        for data, about, _ in event.layers:
            said = [{key: value for key, value in old.metadata.items() if key != BESIDE} for old in there]
            layer = next((old for old, says in zip(there, said, strict=True) if says == about["metadata"]), None)
            if layer is None:
                layer = self._viewer.add_image(data, **(about | right if right else beside(self._viewer, about)))
                made.add(layer.unique_id)
            else:
                layer.data, layer.name, layer.visible = data, about["name"], about.get("visible", True)
            first = first or layer
        if first is not None:
            self._viewer.layers.selection.active = first  # the others are hidden
        if event.prepared or (first is not None and BESIDE in first.metadata):
            self._viewer.reset_view()

    def _on_used(self, side: Side) -> None:
        """Name the series in the form that the table now uses as a contrast."""
        calls = self.table.calls(side)
        self.form[f"{side}_series"].value = self._written[side] = ", ".join(calls)
        (self._deselected.discard if calls else self._deselected.add)(side)
        counts = ", ".join(f"{len(self.table.calls(s))} as {label}" for s, label in self._labels().items())
        self.status.setText(f"Series used: {counts}. Press Load to show and train on them.")

    def _on_folder(self, side: Side) -> None:
        """Forget the series of the former folder, but not those that a user has typed."""
        if self.form[f"{side}_series"].value == self._written[side]:
            self.form[f"{side}_series"].value = self._written[side] = ""
        self._deselected.discard(side)
        self.table.fill([], self._labels())

    def _labels(self) -> dict[Side, str]:
        return {side: self.form[f"{side}_label"].value for side in SIDES}


def sample_home() -> Path:
    """Where the sample heads are written."""
    return memory.home / "sample heads"


def folders_in(dropped: QMimeData | None) -> list[Path]:
    """The folders among what was dropped; of a file, the folder it lies in."""
    paths = [Path(url.toLocalFile()) for url in dropped.urls() if url.isLocalFile()] if dropped is not None else []
    return list(dict.fromkeys(path if path.is_dir() else path.parent for path in paths))
