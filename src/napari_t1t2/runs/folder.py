"""What a run folder holds: its config, checkpoint, losses and previews, and who may write to it."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path

from ..atomic import written_beside
from ..config import TrainConfig
from ..errors import Refusal
from ..events import Progress
from ..model.about import MODEL_FILE

CHECKPOINT_FILE, CONFIG_FILE = "checkpoint.pt", "config.json"
LOSSES_FILE, PREVIEW_FOLDER = "losses.csv", "previews"
_CLAIMED: set[Path] = set()


def save_config(path: Path, config: TrainConfig) -> None:
    """As JSON, for people and for resuming."""
    with written_beside(path) as partial:
        partial.write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")


def load_config(run_folder: Path) -> TrainConfig:
    """The config of a run folder. Raises `Refusal` with a sentence."""
    path = run_folder / CONFIG_FILE
    if not path.is_file():
        raise Refusal(f"{run_folder} has no {CONFIG_FILE}, so there is no run to resume: train without resume.")
    try:
        return TrainConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Refusal(f"{path} cannot be read ({error}): it was changed, or written by another version.") from error


def is_taken(run_folder: Path) -> bool:
    """Whether a run has already left something there."""
    return any((run_folder / name).exists() for name in (MODEL_FILE, CHECKPOINT_FILE))


@contextmanager
def claimed(run_folder: Path) -> Iterator[None]:
    """Keep other runs of this process, and of those that it starts, out of a run folder. Raises `Refusal`."""
    folder = run_folder.resolve()
    if folder in _CLAIMED:
        raise Refusal(f"{run_folder} is being trained in right now: give another run folder.")
    _CLAIMED.add(folder)
    try:
        yield
    finally:
        _CLAIMED.discard(folder)


@contextmanager
def locked(run_folder: Path) -> Iterator[None]:
    """Keep all other processes of this machine out of a run folder. Raises `Refusal`.

    The lock lies in the system's folder for temporary files: it leaves nothing in the run folder, and goes with a
    process that is killed.
    """
    from filelock import FileLock, Timeout  # 30 ms, which opening the widgets need not wait for

    owner = os.getuid() if hasattr(os, "getuid") else ""  # another user could not open the file
    name = blake2b(str(run_folder.resolve()).encode(), digest_size=8).hexdigest()
    lock = FileLock(Path(tempfile.gettempdir()) / f"napari-t1t2-{owner}-{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise Refusal(
            f"{run_folder} is being trained in by another process: wait for it, end it, or give another run folder."
        ) from error
    try:
        yield
    finally:
        lock.release()


MAY_CHANGE = frozenset(  # between two sittings of one run
    {"t1_folder", "t2_folder", "run_folder", "minutes", "steps", "device", "threads", "memory", "precision"}
    | {"report_every", "preview_every", "save_every"}
)


class LossTable:
    """`losses.csv`: one row a report."""

    def __init__(self, path: Path, keep_to: int) -> None:
        self._path = path
        text = path.read_text(encoding="utf-8") if keep_to and path.is_file() else ""
        rows = list(csv.reader(text.splitlines()))
        kept = rows[:1] + [row for row in rows[1:] if row and row[0].isdecimal() and int(row[0]) <= keep_to]
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(kept)
        self._empty = not kept

    def add(self, progress: Progress) -> None:
        """Append a report; each row is complete on disk before the next step."""
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if self._empty:
                writer.writerow(["step", "images", "seconds", *progress.losses])
                self._empty = False
            numbers = (f"{value:.6g}" for value in progress.losses.values())
            writer.writerow([progress.step, progress.images, f"{progress.seconds:.2f}", *numbers])


def _check_run_folder(config: TrainConfig, resume: bool) -> None:
    run = config.run_folder
    if run == Path():
        raise Refusal("No run folder was given: choose where the model goes.")
    if run.exists() and not run.is_dir():
        raise Refusal(f"{run} is a file: give a folder for the run.")
    if not resume:
        if is_taken(run):
            raise Refusal(f"{run} already holds a trained model: resume it, or give another run folder.")
        if (run / CONFIG_FILE).exists():
            load_config(run)  # refuses to overwrite what is not ours
        elif foreign := next((n for n in (LOSSES_FILE, PREVIEW_FOLDER) if (run / n).exists()), None):
            raise Refusal(f"{run} holds a {foreign} that no run here has written: give another run folder.")
        return
    before, now = (c | c.pop("model") for c in (asdict(load_config(run)), asdict(config)))
    for name in before.keys() - MAY_CHANGE:
        if before[name] != now[name]:
            raise Refusal(
                f"{name} was {before[name]} when {run} was trained and is {now[name]} now: it cannot change in a "
                "resumed run. Take the old value, or a new run folder."
            )
