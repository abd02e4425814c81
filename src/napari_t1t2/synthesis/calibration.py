"""Learn from pairs of real images how large the errors are that the signs of an uncertainty map go with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from ..config import SIDES, Side, other
from ..data.likeness import Couple
from ..data.seen import trained_on
from ..errors import Refusal
from ..images.head import Mask, head_mask
from ..images.intensity import Intensity, measure, range_for, shared_ranges
from ..images.pixels import evenly
from ..images.plane import View
from ..images.read import load
from ..images.volume import Image, Volume
from ..model.about import About
from ..model.saved import Model, describe_anew
from .evaluation import Score, evaluate_volumes, mean, same_grid
from .familiarity import CONTRAST, judge
from .translation import batches, translate
from .uncertainty import COVERAGE, Calibration, UncertaintyMap, regression_terms, slices_from, weights_sha256

BINS = 40  # of equally many pixels
SLICES = 40  # to calibrate a direction with, spread over all there are
FEWEST = 5  # slices to calibrate with
PAIRS = 40  # of which slices are taken, spread over all there are: more need not be read
JUDGED = 12  # pairs of slices that are looked at before
AIR_TAKEN = 10  # one in so many pixels of air, which is easy


def calibrate(
    model: Model,
    pairs: Sequence[tuple[Volume, Volume]],
    members: Sequence[Model] = (),
    *,
    image: Callable[[str], AbstractContextManager[Any]] = nullcontext,
) -> dict[Side, Calibration]:
    """Both directions, from T1 and T2 of the same heads on one grid, which the model was not trained on.

    Of outlines, the voxels of one pair at a time are read, within `image(name)`, which may swallow what is raised of
    one that cannot be used. Raises `Refusal` with a sentence where a pair does not lie on one grid or does not show one
    head, or where the contrasts are swapped.
    """
    shared = [shared_ranges([p[i] for p in pairs], model.about.ranges[s]) for i, s in enumerate(SIDES)]
    whole: list[Couplet] = []
    for n, pair in enumerate(pairs):
        with image(pair[0].series or pair[0].name):
            whole.append(_read(model, pair, [ranges.get(n) for ranges in shared]))
    if not whole:
        raise Refusal("None of the pairs can be used: see above, or --report, why.")
    pairs = [one.pair for one in whole]
    _refuse_swapped(model, whole)
    _refuse_wrong_pairs(pairs)
    bare = replace(model, about=replace(model.about, calibration={}))
    maps = {side: UncertaintyMap(bare, side, members) for side in SIDES}
    heads = len({one.pair[0].subject for one in whole})
    return {side: _fit(list(_samples(map_, whole, SLICES)), members, heads) for side, map_ in maps.items()}


def _read(model: Model, pair: tuple[Volume, Volume], shared: Sequence[tuple[Intensity, str | None] | None]) -> Couplet:
    volumes = load(pair[0]), load(pair[1])
    _refuse_unlike(*volumes)
    return Couplet.of(model, pair, volumes, shared)


def _refuse_unlike(t1: Volume, t2: Volume) -> None:
    """What no pair can be made of."""
    if t1.data.shape != t2.data.shape or not same_grid(t1, t2):
        raise Refusal(f"{t1.name} and {t2.name} do not lie on one grid: resample one onto the other first.")
    if made := next((v for v in (t1, t2) if v.synthetic), None):
        raise Refusal(f"{made.name} is synthetic, so no error can be learned from it: give two real images.")
    if np.array_equal(t1.data, t2.data):
        raise Refusal(f"{t1.name} and {t2.name} are one image: give the two contrasts of a head.")


@dataclass(frozen=True, slots=True, eq=False)
class Couplet:
    """What was seen of a pair, T1 and T2, before its voxels were let go."""

    pair: tuple[Volume, Volume]
    views: tuple[View, View]
    ranges: tuple[Intensity, Intensity]
    shown: tuple[list[int], list[int]]  # slices with anatomy, by the T1 and by the T2
    seen: bool  # whether the model was trained on one of them
    swapped: bool  # whether both look, or say that they look, like the other contrast

    @classmethod
    def of(
        cls,
        model: Model,
        pair: tuple[Volume, Volume],
        volumes: tuple[Volume, Volume],
        shared: Sequence[tuple[Intensity, str | None] | None] = (None, None),
    ) -> Couplet:
        """Of a pair and its voxels, with the ranges that loose slices share."""
        about, plane, config = model.about, model.config.plane, model.config
        views = [View.of(plane, v.affine, v.spacing) for v in volumes]
        ranges = [
            (known or range_for(v.data, len(v.data), about.ranges[side]))[0]
            for v, side, known in zip(volumes, SIDES, shared, strict=True)
        ]
        shown = [
            np.flatnonzero(r.shows_anatomy(view.apply(v.data))).tolist()
            for v, view, r in zip(volumes, views, ranges, strict=True)
        ]
        ways = [
            judge(v.data, about.familiar[side], config, r, view) if about.familiar else {}
            for v, side, r, view in zip(volumes, SIDES, ranges, views, strict=True)
        ]
        swapped = all(way and way[CONTRAST].mean() > 0.5 for way in ways)
        swapped |= (volumes[0].looks, volumes[1].looks) == (config.t2_label, config.t1_label)
        seen = any(trained_on(v.data, v.affine, about.seen, plane) for v in volumes)
        return cls(pair, (views[0], views[1]), (ranges[0], ranges[1]), (shown[0], shown[1]), seen, swapped)


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
    ordered = [pair if signs_of.side == "t2" else pair[::-1] for pair in pairs]
    shared = [shared_ranges([p[i] for p in ordered], signs_of.model.about.ranges[s]) for i, s in enumerate(SIDES)]
    whole = [
        Couplet.of(signs_of.model, pair, (load(pair[0]), load(pair[1])), [ranges.get(n) for ranges in shared])
        for n, pair in enumerate(ordered)
    ]
    yield from _samples(signs_of, whole, most)


def _samples(signs_of: UncertaintyMap, whole: Sequence[Couplet], most: int) -> Iterator[Sample]:
    model, side = signs_of.model, signs_of.side
    target, source_side = model.about.ranges[side], SIDES.index(other(side))
    places = [(i, z) for i, one in enumerate(whole) for z in one.shown[source_side]]
    if not places:
        raise Refusal("No slice shows anatomy: give images of heads.")
    held: tuple[int, list[Volume]] = -1, []
    for i, z in (places[n] for n in evenly(len(places), most)):
        if held[0] != i:
            held = i, [load(v) for v in whole[i].pair]
        one, view = whole[i], whole[i].views[source_side]
        seen, real = (view.apply(held[1][n].data)[z : z + 1] for n in (source_side, 1 - source_side))
        ((_, frame, x, y),) = batches(seen, view, model, side, one.ranges[source_side])
        truth = frame.put(one.ranges[1 - source_side].to_unit(real))
        source, made, signs = slices_from(x), slices_from(y), signs_of.signs(x, y)
        error = np.abs(target.synthetic(made) - target.from_unit(truth)) / np.float32(target.high - target.low)
        terms, head = regression_terms(signs, source, made), head_mask(np.maximum(source, truth)[0])
        yield Sample([sign[0] for sign in signs], terms[0], error[0], head, one.seen)


def _refuse_swapped(model: Model, whole: Sequence[Couplet]) -> None:
    """Where most pairs look, or say that they look, like the other contrast, both of them."""
    config, first = model.config, whole[0].pair
    if np.mean([one.swapped for one in whole]) > 0.5:
        raise Refusal(
            f"{first[0].name} looks like {config.t2_label} and {first[1].name} like {config.t1_label}: give "
            f"{config.t1_label} first, then {config.t2_label}."
        )


def _refuse_wrong_pairs(pairs: Sequence[tuple[Volume, Volume]]) -> None:
    """A wrong truth teaches a wrong error: slices must tell more of their partners than of what lies beside these."""
    alike = [pair for pair in pairs if pair[0].data.shape[1:] == pairs[0][0].data.shape[1:]]
    places = [(i, z) for i, pair in enumerate(alike) for z in range(len(pair[0].data))]
    if len(places) < FEWEST:
        raise Refusal(f"{len(places)} slices are too few to calibrate with: give at least {FEWEST}.")

    @lru_cache(4)  # volumes: a slice and its neighbours
    def voxels(i: int, side: int) -> Image:
        return load(alike[i][side]).data

    @cache
    def range_of(i: int, side: int) -> Intensity:
        return measure([voxels(i, side)])

    def on_unit(n: int, side: int) -> Image:
        """That slice alone; the range is its volume's."""
        i, z = places[n]
        return range_of(i, side).to_unit(voxels(i, side)[z])

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
        each: tuple[list[Score], list[Score]] = [], []
        for n in evenly(len(pairs), JUDGED):
            one, real = map(load, pairs[n][:: 1 - 2 * source])
            for scores, image in zip(each, (translate(one, model, to=side), one), strict=True):
                scores.append(evaluate_volumes(image, real, match_intensities=True))
        synthetic, nothing = map(mean, each)
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


def _fit(known: Sequence[Sample], members: Sequence[Model], heads: int) -> Calibration:
    """The logarithm of the error by least squares; then mean and quantile of bins of that score, made to grow."""
    taken = [s.head | (np.arange(s.head.size).reshape(s.head.shape) % AIR_TAKEN == 0) for s in known]
    terms = np.concatenate([s.terms[t] for s, t in zip(known, taken, strict=True)]).astype(np.float64)
    error = np.concatenate([s.error[t] for s, t in zip(known, taken, strict=True)]).astype(np.float64)
    slight = 1e-3 * np.eye(terms.shape[1]) * len(terms)
    weights = np.linalg.solve(terms.T @ terms + slight, terms.T @ np.log(error + 0.01))
    score = terms @ weights
    parts = [part for part in np.array_split(np.argsort(score, kind="stable"), BINS) if len(part)]
    held = [float(np.quantile(error[p], min(1, COVERAGE * (1 + 1 / len(p))), method="higher")) for p in parts]
    return Calibration(
        weights=weights.tolist(),
        scores=[float(score[part].mean()) for part in parts],
        errors=isotonic_regression([float(error[part].mean()) for part in parts]).x.tolist(),
        ensemble=sorted(weights_sha256(member) for member in members),
        slices=len(known),
        seen=sum(s.seen for s in known),
        within=isotonic_regression(held).x.tolist(),
        heads=heads,
    )
