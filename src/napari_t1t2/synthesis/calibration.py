"""Learn from pairs of real images how large the errors are that the signs of an uncertainty map go with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from ..config import Side, other
from ..data.likeness import Couple
from ..data.seen import trained_on
from ..errors import Refusal
from ..images.head import Mask, head_mask
from ..images.intensity import Intensity, measure, ranges_for
from ..images.pixels import evenly
from ..images.plane import View
from ..images.volume import Image, Volume
from ..model.about import About
from ..model.saved import Model, describe_anew
from .evaluation import evaluate_volumes, mean, same_grid
from .familiarity import CONTRAST, judge
from .translation import batches, translate
from .uncertainty import Calibration, UncertaintyMap, regression_terms, slices_from, weights_sha256

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
    ways: list[tuple[Side, list[tuple[Volume, Volume]]]] = [("t1", [p[::-1] for p in pairs]), ("t2", list(pairs))]
    return {side: _fit(list(samples(UncertaintyMap(bare, side, members), way)), members) for side, way in ways}


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A slice whose truth is known, in the networks' frame, (H, W)."""

    signs: list[Image]
    terms: Image  # (H, W, T)
    error: Image  # as a part of the target's range
    head: Mask  # of source and truth together
    seen: bool  # whether the model was trained on the image


def samples(signs_of: UncertaintyMap, pairs: Sequence[tuple[Volume, Volume]], most: int = SLICES) -> Iterator[Sample]:
    """At most so many slices with anatomy, spread over all pairs of (source, real target)."""
    model, side = signs_of.model, signs_of.side
    target = model.about.ranges[side]
    sources, reals = (
        [found for found, _ in ranges_for([pair[i] for pair in pairs], model.about.ranges[s])]
        for i, s in enumerate((other(side), side))
    )
    views = [View.of(model.config.plane, v.affine, v.spacing) for v, _ in pairs]
    shown = [
        (i, z)
        for i, ((source, _), view) in enumerate(zip(pairs, views, strict=True))
        for z in np.flatnonzero(sources[i].shows_anatomy(view.apply(source.data))).tolist()
    ]
    if not shown:
        raise Refusal("No slice shows anatomy: give images of heads.")
    about, plane = model.about, model.config.plane
    seen_before = [any(trained_on(v.data, v.affine, about.seen, plane) for v in pair) for pair in pairs]
    for i, z in (shown[n] for n in evenly(len(shown), most)):
        seen, real = (views[i].apply(v.data)[z : z + 1] for v in pairs[i])
        ((_, frame, x, y),) = batches(seen, views[i], model, side, sources[i])
        truth = frame.put(reals[i].to_unit(real))
        source, made, signs = slices_from(x), slices_from(y), signs_of.signs(x, y)
        error = np.abs(target.from_unit(made) - target.from_unit(truth)) / np.float32(target.high - target.low)
        terms, head = regression_terms(signs, source, made), head_mask(np.maximum(source, truth)[0])
        yield Sample([sign[0] for sign in signs], terms[0], error[0], head, seen_before[i])


def _refuse_swapped(model: Model, pairs: Sequence[tuple[Volume, Volume]]) -> None:
    """Where most pairs look, or say that they look, like the other contrast, both of them."""
    config, known = model.config, model.about.familiar
    sides: tuple[Side, Side] = ("t1", "t2")
    ranges = [ranges_for([pair[i] for pair in pairs], model.about.ranges[side]) for i, side in enumerate(sides)]

    def swapped(n: int) -> bool:
        if (pairs[n][0].looks, pairs[n][1].looks) == (config.t2_label, config.t1_label):
            return True
        for volume, side, own in zip(pairs[n], sides, ranges, strict=True):
            view = View.of(config.plane, volume.affine, volume.spacing)
            ways = judge(volume.data, known[side], config, own[n][0], view) if known else {}
            if not ways or ways[CONTRAST].mean() <= 0.5:
                return False
        return True

    if np.mean([swapped(n) for n in evenly(len(pairs), JUDGED)]) > 0.5:
        raise Refusal(
            f"{pairs[0][0].name} looks like {config.t2_label} and {pairs[0][1].name} like {config.t1_label}: give "
            f"{config.t1_label} first, then {config.t2_label}."
        )


def _refuse_wrong_pairs(pairs: Sequence[tuple[Volume, Volume]]) -> None:
    """A wrong truth teaches a wrong error: slices must tell more of their partners than of what lies beside these."""
    alike = [pair for pair in pairs if pair[0].data.shape[1:] == pairs[0][0].data.shape[1:]]
    places = [(i, z) for i, pair in enumerate(alike) for z in range(len(pair[0].data))]
    if len(places) < FEWEST:
        raise Refusal(f"{len(places)} slices are too few to calibrate with: give at least {FEWEST}.")

    @cache
    def range_of(i: int, side: int) -> Intensity:
        return measure([alike[i][side].data])

    def on_unit(n: int, side: int) -> Image:
        """That slice alone; the range is its volume's."""
        i, z = places[n]
        return range_of(i, side).to_unit(alike[i][side].data[z])

    some = 1 + evenly(len(places) - 2, JUDGED)
    agree = sum(Couple(on_unit(n, 0), on_unit(n, 1), [on_unit(n - 1, 1), on_unit(n + 1, 1)]).agrees() for n in some)
    if agree < len(some) / 2:
        raise Refusal(
            f"{pairs[0][0].name} and {pairs[0][1].name} (and what follows) do not show the same places: of {len(some)} "
            f"slices only {agree} resemble their partner more than its neighbours. Give pairs."
        )


def scores_of(model: Model, pairs: Sequence[tuple[Volume, Volume]]) -> dict[str, dict[str, float]]:
    """For the model's card, both ways inside the head: of some synthetic images, and of the source as it is.

    Intensities are matched first, as MR units are arbitrary.
    """
    found = {}
    for source, side in enumerate(("t2", "t1")):
        some = [pairs[n][:: 1 - 2 * source] for n in evenly(len(pairs), JUDGED)]
        made = [(translate(one, model, to=side), one, other) for one, other in some]
        synthetic, nothing = (
            mean([evaluate_volumes(each[which], each[2], match_intensities=True) for each in made]) for which in (0, 1)
        )
        ways = model.config.t1_label, model.config.t2_label
        found[" to ".join(ways[:: 1 - 2 * source])] = {
            "psnr": synthetic.head_psnr,
            "ssim": synthetic.head_ssim,
            "source_psnr": nothing.head_psnr,
            "source_ssim": nothing.head_ssim,
            "slices": synthetic.slices,
        }
    return found


def store(
    model: Model, forms: Sequence[dict[Side, Calibration]], scores: dict[str, dict[str, float]] | None = None
) -> About:
    """Write calibrations, of the model alone and with an ensemble, and scores into the model's file."""
    known: dict[str, Any] = {side: [asdict(form[side]) for form in forms] for side in forms[0]}
    about = replace(model.about, calibration=known, card=model.about.card | {"scores": scores or {}})
    describe_anew(model, about)
    return about


def _fit(known: Sequence[Sample], members: Sequence[Model]) -> Calibration:
    """The logarithm of the error by least squares, then the mean error of bins of that score, made to grow with it."""
    taken = [s.head | (np.arange(s.head.size).reshape(s.head.shape) % AIR_TAKEN == 0) for s in known]
    terms = np.concatenate([s.terms[t] for s, t in zip(known, taken, strict=True)]).astype(np.float64)
    error = np.concatenate([s.error[t] for s, t in zip(known, taken, strict=True)]).astype(np.float64)
    slight = 1e-3 * np.eye(terms.shape[1]) * len(terms)
    weights = np.linalg.solve(terms.T @ terms + slight, terms.T @ np.log(error + 0.01))
    score = terms @ weights
    parts = [part for part in np.array_split(np.argsort(score, kind="stable"), BINS) if len(part)]
    return Calibration(
        weights=weights.tolist(),
        scores=[float(score[part].mean()) for part in parts],
        errors=isotonic_regression([float(error[part].mean()) for part in parts]).x.tolist(),
        ensemble=sorted(weights_sha256(member) for member in members),
        slices=len(known),
        seen=sum(s.seen for s in known),
    )
