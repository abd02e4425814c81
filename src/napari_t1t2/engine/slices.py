"""The slices of one contrast, ready for the networks, and seeded batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import binary_erosion, binary_fill_holes, binary_opening, distance_transform_edt, gaussian_filter
from skimage.measure import label as parts_of
from torch import Tensor

from ..images.clues import pair_key
from ..images.frame import Frame
from ..images.intensity import Intensity, measure_set
from ..images.plane import View
from ..images.read import Folder
from ..images.volume import Affine, Image, Volume
from .config import ModelConfig, TrainConfig
from .networks import SMALLEST
from .stored import STEP, Images, StoredSlices

BACKGROUND = -0.9
HELD_AT_MOST = 5  # one in so many subjects is held out: of fewer, each is needed to learn from


@dataclass(frozen=True, eq=False)
class Slices:
    """One contrast as the networks see it, its range, and what the user should know."""

    images: Images  # (N, H, W) in [-1, 1]
    owners: npt.NDArray[np.intp]  # (N,), the volume each slice comes from, as an index into the next three
    names: tuple[str, ...]
    subjects: tuple[str, ...]  # empty where it is not known
    fingerprints: tuple[str, ...]  # equal for equal pixels
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
        """Of the volumes that these slices come from."""
        return frozenset(self.fingerprints[i] for i in np.unique(self.owners[chosen]))


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

    Raises `ValueError` with a sentence.
    """
    plan = Plan.of(folder, model, pixel)
    cut = [plan.cut(i, volume.data) for i, volume in enumerate(folder.volumes)]
    images = np.concatenate([images for _, images in cut])
    return plan.slices(images, [shown for shown, _ in cut], [fingerprint(v) for v in folder.volumes])


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
        """What was cut of all volumes, in their order. Raises `ValueError` where that is nothing."""
        volumes, notes = self.folder.volumes, self.notes.copy()
        if empty := sum(int((~s).sum()) for s in shown):
            notes.append(f"{empty} slices without anatomy were left out")
        if not len(images):
            raise ValueError(f"{self.folder.path}: every slice is empty; there is nothing to learn from.")
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
        raise ValueError(
            f"{folder.path} mixes sizes: most slices are {rows}x{columns}, but "
            f"{odd.path.name if odd.path else odd.name} is {odd.data.shape[1]}x{odd.data.shape[2]}. "
            "Set size (64, 128, ...) to fit each into a square without stretching, or remove the others."
        )


def fingerprint(volume: Volume) -> str:
    """Equal for equal voxels, whatever the file is called and in whatever order it stores them."""
    seen = View.of("axial", volume.affine).apply(volume.data)
    return blake2b(np.ascontiguousarray(seen).data, digest_size=8).hexdigest()


@dataclass(frozen=True, eq=False)
class Split:
    """Which slices of each contrast are trained on and which are held out, as indices; and what the user should know.

    No subject is on both sides, in either contrast.
    """

    train: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
    held: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # where nobody can be spared, slices that are trained on
    notes: tuple[str, ...]


def split(t1: Slices, t2: Slices, config: TrainConfig) -> Split:
    """Hold out whole subjects, the same of both contrasts where they are in both.

    Loose slices that do not say whose they are, are held out from the middle of their folder instead.
    Raises `ValueError` where too few or too small slices are left.
    """
    both = (t1, t2)
    labels = (config.model.t1_label, config.model.t2_label)
    for slices, folder in zip(both, (config.t1_folder, config.t2_folder), strict=True):
        _check_slices(slices, folder, config)
    away = _held_subjects(t1, t2, config.hold_out)
    train, held, notes = [], [], []
    for slices, label in zip(both, labels, strict=True):
        subjects = np.array(slices.subjects)[slices.owners]
        out = np.isin(subjects, sorted(away))
        loose = np.flatnonzero(subjects == "")
        if n := min(config.hold_out, len(loose) // HELD_AT_MOST):
            out[loose[(len(loose) - n) // 2 :][:n]] = True
        if out.any():
            held.append(np.flatnonzero(out))
        else:
            notes.append(f"{label}: too few subjects to hold one out; the previews show a slice that is trained on")
            held.append(np.array([len(subjects) // 2]))
        train.append(np.flatnonzero(~out))
        notes += _leaks(slices, out, label)
    if away:
        notes.append(f"{len(away)} subject{'s' * (len(away) != 1)} held out for the previews")  # no name: it may be PHI
    return Split((train[0], train[1]), (held[0], held[1]), tuple(notes))


def _held_subjects(t1: Slices, t2: Slices, wanted: int) -> set[str]:
    """As few subjects as give each contrast the wanted number, from the middle.

    Whoever is held out of one contrast is held out of the other, too; so it is somebody that both can spare.
    """
    of = [sorted(set(s.subjects) - {""}) for s in (t1, t2)]
    room = [min(wanted, len(own) // HELD_AT_MOST) for own in of]
    away: set[str] = set()
    for mine, other in ((0, 1), (1, 0)):
        own = of[mine]
        full = len(away & set(of[other])) >= room[other]
        spared = [s for s in own if s not in away and not (full and s in of[other])]
        spared.sort(key=lambda s: (s not in of[other], abs(own.index(s) - len(own) // 2)))
        away |= set(spared[: max(0, room[mine] - len(away & set(own)))])
    return away


def _leaks(slices: Slices, out: npt.NDArray[np.bool_], label: str) -> list[str]:
    """The same pixels held out under one name and trained on under another."""
    sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
    away = set(slices.owners[out].tolist())
    for i in np.unique(slices.owners).tolist():
        sides[i in away][slices.fingerprints[i]] = slices.names[i]
    trained, held = sides
    return [
        f"{label}: {held[f]} is held out, but {trained[f]}, with the same pixels, is trained on"
        for f in held.keys() & trained.keys()
    ]


def _check_slices(slices: Slices, where: Path, config: TrainConfig) -> None:
    n, side = len(slices.images), min(slices.images.shape[1:])
    if (seen := min(side, config.crop or side)) < SMALLEST:
        raise ValueError(
            f"{where}: the networks would see slices of {side} pixels in crops of {seen}, but the discriminators need "
            f"{SMALLEST}. Raise crop or size, or give larger slices."
        )
    if n < 2:
        raise ValueError(f"{where} has {n} usable slice, but training needs at least 2. Add images.")


def polarity(images: Images, chosen: npt.NDArray[np.intp]) -> float:
    """Whether fine structure inside the head is dark (negative) or bright (positive) against what surrounds it.

    The skewness of slices minus their local mean, away from the scalp. The sulci are dark in T1 (about -0.9 in five
    sets of real and simulated heads) and bright in T2 (about 1.3); it needs no pairs and no common pose.
    """
    found: list[float] = []
    for index in chosen[:: max(1, len(chosen) // 20)]:
        image = images[index]
        inside = binary_erosion(binary_fill_holes(image > BACKGROUND), iterations=image.shape[0] // 10)
        if not inside.any():
            continue
        weight = inside.astype(np.float32)
        around = gaussian_filter(image * weight, 4) / np.maximum(gaussian_filter(weight, 4), 1e-3)
        detail = (gaussian_filter(image, 1) - around)[inside]
        if detail.std() > 0:
            found.append(float((((detail - detail.mean()) / detail.std()) ** 3).mean()))
    return float(np.mean(found)) if found else 0.0


def depth_of(image: Image) -> Image:
    """How deep below the surface of the head each pixel of a slice in [-1, 1] lies; 0 in air.

    In radii of a disc of the head's area, so that it is the same for any pixel size; (rows, columns).
    """
    air = np.pad(~binary_opening(image > BACKGROUND), 1, constant_values=True)
    parts = parts_of(parts_of(air, connectivity=1)[1:-1, 1:-1] != 1)  # holes filled: they do not reach the first corner
    depth: Image = np.zeros(image.shape, np.float32)
    if parts.any():
        head = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
        rows, columns = np.flatnonzero(head.any(axis=1)), np.flatnonzero(head.any(axis=0))
        box = np.s_[max(0, rows[0] - 1) : rows[-1] + 2, max(0, columns[0] - 1) : columns[-1] + 2]  # the nearest air
        depth[box] = distance_transform_edt(head[box]) / np.sqrt(head.sum() / np.pi)
    return depth


def as_input(images: Image, model: ModelConfig) -> Tensor:
    """(N, H, W) in [-1, 1] as a network takes it: (N, 1, H, W), or with the depth as second channel (N, 2, H, W)."""
    if not model.depth:
        return torch.from_numpy(images)[:, None]
    inputs = np.empty((len(images), 2, *images.shape[1:]), np.float32)
    for (out, depth), image in zip(inputs, images, strict=True):
        out[:], depth[:] = image, depth_of(image)
    return torch.from_numpy(inputs)


class Bank:
    """Slices, on the device if they fit into memory. A batch depends on the seed and the step alone: runs resume."""

    def __init__(
        self,
        images: Images,
        config: TrainConfig,
        device: torch.device,
        stream: int,
        chosen: npt.NDArray[np.intp] | None = None,
        part: slice = slice(None),
    ) -> None:
        self._part = part  # of each batch, the slices that are for this process
        self._slices = images if isinstance(images, StoredSlices) else as_input(images, config.model).to(device)
        self._shape = images.shape[1:]
        self._chosen = np.arange(len(images)) if chosen is None else chosen
        self._config = config
        self._device = device
        self._stream = stream  # tells the two contrasts' random numbers apart
        self._epochs: dict[int, npt.NDArray[np.intp]] = {}

    def batch(self, step: int) -> Tensor:
        """(B, 1 or 2, H, W): each slice once per epoch, in a new order every epoch, cropped and mirrored at random."""
        c, (height, width) = self._config, self._shape
        rng = np.random.default_rng((c.seed, self._stream, step))
        rows, columns = (min(c.crop or side, side) for side in (height, width))
        made: list[Tensor] = []
        for place, index in enumerate(self._order(step * c.batch, c.batch)):
            top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
            mirrored = c.flip and rng.random() < 0.5  # drawn for every slice, so that all processes draw alike
            if place in range(c.batch)[self._part]:
                image = self._crop(index, slice(top, top + rows), slice(left, left + columns))
                made.append(image.flip(-1) if mirrored else image)
        batch = torch.stack(made)
        if batch.device.type != self._device.type:  # from a file: the copy runs beside what the GPU is doing
            batch = batch.pin_memory() if self._device.type == "cuda" else batch
            batch = batch.to(self._device, non_blocking=True)
        return batch

    def _crop(self, index: int, rows: slice, columns: slice) -> Tensor:
        """(1 or 2, rows, columns)."""
        if isinstance(self._slices, Tensor):
            return self._slices[index, :, rows, columns]
        return torch.from_numpy(self._slices.stored(index)[:, rows, columns] * STEP)

    def _order(self, start: int, count: int) -> Sequence[int]:
        n = len(self._chosen)
        epochs = range(start // n, (start + count - 1) // n + 1)
        self._epochs = {e: self._epochs[e] if e in self._epochs else self._permutation(e) for e in epochs}
        order = np.concatenate([self._epochs[e] for e in epochs])
        chosen: list[int] = self._chosen[order[start % n : start % n + count]].tolist()
        return chosen

    def _permutation(self, epoch: int) -> npt.NDArray[np.intp]:
        """Of all that are chosen; a millisecond for each 100 000, so it is kept while the epoch lasts."""
        rng = np.random.default_rng((self._config.seed, self._stream + 2, epoch))
        return rng.permutation(len(self._chosen))
