"""Train a CycleGAN and watch it learn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QPushButton, QWidget

from ..config import SIDES, PresetName, Side, TrainConfig, cores, preset
from ..errors import Refusal
from ..events import Failed, Finished, Noted, Preview, Progress, Reading, Saved, Started, TrainEvent
from ..model.about import MODEL_FILE
from ..model.card import held_out_error
from ..runs.folder import is_taken, load_config
from ..runs.listing import losses_of
from ..runs.process import train_in_process
from ..runs.script import OF_SITTING, as_command, as_python
from ..runs.session import clock
from ._curve import LossCurve, load_matplotlib
from ._form import Folded, TrainForm, leave_wheel, stack
from ._job import JobWidget
from ._memory import memory, selection_of, with_preferences
from ._presets import PresetRows
from ._runs import COMPARE, RunList
from ._strip import Strip

if TYPE_CHECKING:
    import napari

LOADED = ("folder", "series", "label", "volume")  # what Load chooses of a contrast
OF_LOAD = tuple(f"{side}_{name}" for side in ("t1", "t2") for name in LOADED)
# rows that a resumed run may change
BUDGET = (*OF_SITTING, "run_folder")
TRIAL = 20  # steps


class TrainWidget(JobWidget):
    """A form made from the config; buttons to train, pause and stop; previews and curves in the dock; earlier runs."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        self.form = TrainForm(with_preferences(preset("laptop")))
        self.presets = PresetRows()
        self.start_rows, self.purpose, self.tools = self.presets.rows, self.presets.purpose, self.presets.tools
        settings = stack(QWidget(), self.presets, self.form, self.presets.buttons)
        self.settings = Folded("Settings", settings)
        self.strip, self.curve, self.runs = Strip(napari_viewer), LossCurve(), RunList()
        self.earlier = Folded("Earlier trainings", self.runs)
        super().__init__(stack(QWidget(), self.settings, self.strip, self.curve, self.earlier), "Train")
        self.settings.unfold()
        self._form = settings  # what is out of reach while it trains
        self.pause = QPushButton("Pause")
        self.pause.setEnabled(False)
        self.pause.hide()
        self.buttons.insertWidget(1, self.pause, 1)
        self.more, self.more_minutes = QPushButton(), QDoubleSpinBox()
        self.more_minutes.setRange(0.1, 10_000)
        self.more_minutes.setDecimals(1)
        self.more_minutes.setAccessibleName("more minutes")
        leave_wheel(self.more_minutes)
        self.more_row = QWidget()
        row = QHBoxLayout(self.more_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.more, 2)
        row.addWidget(self.more_minutes, 1)
        self.body.insertWidget(2, self.more_row)
        self.tab_through(self.go, self.pause, self.stop, self.next, self.more, self.more_minutes)
        self.more_row.hide()

        self._trial = False
        self._last_change, self._at, self._step = "", 0.5, 0
        self._run: Path | None = None  # of the last training
        self._own: TrainConfig | None = None  # what the form showed before the settings of a run that goes on
        self._labels = ("T1", "T2")
        self._errors: dict[str, tuple[float, float]] = {}  # of the last preview
        self._own_run_folder = self._propose_run_folder()
        self._recall()
        self._followed = {name: self.form[name].value for name in OF_LOAD}
        self._selection = selection_of(napari_viewer)
        for text, act in {
            "How fast here?": self._on_trial,
            "Copy as command": lambda: self._copy(as_command),
            "Copy as Python": lambda: self._copy(as_python),
            "Reset": self._on_reset,
        }.items():
            self.tools[text].clicked.connect(act)
        self.pause.clicked.connect(self._on_pause)
        self.more.clicked.connect(lambda: self._run and self.train_on(self._run, self.more_minutes.value()))
        self.more_minutes.valueChanged.connect(
            lambda minutes: self.more.setText(f"Train for {minutes:g} more minute{'s' * (minutes != 1)}")
        )
        self.more_minutes.setValue(5)
        self.strip.slice_chosen.connect(lambda at: setattr(self, "_at", at))
        self.earlier.title.toggled.connect(self._list_runs)
        self.runs.go_on.connect(lambda run: self.train_on(run, self.more_minutes.value()))
        self.runs.use.connect(self._on_use)
        self.runs.compare.connect(self.next_step.emit)
        self.runs.moved.connect(self._on_moved)
        self.start_rows["preset"].changed.connect(self._on_preset)
        self.start_rows["resume"].changed.connect(self._on_resume)
        self.form.changed.connect(self._on_change)
        self._selection.changed.connect(self._follow)
        self._follow_all()
        self.presets.say_purpose(self.form["minutes"].value)
        self.check()

    def missing(self) -> str:
        """What the button waits for."""
        wrong = self.form.wrong(self._last_change)
        self.form.show_wrong(wrong)
        for side in ("T1", "T2"):
            if self.form[f"{side.lower()}_folder"].value == Path():
                return f"choose the {side} folder first"
        return "see above what is wrong" if wrong else ""

    def start(self) -> Callable[[Callable[[], bool]], Iterator[TrainEvent]]:
        """Read the form."""
        resume = self.start_rows["resume"].value
        if not resume and self.form["run_folder"].value == self._own_run_folder and is_taken(self._own_run_folder):
            self._own_run_folder = self._propose_run_folder()
        config = self.form.config
        self._config, name = config, self.start_rows["preset"].value
        if not resume:  # those of another run are not what the next one is to have
            memory.remember("train", {"preset": name, "config": config.to_dict()})
        if not config.threads:  # a core is left to the window
            config = replace(config, threads=max(1, cores() - 1))
        self._labels = (config.model.t1_label, config.model.t2_label)
        self._trained, self._data, self._step, self._errors = clock(0), "", 0, {}
        self.curve.clear()
        if self._trial:
            config = replace(config, minutes=0, steps=TRIAL, report_every=TRIAL // 4, save_every=10**6)
        else:
            self._run = config.run_folder.resolve()
            self.strip.open(self._run, self._labels)
        trial = self._trial

        def begin(stop: Callable[[], bool]) -> Iterator[TrainEvent]:
            load_matplotlib()
            if not trial:
                return train_in_process(config, stop=stop, resume=resume, preview_at=lambda: self._at)
            return _tried(config, stop)

        return begin

    def on_event(self, event: TrainEvent | Failed) -> None:
        """Show an event."""
        match event:
            case Reading(done=done, total=total):
                self.show_fraction(done / total, event.text())
            case Started(notes=notes, step=step):
                (t1, t2), (height, width) = event.slices, event.shape
                of = " of {} and {} patients".format(*event.patients) if all(event.patients) else ""
                labels = self._labels
                self._data = f"{t1} {labels[0]} and {t2} {labels[1]} slices{of}, {height}x{width} pixels at a time"
                self._begun = f"Training on {self._data}, on {event.device}."
                self.status.setText(self._begun)
                if notes:
                    self.mention("\n".join(notes))
                if step and self._run:
                    self.curve.add_earlier(self._run, step)
            case Progress():
                self._trained, left, self._step = clock(event.seconds), clock(event.seconds_left), event.step
                speed = event.slices_per_second / self._config.batch
                text = f"step {event.step}, {left} left, {event.slices_per_second:.1f} slices/s"
                self.show_fraction(event.fraction, text)
                if not self._trial:
                    self.curve.add(event.step, event.losses)
                if self._trial or event.fraction == 1:
                    speeds = memory.recall("speed") | {self.start_rows["preset"].value: speed}
                    memory.remember("speed", speeds)
            case Preview() if not self._trial:
                self.strip.add(event)
                self._errors = event.errors()
            case Saved(path=path) if not self._trial:
                memory.last_model = path
                memory.add_run(path.parent.resolve())
            case Noted(sentence=sentence):
                self.mention(sentence)
            case Finished(step=step, path=path, reason=reason) if not self._trial:
                ended = "Finished" if reason == "completed" else "Stopped"
                error = held_out_error(self._errors, dict(zip(SIDES, self._labels, strict=True)))
                score = f"Slice held out: {error}.\n" if error else ""
                said = f"{ended} at step {step}" + f": trained {self._trained} on {self._data}" * bool(self._data) + "."
                self.status.setText(f"{said}\n{score}Model: {path}")
                self.curve.draw_now()
                self.offer("Next: translate with it", path.parent)

    def train_on(self, run: Path, minutes: float) -> None:
        """Go on with a run for so many minutes more; what hinders is said in the status."""
        try:
            config = load_config(run)
        except Refusal as error:
            self.status.setText(str(error))
            return
        rows = losses_of(run, only_last=True)
        spent = rows[0]["seconds"] / 60 if rows else 0.0
        for name in ("t1_folder", "t2_folder"):  # data may have moved since: then those chosen now
            if not getattr(config, name).exists() and self.form[name].value != Path():
                config = replace(config, **{name: self.form[name].value})
        self.form["run_folder"].value = run
        self.start_rows["resume"].value = True
        self.form.fill(replace(config, run_folder=run, minutes=round(spent + minutes, 2), steps=0), keep=BUDGET[2:6])
        self.go.click()

    def _set_running(self, running: bool) -> None:
        super()._set_running(running)
        self.pause.setEnabled(running)
        self.pause.setText("Pause")
        self.pause.setVisible(running)
        self.more_row.hide()
        self.earlier.setVisible(not running)
        if running:
            self.settings.unfold(self._trial)

    def _on_pause(self) -> None:
        session = self._slot.session
        if session is None:
            return
        if session.state == "paused":
            session.go_on()
            self.status.setText(self._begun if self._data else "Going on ...")
        else:
            session.pause()
            self.status.setText(f"Paused at step {self._step}, trained {self._trained}. Press Continue to go on.")
        self.pause.setText("Continue" if session.state == "paused" else "Pause")

    def _on_change(self, name: str) -> None:
        self._last_change = name
        self.check()

    def _on_preset(self, name: PresetName) -> None:
        self.form.fill(with_preferences(preset(name)), keep=(*OF_LOAD, "run_folder"))
        self.presets.say_purpose(self.form["minutes"].value)

    def _on_resume(self, resume: bool) -> None:
        if not resume:
            if self._own:  # what another run was begun with, and from, is not for a new one
                self.form.fill(self._own, keep=("run_folder",))
            return
        with suppress(Refusal):
            self._own = self.form.config
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

    def _on_trial(self) -> None:
        self._trial = True
        self.start_rows["resume"].value = False
        self.go.click()
        self._trial = self.running  # it may not have begun

    def _on_use(self, run: Path) -> None:
        memory.last_model = run / MODEL_FILE if run.is_dir() else run
        self.next_step.emit(run)

    def _on_moved(self, old: Path, new: Path) -> None:
        """What is shown of the run goes with its folder, also where that is gone."""
        if old == self._run:
            self._run = new
            self.strip.move(new)
            self.offer("Next: translate with it", new)
            self.next.setVisible(self.in_cockpit and is_taken(new))
            self.more_row.setVisible(is_taken(new))

    def _copy(self, written: Callable[..., str]) -> None:
        clipboard = QGuiApplication.clipboard()
        assert clipboard is not None
        try:
            text = written(self.form.config, self.start_rows["preset"].value, resume=self.start_rows["resume"].value)
        except Refusal as error:
            self.status.setText(str(error))
            return
        clipboard.setText(text)
        self.status.setText(f"Copied:\n{text}")

    def _recall(self) -> None:
        """Fill in what was trained with last, but a run folder of its own."""
        kept = memory.recall("train")
        with suppress(Refusal, KeyError, TypeError, ValueError):  # of another version
            self.start_rows["preset"].value = kept["preset"]
            self.form.fill(TrainConfig.from_dict(kept["config"]), keep=["run_folder"])

    def _on_reset(self) -> None:
        memory.forget("train")
        self.form.fill(with_preferences(preset(self.start_rows["preset"].value)), keep=["run_folder"])
        self._followed = {name: self.form[name].value for name in OF_LOAD}
        self._follow_all()

    def _propose_run_folder(self) -> Path:
        self.form["run_folder"].value = folder = memory.new_run_folder()
        return folder

    def _on_finished(self) -> None:
        if self._trial:
            self._trial = False
            self.presets.say_purpose(self.form["minutes"].value)
            if self.state == "completed":
                self.status.setText(f"Tried {TRIAL} steps and threw them away. {self.purpose.text()}")
        else:
            self.more_row.setVisible(self._run is not None and is_taken(self._run))
            if self._run is not None and self.start_rows["resume"].value:  # the next one is new again
                self.start_rows["resume"].value = False
                self._own_run_folder = self._propose_run_folder()
        if self.state == "failed":
            self.settings.unfold()  # where there is something to change
        self._follow_all()  # what was loaded meanwhile
        self.check()
        self._list_runs(self.earlier.title.isChecked())

    def _list_runs(self, unfolded: bool) -> None:
        if unfolded:
            self.runs.refresh()
            self.runs.buttons[COMPARE].setVisible(self.in_cockpit)

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


def _tried(config: TrainConfig, stop: Callable[[], bool]) -> Iterator[TrainEvent]:
    """Train into a folder that is deleted at the end."""
    with tempfile.TemporaryDirectory() as folder:
        yield from train_in_process(replace(config, run_folder=Path(folder) / "trial"), stop=stop)
