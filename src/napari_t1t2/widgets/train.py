"""Train a CycleGAN and watch it learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from magicgui.widgets import CheckBox, ComboBox, Container
from napari.layers import Image as ImageLayer
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QPushButton, QWidget

from ..config import PresetName, Side, cores, preset
from ..errors import Refusal
from ..events import Failed, Finished, Noted, Preview, Progress, Reading, Saved, Started, TrainEvent
from ..runs.folder import is_taken, load_config
from ..runs.process import train_in_process
from ..runs.session import clock
from ._curve import LossCurve, load_matplotlib
from ._form import TrainForm, stack
from ._job import JobWidget
from ._layers import show_preview
from ._memory import memory, selection_of

if TYPE_CHECKING:
    import napari

RUNS = Path("~/napari-t1t2")
LOADED = ("folder", "series", "label", "volume")  # what Load chooses of a contrast
OF_LOAD = tuple(f"{side}_{name}" for side in ("t1", "t2") for name in LOADED)
# rows that a resumed run may change
BUDGET = ("minutes", "steps", "device", "threads", "memory", "precision", "run_folder")


def load_ahead() -> None:
    """What the GUI thread will need, in a worker thread: it would freeze the window for half a second each."""
    load_matplotlib()
    ImageLayer(np.zeros((2, 2)))  # napari reads its table of units with the first layer


class TrainWidget(JobWidget):
    """A form made from the config; buttons to train, pause and stop; loss curve; previews as layers."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        self.form = TrainForm(preset("laptop"))
        self.start_rows: Container[Any] = Container(
            widgets=[
                ComboBox(name="preset", choices=get_args(PresetName), tooltip="Fills the rows below."),
                CheckBox(
                    name="resume",
                    text="Continue an earlier training",
                    tooltip="The one in the run folder, with its own settings; give more minutes or steps than it had.",
                ),
            ]
        )
        super().__init__(stack(QWidget(), self.start_rows.native, self.form), "Train")
        self.pause = QPushButton("Pause")
        self.pause.setEnabled(False)
        self.buttons.insertWidget(1, self.pause, 1)
        self.curve = LossCurve()
        self.body.addWidget(self.curve)

        self._viewer = napari_viewer
        self._previewing: Iterator[None] = iter(())  # the layers of a preview that are still to be shown
        self._next_layer = QTimer(self)
        self._next_layer.setSingleShot(True)
        self._next_layer.timeout.connect(lambda: self.attempt(self._show_next_layer))
        self._own_run_folder = self._propose_run_folder()
        self._followed = {name: self.form[name].value for name in OF_LOAD}
        self._selection = selection_of(napari_viewer)
        self.pause.clicked.connect(self._on_pause)
        self.start_rows["preset"].changed.connect(self._on_preset)
        self.start_rows["resume"].changed.connect(self._on_resume)
        self._selection.changed.connect(self._follow)
        self._follow_all()

    def start(self) -> Callable[[Callable[[], bool]], Iterator[TrainEvent]]:
        """Read the form."""
        resume = self.start_rows["resume"].value
        if not resume and self.form["run_folder"].value == self._own_run_folder and is_taken(self._own_run_folder):
            self._own_run_folder = self._propose_run_folder()
        config = self.form.config
        if not config.threads:  # a core is left to the window
            config = replace(config, threads=max(1, cores() - 1))
        self._labels = (config.model.t1_label, config.model.t2_label)
        self._trained, self._data = clock(0), ""
        self.curve.clear()

        def begin(stop: Callable[[], bool]) -> Iterator[TrainEvent]:
            load_ahead()
            return train_in_process(config, stop=stop, resume=resume)

        return begin

    def on_event(self, event: TrainEvent | Failed) -> None:
        """Show an event."""
        match event:
            case Reading(done=done, total=total):
                self.show_fraction(done / total, event.text())
            case Started(notes=notes):
                (t1, t2), (height, width) = event.slices, event.shape
                self._data = f"{t1} {self._labels[0]} and {t2} {self._labels[1]} slices of {height}x{width} pixels"
                self.status.setText(f"Training on {self._data}, on {event.device}.")
                if notes:
                    self.mention("\n".join(notes))
            case Progress():
                self._trained, left = clock(event.seconds), clock(event.seconds_left)
                text = f"step {event.step}, {left} left, {event.slices_per_second:.1f} slices/s"
                self.show_fraction(event.fraction, text)
                self.curve.add(event.step, event.losses)
            case Preview():
                self._previewing = show_preview(self._viewer, self._named(event))  # in place of what is left of one
                self._next_layer.start()
            case Saved(path=path):
                memory.last_model = path
            case Noted(sentence=sentence):
                self.mention(sentence)
            case Finished(step=step, path=path, reason=reason):
                ended = "Finished" if reason == "completed" else "Stopped"
                self.status.setText(f"{ended} at step {step}: trained {self._trained} on {self._data}.\nModel: {path}")
                self.curve.draw_now()
                for _ in self._previewing:
                    pass
            case Failed():
                pass

    def _show_next_layer(self) -> None:
        for _ in self._previewing:
            self._next_layer.start()
            break

    def _set_running(self, running: bool) -> None:
        super()._set_running(running)
        self.pause.setEnabled(running)
        self.pause.setText("Pause")

    def _on_pause(self) -> None:
        session = self._slot.session
        if session is None:
            return
        if session.state == "paused":
            session.go_on()
        else:
            session.pause()
        self.pause.setText("Continue" if session.state == "paused" else "Pause")

    def _on_preset(self, name: PresetName) -> None:
        self.form.fill(preset(name), keep=(*OF_LOAD, "run_folder"))

    def _on_resume(self, resume: bool) -> None:
        if not resume:
            return
        if (
            self.form["run_folder"].value == self._own_run_folder
            and not is_taken(self._own_run_folder)
            and memory.last_model
        ):
            self.form["run_folder"].value = memory.last_model.parent
        try:
            self.form.fill(load_config(self.form["run_folder"].value), keep=BUDGET)
        except Refusal as error:
            self.status.setText(str(error))

    def _propose_run_folder(self) -> Path:
        folder = RUNS.expanduser() / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        names = (folder if n == 1 else folder.with_name(f"{folder.name}_{n}") for n in count(1))
        self.form["run_folder"].value = folder = next(name for name in names if not name.exists())
        return folder

    def _on_finished(self) -> None:
        self._follow_all()  # what was loaded meanwhile

    def _follow_all(self) -> None:
        for side in self._selection.chosen:
            self._follow(side)

    def _follow(self, side: Side) -> None:
        """Take over what Load has chosen of a contrast; what the user has typed here stays."""
        if self.running:
            return
        chosen = self._selection.chosen[side]
        rows = {f"{side}_{name}": getattr(chosen, name) for name in LOADED}
        own = {name for name in rows if self.form[name].value != self._followed[name]}
        at = self.form[f"{side}_folder"].value
        if at not in (Path(), chosen.folder) and own & {f"{side}_folder", f"{side}_series"}:
            return  # series and label are those of a folder
        for name in rows.keys() - own:
            self.form[name].value = rows[name]
            self._followed[name] = self.form[name].value

    def _named(self, event: Preview) -> dict[str, Any]:
        t1, t2 = self._labels
        return {
            f"preview {t1}": event.t1,
            f"preview {t2} (synthetic)": event.fake_t2,
            f"{t1} -> {t2} -> {t1} (check)": event.back_t1,
            f"preview {t2}": event.t2,
            f"preview {t1} (synthetic)": event.fake_t1,
            f"{t2} -> {t1} -> {t2} (check)": event.back_t2,
        }
