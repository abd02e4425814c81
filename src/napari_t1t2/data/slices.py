"""The slices of one contrast, rescaled and fitted into one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..config import ModelConfig
from ..errors import Refusal
from ..images.clues import pair_key
from ..images.folder import Folder
from ..images.frame import Frame
from ..images.intensity import Intensity, measure_set
from ..images.plane import View
from ..images.volume import Affine, Image, Volume
from .seen import fingerprint
from .stored import Images


@dataclass(frozen=True, eq=False)
class Slices:
    """One contrast as the networks see it, its range, and what the user should know."""

    images: Images  # (N, H, W) in [-1, 1]
    owners: npt.NDArray[np.intp]  # (N,), the volume each slice comes from, as an index into the next three
    names: tuple[str, ...]
    subjects: tuple[str, ...]  # empty where it is not known
    fingerprints: tuple[str, ...]  # equal for equal pixels, see `fingerprint`
    intensity: Intensity
    notes: tuple[str, ...]
    places: npt.NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))  # (N,), each in its volume
    affines: tuple[Affine | None, ...] = ()  # of each volume: (column, row, place) in its framed slices to RAS+ mm
    keys: tuple[str, ...] = ()  # of each volume: equal for what pairs up by name

    def summary(self) -> str:
        """Count, size and range in one line."""
        (n, height, width), i = self.images.shape, self.intensity
        heads = len(set(self.subjects) - {""})
        of = f" of {heads} subject{'s' * (heads != 1)}" if heads else ""
        return f"the networks see {n} slices{of}, {height}x{width}, {i.low:g} to {i.high:g} as -1 to 1"

    def fingerprints_of(self, chosen: npt.NDArray[np.intp]) -> frozenset[str]:
        """Of the volumes that these slices come from, and of their slices."""
        return frozenset(known for i in np.unique(self.owners[chosen]) for known in self.fingerprints[i].split())


def common_pixel(volumes: Sequence[Volume], model: ModelConfig) -> float:
    """The side in mm that pixels of these volumes are brought to; 0 where no volume knows its spacing.

    It is the one asked for, or else the median of the finer in-plane spacings; with a `size`, the one that fits the
    largest slice into it.
    """
    views = [(v, View.of(model.plane, v.affine, v.spacing)) for v in volumes]
    known = [(view.shape(v.data.shape)[1:], view.spacing[1:]) for v, view in views if view.spacing]
    if not known:
        return 0.0
    if model.size:
        return float(
            max(side * mm for shape, spacing in known for side, mm in zip(shape, spacing, strict=True)) / model.size
        )
    return model.pixel or float(np.median([min(spacing) for _, spacing in known]))


def prepare(folder: Folder, model: ModelConfig, pixel: float = 0.0) -> Slices:
    """Turn into the plane, rescale, drop empty slices, bring to `pixel` mm, fit into one frame.

    Raises `Refusal` with a sentence.
    """
    plan = Plan.of(folder, model, pixel)
    cut = [plan.cut(i, volume.data) for i, volume in enumerate(folder.volumes)]
    images = np.concatenate([images for _, images in cut])
    return plan.slices(images, [shown for shown, _ in cut], [fingerprint(v, model.plane) for v in folder.volumes])


@dataclass(frozen=True, eq=False)
class Plan:
    """How the volumes of a folder become slices, decided before any is made: they may be too many for memory."""

    folder: Folder
    views: list[View]
    frames: list[Frame]  # of one size
    ranges: list[Intensity]
    intensity: Intensity  # speaks for all
    notes: list[str]

    @classmethod
    def of(cls, folder: Folder, model: ModelConfig, pixel: float, glimpses: Sequence[Intensity | Image] = ()) -> Plan:
        """With `glimpses` (of `intensity.glimpse`) only the shapes of the voxels are looked at."""
        views = [View.of(model.plane, v.affine, v.spacing) for v in folder.volumes]
        notes = folder.notes()
        _check_sizes(folder, views, model, pixel, notes)
        frames = [
            Frame.of(
                view.shape(v.data.shape)[1:],
                model.size,
                model.multiple,
                spacing=view.spacing and view.spacing[1:],
                pixel=pixel,
            )
            for v, view in zip(folder.volumes, views, strict=True)
        ]
        framed = max(f.framed[0] for f in frames), max(f.framed[1] for f in frames)
        ranges, spoken = measure_set(folder.volumes, glimpses)
        notes += dict.fromkeys(filter(None, (r.remark() for r in ranges)))
        return cls(folder, views, [f.padded_to(framed) for f in frames], ranges, spoken, notes)

    def most(self) -> int:
        """How many pixels the slices have, were none of them empty."""
        height, width = self.frames[0].framed
        shapes = (view.shape(v.data.shape) for v, view in zip(self.folder.volumes, self.views, strict=True))
        return sum(shape[0] for shape in shapes) * height * width

    def cut(self, i: int, data: Image) -> tuple[npt.NDArray[np.bool_], Image]:
        """Which slices of a volume show anatomy, and these, (n, H, W) in [-1, 1]."""
        seen, frame, intensity = self.views[i].apply(data), self.frames[i], self.ranges[i]
        shown = intensity.shows_anatomy(seen)
        rows = np.flatnonzero(shown)
        images: Image = np.empty((len(rows), *frame.framed), np.float32)
        for at in range(0, len(rows), 16):  # some at a time: a large volume is not held several times over
            images[at : at + 16] = frame.put(intensity.to_unit(seen[rows[at : at + 16]]))
        return shown, images

    def slices(self, images: Images, shown: Sequence[npt.NDArray[np.bool_]], fingerprints: Sequence[str]) -> Slices:
        """What was cut of all volumes, in their order. Raises `Refusal` where that is nothing."""
        volumes, notes = self.folder.volumes, self.notes.copy()
        if empty := sum(int((~s).sum()) for s in shown):
            notes.append(f"{empty} slices without anatomy were left out")
        if not len(images):
            raise Refusal(f"{self.folder.path}: every slice is empty; there is nothing to learn from.")
        affines = [
            None if v.affine is None else view.affine(v.affine, v.data.shape) @ frame.affine()
            for v, view, frame in zip(volumes, self.views, self.frames, strict=True)
        ]
        return Slices(
            images,
            np.repeat(np.arange(len(shown)), [s.sum() for s in shown]),
            tuple(v.series or v.name for v in volumes),
            tuple(v.subject or (v.series or v.name if len(v.data) > 1 else "") for v in volumes),
            tuple(fingerprints),
            self.intensity,
            tuple(f"{self.folder.path.name}: {note}" for note in notes),
            np.concatenate([np.flatnonzero(s) for s in shown]),
            tuple(affines),
            tuple(pair_key(v.path, v.subject, self.folder.path, stack=len(v.data) > 1) for v in volumes),
        )


def _check_sizes(folder: Folder, views: list[View], model: ModelConfig, pixel: float, notes: list[str]) -> None:
    """Refuse images of several sizes whose scale is not known; note what is done to the others."""
    if pixel:
        other = {f"{min(v.spacing[1:]):.3g}" for v in views if v.spacing and abs(min(v.spacing[1:]) / pixel - 1) > 0.01}
        if other:
            notes.append(f"pixels of {', '.join(sorted(other))} mm were brought to {pixel:.3g} mm")
        if unknown := sum(not v.spacing for v in views):
            notes.append(f"{unknown} images do not say their spacing and were used as they are")
    bare = Folder(folder.path, [v for v, view in zip(folder.volumes, views, strict=True) if not view.spacing], [])
    sizes = bare.sizes()
    if len(sizes) > 1 and model.size:
        notes.append(f"slices of {len(sizes)} sizes were fitted into {model.size}x{model.size} without stretching")
    elif len(sizes) > 1:
        (rows, columns), *_ = sizes
        odd = next(v for v in bare.volumes if v.data.shape[1:] != (rows, columns))
        raise Refusal(
            f"{folder.path} mixes sizes: most slices are {rows}x{columns}, but "
            f"{odd.path.name if odd.path else odd.name} is {odd.data.shape[1]}x{odd.data.shape[2]}. "
            "Set size (64, 128, ...) to fit each into a square without stretching, or remove the others."
        )
