"""What a run folder holds, and what can be known of it without torch."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from .. import __version__
from ..images.intensity import Intensity
from ..images.write import written_beside
from .config import ModelConfig, Side, TrainConfig

if TYPE_CHECKING:
    from .familiar import Known

FORMAT = "2"
MODEL_FILE, CHECKPOINT_FILE, CONFIG_FILE = "model.safetensors", "checkpoint.pt", "config.json"
LOSSES_FILE, PREVIEW_FOLDER = "losses.csv", "previews"
_CLAIMED: set[Path] = set()


@dataclass(frozen=True, eq=False)
class About:
    """What a model file says of itself."""

    path: Path
    config: ModelConfig
    ranges: dict[Side, Intensity]  # that speak for the training images
    step: int
    seen: frozenset[str] = frozenset()  # fingerprints of the volumes it was trained on
    familiar: Mapping[Side, Known] = field(default_factory=dict)  # how its slices look; empty in older files
    calibration: dict[str, Any] = field(default_factory=dict)  # by side, what `trust.Calibration` holds

    def to_header(self) -> dict[str, str]:
        """As safetensors keeps it: strings only."""
        from .familiar import to_json

        return {
            "format": f"napari-t1t2 model {FORMAT}",
            "version": __version__,
            "config": json.dumps(asdict(self.config)),
            "ranges": json.dumps({side: asdict(intensity) for side, intensity in self.ranges.items()}),
            "step": str(self.step),
            "seen": " ".join(sorted(self.seen)),
            "familiar": json.dumps(to_json(self.familiar), separators=(",", ":")),
            "calibration": json.dumps(self.calibration),
            "notice": "Makes synthetic images. Not for diagnosis.",
        }


def read_about(path: Path) -> About:
    """Read the description in a model file, or in that of a run folder. Raises `ValueError` with a sentence."""
    from .familiar import from_json  # brings scipy, a quarter of a second: not when a widget opens

    path = path / MODEL_FILE if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"{path} does not exist: give a run folder, or a {MODEL_FILE} that training has written.")
    try:
        with safe_open(path, framework="np") as file:
            header: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no model file, or is damaged ({error}): give a {MODEL_FILE}.") from error
    found = header.get("format", "")
    if found != f"napari-t1t2 model {FORMAT}":
        what = f"is a '{found}'" if found.startswith("napari-t1t2") else "was not written by napari-t1t2"
        raise ValueError(f"{path} {what}; this version reads a 'napari-t1t2 model {FORMAT}'. Train a new one.")
    try:
        described = json.loads(header["ranges"])
        ranges: dict[Side, Intensity] = {"t1": Intensity(**described["t1"]), "t2": Intensity(**described["t2"])}
        seen = frozenset(header["seen"].split())
        familiar = from_json(json.loads(header.get("familiar", "{}")))
        calibration = json.loads(header.get("calibration", "{}"))
        config = ModelConfig(**json.loads(header["config"]))
        return About(path, config, ranges, int(header["step"]), seen, familiar, calibration)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} describes itself in a way this version cannot read ({error}).") from error


def save_config(path: Path, config: TrainConfig) -> None:
    """As JSON, for people and for resuming."""
    with written_beside(path) as partial:
        partial.write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")


def load_config(run_folder: Path) -> TrainConfig:
    """The config of a run folder. Raises `ValueError` with a sentence."""
    path = run_folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"{run_folder} has no {CONFIG_FILE}, so there is no run to resume: train without resume.")
    try:
        return TrainConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): it was changed, or written by another version.") from error


def is_taken(run_folder: Path) -> bool:
    """Whether a run has already left something there."""
    return any((run_folder / name).exists() for name in (MODEL_FILE, CHECKPOINT_FILE))


@contextmanager
def claimed(run_folder: Path) -> Iterator[None]:
    """Keep other runs of this process, and of those that it starts, out of a run folder. Raises `ValueError`."""
    folder = run_folder.resolve()
    if folder in _CLAIMED:
        raise ValueError(f"{run_folder} is being trained in right now: give another run folder.")
    _CLAIMED.add(folder)
    try:
        yield
    finally:
        _CLAIMED.discard(folder)


@contextmanager
def locked(run_folder: Path) -> Iterator[None]:
    """Keep all other processes of this machine out of a run folder. Raises `ValueError`.

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
        raise ValueError(
            f"{run_folder} is being trained in by another process: wait for it, end it, or give another run folder."
        ) from error
    try:
        yield
    finally:
        lock.release()
