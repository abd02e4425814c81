"""Load a folder of each contrast and look at it, also as the networks will see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import CheckBox, Container

from ..engine.config import ModelConfig, Side, TrainConfig
from ..images.intensity import measure
from ..images.read import Folder, read_folder
from ._form import field_row
from ._job import JobWidget

if TYPE_CHECKING:
    import napari

    from ..engine.slices import Slices


@dataclass(frozen=True, eq=False)
class Loaded:
    """One folder is read; `seen` is what the networks get, or the reason why they cannot."""

    side: Side
    label: str
    folder: Folder
    seen: Slices | str | None


class LoadWidget(JobWidget):
    """Two folder pickers; images become layers, what is wrong becomes sentences."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        self.form: Container[Any] = Container(
            widgets=[
                field_row(ModelConfig, "t1_label"),
                field_row(TrainConfig, "t1_folder"),
                field_row(ModelConfig, "t2_label"),
                field_row(TrainConfig, "t2_folder"),
                CheckBox(name="as_seen", text="Also show as the networks see them"),
                field_row(ModelConfig, "size"),
            ]
        )
        super().__init__(self.form.native, "Load")
        self._viewer = napari_viewer
        self._lines: list[str] = []

    def start(self) -> Callable[[Callable[[], bool]], Iterator[Loaded]]:
        """Read the form."""
        rows = {row.name: row.value for row in self.form}
        model = ModelConfig(t1_label=rows["t1_label"], t2_label=rows["t2_label"], size=rows["size"])
        folders: dict[Side, Path] = {"t1": rows["t1_folder"], "t2": rows["t2_folder"]}
        if all(folder == Path() for folder in folders.values()):
            raise ValueError("Choose a folder of images first; one of the two is enough to look at.")
        self._lines = []
        return lambda stop: read_both({s: f for s, f in folders.items() if f != Path()}, model, rows["as_seen"], stop)

    def on_event(self, event: Any) -> None:
        """Turn what was read into layers and a summary."""
        if not isinstance(event, Loaded):
            return
        self._lines += [f"{event.label}: {event.folder.summary()}", *event.folder.notes()]
        self._add_layers(event)
        if event.seen is None or isinstance(event.seen, str):
            self._lines += [event.seen] if event.seen else []
        else:
            n, height, width = event.seen.images.shape
            low, high = event.seen.intensity.low, event.seen.intensity.high
            self._lines.append(
                f"{event.label}: the networks see {n} slices of {height}x{width}, {low:g} to {high:g} as -1 to 1"
            )
            self._viewer.add_image(
                event.seen.images,
                name=f"{event.label} as the networks see it",
                contrast_limits=(-1, 1),
                metadata={"contrast": event.label},
            )
        self.status.setText("\n".join(self._lines))

    def _add_layers(self, event: Loaded) -> None:
        """One stack for all slices of a size."""
        for rows, columns in event.folder.sizes():
            volumes = [v for v in event.folder.volumes if v.data.shape[1:] == (rows, columns)]
            stack = np.concatenate([v.data for v in volumes])
            name = f"{event.label}: {event.folder.path.name}"
            limits = measure([stack])
            self._viewer.add_image(
                stack,
                name=name if len(event.folder.sizes()) == 1 else f"{name} {rows}x{columns}",
                contrast_limits=(limits.low, limits.high),
                metadata={
                    "contrast": event.label,
                    "side": event.side,
                    "folder": str(event.folder.path),
                    "files": [v.path.name for v in volumes if v.path],
                },
            )


def read_both(
    folders: dict[Side, Path], model: ModelConfig, as_seen: bool, stop: Callable[[], bool]
) -> Iterator[Loaded]:
    """Read each folder; runs in the worker thread."""
    for side, path in folders.items():
        if stop():
            return
        label = model.label(side)
        folder = read_folder(path, label)
        seen: Slices | str | None = None
        if as_seen:
            from ..engine.slices import prepare  # brings torch, which takes seconds: not in the GUI thread

            try:
                seen = prepare(folder, model)
            except ValueError as error:
                seen = str(error)
        yield Loaded(side, label, folder, seen)
