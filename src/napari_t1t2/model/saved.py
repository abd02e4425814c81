"""A trained model: both generators in one safetensors file, to translate with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn

from ..atomic import written_beside
from ..config import ModelConfig, Precision, Side
from ..errors import Refusal
from .about import About, read_about
from .cpu_layers import arrange
from .cyclegan import CycleGAN
from .networks import UNetGenerator


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
    """Read a model file, or the one of a run folder, to translate with. Raises `Refusal` with a sentence."""
    about = read_about(path)
    weights = load_file(about.path)
    generators: dict[Side, nn.Module] = {}
    names: dict[Side, str] = {"t2": "t1_to_t2.", "t1": "t2_to_t1."}
    for side, prefix in names.items():
        network = UNetGenerator(about.config)
        try:
            network.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        except RuntimeError as error:
            raise Refusal(f"{about.path}: the weights do not fit the file's own description; it is damaged.") from error
        generators[side] = arrange(network).to(device).eval().requires_grad_(False)
    sha256 = hashlib.sha256(about.path.read_bytes()).hexdigest()
    return Model(about, sha256, generators, precision)
