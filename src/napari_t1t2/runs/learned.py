"""What a run learns from: its slices, their split, the pairs among them, and what its model will say of itself."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..config import SIDES, ModelConfig, Side, TrainConfig
from ..data.batches import Bank
from ..data.inputs import polarity
from ..data.pairs import find_pairs
from ..data.reading import reading
from ..data.seen import images_in, seen_in_all
from ..data.split import split
from ..events import TrainEvent
from ..images.intensity import Intensity
from ..model.about import MODEL_FILE, SAMPLE_NAME, About
from ..model.card import noted
from ..model.known import learning
from ..model.ranks import Ranks
from ..model.start import AUTO, about_start, air_around, beginning_from, general_fits, in_range_of
from .folder import beside
from .preview import Head, heads_among

FROM_SAMPLE = (
    "training begins from the general model, which comes nearer to your images than a recolouring (start from: auto)"
)


@dataclass(frozen=True, eq=False)
class Learned:
    """What a run learns from, and what its model will say of itself."""

    config: TrainConfig  # the run's, with what it begins from
    t1: Bank
    t2: Bank
    pairs: tuple[Bank, Bank] | None
    share: float  # of the slices of the smaller contrast that have a partner
    heads: tuple[Head, Head, bool]  # a held-out one of each contrast, for the previews, and whether it is the same
    about: About
    falling: bool  # whether what is dark in one contrast is bright in the other
    counts: tuple[int, int]  # slices of each contrast
    patients: tuple[int, int]
    notes: tuple[str, ...]
    data: dict[str, Any]  # by contrast, its folder and what became of each file, for the run's record


def learned_from(
    config: TrainConfig, before: About | None, device: torch.device, stop: Callable[[], bool], ranks: Ranks
) -> Generator[TrainEvent, None, Learned]:
    """Read the folders, split them, look for pairs, and describe what is trained on.

    A model keeps the units, the resolution and the description `before`, with which it was begun.
    """
    part = ranks.part(config.batch)
    if not ranks.first:
        ranks.meet()
    t1, t2, pixel = yield from reading(config, before.config.pixel if before else 0.0, stop)
    if ranks.first:
        ranks.meet()  # slices beyond memory go to disk once, and the others find them there
    parts = split(t1, t2, config)
    falling = polarity(t1.images, parts.train[0]) * polarity(t2.images, parts.train[1]) < 0
    if auto := config.start == AUTO:
        own = general_fits(config, (t1, parts.train[0]), (t2, parts.train[1]), falling=falling)
        config = beginning_from(SAMPLE_NAME, config) if ranks.largest(own)[0] else replace(config, start="")
    origin = about_start(config.start) if config.start and not before else None
    if like := before or origin:
        t1, t2 = in_range_of(t1, like.ranges["t1"]), in_range_of(t2, like.ranges["t2"])
    pairs = yield from find_pairs(t1, t2, parts, config, stop)
    notes = t1.notes + t2.notes + parts.notes + pairs.notes
    seen = t1.fingerprints_of(parts.train[0]) | t2.fingerprints_of(parts.train[1])
    if origin:
        notes += (FROM_SAMPLE,) if auto else other_contrasts(origin.config, config.model)
        seen |= origin.seen
    ranges: dict[Side, Intensity] = {"t1": t1.intensity, "t2": t2.intensity}
    if before:
        ranges = before.ranges
        if before.calibration:
            notes += ("the model's calibration ends with this, as its errors change: calibrate it again",)
        if new := images_in(seen - before.seen):
            notes += (f"{new} images are new to this run, which was begun on others",)
        seen = seen_in_all(seen, before.seen)
    elif origin:
        sets = zip(SIDES, (t1, t2), parts.train, strict=True)
        ranges = {side: replace(s.intensity, air=air_around(s, trained)) for side, s, trained in sets}
    familiar = before.familiar if before else None
    if not familiar:
        familiar = yield from learning(((t1.images, parts.train[0]), (t2.images, parts.train[1])), config, stop)

    banks = [Bank(s.images, config, device, i, parts.train[i], part) for i, s in enumerate((t1, t2))]
    # of one stream, so that both contrasts of a pair are cut and mirrored alike
    paired = [Bank(images, config, device, 5, part=part, moved=True) for images in pairs.images if len(images)]
    patients = [len({s.subjects[i] for i in s.owners[n]} - {""}) for s, n in zip((t1, t2), parts.train, strict=True)]
    about = About(config.run_folder / MODEL_FILE, replace(config.model, pixel=pixel), ranges, 0, seen, familiar)
    about = replace(
        about, card=noted(config, ((t1, parts.train[0]), (t2, parts.train[1])), pairs.count, before, origin)
    )
    return Learned(
        config,
        banks[0],
        banks[1],
        (paired[0], paired[1]) if paired else None,
        pairs.count / min(len(parts.train[0]), len(parts.train[1])),
        heads_among(t1, t2, parts),
        about,
        falling,
        (len(parts.train[0]), len(parts.train[1])),
        (patients[0], patients[1]),
        notes,
        {
            label: {"folder": beside(config.run_folder, folder), "files": slices.uses(trained, held)}
            for label, folder, slices, trained, held in zip(
                (config.model.t1_label, config.model.t2_label),
                (config.t1_folder, config.t2_folder),
                (t1, t2),
                parts.train,
                parts.held,
                strict=True,
            )
        }
        | {"pairs": {"slices": pairs.count, "exams": [exam.record() for exam in pairs.exams]}},
    )


def other_contrasts(like: ModelConfig, own: ModelConfig) -> tuple[str, ...]:
    """A sentence where a model to begin from makes other contrasts."""
    theirs, ours = (f"{c.t1_label} and {c.t2_label}" for c in (like, own))
    return (f"training begins from a model of {theirs}, not of {ours}",) if theirs.casefold() != ours.casefold() else ()
