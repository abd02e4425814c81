"""The uncertainty map: the absolute error to expect of each pixel of a synthetic image, in units of its contrast.

Three signs tell where the networks err: they do not bring the source back (cycle), they answer otherwise when the
slice is mirrored, moved or turned (test-time augmentation, Wang et al. 2019), and networks trained with other seeds
disagree (ensemble, Lakshminarayanan et al. 2017). Slices whose truth is known tell what error such signs go with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from ..config import other
from ..errors import Refusal
from ..images.volume import Image
from ..model.about import SAMPLE
from ..model.cyclegan import with_depth_of
from ..model.device import autocast
from ..model.saved import Model
from ..provenance import Map

RANKING = "Not calibrated: the map shows where errors are likely, not how large they are."
NOT_CALIBRATED = f"{RANKING} Run `napari-t1t2 calibrate` first."
SMOOTH = 2.0  # pixels; errors are larger than a pixel, and signs of single pixels are noise
TURN = 5.0  # degrees
SHIFT = (3, 2)  # pixels; no multiple of what the U-Net halves
FLOOR = 1e-3  # below it, in [-1, 1], a sign tells nothing
TERMS = 10  # of the regression with the signs of one model
COVERAGE = 0.9  # of the pixels inside an interval
FEW = 3  # heads; with fewer, how much heads differ is not known


@dataclass(frozen=True, slots=True)
class Calibration:
    """From signs of error to the error to expect, as a part of the target's range."""

    weights: list[float]  # of `regression_terms`, to the logarithm of the error
    scores: list[float]  # the weighted sum, growing, ...
    errors: list[float]  # ... and the mean error met there
    ensemble: list[str]  # weights of the members beside the model, `weights_sha256`, sorted; others give other signs
    slices: int
    seen: int = 0  # of these, from images that the model was trained on; errors on new ones are larger
    within: list[float] = field(default_factory=list)  # beside `scores`: what `COVERAGE` of the errors did not exceed
    heads: int = 0  # that the slices are of

    def expect(self, terms: Image, *, interval: bool = False) -> Image:
        """The error to expect, (...), of terms (..., T), or half the width of the interval."""
        score = terms @ np.asarray(self.weights, np.float32)
        found: Image = np.interp(score, self.scores, self.within if interval else self.errors).astype(np.float32)
        return found

    @classmethod
    def read(cls, stored: Any) -> list[Calibration]:
        """Those that a model file holds for one side, without what another version stored and this one cannot use."""
        names = {field.name for field in fields(cls)}
        forms = [{k: v for k, v in form.items() if k in names} for form in stored if isinstance(form, dict)]
        whole = [cls(**form) for form in forms if names - {"seen", "within", "heads"} <= form.keys()]
        return [form for form in whole if len(form.weights) == TERMS + bool(form.ensemble)]


class UncertaintyMap:
    """The error to expect, slice by slice: an `ErrorMap` for `stream`.

    It is that of what `model` makes `to`, a contrast by its name; `members` are models of other seeds, trained on the
    same images. A model that was calibrated, but not with these members, is taken alone, and `remark` says so. With
    `interval` it is half the width of the interval that holds `COVERAGE` of the pixels of images like those calibrated
    on: split conformal prediction (Papadopoulos et al. 2002), among pixels of like signs. Raises `Refusal` where the
    members see images in another way, or one is the model itself or another member, or no interval is known.
    """

    def __init__(self, model: Model, to: str, members: Sequence[Model] = (), *, interval: bool = False) -> None:
        self.side, self.interval = model.config.side(to), interval
        self.title: Map = "interval" if interval else "expected error"
        self._held: dict[str, Any] = {}
        for member in members:
            if member.config != model.config or member.about.ranges != model.about.ranges:
                raise Refusal(
                    f"{member.about.path} and {model.about.path} do not see images alike: an ensemble is trained on "
                    "the same folders with the same settings, but for the seed."
                )
        if len({model.sha256, *(member.sha256 for member in members)}) <= len(members):
            raise Refusal("The ensemble holds one model twice: give runs that were trained with different seeds.")
        self.model, self.members = model, tuple(members)
        forms = Calibration.read(model.about.calibration.get(self.side, []))
        given = sorted(weights_sha256(member) for member in members) if forms else []
        self.calibration = next((form for form in forms if form.ensemble == given), None)
        self.remark = None if self.calibration else NOT_CALIBRATED
        if not self.calibration and (alone := next((form for form in forms if not form.ensemble), None)):
            self.calibration, self.members = alone, ()
            self.remark = (
                f"{model.about.path.parent.name} was not calibrated with this ensemble: the uncertainty map is that of "
                "the model alone. Run `napari-t1t2 calibrate` with the same --ensemble to use it."
            )
        if interval:
            self._promise()

    def _promise(self) -> None:
        """Refuse an interval that nothing was calibrated for; say where it was on too little."""
        known = self.calibration
        if not known or not known.within:
            if self.model.about.path == SAMPLE:
                raise Refusal(
                    "The general model has no intervals, as it is not calibrated: leave the interval out, or copy "
                    f"{SAMPLE.name} to a folder of yours and calibrate the copy."
                )
            raise Refusal(
                f"{self.model.about.path} is not calibrated for intervals: run `napari-t1t2 calibrate` with held-out "
                "images first."
            )
        if known.heads < FEW or known.seen:
            short = (
                f"{known.seen} slices it was trained on" if known.seen else f"{known.heads} of the {FEW} heads needed"
            )
            sentence = f"The interval was calibrated on {short}: of a new head it may hold less than {COVERAGE:.0%}."
            self.remark = f"{self.remark} {sentence}" if self.remark else sentence

    @property
    def most(self) -> float:
        """The largest that is said of any pixel, as a part of the target's range."""
        known = self.calibration
        return ((known.within if self.interval else known.errors)[-1] if known else 0.0) or 0.5

    def expected(self, x: Tensor, y: Tensor) -> Image:
        """The absolute error to expect, (N, H, W), as a part of the target's range, of `batches`."""
        if self._held.get("of") is not y:
            self._held.update(of=y, signs=self.signs(x, y))
        signs = self._held["signs"]
        if self.calibration:
            terms = regression_terms(signs, slices_from(x), slices_from(y))
            return self.calibration.expect(terms, interval=self.interval)
        summed: Image = np.add.reduce(signs) / 2  # [-1, 1] is two wide
        return summed

    def signs(self, x: Tensor, y: Tensor) -> list[Image]:
        """Cycle error, spread under augmentation and, if there are members, theirs: each (N, H, W), smoothed.

        In the precision in which `y` was made of `x`: the difference between two would be taken for a sign.
        """
        there, back = (self.model.generators[side] for side in (self.side, other(self.side)))
        with torch.inference_mode(), autocast(x.device, self.model.precision):
            mirrored = there(x.flip(-1)).flip(-1)
            variants = [2 * y - mirrored if self.model.config.mirror else y, mirrored]  # `y` is then the mean of both
            variants.append(there(x.roll(SHIFT, (-2, -1))).roll((-SHIFT[0], -SHIFT[1]), (-2, -1)))
            variants += [_turned(there(_turned(x, angle)), -angle) for angle in (TURN, -TURN)]
            found = [(x[:, :1] - back(with_depth_of(y, x))).abs(), torch.stack(variants).std(0, correction=0)]
            if self.members:
                made = [y, *(member.generators[self.side](x) for member in self.members)]
                found.append(torch.stack(made).std(0, correction=0))
        return [gaussian_filter(slices_from(sign), (0, SMOOTH, SMOOTH)) for sign in found]

    def describe(self) -> dict[str, Any]:
        """What a map says of itself, in place of what the synthetic image says."""
        contrast, known = self.model.config.label(self.side), self.calibration
        meaning = RANKING
        if known:
            what = "Absolute error to expect of"
            if self.interval:
                what = f"Half the width of the interval about each voxel that holds {COVERAGE:.0%} of"
            meaning = (
                f"{what} the synthetic {contrast}, in its units; calibrated on {known.slices} slices whose {contrast} "
                f"was known, {known.seen} of them from images the model was trained on."
            )
        return {
            "kind": self.title,
            "contrast": f"{self.title} of {contrast}",
            "meaning": meaning,
            "calibrated": known is not None,
            "ensemble": [member.sha256 for member in self.members],
        }


def maps_of(model: Model, to: str, titles: Sequence[Map], members: Sequence[Model] = ()) -> list[UncertaintyMap]:
    """One map for each title; of each batch they look at the signs once, which takes seven times as long as the rest.

    Raises `Refusal` as `UncertaintyMap` does.
    """
    made = [UncertaintyMap(model, to, members, interval=title == "interval") for title in titles]
    for one in made:
        one._held = made[0]._held
    return made


def weights_sha256(model: Model) -> str:
    """Of the weights in a model's file alone: calibrating a model changes the rest of the file."""
    file = model.about.path.read_bytes()
    return sha256(file[8 + int.from_bytes(file[:8], "little") :]).hexdigest()  # safetensors: length, header, weights


def regression_terms(signs: Sequence[Image], x: Image, y: Image) -> Image:
    """What the error is regressed on, (..., T): the signs, and how bright source and result are, to the third power."""
    logs = [np.log(sign + FLOOR) for sign in signs]
    stacked: Image = np.stack([np.ones_like(x), *logs, x, x**2, x**3, y, y**2, y**3, x * y], axis=-1)
    return stacked


def _turned(x: Tensor, degrees: float) -> Tensor:
    """A network's input or output turned about its middle; what comes in from outside is air."""
    air = x.new_tensor([-1, 0])[: x.shape[1]].view(1, -1, 1, 1)
    (cos, sin), ratio = (float(f(np.deg2rad(degrees))) for f in (np.cos, np.sin)), x.shape[-2] / x.shape[-1]
    matrix = torch.tensor([[cos, -sin * ratio, 0], [sin / ratio, cos, 0]], device=x.device)
    grid = affine_grid(matrix.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return grid_sample(x - air, grid, align_corners=False) + air


def slices_from(x: Tensor) -> Image:
    """The slices of (N, C, H, W) as (N, H, W) of NumPy."""
    image: Image = x[:, 0].float().cpu().numpy()
    return image
