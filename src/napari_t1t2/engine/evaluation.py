"""How close a synthetic image is to the real one, over the frame and inside the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_fill_holes
from skimage.metrics import structural_similarity

from ..images.intensity import measure
from ..images.plane import View
from ..images.volume import Image, Volume

HEAD = 0.02  # of the data range; what is brighter, and what it encloses, is head
OVERLAP = 0.7  # of the synthetic head that the real image must cover
WINDOW = 7  # side of the square that SSIM looks at, pixels


@dataclass(frozen=True, slots=True)
class Score:
    """PSNR in dB, SSIM, and mean absolute error as a fraction of the data range; means over slices."""

    psnr: float
    ssim: float
    mae: float
    head_psnr: float
    head_ssim: float
    head_mae: float
    slices: int


def evaluate(fake: Image, real: Image, *, data_range: float | None = None) -> Score:
    """Score synthetic slices against real ones of the same shape, (N, rows, columns), in the same units.

    `data_range` is 255 for 8-bit images; by default the spread of the real ones. SSIM is that of Wang et al.
    (2004) as scikit-image computes it. Inside the head: the real image above 2 % of the range, holes filled.
    """
    if fake.shape != real.shape:
        raise ValueError(f"The synthetic image has shape {fake.shape}, the real one {real.shape}: they must be equal.")
    if real.ndim != 3:
        raise ValueError(f"The images have shape {real.shape}: give slices as (N, rows, columns).")
    if min(real.shape[-2:]) < WINDOW:
        raise ValueError(f"Slices of {real.shape[-2]}x{real.shape[-1]} are too small: SSIM needs {WINDOW}x{WINDOW}.")
    low = float(real.min()) if data_range is None else 0.0
    span = float(real.max() - real.min()) if data_range is None else data_range
    if span <= 0:
        raise ValueError("The real image is flat: there is nothing to compare with.")
    return mean([_score_slice((f - low) / span, (r - low) / span) for f, r in zip(fake, real, strict=True)])


def evaluate_volumes(fake: Volume, real: Volume, *, own_scale: bool = False) -> Score:
    """Score a synthetic volume against the real one, axial slice by slice, in the space of the synthetic one.

    Slices without anatomy are left out. Where the two grids differ, the real one is resampled (linearly). The data
    range is 255 for 8-bit images, else from air to the brightest of the real head. With `own_scale` the
    synthetic head is first brought to the median of the real one: MR units are arbitrary, and another scanner's gain
    is no fault of a synthetic image.
    """
    real = _on_grid_of(fake, real)
    view = View.of("axial", fake.affine)
    shown_fake, shown_real = view.apply(fake.data), view.apply(real.data)
    if shown_fake.shape != shown_real.shape:
        return evaluate(shown_fake, shown_real)  # which refuses them
    scale = measure([real.data])
    some = scale.shows_anatomy(shown_real)  # empty slices are equal at any quality, and would flatter
    shown_fake, shown_real = shown_fake[some], shown_real[some]
    if own_scale:
        own = measure([fake.data])
        gain = np.float32((scale.high - scale.low) / scale.headroom / ((own.high - own.low) / own.headroom))
        shown_fake = (shown_fake - np.float32(own.low)) * gain + np.float32(scale.low)
    if real.dtype == "uint8":
        return evaluate(shown_fake, shown_real, data_range=255.0)
    low = np.float32(scale.low)
    return evaluate(shown_fake - low, shown_real - low, data_range=scale.high - scale.low)


def same_grid(fake: Volume, real: Volume) -> bool:
    """Whether voxels of one index lie in one place, as far as the two say where they lie."""
    if fake.affine is None or real.affine is None:
        return True
    return fake.data.shape == real.data.shape and np.allclose(fake.affine, real.affine, atol=1e-3)


def _on_grid_of(fake: Volume, real: Volume) -> Volume:
    if same_grid(fake, real):
        return real
    from nibabel.nifti1 import Nifti1Image
    from nibabel.processing import resample_from_to

    grid = (fake.data.shape[::-1], fake.affine)
    moved = resample_from_to(Nifti1Image(real.data.T, real.affine), grid, order=1, cval=np.nan)
    data = np.asarray(moved.dataobj, np.float32).T
    covered = np.isfinite(data)
    own = measure([fake.data])
    head = fake.data > own.low + (own.high - own.low) / own.headroom / 2
    if (part := float(covered[head].mean())) < OVERLAP:
        raise ValueError(
            f"The real image covers {part:.0%} of the synthetic head: they do not show one head in one place."
        )
    return replace(real, data=np.where(covered, data, real.data.min()), affine=fake.affine, spacing=fake.spacing)


def mean(scores: Sequence[Score]) -> Score:
    """The mean of scores, each weighted by its slices."""
    weights = [s.slices for s in scores]
    names = ("psnr", "ssim", "mae", "head_psnr", "head_ssim", "head_mae")
    means = {n: float(np.average([getattr(s, n) for s in scores], weights=weights)) for n in names}
    return Score(**means, slices=sum(weights))


def lookup_table(source: Sequence[npt.NDArray[np.uint8]], target: Sequence[npt.NDArray[np.uint8]]) -> Image:
    """The 256-entry table that best turns 8-bit source slices into paired target ones: the bar to beat."""
    values, wanted = (np.concatenate([a.ravel() for a in arrays]) for arrays in (source, target))
    count = np.bincount(values, minlength=256)
    total = np.bincount(values, weights=wanted, minlength=256)
    seen = np.flatnonzero(count)
    table: Image = np.interp(np.arange(256), seen, total[seen] / count[seen]).astype(np.float32)
    return table


def _score_slice(fake: Image, real: Image) -> Score:
    head = binary_fill_holes(real > HEAD)
    head = head if head.any() else np.ones_like(real, bool)
    error = np.abs(fake.astype(np.float64) - real)
    ssim, ssim_map = structural_similarity(fake, real, data_range=1.0, win_size=WINDOW, full=True)
    return Score(
        psnr=_psnr(error), ssim=float(ssim), mae=float(error.mean()),
        head_psnr=_psnr(error[head]), head_ssim=float(ssim_map[head].mean()), head_mae=float(error[head].mean()),
        slices=1,
    )  # fmt: skip


def _psnr(error: npt.NDArray[np.float64]) -> float:
    # 100 dB stands for equal images, so that a mean stays finite
    return min(100.0, float(-10 * np.log10(max((error**2).mean(), 1e-10))))
