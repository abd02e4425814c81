"""What the Evaluate widget asks its worker thread for, and what comes back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Layer

from ..errors import Refusal
from ..images.contrast import contrast_of
from ..images.volume import Affine, Image, Volume
from ._curve import load_matplotlib
from ._layers import affine_in_window, as_volume, pixels_of, provenance_of, share_space, to_world

if TYPE_CHECKING:
    from ..synthesis.evaluation import Aligned, Score

GAIN = 2.0  # medians further apart than this likely have different units
FEW = 4096  # voxels; the joint histogram has as many cells


@dataclass(frozen=True, eq=False)
class Source:
    """A layer as the job takes it: the array, (..., rows, columns), and where it lies beside the other."""

    pixels: Any
    name: str
    affine: Affine | None
    dtype: str = ""

    @classmethod
    def of(cls, layer: Layer, fake: Layer, tell: Callable[[str], None]) -> Source:
        """A layer that is to be compared with a synthetic one; raises `Refusal` where they cannot be.

        What the user should know of how they are is told.
        """
        if isinstance(layer, Labels):
            pixels, notice = layer.data[0] if layer.multiscale else layer.data, None
        else:
            pixels, notice = pixels_of(layer)
        if notice:
            tell(notice)
        shape, wanted = pixels.shape, _shape(fake)
        if math.prod(shape[:-3]) != 1:
            raise Refusal(
                f"{layer.name!r} has {len(shape)} axes, {_times(shape)}: split it into volumes (right-click, Split "
                "Stack) and choose one."
            )
        alike = (1, *shape)[-3:] == (1, *wanted)[-3:]
        # labels were drawn where they are seen; an image of another shape that lies nowhere could be anything
        placed = layer == fake or share_space(layer, fake) or (isinstance(layer, Labels) and not alike)
        if not alike and (layer.ndim != fake.ndim or not placed):
            raise Refusal(
                f"{layer.name!r} is {_times(shape)} and {fake.name!r} {_times(wanted)}, and they do not both say where "
                "they lie: choose layers of one shape, or open them from NIfTI or DICOM files."
            )
        if not placed and not np.allclose(to_world(layer), to_world(fake)):
            tell(f"{layer.name!r} and {fake.name!r} do not share a space: they are compared pixel by pixel.")
        dtype = str(layer.metadata.get("dtype") or layer.dtype)
        return cls(pixels, layer.name, affine_in_window(layer) if placed else None, dtype)

    def volume(self, label: int | None = None) -> Volume:
        """Its pixels, read now; with a label, 1 where it is (0: where any is) and 0 elsewhere."""
        data = np.asarray(self.pixels)
        if label is not None:
            data = data == label if label else data != 0
        if not (finite := np.isfinite(data)).all():
            data = np.where(finite, data, data[finite].min(initial=0))
        name = self.name if label is None else f"in {self.name}" + (f", label {label}" if label else "")
        return as_volume(data, name, self.affine, self.dtype)


@dataclass(frozen=True)
class Stage:
    """What the job does next, and how far it is."""

    fraction: float
    text: str


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The last event: the numbers, the difference in the shape of the synthetic layer, and the histogram."""

    score: Score
    difference: Image
    limit: float  # of the difference's colours
    counts: Any  # (real, synthetic)
    edges: Any
    resampled: bool
    notices: tuple[str, ...]


def evaluated(
    fake: Source, real: Source, drawn: Source | None, label: int, *, match: bool, stop: Callable[[], bool]
) -> Iterator[Stage | Evaluated]:
    """Read the layers, bring them together, their intensities too with `match`, and score; runs in the worker thread.

    Scored is where a label was drawn (0: any), or the head.
    """
    from ..synthesis.evaluation import align

    yield Stage(0.0, "Reading the layers ...")
    load_matplotlib()
    volumes = fake.volume(), real.volume()
    region = drawn.volume(label) if drawn else None
    if drawn and region is not None and not region.data.any():
        which = f"no label {label}" if label else "no labels"
        raise Refusal(f"{drawn.name!r} has {which}: draw some, or choose another.")
    if stop():
        return
    yield Stage(0.2, "Bringing them onto one grid ...")
    aligned = align(*volumes, match_intensities=match, region=region)
    if stop():
        return
    yield Stage(0.4, "Scoring ...")
    score = aligned.score()
    if stop():
        return
    yield Stage(0.9, "Drawing ...")
    difference = np.ascontiguousarray(aligned.difference()).reshape(fake.pixels.shape)
    limit = float(np.percentile(np.abs(difference), 99.5)) or 1.0
    counts, edges = aligned.joint_histogram()
    notices = tuple(_notices(aligned, score, real.name, match))
    yield Evaluated(score, difference, limit, counts, edges, aligned.resampled, notices)


def _notices(aligned: Aligned, score: Score, name: str, match: bool) -> Iterator[str]:
    """What was found on the way that changes how the numbers are to be read."""
    if aligned.covered < 0.995:
        yield f"{name!r} covers {aligned.covered:.0%} of the synthetic head; the rest counts as air."
    if score.head_voxels < FEW:
        yield f"Of {score.head_voxels} voxels {score.region}, NMI is too high to be compared with others."
    fake, real = (float(np.median(image[aligned.inside])) - aligned.low for image in (aligned.fake, aligned.real))
    if not match and real > 0 and not 1 / GAIN <= fake / real <= GAIN:
        yield (
            f"{score.region.capitalize()} the synthetic median is {fake / real:.2g} times the real one. MR intensities "
            "have no fixed unit: tick 'Match intensities first' to bring the two together."
        )


def _shape(layer: Layer) -> tuple[int, ...]:
    """Of all pixels, without colour."""
    data = layer.data[0] if layer.multiscale else layer.data
    return tuple(data.shape[: layer.ndim])


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def have_one_unit(fake: Layer, real: Layer) -> bool:
    """Whether two layers may share contrast limits: of one contrast, and about as bright."""
    contrasts = {str(one.metadata.get("contrast", "")).casefold() for one in (fake, real)}
    ratio = max(fake.contrast_limits[1], 1e-9) / max(real.contrast_limits[1], 1e-9)
    return len(contrasts) == 1 and bool(1 / GAIN <= ratio <= GAIN)


def warnings(fake: Layer, real: Layer) -> Iterator[str]:
    """What the layers say of themselves that the numbers do not."""
    if not fake.metadata.get("synthetic"):
        yield f"{fake.name!r} is not marked as synthetic; it is scored as if it were."
    if real.metadata.get("synthetic"):
        yield f"{real.name!r} is synthetic itself: a score against it says nothing about the real anatomy."
    if what := _no_match(fake, real):
        yield (
            f"{real.name!r} {what}: the score tells how unlike the two contrasts are, not how good {fake.name!r} is. "
            f"Choose a real {fake.metadata['contrast']}."
        )
    if fake.metadata.get("seen_in_training"):
        yield (
            f"The model was trained on the image that {fake.name!r} was made from: the score says nothing about how it "
            "does on new ones."
        )


def _no_match(fake: Layer, real: Layer) -> str:
    """What a layer is that shows another contrast than a synthetic one, such as its source; else empty."""
    said, own = provenance_of(fake), str(real.metadata.get("contrast") or "")
    if said is None or real.metadata.get("synthetic"):
        return ""
    shown, wanted = contrast_of([own]), contrast_of([said.contrast])
    if shown and wanted:
        return f"shows {own}" if shown != wanted else ""
    files = [layer.metadata.get("files") for layer in (real, fake)]
    made_of_it = files[0] == files[1] if all(files) else said.source == real.name
    return "is what it was made of" if made_of_it else ""


def likeness(layer: Layer, fake: Layer) -> tuple[bool, ...]:
    """The greater, the likelier it is the scan that a synthetic image should look like."""
    contrasts = {str(one.metadata.get("contrast", "")).casefold() for one in (layer, fake)}
    scan = layer != fake, not layer.metadata.get("synthetic")
    return *scan, len(contrasts) == 1, layer.data.shape == fake.data.shape
