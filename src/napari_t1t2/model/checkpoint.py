"""All that a run needs to go on as if it had not stopped, on disk. No pickle is ever executed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor

from ..atomic import written_file
from ..config import TrainConfig
from ..errors import Refusal
from .about import FORMAT, MODEL_FILE, About, check_format, read_about
from .cyclegan import CycleGAN

Began = tuple[float, int, float]  # where a budget began: the schedules' position, 0 to 1, the step and the seconds


@dataclass(frozen=True)
class Position:
    """How far a run is: steps, seconds of training, the losses since the last report, where its budget began."""

    step: int
    seconds: float
    window: list[dict[str, Tensor]]
    began: Began = (0.0, 0, 0.0)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A saved run."""

    path: Path
    about: About  # of the model saved with it
    position: Position
    budget: tuple[float, int]  # the minutes and steps that it was trained for
    state: dict[str, Any]  # of the networks, optimizers and image buffers

    def restore(self, gan: CycleGAN) -> None:
        """Put the saved state into `gan`. Raises `Refusal` where it does not fit."""
        try:
            gan.load_state_dict(self.state["networks"])
            gan.generator_adam.load_state_dict(self.state["generator_adam"])
            gan.discriminator_adam.load_state_dict(self.state["discriminator_adam"])
            gan.means, gan.mean_of = self.state.get("means", []), self.state.get("mean_of", 0)
            gan.pool_t1.images, gan.pool_t2.images = self.state["pool_t1"], self.state["pool_t2"]
        except Exception as error:  # torch raises several types on what does not fit
            raise _damaged(self.path) from error


def save_checkpoint(path: Path, gan: CycleGAN, position: Position, about: About) -> None:
    """All that a run needs, the model's description too: a run resumes from this file alone."""
    state = {
        "format": FORMAT,
        # where the images lie, config.json says
        "config": gan.config.to_dict() | dict.fromkeys(("t1_folder", "t2_folder", "run_folder"), ""),
        "about": about.to_header(),
        "step": position.step,
        "seconds": position.seconds,
        "window": position.window,
        "began": position.began,
        "networks": gan.state_dict(),
        "generator_adam": gan.generator_adam.state_dict(),
        "discriminator_adam": gan.discriminator_adam.state_dict(),
        "means": gan.means,
        "mean_of": gan.mean_of,
        "pool_t1": gan.pool_t1.images,
        "pool_t2": gan.pool_t2.images,
    }
    with written_file(path) as partial:
        torch.save(state, partial)


def read_checkpoint(path: Path, device: torch.device) -> Checkpoint:
    """Read a saved run. Raises `Refusal` with a sentence."""
    if not path.is_file():
        raise Refusal(f"{path.parent} has no {path.name}, so there is no run to resume: train without resume.")
    try:
        _refuse_bomb(path)
        data = torch.load(path, map_location=device, weights_only=True)
        check_format(path, data["format"])
        position, step, seconds = data.get("began", (0.0, 0, 0.0))  # earlier versions wrote neither this nor "about"
        config = TrainConfig.from_dict(data["config"])
        model = path.with_name(MODEL_FILE)
        return Checkpoint(
            path,
            About.of_header(model, data["about"]) if "about" in data else read_about(model),
            Position(int(data["step"]), float(data["seconds"]), data["window"], (position, step, seconds)),
            (config.minutes, config.steps),
            data,
        )
    except Refusal:
        raise
    except Exception as error:  # torch raises several types on a damaged or foreign file
        raise _damaged(path) from error


def _refuse_bomb(path: Path) -> None:
    """Raises where the parts of the file would be larger than the file: PyTorch compresses none."""
    with ZipFile(path) as parts:
        if sum(part.file_size for part in parts.infolist()) > path.stat().st_size:
            raise _damaged(path)


def _damaged(path: Path) -> Refusal:
    return Refusal(f"{path} is no checkpoint of this run, or is damaged: start a new run folder.")
