"""What a model file says of itself, known without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from .. import __version__
from ..config import ModelConfig, Side
from ..errors import Refusal
from ..images.intensity import Intensity

if TYPE_CHECKING:
    from .known import Known

FORMAT = "2"
MODEL_FILE = "model.safetensors"


@dataclass(frozen=True, eq=False)
class About:
    """What a model file says of itself."""

    path: Path
    config: ModelConfig
    ranges: dict[Side, Intensity]  # that speak for the training images
    step: int
    seen: frozenset[str] = frozenset()  # `data.seen.fingerprint` of the volumes it was trained on, and their slices
    familiar: Mapping[Side, Known] = field(default_factory=dict)  # how its slices look; empty in older files
    calibration: dict[str, Any] = field(default_factory=dict)  # by side, what `trust.Calibration` holds

    def to_header(self) -> dict[str, str]:
        """As safetensors keeps it: strings only."""
        from .known import to_json

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
    """Read the description in a model file, or in that of a run folder. Raises `Refusal` with a sentence."""
    from .known import from_json  # brings scipy, a quarter of a second: not when a widget opens

    path = path / MODEL_FILE if path.is_dir() else path
    if not path.is_file():
        raise Refusal(f"{path} does not exist: give a run folder, or a {MODEL_FILE} that training has written.")
    try:
        with safe_open(path, framework="np") as file:
            header: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise Refusal(f"{path} is no model file, or is damaged ({error}): give a {MODEL_FILE}.") from error
    found = header.get("format", "")
    if found != f"napari-t1t2 model {FORMAT}":
        what = f"is a '{found}'" if found.startswith("napari-t1t2") else "was not written by napari-t1t2"
        raise Refusal(f"{path} {what}; this version reads a 'napari-t1t2 model {FORMAT}'. Train a new one.")
    try:
        described = json.loads(header["ranges"])
        ranges: dict[Side, Intensity] = {"t1": Intensity(**described["t1"]), "t2": Intensity(**described["t2"])}
        seen = frozenset(header["seen"].split())
        familiar = from_json(json.loads(header.get("familiar", "{}")))
        calibration = json.loads(header.get("calibration", "{}"))
        config = ModelConfig(**json.loads(header["config"]))
        return About(path, config, ranges, int(header["step"]), seen, familiar, calibration)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Refusal(f"{path} describes itself in a way this version cannot read ({error}).") from error
