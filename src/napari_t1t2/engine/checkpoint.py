"""A run and a model on disk. Written beside and renamed; no pickle is ever executed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..images.write import written_beside
from .config import ModelConfig, Precision, Side
from .cyclegan import CycleGAN
from .files import FORMAT, About, read_about
from .networks import UNetGenerator, arrange


@dataclass(frozen=True, eq=False)
class Model:
    """Both generators and what one must know to use them."""

    about: About
    sha256: str
    generators: dict[Side, nn.Module]  # by the side they make
    precision: Precision = "float32"  # to translate with, the same on every machine

    @property
    def config(self) -> ModelConfig:
        """The shape of the networks and the names of the contrasts."""
        return self.about.config


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
    """Put the run's state into `gan`; returns how far it was. Raises `ValueError` with a sentence."""
    if not path.is_file():
        raise ValueError(f"{path.parent} has no {path.name}, so there is no run to resume: train without resume.")
    try:
        data = torch.load(path, map_location=device, weights_only=True)
        if data["format"] != FORMAT:
            raise ValueError(f"{path} has format {data['format']}; this version reads format {FORMAT}.")
        gan.load_state_dict(data["networks"])
        gan.generator_adam.load_state_dict(data["generator_adam"])
        gan.discriminator_adam.load_state_dict(data["discriminator_adam"])
        gan.pool_t1.images, gan.pool_t2.images = data["pool_t1"], data["pool_t2"]
        return Position(int(data["step"]), float(data["seconds"]), data["window"])
    except ValueError:
        raise
    except Exception as error:  # torch raises several types on a damaged or foreign file
        raise ValueError(f"{path} is no checkpoint of this run, or is damaged: start a new run folder.") from error


def save_model(path: Path, gan: CycleGAN, about: About) -> None:
    """The weights of both generators with all that is needed to translate, in one file."""
    weights = {
        f"{name}.{key}": tensor.detach().cpu().contiguous()
        for name in ("t1_to_t2", "t2_to_t1")
        for key, tensor in getattr(gan, name).state_dict().items()
    }
    with written_beside(path) as partial:
        partial.write_bytes(save(weights, metadata=about.to_header()))  # save_file lets nobody else read it


def load_model(path: Path, device: torch.device | str = "cpu", precision: Precision = "float32") -> Model:
    """Read a model file, or the one of a run folder, to translate with. Raises `ValueError` with a sentence."""
    about = read_about(path)
    weights = load_file(about.path)
    generators: dict[Side, nn.Module] = {}
    names: dict[Side, str] = {"t2": "t1_to_t2.", "t1": "t2_to_t1."}
    for side, prefix in names.items():
        network = UNetGenerator(about.config)
        try:
            network.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        except RuntimeError as error:
            raise ValueError(
                f"{about.path}: the weights do not fit the file's own description; it is damaged."
            ) from error
        generators[side] = arrange(network).to(device).eval().requires_grad_(False)
    sha256 = hashlib.sha256(about.path.read_bytes()).hexdigest()
    return Model(about, sha256, generators, precision)
