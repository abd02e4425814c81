"""Load a folder of each contrast, choose their series, and look at them, also as the networks will see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import numpy as np
from magicgui.widgets import CheckBox, Container
from qtpy.QtWidgets import QVBoxLayout, QWidget

from ..config import ModelConfig, Side, TrainConfig
from ..errors import Refusal, UnusableError
from ..events import Failed
from ..images.folder import Folder, choose
from ..images.intensity import measure
from ..images.plane import View
from ..images.read import read_all
from ._form import field_row
from ._job import JobWidget
from ._layers import layer_of
from ._series import Series, SeriesTable

if TYPE_CHECKING:
    import napari

    from ..images.volume import Image, Volume

SHOWN = 5  # layers of a contrast: a folder may hold a hundred heads
TOLD = 8  # lines of the status; further notes are in its tooltip
WIDTH = 460  # pixels of the dock, where the series are listed
EARLIER = " (earlier)"  # in the names of layers whose series are no longer chosen
SIDES: tuple[Side, Side] = ("t1", "t2")
LayerData = tuple["Image", dict[str, Any], Literal["image"]]


@dataclass(frozen=True)
class Wish:
    """What the form asks for."""

    folders: dict[Side, Path]
    series: dict[Side, str]
    frame: int
    model: ModelConfig
    as_seen: bool


@dataclass(frozen=True, eq=False)
class Loaded:
    """One folder is read: what to show and what to say of it."""

    side: Side
    path: Path
    layers: list[LayerData]
    summary: list[str]
    notes: Sequence[str] = ()
    beside: bool = False  # lies where nothing else does, as it has no place in the head


@dataclass(frozen=True)
class Found:
    """All folders are read: the series in them."""

    series: list[Series]


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
                field_row(TrainConfig, "frame"),
                CheckBox(name="as_seen", text="Also show as the networks see them"),
                field_row(ModelConfig, "plane"),
                field_row(ModelConfig, "size"),
            ]
        )
        self.table = SeriesTable()
        whole = QWidget()
        layout = QVBoxLayout(whole)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.form.native)
        layout.addWidget(self.table)
        layout.addWidget(self.table.more)
        super().__init__(whole, "Load")
        self._viewer = napari_viewer
        self._summary: list[str] = []
        self._notes: list[str] = []
        self._made: dict[tuple[Side, Path], set[UUID]] = {}
        self._outdated: set[tuple[Side, Path]] = set()
        self._latest: dict[Side, tuple[Path, str, int]] = {}
        self._again: set[Side] = set()
        self._written: dict[Side, str] = dict.fromkeys(SIDES, "")
        self._deselected: set[Side] = set()
        self.table.used.connect(self._on_used)
        for side in SIDES:
            self.form[f"{side}_folder"].changed.connect(lambda _, side=side: self._on_folder(side))
            self.form[f"{side}_label"].changed.connect(lambda _: self.table.name_uses(self._labels()))

    def start(self) -> Callable[[Callable[[], bool]], Iterator[Loaded | Found]]:
        """Read the form."""
        rows = {row.name: row.value for row in self.form}
        folders: dict[Side, Path] = {s: rows[f"{s}_folder"] for s in SIDES if rows[f"{s}_folder"] != Path()}
        if not folders:
            raise Refusal("Choose a folder of images first; one of the two is enough to look at.")
        wish = Wish(
            folders,
            {side: rows[f"{side}_series"] for side in folders},
            rows["frame"],
            ModelConfig(**{name: rows[name] for name in ("t1_label", "t2_label", "plane", "size")}),
            rows["as_seen"],
        )
        for side in folders:
            if side in self._deselected and not wish.series[side]:
                raise Refusal(f"No series is used as {wish.model.label(side)}: choose one in the table.")
        self._summary, self._notes = [], []
        self._outdated = set(self._made)
        asked = {side: (path, wish.series[side], wish.frame) for side, path in folders.items()}
        self._again = {side for side in folders if self._latest.get(side) == asked[side]}
        self._latest |= asked
        return lambda stop: look(wish, stop)

    def on_event(self, event: Loaded | Found | Failed) -> None:
        """Turn what was read into layers, rows and a summary."""
        match event:
            case Loaded():
                self._show(event)
                self._summary += event.summary
                self._notes += [note for note in event.notes if note not in self._notes]
            case Found(series=series):
                self.table.fill(series, self._labels())
                self.setMinimumWidth(WIDTH if series else 0)
                self._deselected.clear()
                if both := [s.title for s in series if len(s.uses) > 1]:
                    t1, t2 = self._labels().values()
                    self._summary.append(f"{both[0]} is used as {t1} and as {t2}: choose one in the table.")
            case Failed(sentence=sentence):
                self._summary.append(sentence)
        lines = [*self._summary, *self._notes]
        shown = max(TOLD, len(self._summary))
        more = len(lines) - shown
        self.status.setText("\n".join(lines[:shown] + [f"... and {more} more: rest the mouse here"] * (more > 0)))
        self.status.setToolTip("\n".join(lines) if more > 0 else "")

    def _show(self, event: Loaded) -> None:
        """Show the layers; those of the same load before get the data, those of another one are hidden.

        They are not removed: where layers go and come before the next frame, napari 0.9 with software OpenGL crashes.
        And another choice makes new layers, as the Train widget learns of it by a layer that is new.
        """
        key = event.side, event.path
        made = self._made.setdefault(key, set())
        there = [layer for layer in self._viewer.layers if layer.unique_id in made]
        if key in self._outdated:
            self._outdated.remove(key)
            for layer in there:
                layer.visible = False
                layer.name = layer.name.removesuffix(EARLIER) + EARLIER
        first = None
        for data, about, _ in event.layers:
            alike = (old for old in there if event.side in self._again and old.metadata == about["metadata"])
            layer = next(reversed([*alike]), None)
            if layer is None:
                beside = {"translate": right_of(self._viewer)} if event.beside else {}
                layer = self._viewer.add_image(data, **about, **beside)
                made.add(layer.unique_id)
            else:
                layer.data, layer.name, layer.visible = data, about["name"], about.get("visible", True)
            first = first or layer
        if first is not None:
            self._viewer.layers.selection.active = first  # the others are hidden
        if event.beside:
            self._viewer.reset_view()

    def _on_used(self, side: Side) -> None:
        """Name the series in the form that the table now uses as a contrast."""
        calls = self.table.calls(side)
        self.form[f"{side}_series"].value = self._written[side] = ", ".join(calls)
        (self._deselected.discard if calls else self._deselected.add)(side)
        counts = ", ".join(f"{len(self.table.calls(s))} as {label}" for s, label in self._labels().items())
        self.status.setText(f"Series used: {counts}. Press Load to see them.")

    def _on_folder(self, side: Side) -> None:
        """Forget the series of the former folder, but not those that a user has typed."""
        if self.form[f"{side}_series"].value == self._written[side]:
            self.form[f"{side}_series"].value = self._written[side] = ""
        self._deselected.discard(side)
        self.table.fill([], self._labels())

    def _labels(self) -> dict[Side, str]:
        return {side: self.form[f"{side}_label"].value for side in SIDES}


def look(wish: Wish, stop: Callable[[], bool]) -> Iterator[Loaded | Found]:
    """Read each folder; runs in the worker thread. What fails on one side is raised when the other has been shown."""
    everything: dict[Path, Folder] = {}  # both contrasts may lie in one folder
    chosen: dict[Side, Folder] = {}
    refused: list[str] = []
    for side, path in wish.folders.items():
        if stop():
            return
        label, series = wish.model.label(side), wish.series[side]
        origin = {"contrast": label, "side": side, "folder": str(path), "series": series, "frame": wish.frame}
        try:
            everything[path] = everything.get(path) or read_all(path, frame=wish.frame)
            chosen[side] = choose(everything[path], label, series)
        except UnusableError as error:
            refused.append(str(error))
            continue
        layers, of = layers_of(chosen[side], everything[path], label, origin)
        some = [f"{label}: {len(layers)} of {of} are shown as layers"] if len(layers) < of else []
        yield Loaded(side, path, layers, [f"{label}: {chosen[side].summary()}", *some], chosen[side].notes())
    yield Found([one for folder in everything.values() for one in series_of(folder, wish, chosen)])
    if wish.as_seen and chosen and not stop():
        yield from seen_by_networks(chosen, wish.model)
    if refused:
        raise UnusableError("\n".join(refused))


def layers_of(folder: Folder, everything: Folder, label: str, origin: dict[str, Any]) -> tuple[list[LayerData], int]:
    """The first volumes, and the loose slices as a stack of each size; and how many there are of both."""
    volumes = [v for v in folder.volumes if not is_loose(v)]
    loose = Folder(folder.path, [v for v in folder.volumes if is_loose(v)], [])
    layers: list[LayerData] = []
    for v in volumes[:SHOWN]:
        data, about, kind = layer_of(v)
        about |= {"name": f"{label}: {everything.call(v)}", "metadata": about["metadata"] | origin}
        layers.append((data, about | {"visible": not layers}, kind))  # else they hide each other
    sizes = list(loose.sizes())
    layers += [stack_of(loose, size, label, origin) for size in sizes[: SHOWN - len(layers)]]
    return layers, len(volumes) + len(sizes)


def is_loose(volume: Volume) -> bool:
    """Whether it is one slice that does not know its place, such as a PNG."""
    return len(volume.data) == 1 and volume.affine is None and not volume.files


def stack_of(folder: Folder, size: tuple[int, int], label: str, origin: dict[str, Any]) -> LayerData:
    """All slices of one size as a layer, (N, rows, columns)."""
    volumes = [v for v in folder.volumes if v.data.shape[1:] == size]
    data = np.concatenate([v.data for v in volumes])
    limits = measure([data])
    name = f"{label}: {folder.path.name}"
    about = {
        "name": name if len(folder.sizes()) == 1 else f"{name} {size[0]}x{size[1]}",
        "contrast_limits": (limits.low, limits.high),
        "metadata": origin | {"files": [v.path.name for v in volumes if v.path]},
    }
    return data, about, "image"


def series_of(everything: Folder, wish: Wish, chosen: dict[Side, Folder]) -> Iterator[Series]:
    """What a folder holds besides loose slices, and what it is used as."""
    sides = tuple(side for side, path in wish.folders.items() if path == everything.path)
    used: dict[Side, set[str]] = {s: {v.series for v in chosen[s].volumes} if s in chosen else set() for s in sides}
    for v in everything.volumes:
        if is_loose(v):
            continue
        pixels = "x".join(map(str, v.data.shape))
        mm = "x".join(f"{side:.3g}" for side in v.spacing) + " mm" if v.spacing else "? mm"
        uses = frozenset(side for side in sides if v.series in used[side])
        where = v.path or everything.path
        yield Series(everything.call(v), v.series, f"{pixels}\n{mm}", v.looks or "unknown", where, sides, uses)


def seen_by_networks(chosen: dict[Side, Folder], model: ModelConfig) -> Iterator[Loaded]:
    """Each contrast as the networks see it; both together decide the size of the pixels."""
    from ..data.slices import common_pixel, prepare  # brings torch, which takes seconds: not in the GUI thread

    pixel = common_pixel([v for folder in chosen.values() for v in folder.volumes], model)
    for side, folder in chosen.items():
        label = model.label(side)
        try:
            seen = prepare(folder, model, pixel)
        except Refusal as error:
            yield Loaded(side, folder.path, [], [str(error)])
            continue
        about: dict[str, Any] = {
            "name": f"{label} as the networks see it",
            "contrast_limits": (-1, 1),
            "metadata": {"contrast": label, "as_seen": f"{model.plane}, {pixel:g} mm, size {model.size}"},
        }
        known = [view.spacing for v in folder.volumes if (view := View.of(model.plane, v.affine, v.spacing)).spacing]
        if known:
            about |= {"scale": (np.median([mm[0] for mm in known]), pixel, pixel), "units": ("mm",) * 3}
        of = f"; {model.plane}, pixels of {pixel:.3g} mm" if known else ""
        own = {f"{folder.path.name}: {note}" for note in folder.notes()}  # they have been told
        notes = [note for note in seen.notes if note not in own]
        summary = [f"{label}: {seen.summary()}{of}"]
        yield Loaded(side, folder.path, [(np.asarray(seen.images), about, "image")], summary, notes, beside=True)


def right_of(viewer: napari.Viewer) -> tuple[float, float, float]:
    """A place beside all layers, at the height of their first slice."""
    if not len(viewer.layers):
        return 0, 0, 0
    low, high = (np.r_[0, 0, 0, end][-3:] for end in viewer.layers.extent.world)
    return float(low[0]), float(low[1]), float(high[2] + 10)
