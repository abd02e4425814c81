"""How far to trust a synthetic image: the absolute error to expect of each pixel, in units of the contrast made.

The networks give three signs of doubt: they do not bring the source back (cycle), they answer otherwise when the
slice is mirrored, moved or turned (test-time augmentation, Wang et al. 2019), and networks trained with other seeds
disagree (ensemble, Lakshminarayanan et al. 2017). Slices whose truth is known tell what error such signs go with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save
from scipy.ndimage import binary_fill_holes, gaussian_filter
from scipy.optimize import isotonic_regression
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from ..images.intensity import Intensity, measure, range_for
from ..images.plane import View
from ..images.volume import Image, Volume
from ..images.write import written_beside
from .checkpoint import Model
from .config import Side, other
from .cyclegan import laid
from .evaluation import same_grid
from .familiar import resembles_other
from .files import About
from .pairs import Couple
from .slices import BACKGROUND, fingerprint
from .translation import batches

NOT_CALIBRATED = "The expected error is a ranking, not in units: the model is not calibrated."
SMOOTH = 2.0  # pixels; errors are larger than a pixel, and signs of single pixels are noise
TURN = 5.0  # degrees
SHIFT = (3, 2)  # pixels; no multiple of what the U-Net halves
FLOOR = 1e-3  # below it, in [-1, 1], a sign of doubt is none
BINS = 40  # of equally many pixels
SLICES = 40  # to calibrate a direction with, spread over all there are
FEWEST = 5  # slices to calibrate with
JUDGED = 12  # pairs of slices that are looked at before
AIR_TAKEN = 10  # one in so many pixels of air, which is easy


@dataclass(frozen=True, slots=True)
class Calibration:
    """From signs of doubt to the error to expect, as a part of the target's range."""

    weights: list[float]  # of `_terms`, to the logarithm of the error
    scores: list[float]  # the weighted sum, growing, ...
    errors: list[float]  # ... and the mean error met there
    ensemble: list[str]  # weights of the members beside the model, `weights_sha256`, sorted; others give other signs
    slices: int
    seen: int = 0  # of these, from images that the model was trained on; errors on new ones are larger

    def expect(self, terms: Image) -> Image:
        """The error to expect, (...), of terms (..., T)."""
        score = terms @ np.asarray(self.weights, np.float32)
        found: Image = np.interp(score, self.scores, self.errors).astype(np.float32)
        return found


class Doubt:
    """What `stream` asks for the error to expect, slice by slice.

    Parameters
    ----------
    model
        The one that translates.
    to
        The contrast that is made, by its name in the model.
    members
        Further models, trained on the same images with other seeds.

    Raises
    ------
    ValueError
        Where the members see images in another way, or one is the model itself or another member.

    A model that was calibrated, but not with these members, is taken alone, and `remark` says so.
    """

    def __init__(self, model: Model, to: str, members: Sequence[Model] = ()) -> None:
        self.side = model.config.side(to)
        for member in members:
            if member.config != model.config or member.about.ranges != model.about.ranges:
                raise ValueError(
                    f"{member.about.path} and {model.about.path} do not see images alike: an ensemble is trained on "
                    "the same folders with the same settings, but for the seed."
                )
        if len({model.sha256, *(member.sha256 for member in members)}) <= len(members):
            raise ValueError("The ensemble holds one model twice: give runs that were trained with different seeds.")
        self.model, self.members = model, tuple(members)
        stored = model.about.calibration.get(self.side, [])
        forms = [Calibration(**form) for form in stored if isinstance(form, dict) and "ensemble" in form]
        given = sorted(weights_sha256(member) for member in members) if forms else []
        self.calibration = next((form for form in forms if form.ensemble == given), None)
        self.remark = None if self.calibration else NOT_CALIBRATED
        if not self.calibration and (alone := next((form for form in forms if not form.ensemble), None)):
            self.calibration, self.members = alone, ()
            self.remark = (
                f"{model.about.path.parent.name} was not calibrated with this ensemble: the expected error is that of "
                "the model alone. Calibrate with the same --ensemble to use it."
            )

    @property
    def most(self) -> float:
        """The largest error that is expected of any pixel, as a part of the target's range."""
        return (self.calibration.errors[-1] if self.calibration else 0.0) or 0.5

    def expected(self, x: Tensor, y: Tensor) -> Image:
        """The absolute error to expect, (N, H, W), as a part of the target's range, of `batches`."""
        signs = self.signs(x, y)
        if self.calibration:
            return self.calibration.expect(_terms(signs, _image(x), _image(y)))
        summed: Image = np.add.reduce(signs) / 2  # [-1, 1] is two wide
        return summed

    def signs(self, x: Tensor, y: Tensor) -> list[Image]:
        """Cycle error, spread under augmentation and, if there are members, theirs: each (N, H, W), smoothed."""
        there, back = (self.model.generators[side] for side in (self.side, other(self.side)))
        with torch.inference_mode():
            variants = [y, there(x.flip(-1)).flip(-1)]
            variants.append(there(x.roll(SHIFT, (-2, -1))).roll((-SHIFT[0], -SHIFT[1]), (-2, -1)))
            variants += [_turned(there(_turned(x, angle)), -angle) for angle in (TURN, -TURN)]
            found = [(x[:, :1] - back(laid(y, x))).abs(), torch.stack(variants).std(0, correction=0)]
            if self.members:
                made = [y, *(member.generators[self.side](x) for member in self.members)]
                found.append(torch.stack(made).std(0, correction=0))
        return [gaussian_filter(_image(sign), (0, SMOOTH, SMOOTH)) for sign in found]

    def provenance(self) -> dict[str, Any]:
        """What a map says of itself, in place of what the synthetic image says."""
        contrast, known = self.model.config.label(self.side), self.calibration
        meaning = f"Signs of doubt about the synthetic {contrast}, summed: a ranking, not in units; not calibrated."
        if known:
            meaning = (
                f"Absolute error to expect of the synthetic {contrast}, in its units; calibrated on {known.slices} "
                f"slices whose {contrast} was known, {known.seen} of them from images the model was trained on."
            )
        return {
            "contrast": f"expected error of {contrast}",
            "meaning": meaning,
            "calibrated": known is not None,
            "ensemble": [member.sha256 for member in self.members],
        }


def calibrate(
    model: Model, pairs: Sequence[tuple[Volume, Volume]], members: Sequence[Model] = ()
) -> dict[Side, Calibration]:
    """Both directions, from T1 and T2 of the same heads on one grid, which the model was not trained on.

    Raises `ValueError` with a sentence where a pair does not lie on one grid or does not show one head, or where the
    contrasts are swapped.
    """
    for t1, t2 in pairs:
        if t1.data.shape != t2.data.shape or not same_grid(t1, t2):
            raise ValueError(f"{t1.name} and {t2.name} do not lie on one grid: resample one onto the other first.")
        if made := next((v for v in (t1, t2) if v.synthetic), None):
            raise ValueError(f"{made.name} is synthetic, so no error can be learned from it: give two real images.")
        if np.array_equal(t1.data, t2.data):
            raise ValueError(f"{t1.name} and {t2.name} are one image: give the two contrasts of a head.")
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
        raise ValueError("No slice shows anatomy: give images of heads.")
    known = [any(fingerprint(v) in model.about.seen for v in pair) for pair in pairs]
    for n in np.unique(np.linspace(0, len(shown) - 1, min(len(shown), most)).round().astype(int)):
        i, z = shown[n]
        seen, real = (views[i].apply(v.data)[z : z + 1] for v in pairs[i])
        ((_, frame, x, y),) = batches(seen, views[i], model, side, sources[i])
        truth = frame.put(reals[i].to_unit(real))
        source, made, signs = _image(x), _image(y), doubt.signs(x, y)
        error = np.abs(target.from_unit(made) - target.from_unit(truth)) / np.float32(target.high - target.low)
        head = binary_fill_holes(np.maximum(source, truth)[0] > BACKGROUND)
        yield Sample([sign[0] for sign in signs], _terms(signs, source, made)[0], error[0], head, known[i])


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
        raise ValueError(
            f"{pairs[0][0].name} looks like {config.t2_label} and {pairs[0][1].name} like {config.t1_label}: give "
            f"{config.t1_label} first, then {config.t2_label}."
        )


def _refuse_wrong_pairs(pairs: Sequence[tuple[Volume, Volume]]) -> None:
    """A wrong truth teaches a wrong error: slices must tell more of their partners than of what lies beside these."""
    alike = [pair for pair in pairs if pair[0].data.shape[1:] == pairs[0][0].data.shape[1:]]
    places = [(pair, z) for pair in alike for z in range(len(pair[0].data))]
    if len(places) < FEWEST:
        raise ValueError(f"{len(places)} slices are too few to calibrate with: give at least {FEWEST}.")
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
        raise ValueError(
            f"{pairs[0][0].name} and {pairs[0][1].name} (and what follows) do not show the same places: of {len(some)} "
            f"slices only {agree} resemble their partner more than its neighbours. Give pairs."
        )


def weights_sha256(model: Model) -> str:
    """Of the weights in a model's file alone: calibrating a model changes the rest of the file."""
    file = model.about.path.read_bytes()
    return sha256(file[8 + int.from_bytes(file[:8], "little") :]).hexdigest()  # safetensors: length, header, weights


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


def _terms(signs: Sequence[Image], x: Image, y: Image) -> Image:
    """What the error is regressed on, (..., T): the signs, and how bright source and result are, to the third power."""
    logs = [np.log(sign + FLOOR) for sign in signs]
    stacked: Image = np.stack([np.ones_like(x), *logs, x, x**2, x**3, y, y**2, y**3, x * y], axis=-1)
    return stacked


def _ranges(volumes: Sequence[Volume], trained: Intensity) -> list[Intensity]:
    """As translation reads them: stacks by themselves, single slices together."""
    loose = [v.data.ravel() for v in volumes if len(v.data) == 1]
    shared = range_for(np.concatenate(loose), 1, trained)[0] if loose else trained
    return [shared if len(v.data) == 1 else range_for(v.data, len(v.data), trained)[0] for v in volumes]


def _turned(x: Tensor, degrees: float) -> Tensor:
    """A network's input or output turned about its middle; what comes in from outside is air."""
    air = x.new_tensor([-1, 0])[: x.shape[1]].view(1, -1, 1, 1)
    (cos, sin), ratio = (float(f(np.deg2rad(degrees))) for f in (np.cos, np.sin)), x.shape[-2] / x.shape[-1]
    matrix = torch.tensor([[cos, -sin * ratio, 0], [sin / ratio, cos, 0]], device=x.device)
    grid = affine_grid(matrix.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return grid_sample(x - air, grid, align_corners=False) + air


def _image(x: Tensor) -> Image:
    """The slices of (N, C, H, W) as (N, H, W) of NumPy."""
    image: Image = x[:, 0].float().cpu().numpy()
    return image
