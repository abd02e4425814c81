"""Exams: volumes of both contrasts of one head, and where they lie upon each other."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import written_file
from ..images.align import Alignment, Scan, align, mirror_image
from ..images.frame import AIR
from ..images.resample import resample
from ..images.volume import Affine, Image, spacing_of
from .bank import home
from .slices import Slices

VERSION = 1  # of what is kept
SERIES = 4  # of one contrast that are tried with those of the other
STILL = 0.5  # of a pixel; a head whose surface moves less is left where it is
UNCLEAR = 1.02  # times as much information as the next series, or it is not clear which belongs


@dataclass(frozen=True, eq=False)
class Exam:
    """A T1 and a T2 volume, by number, that may show one head, what was found, and whether they are used."""

    t1: int
    t2: int
    files: tuple[str, str]
    alignment: Alignment | None = None
    refused: str = ""  # why they are not used
    slices: int = 0  # pairs of slices that were made of them

    def verdict(self) -> str:
        """What became of it, in a few words."""
        return self.refused or f"{self.slices} pairs of slices"

    def record(self) -> dict[str, Any]:
        """As plain values, for the record of a run."""
        made: dict[str, Any] = {"files": list(self.files), "verdict": self.verdict()}
        if self.alignment:
            made |= {"moved mm": round(self.alignment.shift, 2), "turned degrees": round(self.alignment.angle, 2)}
            made |= {"matrix": self.alignment.matrix.round(6).tolist()}
        return made


def stack_of(slices: Slices, volume: int) -> tuple[Image, Affine | None, dict[int, int]]:
    """A volume's prepared slices (Z, Y, X), air where some were left out; its affine; the index of each by place."""
    own = np.flatnonzero(slices.owners == volume)
    places = slices.places[own]
    first = int(places.min())
    data = np.full((int(places.max()) - first + 1, *slices.images.shape[1:]), AIR, np.float32)
    for place, index in zip(places.tolist(), own.tolist(), strict=True):
        data[place - first] = slices.images[index]
    affine = slices.affines[volume] if slices.affines else None
    if affine is not None:
        begin = np.eye(4)
        begin[2, 3] = first
        affine = affine @ begin
    return data, affine, {place - first: index for place, index in zip(places.tolist(), own.tolist(), strict=True)}


def aligned(t1: Slices, t2: Slices, exam: Exam) -> Exam:
    """The exam with where its T2 lies; refused where that is not to be found. Kept for the next run."""
    kept = home().parent / "alignments" / f"{_digest(t1, t2, exam)}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(kept.read_text(encoding="utf-8"))
        found = known["alignment"]
        found = found and Alignment(**found | {"matrix": np.array(found["matrix"])})
        return replace(exam, alignment=found, refused=known["refused"])
    made = replace(exam, **_looked_at(t1, t2, exam))
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = made.alignment and asdict(made.alignment) | {"matrix": made.alignment.matrix.tolist()}
        with written_file(kept) as partial:
            partial.touch(mode=0o600)
            partial.write_text(json.dumps({"alignment": found, "refused": made.refused}), encoding="utf-8")
    return made


def kept_alignments() -> list[Path]:
    """The files in which `aligned` has kept what it found."""
    return sorted((home().parent / "alignments").glob("*.json"))


def _looked_at(t1: Slices, t2: Slices, exam: Exam) -> dict[str, Any]:
    (ours, grid, _), (theirs, other_grid, _) = stack_of(t1, exam.t1), stack_of(t2, exam.t2)
    if grid is None or other_grid is None:
        return {}
    fixed, moving = Scan.of(ours, grid), Scan.of(theirs, other_grid)
    found = align(fixed, moving)
    if found is None:
        return {"refused": "too few slices, or none with a head, to be aligned"}
    if mirror_image(fixed, moving, found):
        return {"alignment": found, "refused": "its mirror image fits better: one of them takes left for right"}
    return {"alignment": found}


def _digest(t1: Slices, t2: Slices, exam: Exam) -> str:
    of = [
        [s.fingerprints[i].split()[0], s.images.shape[1:], np.asarray(s.affines[i]).tolist() if s.affines else None]
        for s, i in ((t1, exam.t1), (t2, exam.t2))
    ]
    return blake2b(json.dumps([VERSION, of]).encode(), digest_size=12).hexdigest()


def best_of_series(exams: list[Exam]) -> tuple[list[Exam], list[Exam]]:
    """Of several series of one head, each T1 with the T2 that shares most with it; and the rest, each with the reason.

    A T2 may serve several T1 of one sitting; but where two T1 and two T2 are there and none belongs clearly to
    another, as of two visits under one name, none is taken.
    """
    by_t1: defaultdict[int, list[Exam]] = defaultdict(list)
    for exam in exams:
        by_t1[exam.t1].append(exam)
    taken: list[Exam] = []
    left: list[Exam] = []
    for own in by_t1.values():
        ranked = sorted((e for e in own if not e.refused), key=_information, reverse=True)
        left += [e for e in own if e.refused]
        if len(ranked) > 1 and _information(ranked[0]) < UNCLEAR * _information(ranked[1]):
            left += [replace(e, refused="several series fit alike: name the one to use") for e in ranked]
            continue
        taken += ranked[:1]
        left += [replace(e, refused=f"{ranked[0].files[1]} fits better") for e in ranked[1:]]
    return taken, left


def _information(exam: Exam) -> float:
    return exam.alignment.information if exam.alignment else 0.0


def on_grid_of(t1: Slices, t2: Slices, exam: Exam) -> tuple[dict[int, int], Image]:
    """The T1's slices by place, as indices, and the T2 on their grid (Z, Y, X), NaN beyond its edges."""
    ours, grid, places = stack_of(t1, exam.t1)
    theirs, other_grid, _ = stack_of(t2, exam.t2)
    if grid is None or other_grid is None:
        raise ValueError("what lies nowhere cannot be brought to a grid")
    if exam.alignment and exam.alignment.reach >= STILL * min(spacing_of(grid)):  # less is not worth its blur
        other_grid = np.linalg.inv(exam.alignment.matrix) @ other_grid
    return places, resample(theirs, other_grid, ours.shape, grid, order=1, outside=np.nan)
