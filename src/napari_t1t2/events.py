"""What a run says while it happens. Numbers, paths and arrays: safe to hand to another thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .images.volume import Image

Doing = Literal["waiting", "comparing", "reading", "showing", "preparing", "aligning", "pairing", "describing"]


@dataclass(frozen=True, slots=True)
class Reading:
    """So much is done of what comes before training.

    Files are read once to look at them, once more where memory cannot hold them; before that, those that have a new
    date are compared with what was stored of them. Then exams are aligned, images paired, and slices described.
    """

    done: int
    total: int
    doing: Doing
    name: str = ""  # of what was done last
    left: str = ""  # time, like 4:05

    def text(self) -> str:
        """How far it is, in a few words."""
        if self.doing == "waiting":
            return "waiting for another training that prepares the same images"
        of = {"aligning": "exams", "pairing": "images", "describing": "slices"}.get(self.doing, "files")
        left = f", {self.left} left" if self.left else ""
        return f"{self.doing} {self.done} of {self.total} {of}{left}" + (f": {self.name}" if self.name else "")


@dataclass(frozen=True, slots=True)
class Started:
    """The data are read and the networks are on the device."""

    step: int  # above 0 where a run is resumed
    device: str  # "cpu (2 threads)", "cuda (NVIDIA H200)", "4 x cuda (NVIDIA H100)" of several processes
    slices: tuple[int, int]  # how many of each contrast are trained on
    shape: tuple[int, int]  # of one training image, (row, column)
    notes: tuple[str, ...] = ()  # what the user should know about the data: skipped, cropped, dropped
    patients: tuple[int, int] = (0, 0)  # whose slices they are, of each contrast; 0 where that is not known


@dataclass(frozen=True, slots=True)
class Progress:
    """Losses averaged since the last report, and how far the run is."""

    step: int
    images: int  # slices of each contrast seen so far
    seconds: float  # of training so far, earlier sittings included
    fraction: float  # of the budget, 0 to 1
    seconds_left: float
    slices_per_second: float
    losses: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """One held-out slice of each contrast: source, synthetic, back again. (row, column) in [-1, 1]."""

    step: int
    t1: Image
    fake_t2: Image
    back_t1: Image
    t2: Image
    fake_t1: Image
    back_t2: Image
    paired: bool = field(default=False, kw_only=True)  # both show the same place of a head that is not trained on

    def errors(self) -> dict[str, tuple[float, float]]:
        """By contrast made, the mean absolute error of the synthetic slice, and that of doing nothing; both of 0 to 1.

        Empty where it cannot be known.
        """
        if not self.paired:
            return {}
        pairs = {"t2": (self.fake_t2, self.t1, self.t2), "t1": (self.fake_t1, self.t2, self.t1)}
        return {s: (_distance(fake, real), _distance(source, real)) for s, (fake, source, real) in pairs.items()}


def _distance(one: Image, other: Image) -> float:
    return float(abs(one - other).mean() / 2)


@dataclass(frozen=True, slots=True)
class Saved:
    """The checkpoint and the model are on disk; `path` is the model."""

    step: int
    path: Path


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that the user should know has changed at this step."""

    step: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a run that did not fail. What it made is saved at `path`."""

    step: int
    path: Path
    reason: Literal["completed", "stopped"]


@dataclass(frozen=True, slots=True)
class Translated:
    """So many slices of `total` are done; three times as many where three planes are averaged."""

    done: int
    total: int
    remark: str | None = None  # what the user should know of what was done


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of a run that could not go on: a sentence for the user."""

    sentence: str


TrainEvent = Reading | Started | Progress | Preview | Saved | Noted | Finished
