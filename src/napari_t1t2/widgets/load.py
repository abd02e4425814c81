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

    from ..images.volume import Image


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of one size, ready to be a layer."""

    data: Image
    name: str
    limits: tuple[float, float]
    metadata: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Loaded:
    """One folder is read: what to show and what to say of it."""

    stacks: list[Stack]
    lines: list[str]


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
        for stack in event.stacks:
            self._viewer.add_image(stack.data, name=stack.name, contrast_limits=stack.limits, metadata=stack.metadata)
        self._lines += event.lines
        self.status.setText("\n".join(self._lines))


def read_both(
    folders: dict[Side, Path], model: ModelConfig, as_seen: bool, stop: Callable[[], bool]
) -> Iterator[Loaded]:
    """Read each folder; runs in the worker thread."""
    for side, path in folders.items():
        if stop():
            return
        label = model.label(side)
        folder = read_folder(path, label)
        lines = [f"{label}: {folder.summary()}", *folder.notes()]
        stacks = [stack_of(folder, size, side, label) for size in folder.sizes()]
        if as_seen:
            from ..engine.slices import common_pixel, prepare  # brings torch, which takes seconds: not in the GUI thread

            try:
                seen = prepare(folder, model, common_pixel(folder.volumes, model))
                lines.append(f"{label}: {seen.summary()}")
                stacks.append(Stack(seen.images, f"{label} as the networks see it", (-1, 1), {"contrast": label}))
            except ValueError as error:
                lines.append(str(error))
        yield Loaded(stacks, lines)


def stack_of(folder: Folder, size: tuple[int, int], side: Side, label: str) -> Stack:
    """All slices of one size, (N, rows, columns)."""
    volumes = [v for v in folder.volumes if v.data.shape[1:] == size]
    data = np.concatenate([v.data for v in volumes])
    limits = measure([data])
    name = f"{label}: {folder.path.name}"
    return Stack(
        data,
        name if len(folder.sizes()) == 1 else f"{name} {size[0]}x{size[1]}",
        (limits.low, limits.high),
        {
            "contrast": label,
            "side": side,
            "folder": str(folder.path),
            "files": [v.path.name for v in volumes if v.path],
        },
    )
