"""Load a folder of each contrast, choose their series, and look at them, also as they are prepared for training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from magicgui.widgets import CheckBox, Container
from qtpy.QtWidgets import QWidget

from ..config import ModelConfig, Side, TrainConfig
from ..errors import Refusal
from ..events import Failed, Reading
from ._folders import Found, Loaded, look, right_of
from ._form import field_row, stack
from ._job import JobWidget
from ._memory import Chosen, selection_of
from ._series import SeriesTable

if TYPE_CHECKING:
    import napari

WIDTH = 460  # pixels of the dock, where the series are listed
EARLIER = " (earlier)"  # in the names of layers whose series are no longer chosen
SIDES: tuple[Side, Side] = ("t1", "t2")


class LoadWidget(JobWidget):
    """Two folder pickers; images become layers, series become rows to choose from, what is wrong becomes sentences."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        self.form: Container[Any] = Container(
            widgets=[
                field_row(ModelConfig, "t1_label"),
                field_row(TrainConfig, "t1_folder"),
                field_row(TrainConfig, "t1_series"),
                field_row(ModelConfig, "t2_label"),
                field_row(TrainConfig, "t2_folder"),
                field_row(TrainConfig, "t2_series"),
                field_row(TrainConfig, "t1_volume"),
                field_row(TrainConfig, "t2_volume"),
                CheckBox(
                    name="prepared",
                    text="Also show images and pairs as prepared",
                    tooltip="A second layer of each contrast: in the plane and size below, resampled, from -1 to 1.",
                ),
                field_row(ModelConfig, "plane"),
                field_row(ModelConfig, "size"),
            ]
        )
        self.table = SeriesTable()
        super().__init__(stack(QWidget(), self.form.native, self.table, self.table.more), "Load")
        self._viewer = napari_viewer
        self._selection = selection_of(napari_viewer)
        self._summary: list[str] = []
        self._notes: list[str] = []
        self._made: dict[tuple[Side, Path], set[UUID]] = {}
        self._written: dict[Side, str] = dict.fromkeys(SIDES, "")
        self._deselected: set[Side] = set()
        self.table.used.connect(self._on_used)
        for side in SIDES:
            self.form[f"{side}_folder"].changed.connect(lambda _, side=side: self._on_folder(side))
            self.form[f"{side}_label"].changed.connect(lambda _: self.table.name_uses(self._labels()))

    def start(self) -> Callable[[Callable[[], bool]], Iterator[Loaded | Found | Reading]]:
        """Read the form."""
        rows = {row.name: row.value for row in self.form}
        chosen: dict[Side, Chosen] = {
            side: Chosen(*(rows[f"{side}_{name}"] for name in ("folder", "series", "label", "volume")))
            for side in SIDES
            if rows[f"{side}_folder"] != Path()
        }
        if not chosen:
            raise Refusal("Choose a folder of images first; one of the two is enough to look at.")
        model = ModelConfig(**{name: rows[name] for name in ("t1_label", "t2_label", "plane", "size")})
        for side, one in chosen.items():
            if side in self._deselected and not one.series:
                raise Refusal(f"No series is used as {one.label}: choose one in the table.")
        self._summary, self._notes = [], []
        return lambda stop: look(chosen, model, prepared=rows["prepared"], stop=stop)

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
        self.status.setText("\n".join([*self._summary, *self._notes]))

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
        beside = {"translate": right_of(self._viewer)} if event.prepared else {}
        for data, about, _ in event.layers:
            layer = next((old for old in there if old.metadata == about["metadata"]), None)
            if layer is None:
                layer = self._viewer.add_image(data, **about, **beside)
                made.add(layer.unique_id)
            else:
                layer.data, layer.name, layer.visible = data, about["name"], about.get("visible", True)
            first = first or layer
        if first is not None:
            self._viewer.layers.selection.active = first  # the others are hidden
        if event.prepared:
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
