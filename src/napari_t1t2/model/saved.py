"""A trained model: both generators in one safetensors file, to translate with."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from ..atomic import locked, written_file
from ..config import ModelConfig, Precision, Side
from ..errors import Refusal
from .about import SAMPLE, About, header_of, model_file
from .cpu_layers import arrange
from .cyclegan import CycleGAN
from .exported import read_onnx
from .memory import ran_out
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

    def generator(self, side: Side) -> nn.Module:
        """The network that makes a contrast. Raises `Refusal` where the file holds the other direction alone."""
        if side not in self.generators:
            makes = " and ".join(self.config.label(made) for made in self.generators)
            raise Refusal(f"{self.about.path} makes {makes} only: give the model that it was exported from.")
        return self.generators[side]


def save_model(path: Path, gan: CycleGAN, about: About) -> None:
    """The weights of both generators with all that is needed to translate, in one file."""
    weights = {
        f"{name}.{key}": tensor.detach().cpu().contiguous()
        for name in ("t1_to_t2", "t2_to_t1")
        for key, tensor in getattr(gan, name).state_dict().items()
    }
    with written_file(path) as partial:
        partial.write_bytes(save(weights, metadata=about.to_header()))  # save_file lets nobody else read it


def load_model(path: Path, device: torch.device | str = "cpu", precision: Precision = "float32") -> Model:
    """Read a model file, or the one of a run folder, to translate with. Raises `Refusal` with a sentence.

    The file is read once: description, weights and hash are of one moment, also while training saves the next ones.
    """
    path = model_file(path)
    content = path.read_bytes()
    if path.suffix.casefold() == ".onnx":
        about, exported = read_onnx(path, content)
        return Model(about, sha256(content).hexdigest(), exported, precision)
    about = About.of_header(path, header_of(path, BytesIO(content)))
    generators: dict[Side, nn.Module] = {}
    names: dict[Side, str] = {"t2": "t1_to_t2.", "t1": "t2_to_t1."}
    try:
        weights = load(content)
        for side, prefix in names.items():
            with torch.device("meta"):  # nothing is taken for what a header says, before the weights are as many
                network = UNetGenerator(about.config)
            own = {k.removeprefix(prefix): v.float() for k, v in weights.items() if k.startswith(prefix)}
            network.load_state_dict(own, assign=True)
            generators[side] = arrange(network).to(device).eval().requires_grad_(False)
    except (SafetensorError, RuntimeError) as error:
        if ran_out(error):
            raise
        raise Refusal(f"{path}: the weights do not fit the file's own description; it is damaged.") from error
    return Model(about, sha256(content).hexdigest(), generators, precision)


def describe_anew(model: Model, about: About) -> None:
    """Give the file of a model another description, and leave its weights as they are.

    Raises `Refusal` where the model is being trained, or is another one than when it was read.
    """
    path = model.about.path
    if path == SAMPLE:
        raise Refusal(f"{path} belongs to the program: copy it to a folder of yours, and give that file.")
    busy = f"{path.parent} is being trained in: wait until that has ended, then try again."
    with locked(path.parent, busy, leave=False):
        content = path.read_bytes()
        if sha256(content).hexdigest() != model.sha256:
            raise Refusal(f"{path} is another model than when it was read: try again with the new one.")
        with written_file(path) as partial:
            partial.write_bytes(save(load(content), metadata=about.to_header()))
