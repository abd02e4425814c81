"""The runs that were made: what each was trained on and how long, known without torch."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..atomic import LOCK_FILE
from ..config import TrainConfig
from ..errors import Refusal
from ..model.about import MODEL_FILE, About, read_about
from ..model.card import Card, card_of, hardly_trained, preset_of
from .folder import (
    BEST_FILE,
    CHECKPOINT_FILE,
    CONFIG_FILE,
    DATA_FILE,
    LOSSES_FILE,
    NOTES_FILE,
    PREVIEW_FOLDER,
    claimed,
    is_taken,
    load_config,
)
from .session import clock

OWN = (MODEL_FILE, BEST_FILE, CHECKPOINT_FILE, CONFIG_FILE, DATA_FILE, LOSSES_FILE, NOTES_FILE, LOCK_FILE)


@dataclass(frozen=True)
class Run:
    """A run folder, as its files describe it."""

    folder: Path
    config: TrainConfig
    steps: int
    seconds: float  # of training
    device: str  # of the last sitting; empty where it is not known
    picture: Path | None  # the last preview
    card: Card | None  # of its model, where that can be read
    best: Path | None  # the model that did best on the held-out slice, where that is not the last
    best_step: int = 0

    @property
    def hardly(self) -> bool:
        """Whether it has learnt little yet."""
        return hardly_trained(self.steps, self.card.began_steps if self.card else 0)

    def told(self) -> str:
        """Two short lines: how long it was trained; contrasts, preset, and the error on the slice held out."""
        labels = f"{self.config.model.t1_label}, {self.config.model.t2_label}"
        error = "".join(f", error {made:.1%}" for made, _ in [*self.card.held_out.values()][:1]) if self.card else ""
        trained = f"{'hardly ' * self.hardly}trained, {clock(self.seconds)} min"
        return f"{trained}\n{labels}, {preset_of(self.config) or 'own settings'}{error}"

    def summary(self) -> str:
        """One line: how long it was trained, on what."""
        c = self.config
        folders = f"the folders {c.t1_folder.name or '?'} and {c.t2_folder.name or '?'}"
        of = f"{c.model.t1_label} and {c.model.t2_label} from {folders}"
        hardly = ": hardly trained" if self.hardly else ""
        on = f", on {self.device}" if self.device else ""
        trained = f"trained {clock(self.seconds)} min ({self.steps:,} steps){hardly}"
        settings = f"preset {name}" if (name := preset_of(c)) else "own settings"
        return f"{trained}; {of}; {c.model.plane}; {settings}{on}"


def runs_in(home: Path, others: Iterable[Path] = ()) -> list[Run]:
    """The runs in the folder of all runs and some elsewhere, the newest first."""
    folders = {path.resolve() for path in others}
    with suppress(OSError):
        folders |= {path.resolve() for path in home.iterdir()}
    found = [run for folder in folders if is_taken(folder) and (run := read_run(folder))]
    return sorted(found, key=lambda run: (run.folder / CONFIG_FILE).stat().st_mtime, reverse=True)


def read_run(folder: Path) -> Run | None:
    """What a run folder says of itself; None where it cannot be read."""
    try:
        config = load_config(folder)
    except (Refusal, OSError):
        return None
    last = losses_of(folder, only_last=True)
    steps, seconds = (int(last[0]["step"]), last[0]["seconds"]) if last else (0, 0.0)
    device = ""
    with suppress(OSError):
        notes = (folder / NOTES_FILE).read_text(encoding="utf-8", errors="replace")
        begun = [line for line in notes.splitlines() if " on " in line[:90]]
        device = next((line.rpartition(" on ")[2] for line in begun[::-1] if not line.startswith("-")), "")
    picture = next(iter(previews_in(folder)[::-1]), None)
    last_model, best = (_about(folder / name) for name in (MODEL_FILE, BEST_FILE))
    other = best.path if best and last_model and best.step != last_model.step else None
    card = card_of(last_model) if last_model else None
    steps = last_model.step if last_model else steps  # losses are noted now and then only
    own = replace(config, run_folder=folder)
    return Run(folder, own, steps, seconds, device, picture, card, other, best.step if best else 0)


def _about(model: Path) -> About | None:
    with suppress(Refusal, OSError):
        return read_about(model, brief=True)
    return None


def losses_of(folder: Path, *, only_last: bool = False) -> list[dict[str, float]]:
    """The rows of a run's losses, by column; what stayed empty is left out. No rows where there is no such file.

    A row that was cut off, or is of something else, is none.
    """
    try:
        lines = (folder / LOSSES_FILE).read_text(encoding="utf-8").splitlines()
        chosen = lines[:1] + lines[1:][-2:] if only_last else lines
        rows = [{k: float(v) for k, v in row.items() if k and v} for row in csv.DictReader(chosen)]
    except (OSError, ValueError):
        return []
    whole = [row for row in rows if all(math.isfinite(row.get(name, math.nan)) for name in ("step", "seconds"))]
    return whole[-1:] if only_last else whole


def previews_in(folder: Path) -> list[Path]:
    """The pictures of a run, the first step first."""
    return sorted((folder / PREVIEW_FOLDER).glob("step-*.png"))


def rename_run(run: Path, name: str) -> Path:
    """Give a run folder another name; returns the new one. Raises `Refusal` where that cannot be."""
    try:
        new = run.with_name(name.strip())
    except ValueError as error:
        raise Refusal(f"{name!r} is no name for a folder: take letters and digits.") from error
    if new.exists():
        raise Refusal(f"{new} exists already: take another name.")
    with claimed(run):
        pass  # nobody trains in it
    return run.rename(new)


def delete_run(run: Path) -> None:
    """Delete what a run has written, and its folder if that holds nothing else. Raises `Refusal` while it trains."""
    load_config(run)  # refuses what is no run
    with claimed(run):
        shutil.rmtree(run / PREVIEW_FOLDER, ignore_errors=True)
        for name in OWN[:-1]:
            (run / name).unlink(missing_ok=True)
    (run / LOCK_FILE).unlink(missing_ok=True)
    with suppress(OSError):
        run.rmdir()
