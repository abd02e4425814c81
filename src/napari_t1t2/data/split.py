"""Which slices are trained on and which are held out, by whole subjects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..config import SMALLEST, TrainConfig
from ..errors import Refusal
from .slices import Slices

HELD_AT_MOST = 5  # one in so many subjects is held out: of fewer, each is needed to learn from


@dataclass(frozen=True, eq=False)
class Split:
    """Which slices of each contrast are trained on and which are held out, as indices; and what the user should know.

    No subject is on both sides, in either contrast.
    """

    train: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
    held: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # where nobody can be spared, slices that are trained on
    notes: tuple[str, ...]


def split(t1: Slices, t2: Slices, config: TrainConfig) -> Split:
    """Hold out whole subjects, the same of both contrasts where they are in both.

    Loose slices that do not say whose they are, are held out from the middle of their folder instead.
    Raises `Refusal` where too few or too small slices are left.
    """
    both = (t1, t2)
    labels = (config.model.t1_label, config.model.t2_label)
    for slices, folder in zip(both, (config.t1_folder, config.t2_folder), strict=True):
        _check_slices(slices, folder, config)
    away = _held_subjects(t1, t2, config.hold_out)
    train, held, notes, few = [], [], [], []
    for slices, label in zip(both, labels, strict=True):
        subjects = np.array(slices.subjects)[slices.owners]
        out = np.isin(subjects, sorted(away))
        loose = np.flatnonzero(subjects == "")
        if n := min(config.hold_out, len(loose) // HELD_AT_MOST):
            out[loose[(len(loose) - n) // 2 :][:n]] = True
        if out.any():
            held.append(np.flatnonzero(out))
        else:
            few.append(label)
            held.append(np.array([len(subjects) // 2]))
        train.append(np.flatnonzero(~out))
        notes += _leaks(slices, out, label)
    if few:
        said = "Too few patients to keep one for checking: previews look better than a new patient would."
        notes.insert(0, f"{' and '.join(few)}: {said}")
    if away:
        of = f"{len(away)} patient{'s are' if len(away) != 1 else ' is'}"  # no name: it may be PHI
        notes.append(f"{of} kept for checking: the previews show slices that are not trained on.")
    return Split((train[0], train[1]), (held[0], held[1]), tuple(notes))


def _held_subjects(t1: Slices, t2: Slices, wanted: int) -> set[str]:
    """As few subjects as give each contrast the wanted number, from the middle.

    Whoever is held out of one contrast is held out of the other, too; so it is somebody that both can spare.
    """
    of = [sorted(set(s.subjects) - {""}) for s in (t1, t2)]
    room = [min(wanted, len(own) // HELD_AT_MOST) for own in of]
    away: set[str] = set()
    for mine, other in ((0, 1), (1, 0)):
        own = of[mine]
        full = len(away & set(of[other])) >= room[other]
        spared = [s for s in own if s not in away and not (full and s in of[other])]
        spared.sort(key=lambda s: (s not in of[other], abs(own.index(s) - len(own) // 2)))
        away |= set(spared[: max(0, room[mine] - len(away & set(own)))])
    return away


def _leaks(slices: Slices, out: npt.NDArray[np.bool_], label: str) -> list[str]:
    """The same pixels held out under one name and trained on under another."""
    sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
    away = set(slices.owners[out].tolist())
    for i in np.unique(slices.owners).tolist():
        sides[i in away][slices.fingerprints[i]] = slices.names[i]
    trained, held = sides
    return [
        f"{label}: {held[f]} is held out, but {trained[f]}, with the same pixels, is trained on"
        for f in held.keys() & trained.keys()
    ]


def _check_slices(slices: Slices, where: Path, config: TrainConfig) -> None:
    n, side = len(slices.images), min(slices.images.shape[1:])
    if (seen := min(side, config.crop or side)) < SMALLEST:
        raise Refusal(
            f"{where}: slices of {side} pixels, cropped to {seen}, are too small: the discriminators need {SMALLEST}. "
            "Raise crop or size, or give larger slices."
        )
    if n < 2:
        raise Refusal(f"{where} has {n} usable slice, but training needs at least 2. Add images.")
