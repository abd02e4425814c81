"""What a run folder holds: its config, checkpoint, losses and previews, and who may write to it."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import __version__
from ..atomic import locked, naming, remove_abandoned, written_file
from ..config import TrainConfig
from ..errors import Refusal
from ..events import Progress
from ..model.about import MODEL_FILE, read_about

CHECKPOINT_FILE, CONFIG_FILE, BEST_FILE = "checkpoint.pt", "config.json", "best.safetensors"
INPUTS, HERE = ("t1_folder", "t2_folder"), "."  # of a config; the run folder as its own file calls it
DAMAGED = (AttributeError, KeyError, TypeError, ValueError, RecursionError, OverflowError)  # what a changed file raises
LOSSES_FILE, PREVIEW_FOLDER, NOTES_FILE, DATA_FILE = "losses.csv", "previews", "notes.txt", "data.json"


def save_config(path: Path, config: TrainConfig) -> None:
    """As JSON, for people and for resuming; folders beside the run relative to it, so that all may move together."""
    values, run = config.to_dict(), config.run_folder
    if run.resolve() == path.parent.resolve():
        near = {name: beside(run, Path(values[name])) for name in INPUTS if Path(values[name]) != Path()}
        values |= near | {"run_folder": HERE}
    with written_file(path) as partial:
        partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def load_config(run_folder: Path) -> TrainConfig:
    """The config of a run folder. Raises `Refusal` with a sentence."""
    path = run_folder / CONFIG_FILE
    if not path.is_file():
        raise _not_resumable(run_folder, CONFIG_FILE)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.get("run_folder") == HERE:  # earlier versions wrote the folders as they were given
            values |= {name: _from(run_folder, Path(values[name])) for name in INPUTS} | {"run_folder": run_folder}
        return TrainConfig.from_dict(values)
    except DAMAGED as error:
        raise Refusal(
            f"{path} cannot be read ({error}): it was changed, or written by a newer version; then update napari-t1t2."
        ) from error


def add_notes(path: Path, step: int, where: str, notes: Sequence[str]) -> None:
    """Append what the user was told when a sitting began, with its date, version and device."""
    begun = f"{datetime.now():%Y-%m-%d %H:%M}, napari-t1t2 {__version__}, from step {step} on {where}"
    before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    with written_file(path) as partial:
        partial.write_text(before + "\n".join([begun, *(f"- {note}" for note in notes)]) + "\n", encoding="utf-8")


def add_data(path: Path, step: int, data: dict[str, Any]) -> None:
    """Record what a run is trained on from a step on, unless it is what the record ends with. Plain values."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["sittings"] if path.is_file() else []
        sittings = [dict(sitting) for sitting in before]
    except DAMAGED as error:
        raise _changed(path, error) from error
    if not sittings or {k: v for k, v in sittings[-1].items() if k != "from step"} != data:
        sittings.append({"from step": step} | data)
        with written_file(path) as partial:
            text = json.dumps({"sittings": sittings}, indent=1, ensure_ascii=False)
            partial.write_text(text + "\n", encoding="utf-8")


def beside(run: Path, folder: Path) -> str:
    """A folder of images as a run's record names it: relative where it lies beside the run, so that both may move."""
    run, folder = run.resolve(), folder.resolve()
    near = folder.is_relative_to(run.parent)
    return Path(os.path.relpath(folder, run)).as_posix() if near else str(folder)


def _from(run: Path, folder: Path) -> Path:
    """A folder that `beside` has named."""
    if folder.parts[:1] == ("..",) and run.name not in ("", ".."):
        return run.parent.joinpath(*folder.parts[1:])
    return folder if folder == Path() else run / folder


def is_taken(run_folder: Path) -> bool:
    """Whether a run has already left something there."""
    return any((run_folder / name).exists() for name in (MODEL_FILE, CHECKPOINT_FILE))


def is_model_of(path: Path, step: int) -> bool:
    """Whether a file is the model of a step."""
    try:
        return read_about(path, brief=True).step == step
    except (OSError, Refusal):
        return False


@contextmanager
def claimed(run_folder: Path) -> Iterator[None]:
    """Keep all other runs, of this machine and others, out of a run folder, and clear up after killed ones.

    Raises `Refusal`.
    """
    with locked(
        run_folder,
        f"{run_folder} is being trained in right now: wait for it, end it, or give another run folder.",
    ):
        for folder in (run_folder, run_folder / PREVIEW_FOLDER):
            remove_abandoned(folder, older=0)
        yield


MAY_CHANGE = frozenset(  # between two sittings of one run
    {"t1_folder", "t2_folder", "run_folder", "minutes", "steps", "device", "threads", "memory", "precision"}
    | {"report_every", "preview_every", "save_every"}
)


class LossTable:
    """`losses.csv`: one row a report."""

    def __init__(self, path: Path, keep_to: int) -> None:
        self._path = path
        try:
            text = path.read_text(encoding="utf-8") if keep_to and path.is_file() else ""
            rows = list(csv.reader(text.splitlines()))
        except (ValueError, csv.Error) as error:
            raise _changed(path, error) from error
        # a kill may have cut the last row, into one of an earlier step
        whole = [
            row for row in rows[1:] if row and len(row) == len(rows[0]) and row[0].isdecimal() and len(row[0]) < 16
        ]
        kept = rows[:1] + [row for row in whole if int(row[0]) <= keep_to]
        with written_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(kept)
        self._columns = kept[0] if kept else []

    def add(self, progress: Progress) -> None:
        """Append a report; each row is complete on disk before the next step. A loss of no step since stays empty."""
        with naming(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)  # who removed the run folder gets it anew
        row = {"step": f"{progress.step}", "images": f"{progress.images}", "seconds": f"{progress.seconds:.2f}"}
        row |= {name: f"{value:.6g}" for name, value in progress.losses.items()}
        with naming(self._path), self._path.open("a", newline="", encoding="utf-8") as file:
            if not self._columns:
                self._columns = list(row)
                csv.writer(file).writerow(self._columns)
            csv.DictWriter(file, self._columns, extrasaction="ignore").writerow(row)


def check_run_folder(config: TrainConfig, resume: bool) -> None:
    """Refuse a run folder that cannot be begun in, or gone on with. Raises `Refusal` with a sentence."""
    run = config.run_folder
    if not resume:
        if (run / MODEL_FILE).exists() and not (run / CHECKPOINT_FILE).exists():
            raise _not_resumable(run, CHECKPOINT_FILE)
        if is_taken(run):
            raise Refusal(f"{run} already holds a trained model: resume it, or give another run folder.")
        if (run / CONFIG_FILE).exists():
            load_config(run)  # refuses to overwrite what is not ours
        elif foreign := next((n for n in (LOSSES_FILE, PREVIEW_FOLDER) if (run / n).exists()), None):
            raise Refusal(f"{run} holds a {foreign} that no run here has written: give another run folder.")
        return
    if not (run / CHECKPOINT_FILE).is_file():
        load_config(run)
        raise _not_resumable(run, CHECKPOINT_FILE)
    before, now = (c | c.pop("model") for c in (asdict(load_config(run)), asdict(config)))
    for name in before.keys() - MAY_CHANGE:
        if before[name] != now[name]:
            raise Refusal(
                f"{name} was {before[name]} when {run} was trained and is {now[name]} now: it cannot change in a "
                "resumed run. Take the old value, or a new run folder."
            )


def _changed(path: Path, error: Exception) -> Refusal:
    """A sentence for a record that must not be replaced, as it cannot be gone on with."""
    return Refusal(f"{path} cannot be read ({error}): move it out of the run, then try again.")


def _not_resumable(run: Path, missing: str) -> Refusal:
    """A sentence for a folder without that file: begin there, or, where there is a model, elsewhere."""
    if is_taken(run):
        return Refusal(f"{run} holds a trained model without its {missing}, so it cannot go on: take a new run folder.")
    return Refusal(f"{run} has no {missing}, so there is no run to resume: train without resume.")
