"""Learn from pairs of real images how large the errors are that signs of doubt go with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.torch import load_file, save
from scipy.ndimage import binary_fill_holes
from scipy.optimize import isotonic_regression

from ..atomic import written_beside
from ..config import Side, other
from ..data.inputs import BACKGROUND
from ..data.pairs import Couple
from ..data.slices import fingerprint
from ..errors import Refusal
from ..images.intensity import Intensity, measure, ranges_for
from ..images.plane import View
from ..images.volume import Image, Volume
from ..model.about import About
from ..model.saved import Model
from .evaluation import same_grid
from .familiarity import resembles_other
from .translation import batches
from .uncertainty import Calibration, Doubt, regression_terms, slices_from, weights_sha256

BINS = 40  # of equally many pixels
SLICES = 40  # to calibrate a direction with, spread over all there are
FEWEST = 5  # slices to calibrate with
JUDGED = 12  # pairs of slices that are looked at before
AIR_TAKEN = 10  # one in so many pixels of air, which is easy


def calibrate(
    model: Model, pairs: Sequence[tuple[Volume, Volume]], members: Sequence[Model] = ()
) -> dict[Side, Calibration]:
    """Both directions, from T1 and T2 of the same heads on one grid, which the model was not trained on.

    Raises `Refusal` with a sentence where a pair does not lie on one grid or does not show one head, or where the
    contrasts are swapped.
    """
    for t1, t2 in pairs:
        if t1.data.shape != t2.data.shape or not same_grid(t1, t2):
            raise Refusal(f"{t1.name} and {t2.name} do not lie on one grid: resample one onto the other first.")
        if made := next((v for v in (t1, t2) if v.synthetic), None):
            raise Refusal(f"{made.name} is synthetic, so no error can be learned from it: give two real images.")
        if np.array_equal(t1.data, t2.data):
            raise Refusal(f"{t1.name} and {t2.name} are one image: give the two contrasts of a head.")
    _refuse_swapped(model, pairs)
    _refuse_wrong_pairs(pairs)
    bare = replace(model, about=replace(model.about, calibration={}))
    sides: tuple[Side, Side] = ("t1", "t2")
    return {
        side: _fit(list(samples(Doubt(bare, side, members), [p if side == "t2" else p[::-1] for p in pairs])), members)
        for side in sides
    }


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A slice whose truth is known, in the networks' frame, (H, W)."""

    signs: list[Image]
    terms: Image  # (H, W, T)
    error: Image  # as a part of the target's range
    head: npt.NDArray[np.bool_]  # where source or truth is no air
    seen: bool  # whether the model was trained on the image


def samples(doubt: Doubt, pairs: Sequence[tuple[Volume, Volume]], most: int = SLICES) -> Iterator[Sample]:
    """At most so many slices with anatomy, spread over all pairs of (source, real target)."""
    model, side = doubt.model, doubt.side
    target = model.about.ranges[side]
    sources, reals = (_ranges([p[i] for p in pairs], model.about.ranges[s]) for i, s in enumerate((other(side), side)))
    views = [View.of(model.config.plane, v.affine, v.spacing) for v, _ in pairs]
    shown = [
        (i, z)
        for i, ((source, _), view) in enumerate(zip(pairs, views, strict=True))
        for z in np.flatnonzero(sources[i].shows_anatomy(view.apply(source.data))).tolist()
    ]
    if not shown:
        raise Refusal("No slice shows anatomy: give images of heads.")
    known = [any(fingerprint(v) in model.about.seen for v in pair) for pair in pairs]
    for n in np.unique(np.linspace(0, len(shown) - 1, min(len(shown), most)).round().astype(int)):
        i, z = shown[n]
        seen, real = (views[i].apply(v.data)[z : z + 1] for v in pairs[i])
        ((_, frame, x, y),) = batches(seen, views[i], model, side, sources[i])
        truth = frame.put(reals[i].to_unit(real))
        source, made, signs = slices_from(x), slices_from(y), doubt.signs(x, y)
        error = np.abs(target.from_unit(made) - target.from_unit(truth)) / np.float32(target.high - target.low)
        head = binary_fill_holes(np.maximum(source, truth)[0] > BACKGROUND)
        yield Sample([sign[0] for sign in signs], regression_terms(signs, source, made)[0], error[0], head, known[i])


def _refuse_swapped(model: Model, pairs: Sequence[tuple[Volume, Volume]]) -> None:
    """Where most pairs look, or say that they look, like the other contrast, both of them."""
    config = model.config
    sides: tuple[Side, Side] = ("t1", "t2")
    ranges = [_ranges([pair[i] for pair in pairs], model.about.ranges[side]) for i, side in enumerate(sides)]
    some = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), JUDGED)).round().astype(int)).tolist()

    def swapped(n: int) -> bool:
        labels = config.t1_label, config.t2_label
        if (pairs[n][0].looks, pairs[n][1].looks) == labels[::-1]:
            return True
        return all(
            resembles_other(v.data, model.about, side, own[n], affine=v.affine, spacing=v.spacing)
            for v, side, own in zip(pairs[n], sides, ranges, strict=True)
        )

    if sum(map(swapped, some)) > len(some) / 2:
        raise Refusal(
            f"{pairs[0][0].name} looks like {config.t2_label} and {pairs[0][1].name} like {config.t1_label}: give "
            f"{config.t1_label} first, then {config.t2_label}."
        )


def _refuse_wrong_pairs(pairs: Sequence[tuple[Volume, Volume]]) -> None:
    """A wrong truth teaches a wrong error: slices must tell more of their partners than of what lies beside these."""
    alike = [pair for pair in pairs if pair[0].data.shape[1:] == pairs[0][0].data.shape[1:]]
    places = [(pair, z) for pair in alike for z in range(len(pair[0].data))]
    if len(places) < FEWEST:
        raise Refusal(f"{len(places)} slices are too few to calibrate with: give at least {FEWEST}.")
    some = np.unique(np.linspace(1, len(places) - 2, min(JUDGED, len(places) - 2)).round().astype(int)).tolist()
    ranges: dict[int, Intensity] = {}

    def on_unit(n: int, side: int) -> Image:
        """That slice alone; the range is its volume's."""
        volume, z = places[n][0][side], places[n][1]
        if id(volume) not in ranges:
            ranges[id(volume)] = measure([volume.data])
        return ranges[id(volume)].to_unit(volume.data[z])

    agree = sum(Couple(on_unit(n, 0), on_unit(n, 1), [on_unit(n - 1, 1), on_unit(n + 1, 1)]).agrees() for n in some)
    if agree < len(some) / 2:
        raise Refusal(
            f"{pairs[0][0].name} and {pairs[0][1].name} (and what follows) do not show the same places: of {len(some)} "
            f"slices only {agree} resemble their partner more than its neighbours. Give pairs."
        )


def store(model: Model, forms: Sequence[dict[Side, Calibration]]) -> About:
    """Write calibrations, of the model alone and with an ensemble, into the model's file, the weights as they are."""
    known: dict[str, Any] = {side: [asdict(form[side]) for form in forms] for side in forms[0]}
    about = replace(model.about, calibration=known)
    weights = load_file(about.path)
    with written_beside(about.path) as partial:
        partial.write_bytes(save(weights, metadata=about.to_header()))
    return about


def _fit(known: Sequence[Sample], members: Sequence[Model]) -> Calibration:
    """The logarithm of the error by least squares, then the mean error of bins of that score, made to grow with it."""
    taken = [s.head | (np.arange(s.head.size).reshape(s.head.shape) % AIR_TAKEN == 0) for s in known]
    terms = np.concatenate([s.terms[t] for s, t in zip(known, taken, strict=True)]).astype(np.float64)
    error = np.concatenate([s.error[t] for s, t in zip(known, taken, strict=True)]).astype(np.float64)
    slight = 1e-3 * np.eye(terms.shape[1]) * len(terms)
    weights = np.linalg.solve(terms.T @ terms + slight, terms.T @ np.log(error + 0.01))
    score = terms @ weights
    seen = sum(s.seen for s in known)
    order = np.argsort(score, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    scores = [float(score[part].mean()) for part in parts]
    grown = isotonic_regression([float(error[part].mean()) for part in parts]).x
    return Calibration(
        [float(w) for w in weights],
        scores,
        [float(e) for e in grown],
        sorted(weights_sha256(member) for member in members),
        len(known),
        seen,
    )


def _ranges(volumes: Sequence[Volume], trained: Intensity) -> list[Intensity]:
    """As translation reads them."""
    return [intensity for intensity, _ in ranges_for(volumes, trained)]
