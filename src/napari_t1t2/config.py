"""Every knob of a run, stated once: default, limits and help. The form, the command line and the checks read it."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from .errors import Refusal
from .images.plane import Plane

pass

Side = Literal["t1", "t2"]
Planes = Literal["one", "three"]
PresetName = Literal["laptop", "notebook", "gpu"]
Precision = Literal["auto", "float32", "bfloat16"]


def cores() -> int:
    """How many CPU cores this process may use: a cluster's job or a container is given fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def other(side: Side) -> Side:
    """The opposite side."""
    return "t1" if side == "t2" else "t2"


def setting(
    default: Any, help: str, *, low: float | None = None, high: float | None = None, advanced: bool = False
) -> Any:
    """A dataclass field with its limits and help. `advanced` ones are folded away in the form."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "advanced": advanced})


class Checked:
    """Mixin: refuse a value outside the limits or choices that its field declares."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in fields(self):  # type: ignore[arg-type]
            if hints[f.name] is Path:
                object.__setattr__(self, f.name, Path(getattr(self, f.name)))
            if hints[f.name] is int and type(getattr(self, f.name)) is not int:
                raise Refusal(f"{f.name} is {getattr(self, f.name)!r}, but must be a whole number.")
            value, low, high = getattr(self, f.name), f.metadata.get("low"), f.metadata.get("high")
            choices = get_args(hints[f.name]) if get_origin(hints[f.name]) is Literal else None
            if choices and value not in choices:
                raise Refusal(f"{f.name} is {value!r}, but must be one of {', '.join(map(str, choices))}.")
            if isinstance(value, float) and not math.isfinite(value):
                raise Refusal(f"{f.name} is {value}, but must be a finite number.")
            if low is not None and value < low:
                raise Refusal(f"{f.name} is {value:g}, but must be at least {low:g}.")
            if high is not None and value > high:
                raise Refusal(f"{f.name} is {value:g}, but must be at most {high:g}.")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Checked):
    """What one must know to use the networks: a model file carries it."""

    t1_label: str = setting("T1", "What the first contrast is called.", advanced=True)
    t2_label: str = setting("T2", "What the second contrast is called.", advanced=True)
    size: int = setting(
        0, "Side of the square each slice is fitted into, in pixels, never stretched; 0 keeps it as it is.", low=0
    )
    plane: Plane = setting(
        "axial", "Anatomical plane of the slices, where a file says how the head lies; others are used as stored."
    )
    pixel: float = setting(
        0.0,
        "Side of a pixel inside the networks, in mm; 0 takes the median of the images. Without spacing, pixels stay.",
        low=0.0,
        high=20.0,
        advanced=True,
    )
    channels: int = setting(32, "Channels after a generator's first convolution.", low=4, advanced=True)
    levels: int = setting(2, "How many times the U-Net halves the image.", low=1, high=8, advanced=True)
    tone_curve: bool = setting(
        True, "Give each generator a learned brightness curve, pixel by pixel, for the U-Net to correct.", advanced=True
    )
    depth: bool = setting(
        False,
        "Tell the networks how deep below the surface of the head each pixel lies: scalp, bone and fluid look alike.",
        advanced=True,
    )
    upsample: Literal["resize", "transposed"] = setting(
        "resize", "How the U-Net doubles: resize then convolve, or transposed convolution.", advanced=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_side("size", self.size)
        names = {self.t1_label.strip().casefold(), self.t2_label.strip().casefold()}
        if "" in names or len(names) < 2:
            raise Refusal(f"The contrasts are called {self.t1_label!r} and {self.t2_label!r}: give two names.")

    @property
    def multiple(self) -> int:
        """Sides of an image inside the networks are multiples of this."""
        return int(2**self.levels)

    def check_side(self, name: str, side: int) -> None:
        """Refuse a side that the U-Net cannot halve `levels` times; 0 stands for the slice's own."""
        if side % self.multiple:
            near = max(side // self.multiple, 1) * self.multiple
            raise Refusal(
                f"{name} is {side}, but a U-Net of {self.levels} levels needs a multiple of {self.multiple}: "
                f"take {near} or {near + self.multiple}, or fewer levels."
            )

    def label(self, side: Side) -> str:
        """The contrast's name as the user gave it."""
        return self.t1_label if side == "t1" else self.t2_label

    def side(self, label: str) -> Side:
        """The side that a contrast's name (or "t1", "t2") stands for, whatever its case. Raises `Refusal`."""
        sides: dict[str, Side] = {
            "t1": "t1",
            "t2": "t2",
            self.t1_label.casefold(): "t1",
            self.t2_label.casefold(): "t2",
        }
        if label.casefold() not in sides:
            raise Refusal(f"This model makes {self.t1_label} and {self.t2_label}, not {label!r}.")
        return sides[label.casefold()]


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Checked):
    """One training run. The defaults are the laptop preset."""

    t1_folder: Path = setting(Path(), "Folder of images of the first contrast.")
    t2_folder: Path = setting(Path(), "Folder of images of the second contrast; they need not pair with the first.")
    t1_series: str = setting(
        "", "Names, with commas, of the series or files to take as the first contrast; empty takes what looks right."
    )
    t2_series: str = setting(
        "", "Names, with commas, of the series or files to take as the second contrast; empty takes what looks right."
    )
    run_folder: Path = setting(Path(), "Where the model, checkpoint, losses and previews go.")
    minutes: float = setting(5.0, "Train for this long; 0 for no limit.", low=0.0)
    steps: int = setting(0, "Train for this many optimiser steps; 0 for no limit.", low=0)
    batch: int = setting(1, "Slices of each contrast in one step.", low=1)
    crop: int = setting(128, "Side of the square cut from each slice, in pixels, at most; 0 takes whole slices.", low=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = setting(
        "auto", "Where to compute; auto takes a GPU if it finds one."
    )
    memory: float = setting(
        0.0,
        "GiB that training may take, of the GPU or else of the machine; 0 takes what is free. The result is the same.",
        low=0.0,
        advanced=True,
    )
    precision: Precision = setting(
        "auto",
        "Of the convolutions; auto takes bfloat16, half as many digits, where the hardware is made for it.",
        advanced=True,
    )
    adversarial: Literal["least squares", "bce"] = setting(
        "least squares", "How the discriminators judge (LSGAN, Mao 2017; or cross-entropy).", advanced=True
    )
    disc_channels: int = setting(16, "Channels after a discriminator's first convolution.", low=4, advanced=True)
    disc_norm: bool = setting(
        False, "Normalise inside the discriminators; they then see little of the brightness.", advanced=True
    )
    coarse: int = setting(
        4, "A second discriminator sees the slice shrunk by this factor; 1 for none.", low=1, high=16, advanced=True
    )
    cycle_weight: float = setting(
        2.0,
        "Pull towards T1 -> T2 -> T1 giving back the input; the paper's 10 keeps the U-Nets from learning.",
        low=0.0,
        advanced=True,
    )
    cycle_warmup: float = setting(
        0.3,
        "Part of the budget in which the cycle weight grows from a tenth; settles first which tissue is bright.",
        low=0.0,
        high=1.0,
        advanced=True,
    )
    structure_weight: float = setting(
        1.0,
        "Pull towards the anatomy of the input; without it, some runs shift every sulcus by a few pixels.",
        low=0.0,
        advanced=True,
    )
    identity_weight: float = setting(
        0.0,
        "Pull towards leaving a T2 put in for a T1 alone; it favours keeping the brightness.",
        low=0.0,
        advanced=True,
    )
    adversarial_weight: float = setting(
        1.0, "Pull towards what the discriminators take for real; 0 trains without them.", low=0.0, advanced=True
    )
    paired_weight: float = setting(
        0.0,
        "Pull towards the other contrast of the same slice, where files pair up; 0 leaves the data unpaired.",
        low=0.0,
        advanced=True,
    )
    learning_rate: float = setting(5e-4, "Adam's step size.", low=0.0, advanced=True)
    beta1: float = setting(0.5, "Adam's memory of past gradients.", low=0.0, high=0.999, advanced=True)
    decay_from: float = setting(
        0.5, "Part of the budget after which the learning rate falls linearly to 0.", low=0.0, high=1.0, advanced=True
    )
    pool: int = setting(50, "Past synthetic slices that the discriminators also see; 0 for none.", low=0, advanced=True)
    flip: bool = setting(True, "Mirror half of the slices left to right.", advanced=True)
    hold_out: int = setting(
        1, "Subjects kept from training, for the previews; at most one in five.", low=0, advanced=True
    )
    frame: int = setting(0, "Which volume of a 4D file to take, counted from 0.", low=0, advanced=True)
    report_every: int = setting(5, "Steps between progress reports.", low=1, advanced=True)
    preview_every: int = setting(50, "Steps between previews.", low=1, advanced=True)
    save_every: int = setting(500, "Steps between checkpoints.", low=1, advanced=True)
    seed: int = setting(0, "Makes a run repeatable.", low=0, advanced=True)
    threads: int = setting(0, "CPU threads; 0 takes every core.", low=0, advanced=True)
    model: ModelConfig = ModelConfig(depth=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.model.check_side("crop", self.crop)
        if self.t1_series and self.t1_folder == self.t2_folder and self.t1_series == self.t2_series:
            raise Refusal(f"Both contrasts take {self.t1_series!r} of {self.t1_folder}: give a series for each.")
        weights = (self.cycle_weight, self.structure_weight, self.identity_weight)
        if not (self.adversarial_weight or self.paired_weight or any(weights)):
            raise Refusal("Every weight is 0, so nothing would be learned: raise adversarial_weight or paired_weight.")
        if not (self.minutes or self.steps):
            raise Refusal("minutes and steps are both 0: give one of them, or training never ends.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, for JSON."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        paths = {k: Path(v) for k, v in values.items() if k.endswith("_folder")}
        return cls(**values | paths | {"model": ModelConfig(**values["model"])})


def preset(name: PresetName) -> TrainConfig:
    """A starting point: edit it with `dataclasses.replace`.

    `laptop` learns visibly within five minutes on two cores; `notebook` has the networks and settings of the
    course notebooks this project grew from; `gpu` trains whole slices at their own size.
    """
    laptop = TrainConfig()
    match name:
        case "laptop":
            return laptop
        case "notebook":
            model = ModelConfig(size=64, channels=64, levels=6, tone_curve=False, upsample="transposed")
            return replace(
                laptop,
                model=model,
                crop=0,
                batch=32,
                adversarial="bce",
                disc_channels=64,
                disc_norm=True,
                coarse=1,
                cycle_weight=10.0,
                structure_weight=0.0,
                cycle_warmup=0.0,
                learning_rate=2e-4,
                identity_weight=5.0,
                minutes=30.0,
                report_every=1,
            )
        case "gpu":
            model = ModelConfig(channels=64, depth=True)
            return replace(
                laptop, model=model, crop=0, batch=4, disc_channels=64, minutes=30.0, report_every=20, preview_every=200
            )


SMALLEST, SMALLEST_COARSE = 24, 16  # sides of a slice that leave a discriminator a map it can normalise
