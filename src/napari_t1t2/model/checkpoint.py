"""All that a run needs to go on as if it had not stopped, on disk. No pickle is ever executed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..atomic import written_beside
from ..errors import Refusal
from .about import FORMAT
from .cyclegan import CycleGAN


@dataclass(frozen=True)
class Position:
    """How far a run is: steps, seconds of training, and the losses since the last report."""

    step: int
    seconds: float
    window: list[dict[str, Tensor]]


def save_checkpoint(path: Path, gan: CycleGAN, position: Position) -> None:
    """All that a run needs to go on as if it had not stopped."""
    state = {
        "format": FORMAT,
        "config": gan.config.to_dict(),
        "step": position.step,
        "seconds": position.seconds,
        "window": position.window,
        "networks": gan.state_dict(),
        "generator_adam": gan.generator_adam.state_dict(),
        "discriminator_adam": gan.discriminator_adam.state_dict(),
        "pool_t1": gan.pool_t1.images,
        "pool_t2": gan.pool_t2.images,
    }
    with written_beside(path) as partial:
        torch.save(state, partial)


def load_checkpoint(path: Path, gan: CycleGAN, device: torch.device) -> Position:
    """Put the run's state into `gan`; returns how far it was. Raises `Refusal` with a sentence."""
    if not path.is_file():
        raise Refusal(f"{path.parent} has no {path.name}, so there is no run to resume: train without resume.")
    try:
        data = torch.load(path, map_location=device, weights_only=True)
        if data["format"] != FORMAT:
            raise Refusal(f"{path} has format {data['format']}; this version reads format {FORMAT}.")
        gan.load_state_dict(data["networks"])
        gan.generator_adam.load_state_dict(data["generator_adam"])
        gan.discriminator_adam.load_state_dict(data["discriminator_adam"])
        gan.pool_t1.images, gan.pool_t2.images = data["pool_t1"], data["pool_t2"]
        return Position(int(data["step"]), float(data["seconds"]), data["window"])
    except Refusal:
        raise
    except Exception as error:  # torch raises several types on a damaged or foreign file
        raise Refusal(f"{path} is no checkpoint of this run, or is damaged: start a new run folder.") from error
