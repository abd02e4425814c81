"""Every knob of a run, stated once: default, limits and help. The form, the command line and the checks read it."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from .errors import Refusal
from .images.plane import Plane

Side = Literal["t1", "t2"]
SIDES: tuple[Side, Side] = ("t1", "t2")
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


# fmt: off
LABELS = {  # of settings that their readers call otherwise than their field
    "t1_label": "first contrast", "t2_label": "second contrast",
    "t1_volume": "T1 volume number", "t2_volume": "T2 volume number",
    "size": "slice size, pixels", "crop": "crop, pixels", "pixel": "resolution, mm", "batch": "batch size",
    "channels": "base channels", "disc_channels": "discriminator channels", "levels": "U-Net levels",
    "tone_curve": "intensity mapping", "gate": "gated mapping",
    "depth": "distance to head surface", "disc_norm": "instance normalisation",
    "coarse": "multi-scale factor", "adversarial": "adversarial loss", "cycle_warmup": "cycle weight rises for",
    "decay_from": "learning rate falls from", "beta1": "Adam's beta 1", "pool": "image buffer",
    "flip": "mirror left-right", "upsample": "upsampling", "hold_out": "patients kept for checking",
    "start": "start from", "memory": "memory, GiB", "threads": "CPU threads", "report_every": "steps between reports",
    "preview_every": "steps between previews", "save_every": "steps between checkpoints",
}
# fmt: on


def label_of(name: str) -> str:
    """What a setting is called by its readers."""
    return LABELS.get(name, name.replace("_", " ").replace("t1 ", "T1 ").replace("t2 ", "T2 "))


def spoken(name: str) -> str:
    """The same where a sentence begins with it."""
    label = label_of(name)
    return label[0].upper() + label[1:].partition(",")[0]


class Checked:
    """Mixin: refuse a value outside the limits or choices that its field declares."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in fields(self):  # type: ignore[arg-type]
            if hints[f.name] is Path:
                object.__setattr__(self, f.name, Path(getattr(self, f.name)))
            if hints[f.name] is int and type(getattr(self, f.name)) is not int:
                raise Refusal(f"{spoken(f.name)} is {getattr(self, f.name)!r}, but must be a whole number.")
            value, low, high = getattr(self, f.name), f.metadata.get("low"), f.metadata.get("high")
            choices = get_args(hints[f.name]) if get_origin(hints[f.name]) is Literal else None
            if choices and value not in choices:
                raise Refusal(f"{spoken(f.name)} is {value!r}: take one of {', '.join(map(str, choices))}.")
            if isinstance(value, float) and not math.isfinite(value):
                raise Refusal(f"{spoken(f.name)} is {value}, but must be a finite number.")
            if low is not None and value < low:
                raise Refusal(f"{spoken(f.name)} is {value:g}, but must be at least {low:g}.")
            if high is not None and value > high:
                raise Refusal(f"{spoken(f.name)} is {value:g}, but must be at most {high:g}.")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Checked):
    """What one must know to use the networks: a model file carries it."""

    t1_label: str = setting("T1", "Name of the first contrast.", advanced=True)
    t2_label: str = setting("T2", "Name of the second contrast.", advanced=True)
    size: int = setting(
        0, "Side of the square each slice is fitted into, in pixels, never stretched; 0 keeps it as it is.", low=0
    )
    plane: Plane = setting(
        "axial", "Anatomical plane of the slices, where a file says how the head lies; others are used as stored."
    )
    pixel: float = setting(
        0.0,
        "In-plane resolution (mm) to which slices are resampled; 0: the median of the training images. Images without "
        "spacing are not resampled.",
        low=0.0,
        high=20.0,
        advanced=True,
    )
    channels: int = setting(32, "Base channels of the generators.", low=4, advanced=True)
    levels: int = setting(
        4, "Levels of the U-Net: how many times it halves the image, to see further.", low=1, high=8, advanced=True
    )
    tone_curve: bool = setting(
        True,
        "Begin each generator with a learned intensity mapping, the same for every pixel, which the U-Net corrects.",
        advanced=True,
    )
    gate: bool = setting(
        True, "Let the U-Net turn the intensity mapping down where it misleads; off for bare brains.", advanced=True
    )
    depth: bool = setting(
        False,
        "Give the networks the distance to the head surface as a second channel. It helps whole heads with few "
        "levels, and misleads on bare brains and small slices.",
        advanced=True,
    )
    upsample: Literal["resize", "transposed"] = setting(
        "resize", "Upsampling in the U-Net: bilinear resizing, or transposed convolution.", advanced=True
    )
    mirror: bool = setting(
        True, "Average with the translation of the mirrored slice: nearer to the truth, twice the time.", advanced=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_side("size", self.size)
        names = {self.t1_label.strip().casefold(), self.t2_label.strip().casefold()}
        if "" in names or len(names) < 2 or not "".join(names).isprintable():
            raise Refusal(f"The contrasts are called {self.t1_label!r} and {self.t2_label!r}: give two names.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From plain values, as files hold them; older files do not name `depth`, `gate` or `mirror`: they had none."""
        return cls(**{"depth": False, "gate": False, "mirror": False} | values)

    @property
    def multiple(self) -> int:
        """Sides of an image inside the networks are multiples of this."""
        return int(2**self.levels)

    def check_side(self, name: str, side: int) -> None:
        """Refuse a side that the U-Net cannot halve `levels` times; 0 stands for the slice's own."""
        if side % self.multiple:
            near = max(side // self.multiple, 1) * self.multiple
            raise Refusal(
                f"{spoken(name)} is {side}, but must be a multiple of {self.multiple} for a U-Net of {self.levels} "
                f"levels: take {near} or {near + self.multiple}, or fewer levels."
            )

    def label(self, side: Side) -> str:
        """The contrast's name as the user gave it."""
        return self.t1_label if side == "t1" else self.t2_label

    def side(self, label: str) -> Side:
        """The side that a contrast's name (or "t1", "t2") stands for, whatever its case. Raises `Refusal`."""
        sides: dict[str, Side] = {"t1": "t1", "t2": "t2"}
        sides |= {self.t1_label.casefold(): "t1", self.t2_label.casefold(): "t2"}
        if label.casefold() not in sides:
            raise Refusal(f"This model makes {self.t1_label} and {self.t2_label}, not {label!r}.")
        return sides[label.casefold()]


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Checked):
    """One training run. The defaults are the laptop preset."""

    t1_folder: Path = setting(Path(), "Folder of images of the first contrast.")
    t2_folder: Path = setting(Path(), "Folder of images of the second contrast; they need not pair with the first.")
    t1_series: str = setting(
        "", "Series or files to use as the first contrast, separated by commas. Empty: chosen automatically."
    )
    t2_series: str = setting(
        "", "Series or files to use as the second contrast, separated by commas. Empty: chosen automatically."
    )
    run_folder: Path = setting(Path(), "Folder of the run: model, checkpoint, losses and previews are written there.")
    start: str = setting(
        "auto",
        "Model to begin from, with its networks: a run folder, a file, or sample, the general one. auto: sample where "
        "that knows such heads already. Empty: random weights.",
        advanced=True,
    )
    minutes: float = setting(
        5.0,
        "Train for this long; 0: no limit. Schedules follow the clock: for a run that can be repeated, give steps.",
        low=0.0,
    )
    steps: int = setting(
        0, "Train for this many optimiser steps; 0: no limit. The same seed and steps give the same run.", low=0
    )
    batch: int = setting(1, "Batch size: T1 slices and T2 slices per training step.", low=1)
    crop: int = setting(128, "Side of the square cut from each slice (pixels); 0: whole slices.", low=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = setting(
        "auto", "Where to compute; auto takes a GPU if it finds one."
    )
    memory: float = setting(
        0.0,
        "Memory (GiB) that training may use, of the GPU or else of the machine; 0: what is free. Same result.",
        low=0.0,
        advanced=True,
    )
    precision: Precision = setting(
        "auto",
        "Number format of the convolutions. auto: bfloat16 on hardware with native support, otherwise float32.",
        advanced=True,
    )
    adversarial: Literal["least squares", "bce"] = setting(
        "least squares", "Adversarial loss: least squares (LSGAN, Mao 2017) or binary cross-entropy.", advanced=True
    )
    disc_channels: int = setting(16, "Base channels of the discriminators.", low=4, advanced=True)
    disc_norm: bool = setting(
        False, "Instance normalisation in the discriminators. It hides absolute intensity from them.", advanced=True
    )
    coarse: int = setting(
        4,
        "Multi-scale: a second discriminator judges the slice downsampled by this factor; 1 turns it off.",
        low=1,
        high=16,
        advanced=True,
    )
    cycle_weight: float = setting(
        2.0, "Cycle-consistency weight: how strictly T1 -> T2 -> T1 must return the original.", low=0.0, advanced=True
    )
    cycle_warmup: float = setting(
        0.3,
        "Fraction of the training during which the cycle weight rises from 10 % to 100 %, so that tissue contrast is "
        "learnt first.",
        low=0.0,
        high=1.0,
        advanced=True,
    )
    structure_weight: float = setting(
        1.0,
        "Structure weight: how strictly anatomy must stay in place (MIND). Without it, sulci may shift by some pixels.",
        low=0.0,
        advanced=True,
    )
    air_weight: float = setting(
        10.0,
        "Air weight, multiplied with the structure weight: how strictly nothing is drawn around the head. Without it, "
        "scalp and bone may swap.",
        low=0.0,
        advanced=True,
    )
    identity_weight: float = setting(
        0.0,
        "Identity loss: a real T2 given to the T1-to-T2 generator should come out unchanged. It discourages changing "
        "intensities, so it is off.",
        low=0.0,
        advanced=True,
    )
    adversarial_weight: float = setting(
        1.0, "Adversarial weight: how strongly the discriminators' judgement counts.", low=0.0, advanced=True
    )
    pairs: Literal["auto", "names", "off"] = setting(
        "auto",
        "Slices of both contrasts that show the same place. auto: found by names and likeness, aligned, learned from; "
        "names: only those of equal names, as they lie; off: unpaired, as in the paper.",
    )
    paired_weight: float = setting(
        10.0, "Paired loss: mean absolute error to the matching slice, where there is one.", low=0.0, advanced=True
    )
    learning_rate: float = setting(5e-4, "Learning rate of Adam.", low=0.0, advanced=True)
    beta1: float = setting(0.5, "Adam's first momentum.", low=0.0, high=0.999, advanced=True)
    decay_from: float = setting(
        0.5,
        "Fraction of the training after which the learning rate falls linearly to 0.",
        low=0.0,
        high=1.0,
        advanced=True,
    )
    pool: int = setting(
        50, "Image buffer: past synthetic slices that the discriminators also see; 0: none.", low=0, advanced=True
    )
    flip: bool = setting(True, "Augmentation: mirror half of the slices left to right.", advanced=True)
    hold_out: int = setting(
        1, "Patients kept from training, for the previews; at most one in five.", low=0, advanced=True
    )
    t1_volume: int = setting(0, "Volume number of 4D files of the first contrast, from 0.", low=0, advanced=True)
    t2_volume: int = setting(0, "Volume number of 4D files of the second contrast, from 0.", low=0, advanced=True)
    report_every: int = setting(5, "Steps between progress reports.", low=1, advanced=True)
    preview_every: int = setting(50, "Steps between previews.", low=1, advanced=True)
    save_every: int = setting(500, "Steps between checkpoints.", low=1, advanced=True)
    seed: int = setting(
        0, "Random seed. The same seed and number of steps give the same run on the same machine.", low=0, advanced=True
    )
    threads: int = setting(0, "CPU threads; 0: every core.", low=0, advanced=True)
    model: ModelConfig = ModelConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.model.check_side("crop", self.crop)
        if self.t1_series and self.t1_folder == self.t2_folder and self.t1_series == self.t2_series:
            raise Refusal(f"Both contrasts take {self.t1_series!r} of {self.t1_folder}: give a series for each.")
        weights = (self.cycle_weight, self.structure_weight, self.identity_weight)
        paired = self.paired_weight if self.pairs != "off" else 0
        if not (self.adversarial_weight or paired or any(weights)):
            raise Refusal("Every weight is 0, so nothing would be learned: raise the adversarial or the paired weight.")
        if not (self.minutes or self.steps):
            raise Refusal("Minutes and steps are both 0: give one of them, or training never ends.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, for JSON."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        paths = {k: Path(v) for k, v in values.items() if k.endswith("_folder")}
        before = {"pairs": "names" if values.get("paired_weight") else "off", "air_weight": 0.0, "start": ""}
        if "frame" in values:  # a number for both, before there was one of each
            before |= dict.fromkeys(("t1_volume", "t2_volume"), values["frame"])
            values = {name: value for name, value in values.items() if name != "frame"}
        return cls(**before | values | paths | {"model": ModelConfig.from_dict(values["model"])})


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
            model = ModelConfig(size=64, channels=64, levels=6, tone_curve=False, upsample="transposed", mirror=False)
            return replace(
                laptop, model=model, crop=0, batch=32, minutes=30.0, report_every=1,
                adversarial="bce", disc_channels=64, disc_norm=True, coarse=1, learning_rate=2e-4,
                cycle_weight=10.0, cycle_warmup=0.0, structure_weight=0.0, identity_weight=5.0,
            )  # fmt: skip
        case "gpu":
            model = ModelConfig(channels=64)
            return replace(
                laptop, model=model, crop=0, batch=4, disc_channels=64, minutes=30.0, report_every=20, preview_every=200
            )


SMALLEST, SMALLEST_COARSE = 24, 16  # sides of a slice that leave a discriminator a map it can normalise
