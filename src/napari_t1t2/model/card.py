"""A model's card: what it was trained on, for how long, how well it does, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from .. import __version__
from ..config import PresetName, TrainConfig, preset
from ..data.seen import MARK, images_in

if TYPE_CHECKING:
    from ..data.slices import Slices
    from .about import About
    from .known import Indices

GENERAL = "the general model"
NOTICE = "Makes synthetic images. Not for diagnosis."
FEW_STEPS = 500  # after which tissue has its contrast; fewer make noise
KEPT = ("data", "licence", "citation")  # what a person has written stays when a model is trained on
BEGUN = ("began", "began_on", "began_steps")  # and what that was begun from
LIMITS = (
    "It renders what it has learnt to expect: lesions, implants and anything rare may be removed, weakened or invented."
    " Images of other scanners, sequences, ages or body parts than those trained on may come out wrong without looking "
    "wrong. Intensities have no physical unit."
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a person must know before using a model. None, 0 and "" are not known: earlier versions noted less."""

    contrasts: tuple[str, str]
    plane: str
    pixel: float  # mm; 0: pixels as they are
    ranges: tuple[str, str]  # intensities of the training images
    step: int
    minutes: float | None
    slices: tuple[int, int] | None
    patients: tuple[int, int] | None
    images: int  # both contrasts together
    paired: int  # slices that had a partner
    preset: str
    version: str
    general: bool  # made to fit any head, not the user's
    began: str  # the model that training began from
    began_on: str  # what that says of its data, licence and citation
    began_steps: int  # of that, and of what it began from itself
    data: str
    scores: Mapping[str, Mapping[str, float]]  # by direction: of the synthetic images and of doing nothing
    held_out: Mapping[str, tuple[float, float]]  # by contrast: mean error of a slice held out, and of doing nothing
    lesions: str
    calibrated: tuple[str, ...]  # contrasts with expected errors in units
    intervals: tuple[str, ...]  # contrasts with intervals, which earlier versions did not calibrate
    licence: str
    citation: str

    def summary(self) -> str:
        """One line, such as "Trained 1 min on 87 T1 and 87 T2 slices, axial, 0.81 mm"."""
        one, two = self.contrasts
        on = f" on {self.images} images" if self.images else ""
        if self.slices:
            on = f" on {self.slices[0]} {one} and {self.slices[1]} {two} slices"
        at = f", {self.plane}" + (f", {self.pixel:.3g} mm" if self.pixel else "")
        time = f"{self.step} steps" if self.minutes is None else _time(self.minutes)
        if self.general:
            return f"General model of {one} and {two}, not trained on your images{at}"
        began = f", begun from {self.began}" if self.began else ""
        if hardly_trained(self.step, self.began_steps):
            return f"Hardly trained, {self.step} steps{on}{at}: expect little of it"
        return f"Trained {time}{on}{at}{began}"

    def rows(self) -> list[tuple[str, str]]:
        """What is known, as titles and texts."""
        one, two = self.contrasts
        budget = f"{self.step} steps" + ("" if self.minutes is None else f" in {_time(self.minutes)}")
        told = {
            "Contrasts": f"{one} to {two}, and {two} to {one}",
            "Slices": f"{self.plane}, " + (f"{self.pixel:.3g} mm in plane" if self.pixel else "pixels as they are"),
            "Intensities": f"{one} {self.ranges[0]}; {two} {self.ranges[1]}",
            "Trained on": self.data or "not described (napari-t1t2 info MODEL --data TEXT)",
            "Patients": f"{self.patients[0]} {one}, {self.patients[1]} {two}" if self.patients else "",
            "Training slices": f"{self.slices[0]} {one}, {self.slices[1]} {two}" if self.slices else "",
            "Images": f"{self.images}" if self.images and not self.slices else "",
            "Pairs": f"{self.paired} slices with a partner" if self.paired else "",
            "Began from": self.began + (f", trained on: {self.began_on}" if self.began_on else ""),
            "Training": budget + (f", preset {self.preset}" if self.preset else ""),
            "Version": f"napari-t1t2 {self.version}" if self.version else "",
            "Slice held out": held_out_error(self.held_out, {"t1": one, "t2": two}),
            **{f"Score, {way}": _score(found) for way, found in self.scores.items()},
            "Lesions": self.lesions or "not measured",
            "Calibrated": self._calibrated(),
            "Limits": LIMITS,
            "Licence": self.licence or "not given (--licence TEXT)",
            "Citation": self.citation or "not given (--citation TEXT)",
            "Use": NOTICE,
        }
        return [(title, text) for title, text in told.items() if text]

    def _calibrated(self) -> str:
        if not self.calibrated:
            return "no: maps of expected errors rank pixels only, and there are no intervals"
        intervals = f"intervals of {', '.join(self.intervals)}" if self.intervals else "no intervals"
        return f"expected errors of {', '.join(self.calibrated)}; {intervals}"

    def markdown(self, name: str) -> str:
        """The card as a README."""
        table = "\n".join(f"| {title} | {text.replace('|', '/')} |" for title, text in self.rows())
        one, two = self.contrasts
        return (
            f"# {name}: synthetic {one} and {two} MRI\n\n{self.summary()}.\n\n**{NOTICE}**\n\n"
            f"| | |\n|---|---|\n{table}\n\n"
            f"## Use\n\n```\npip install napari-t1t2\n"
            f"napari-t1t2 translate IMAGE.nii.gz --model {name} --to {two} --out synthetic.nii.gz\n```\n"
        )


def card_of(about: About) -> Card:
    """The card of a model, from what its file says of itself; of a model by an earlier version, what is known."""
    config, noted = about.config, about.card
    known: dict[str, Any] = {f.name: noted[f.name] for f in fields(Card) if f.name in noted}
    known |= {name: tuple(known[name]) for name in ("slices", "patients") if known.get(name)}
    marks = sum(len(mark) == MARK for mark in about.seen)
    texts = ("preset", "version", "began", "began_on", "data", "lesions", "licence", "citation")
    none: dict[str, Any] = dict.fromkeys(texts, "")
    none |= {
        "minutes": None,
        "slices": None,
        "patients": None,
        "paired": 0,
        "began_steps": 0,
        "general": False,
        "scores": {},
        "held_out": {},
    }
    return Card(
        **none
        | {"images": images_in(about.seen) or marks}
        | known
        | {
            "contrasts": (config.t1_label, config.t2_label),
            "plane": config.plane,
            "pixel": config.pixel,
            "ranges": tuple(f"{r.low:.4g} to {r.high:.4g}" for r in (about.ranges["t1"], about.ranges["t2"])),
            "step": about.step,
            "calibrated": tuple(config.label(side) for side in about.calibration),  # type: ignore[arg-type]
            "intervals": tuple(
                config.label(side)  # type: ignore[arg-type]
                for side, forms in about.calibration.items()
                if any(isinstance(form, dict) and form.get("within") for form in forms)
            ),
        }
    )


def noted(
    config: TrainConfig,
    sets: Sequence[tuple[Slices, Indices]],
    paired: int,
    before: About | None,
    origin: About | None,
) -> dict[str, Any]:
    """What training notes for the card, plain values without names of people or folders.

    A resumed run was `before` what it is now; a new one may begin from a model, its `origin`.
    """
    counts = [len(trained) for _, trained in sets]
    people = [len({slices.subjects[i] for i in slices.owners[trained]} - {""}) for slices, trained in sets]
    kept = {name: before.card[name] for name in (*KEPT, *BEGUN) if name in before.card} if before else {}
    return (_begun(config.start, card_of(origin)) if origin else kept) | {
        "slices": counts,
        "patients": people if all(people) else None,
        "paired": paired,
        "preset": preset_of(config),
        "version": __version__,
    }


def _begun(start: str, origin: Card) -> dict[str, Any]:
    """Of a model that begins from another: what that says of itself goes along, as its licence may ask for."""
    written = [text for name in KEPT if (text := getattr(origin, name))]
    before = f"begun from {origin.began}" + (f", trained on: {origin.began_on}" if origin.began_on else "")
    return {
        "began": GENERAL if origin.general else Path(start).name,
        "began_on": "; ".join([*written, before] if origin.began else written),
        "began_steps": origin.step + origin.began_steps,
    }


def held_out_error(errors: Mapping[str, tuple[float, float]], labels: Mapping[str, str]) -> str:
    """How well a slice that is not trained on is made; empty where that is not known."""
    each = ", ".join(f"{labels[side]} {made:.1%} ({nothing:.1%})" for side, (made, nothing) in errors.items())
    return f"mean error, in brackets that of doing nothing: {each}" if each else ""


def preset_of(config: TrainConfig) -> str:
    """The preset whose networks and losses these are, or ""."""
    told = ("batch", "crop", "adversarial", "disc_channels", "cycle_weight", "structure_weight", "learning_rate")
    for name in get_args(PresetName):
        like: TrainConfig = preset(name)
        alike = all(getattr(config, field) == getattr(like, field) for field in told)
        networks = (config.model.channels, config.model.levels) == (like.model.channels, like.model.levels)
        if alike and (networks or config.start):  # a model that it began from brought its own
            return str(name)
    return ""


def hardly_trained(steps: int, before: int) -> bool:
    """Whether a model of so many steps has learnt little yet; `before` are those of the model that it began from."""
    return steps + before < FEW_STEPS


def _time(minutes: float) -> str:
    return f"{minutes:.0f} min" if minutes >= 0.95 else f"{minutes * 60:.0f} s"


def _score(found: Mapping[str, float]) -> str:
    return (
        f"PSNR {found['psnr']:.2f} dB, SSIM {found['ssim']:.3f} inside the head, on {found['slices']:.0f} slices; "
        f"the source as it is: {found['source_psnr']:.2f} dB, {found['source_ssim']:.3f}"
    )
