"""What a model file says of itself, known without torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from .. import __version__
from ..config import SIDES, ModelConfig, Side
from ..errors import Refusal
from ..images.intensity import Intensity

if TYPE_CHECKING:
    from .known import Known

FORMAT = "2"
MODEL_FILE = "model.safetensors"
SAMPLE = Path(__file__).parents[1] / "sample.safetensors"  # the general model, called by the name:
SAMPLE_NAME = "sample"
LONGEST = 100 * 2**20  # bytes of a header, as safetensors has it


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
    card: dict[str, Any] = field(default_factory=dict)  # what `card.Card` shows and nothing else here says

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
            "card": json.dumps(self.card, ensure_ascii=False),
            "notice": "Makes synthetic images. Not for diagnosis.",
        }

    @classmethod
    def of_header(cls, path: Path, header: Mapping[str, str], *, brief: bool = False) -> Self:
        """The inverse of `to_header`, of the file `path`; if brief, without `familiar`. Raises `Refusal`."""
        found = header.get("format", "")
        if not found.startswith("napari-t1t2 model "):
            raise Refusal(f"{path} was not written by napari-t1t2: give a {MODEL_FILE} that training has written.")
        check_format(path, found.removeprefix("napari-t1t2 model "))
        try:
            familiar: Mapping[Side, Known] = {}
            if not brief:
                from .known import from_json  # brings scipy, a quarter of a second: not when a widget opens

                familiar = from_json(json.loads(header.get("familiar", "{}")))
            described = json.loads(header["ranges"])
            return cls(
                path,
                ModelConfig.from_dict(json.loads(header["config"])),
                {side: Intensity(**described[side]) for side in SIDES},
                int(header["step"]),
                frozenset(header["seen"].split()),
                familiar,
                json.loads(header.get("calibration", "{}")),
                dict(json.loads(header.get("card", "{}"))),
            )
        except (AttributeError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise Refusal(f"{path} describes itself in a way this version cannot read ({error}).") from error


def check_format(path: Path, found: object) -> None:
    """Refuse a file of another format than this version's, with what to do. Raises `Refusal`."""
    if found == FORMAT:
        return
    of, newer = str(found), str(found).isdecimal() and (len(str(found)), str(found)) > (len(FORMAT), FORMAT)
    by = "a newer version: update napari-t1t2 to use it" if newer else "another version: train a new model"
    raise Refusal(f"{path} has format {of[:20]}, and this version reads format {FORMAT}. It was written by {by}.")


def read_about(path: Path, *, brief: bool = False) -> About:
    """Read the description in a model file, or in that of a run folder. Raises `Refusal` with a sentence.

    If brief, without how the training slices look, which a card does not tell: that is read sooner.
    """
    path = model_file(path)
    with path.open("rb") as file:
        return About.of_header(path, header_of(path, file), brief=brief)


def model_file(path: Path) -> Path:
    """The model file of a run folder, or the file itself; "sample" is the general model that comes with the package.

    Raises `Refusal` where there is none.
    """
    if path == Path(SAMPLE_NAME) and not (path.is_file() or (path / MODEL_FILE).is_file()):
        return SAMPLE
    path = path / MODEL_FILE if path.is_dir() else path
    if not path.is_file():
        raise Refusal(f"{path} does not exist: give a run folder, or a {MODEL_FILE} that training has written.")
    return path


def header_of(path: Path, content: BinaryIO) -> dict[str, str]:
    """What a safetensors file says of itself, from its beginning: 8 bytes of length, then JSON.

    Raises `Refusal` with a sentence where `content`, of the file `path`, is none.
    """
    try:
        length = int.from_bytes(content.read(8), "little")
        if length > LONGEST:
            raise ValueError("its header has no sensible length")
        tensors = json.loads(content.read(length))
        header: dict[str, str] = tensors.pop("__metadata__", {})
        ends = [tensor["data_offsets"][1] for tensor in tensors.values()]
        if content.seek(0, os.SEEK_END) != 8 + length + max(ends, default=0):
            raise ValueError("it is not as long as it says")
        return header
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise Refusal(f"{path} is no model file, or is damaged ({error}): give a {MODEL_FILE}.") from error
