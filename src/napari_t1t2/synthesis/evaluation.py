"""How close a synthetic image is to the real one, over the frame and inside the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.metrics import normalized_mutual_information, structural_similarity

from ..errors import Refusal
from ..images.head import Mask, head_masks
from ..images.intensity import HIGH, LOW, measure
from ..images.plane import View
from ..images.resample import resample
from ..images.volume import Image, Volume

INSIDE = "inside the head"
OVERLAP = 0.7  # of the synthetic head that the real image must cover
SSIM_SIDE, SSIM_SIGMA = 11, 1.5  # pixels, of the Gaussian window of Wang et al. (2004)
SSIM_WINDOW = f"Gaussian {SSIM_SIDE}x{SSIM_SIDE}, sigma {SSIM_SIGMA}"  # to be said beside every SSIM
ALIKE, CLOSE = 1.7, 30.0  # NMI of images that differ in their units alone, and a PSNR that such have not
STRANGE = 1.04, 0.1  # NMI and SSIM inside the head below which images are rather of two heads or places
BINS = 64  # along each axis of the joint histogram; more would need more voxels than a slice has


@dataclass(frozen=True, slots=True)
class Score:
    """PSNR in dB, SSIM and mean absolute error as a fraction of the data range, means over slices; NMI of all slices.

    What begins with `head_` holds for the head, or for the region that was given in its place; SSIM is that of
    `SSIM_WINDOW`.
    """

    psnr: float
    ssim: float
    mae: float
    nmi: float
    head_psnr: float
    head_ssim: float
    head_mae: float
    head_nmi: float
    slices: int
    head_slices: int  # those that the region touches
    voxels: int
    head_voxels: int
    region: str = INSIDE

    def remark(self) -> str:
        """What such numbers point to where they are not those of a synthetic image; else empty."""
        if self.head_nmi >= ALIKE and self.head_psnr < CLOSE:
            return (
                f"The two show the same in other units or contrasts (NMI {self.head_nmi:.2f}): match their intensities."
            )
        if self.head_nmi < STRANGE[0] and self.head_ssim < STRANGE[1]:
            return (
                f"The two share hardly any information (NMI {self.head_nmi:.2f}): do they show one head in one place?"
            )
        return ""


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """A synthetic and a real volume on the grid of the synthetic one, as axial slices (N, rows, columns)."""

    fake: Image
    real: Image
    inside: Mask  # the region
    some: Mask  # (N,) the slices that show anatomy, which are those to score
    low: float  # air
    data_range: float
    view: View  # of the synthetic volume
    resampled: bool
    covered: float  # the part of the synthetic head that the real image covers
    region: str

    def score(self) -> Score:
        """The numbers. Raises `Refusal` where the region touches no slice that shows anatomy."""
        fake, real = (image[self.some] - np.float32(self.low) for image in (self.fake, self.real))
        inside = self.inside[self.some]
        return evaluate(fake, real, data_range=self.data_range, inside=inside, region=self.region)

    def difference(self) -> Image:
        """Synthetic minus real, (Z, Y, X) in the order of the synthetic volume, in the units of the real one."""
        made: Image = self.view.undo(self.fake - self.real)
        return made

    def joint_histogram(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Counts (real, synthetic) in the region, and the edges, the same for both; outliers count at the last edge."""
        inside = self.inside & self.some[:, None, None]
        values = [image[inside] for image in (self.real, self.fake)]
        ends = np.array([_robust_range(v) for v in values])
        low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
        edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
        real, fake = (np.clip(v, edges[0], edges[-1]) for v in values)
        counts, _, _ = np.histogram2d(real, fake, bins=[edges, edges])
        return counts, edges


def evaluate(
    fake: Image,
    real: Image,
    *,
    data_range: float | None = None,
    inside: Mask | None = None,
    region: str = INSIDE,
) -> Score:
    """Score synthetic slices against real ones of the same shape, (N, rows, columns), in the same units.

    `data_range` is 255 for 8-bit images; by default the spread of the real ones. SSIM is that of Wang et al. (2004)
    with their Gaussian window, normalised mutual information, from 1 to 2, that of Studholme et al. (1999) in 64 x 64
    bins, both as scikit-image computes them. Inside the head: `head_mask` of the real image; with `inside`, of the
    same shape, the pixels that are True, called `region`. NMI is that of all slices together; of a small region, with
    fewer pixels than bins, it is too high.

    Raises `Refusal` where the shapes differ, slices are smaller than the window, the real image is flat or the region
    empty.
    """
    if fake.shape != real.shape:
        raise Refusal(f"The synthetic image has shape {fake.shape}, the real one {real.shape}: they must be equal.")
    if real.ndim != 3:
        raise Refusal(f"The images have shape {real.shape}: give slices as (N, rows, columns).")
    if min(real.shape[-2:]) < SSIM_SIDE:
        raise Refusal(
            f"Slices of {real.shape[-2]}x{real.shape[-1]} are too small: SSIM needs {SSIM_SIDE}x{SSIM_SIDE} pixels."
        )
    low = float(real.min()) if data_range is None else 0.0
    span = float(real.max() - real.min()) if data_range is None else data_range
    if span <= 0:
        raise Refusal("The real image is flat: there is nothing to compare with.")
    inside = _heads(real - np.float32(low)) if inside is None else inside
    if not inside.any():
        raise Refusal(f"The region, {region}, has no pixel in the slices that show anatomy: choose another.")
    whole, part = [], []
    for f, r, mask in zip(fake, real, inside, strict=True):
        f, r = (f - low) / span, (r - low) / span
        error = np.abs(f.astype(np.float64) - r)
        ssim, ssim_map = structural_similarity(
            f, r, data_range=1.0, gaussian_weights=True, sigma=SSIM_SIGMA, use_sample_covariance=False, full=True
        )
        whole.append((_psnr(error), float(ssim), error.mean()))
        if mask.any():
            part.append((_psnr(error[mask]), ssim_map[mask].mean(), error[mask].mean()))
    psnr, ssim, mae = (float(v) for v in np.mean(whole, axis=0))
    head_psnr, head_ssim, head_mae = (float(v) for v in np.mean(part, axis=0))
    return Score(
        psnr=psnr, ssim=ssim, mae=mae, nmi=_nmi(fake.ravel(), real.ravel()),
        head_psnr=head_psnr, head_ssim=head_ssim, head_mae=head_mae, head_nmi=_nmi(fake[inside], real[inside]),
        slices=len(whole), head_slices=len(part), voxels=fake.size, head_voxels=int(inside.sum()), region=region,
    )  # fmt: skip


def evaluate_volumes(
    fake: Volume, real: Volume, *, match_intensities: bool = False, region: Volume | None = None
) -> Score:
    """Score a synthetic volume against the real one, axial slice by slice, in the space of the synthetic one.

    See `align` for what is done to them first.
    """
    return align(fake, real, match_intensities=match_intensities, region=region).score()


def align(fake: Volume, real: Volume, *, match_intensities: bool = False, region: Volume | None = None) -> Aligned:
    """Bring a real volume, and a region, onto the grid of a synthetic one. Raises `Refusal` if they hardly overlap.

    Slices without anatomy are not scored. Where the grids differ, the real one is resampled linearly, the region (all
    that is not 0, in place of the head) by nearest neighbour. The data range is 255 for 8-bit images, else from air to
    the brightest of the real head. With `match_intensities` the synthetic image is first scaled so that both heads
    have the same median: MR units are arbitrary, and another scanner's gain is no fault of a synthetic image.
    """
    resampled, covered = not same_grid(fake, real), 1.0
    data = _on_grid_of(fake, real, order=1, outside=np.nan)
    if resampled:
        found = np.isfinite(data)
        if (covered := float(found[_heads(fake.data)].mean())) < OVERLAP:
            raise Refusal(
                f"The real image covers {covered:.0%} of the synthetic head: they do not show one head in one place."
            )
        data = np.where(found, data, real.data.min())  # air
    view = View.of("axial", fake.affine)
    shown_fake, shown_real = view.apply(fake.data), view.apply(data)
    scale = measure([data])
    some = scale.shows_anatomy(shown_real)  # empty slices are equal at any quality, and would flatter
    if match_intensities:
        own = measure([fake.data])
        gain = np.float32((scale.high - scale.low) / scale.headroom / ((own.high - own.low) / own.headroom))
        shown_fake = (shown_fake - np.float32(own.low)) * gain + np.float32(scale.low)
    low, data_range = (0.0, 255.0) if real.dtype == "uint8" else (scale.low, scale.high - scale.low)
    inside, name = _heads(shown_real), INSIDE
    if region:
        inside, name = view.apply(_on_grid_of(fake, region, order=0, outside=0.0) != 0), region.name
    return Aligned(shown_fake, shown_real, inside, some, low, data_range, view, resampled, covered, region=name)


def same_grid(fake: Volume, real: Volume) -> bool:
    """Whether voxels of one index lie in one place, as far as the two say where they lie."""
    if fake.affine is None or real.affine is None:
        return True
    return fake.data.shape == real.data.shape and np.allclose(fake.affine, real.affine, atol=1e-3)


def _on_grid_of(fake: Volume, volume: Volume, *, order: int, outside: float) -> Image:
    """The data of another volume on the grid of the synthetic one."""
    if not same_grid(fake, volume):
        assert volume.affine is not None and fake.affine is not None  # else they count as on one grid
        return resample(volume.data, volume.affine, fake.data.shape, fake.affine, order=order, outside=outside)
    if volume.data.shape != fake.data.shape:
        raise Refusal(
            f"The synthetic image has shape {fake.data.shape}, {volume.name} {volume.data.shape}: they must be equal, "
            "unless both say where they lie."
        )
    return volume.data


def mean(scores: Sequence[Score]) -> Score:
    """The mean of scores, each weighted by its slices; voxels are added."""
    means: dict[str, Any] = {}
    for prefix in ("", "head_"):
        weights = [getattr(s, f"{prefix}slices") for s in scores]
        for name in (f"{prefix}{metric}" for metric in ("psnr", "ssim", "mae", "nmi")):
            means[name] = float(np.average([getattr(s, name) for s in scores], weights=weights))
    counts = ("slices", "head_slices", "voxels", "head_voxels")
    totals = {name: sum(getattr(s, name) for s in scores) for name in counts}
    return Score(**means, **totals, region=scores[0].region)


def lookup_table(source: Sequence[npt.NDArray[np.uint8]], target: Sequence[npt.NDArray[np.uint8]]) -> Image:
    """The 256-entry table that best turns 8-bit source slices into paired target ones: the bar to beat."""
    values, wanted = (np.concatenate([a.ravel() for a in arrays]) for arrays in (source, target))
    count = np.bincount(values, minlength=256)
    total = np.bincount(values, weights=wanted, minlength=256)
    seen = np.flatnonzero(count)
    table: Image = np.interp(np.arange(256), seen, total[seen] / count[seen]).astype(np.float32)
    return table


def _heads(slices: Image) -> Mask:
    """The head in each slice, brought to the range in which the networks would see it."""
    return head_masks(measure([slices]).to_unit(slices))


def _nmi(fake: Image, real: Image) -> float:
    # clipped at the percentiles that ranges are measured at, or a hot voxel would leave all others in one bin
    a, b = (np.clip(v, *_robust_range(v)) for v in (fake, real))
    if a.min() == a.max() or b.min() == b.max():
        return 1.0  # from a flat image nothing can be told of the other
    return float(normalized_mutual_information(a, b, bins=BINS))


def _robust_range(values: Image) -> tuple[float, float]:
    low, high = (float(v) for v in np.percentile(values, (LOW, HIGH)))
    return low, high


def _psnr(error: npt.NDArray[np.float64]) -> float:
    # 100 dB stands for equal images, so that a mean stays finite
    return min(100.0, float(-10 * np.log10(max((error**2).mean(), 1e-10))))
