"""A run and a model on disk. Written beside and renamed; no pickle is ever executed."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from .. import __version__
from ..images.intensity import Intensity
from .config import ModelConfig, Side, TrainConfig
from .cyclegan import CycleGAN
from .networks import UNetGenerator

FORMAT = "1"
MODEL_FILE, CHECKPOINT_FILE, CONFIG_FILE = "model.safetensors", "checkpoint.pt", "config.json"


@dataclass(frozen=True, eq=False)
class Model:
    """Both generators and what one must know to use them."""

    config: ModelConfig
    ranges: dict[Side, Intensity]  # of the training images
    step: int
    path: Path
    sha256: str
    generators: dict[Side, nn.Module]  # by the side they make


def save_checkpoint(path: Path, gan: CycleGAN, step: int, seconds: float) -> None:
    """All that a run needs to go on as if it had not stopped."""
    partial = path.with_suffix(".partial")
    torch.save(
        {
            "format": FORMAT,
            "config": gan.config.to_dict(),
            "step": step,
            "seconds": seconds,
            "networks": gan.state_dict(),
            "generator_adam": gan.generator_adam.state_dict(),
            "discriminator_adam": gan.discriminator_adam.state_dict(),
            "pool_t1": gan.pool_t1.images,
            "pool_t2": gan.pool_t2.images,
        },
        partial,
    )
    _put(partial, path)


def load_checkpoint(path: Path, gan: CycleGAN, device: torch.device) -> tuple[int, float]:
    """Put the run's state into `gan`; returns its step and seconds. Raises `ValueError` with a sentence."""
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
        return int(data["step"]), float(data["seconds"])
    except ValueError:
        raise
    except Exception as error:  # torch raises several types on a damaged or foreign file
        raise ValueError(f"{path} is no checkpoint of this run, or is damaged: start a new run folder.") from error


def save_model(path: Path, gan: CycleGAN, ranges: dict[Side, Intensity], step: int) -> None:
    """The weights of both generators with all that is needed to translate, in one file."""
    weights = {
        f"{name}.{key}": tensor.detach().cpu().contiguous()
        for name in ("t1_to_t2", "t2_to_t1")
        for key, tensor in getattr(gan, name).state_dict().items()
    }
    about = {
        "format": f"napari-t1t2 model {FORMAT}",
        "version": __version__,
        "config": json.dumps(asdict(gan.config.model)),
        "ranges": json.dumps({side: asdict(intensity) for side, intensity in ranges.items()}),
        "step": str(step),
        "notice": "Makes synthetic images. Not for diagnosis.",
    }
    partial = path.with_suffix(".partial")
    save_file(weights, partial, metadata=about)
    _put(partial, path)


def load_model(path: Path, device: torch.device | str = "cpu") -> Model:
    """Read a model file, or the one of a run folder. Raises `ValueError` with a sentence."""
    path = path / MODEL_FILE if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"{path} does not exist: give a run folder or a {MODEL_FILE} that training has written.")
    try:
        with safe_open(path, framework="pt") as file:
            about: dict[str, Any] = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no model file, or is damaged ({error}): give a {MODEL_FILE}.") from error
    found = about.get("format", "")
    if found != f"napari-t1t2 model {FORMAT}":
        what = f"is '{found}'" if found.startswith("napari-t1t2") else "was not written by napari-t1t2"
        raise ValueError(f"{path} {what}; this version reads 'napari-t1t2 model {FORMAT}'.")
    try:
        config = ModelConfig(**json.loads(about["config"]))
        ranges: dict[Side, Intensity] = {s: Intensity(**r) for s, r in json.loads(about["ranges"]).items()}
        generators: dict[Side, nn.Module] = {}
        names: dict[Side, str] = {"t2": "t1_to_t2", "t1": "t2_to_t1"}
        for side, name in names.items():
            network = UNetGenerator(config)
            network.load_state_dict({k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")})
            generators[side] = network.to(device).eval().requires_grad_(False)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: the weights do not fit the description in the file; it is damaged.") from error
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Model(config, ranges, int(about["step"]), path, sha256, generators)


def save_config(path: Path, config: TrainConfig) -> None:
    """As JSON, for people and for resuming."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
    _put(partial, path)


def load_config(run_folder: Path) -> TrainConfig:
    """The config of a run folder. Raises `ValueError` with a sentence."""
    path = run_folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"{run_folder} has no {CONFIG_FILE}, so there is no run to resume: train without resume.")
    try:
        return TrainConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} cannot be read ({error}): it was changed, or written by another version.") from error


def _put(partial: Path, path: Path) -> None:
    """A power cut leaves the old file or the new one, never half of one."""
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)
