"""The slices of one contrast, rescaled and fitted into one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..config import ModelConfig
from ..errors import Refusal
from ..images.clues import pair_key
from ..images.folder import Folder
from ..images.frame import Frame
from ..images.intensity import Intensity, glimpse, measure_set
from ..images.plane import Plane, View, plane_of
from ..images.read import Part, Source
from ..images.volume import Affine, Image, Outline, Volume
from .seen import fingerprint
from .stored import Images

Shown = npt.NDArray[np.bool_]  # of each slice of a volume, whether it shows anatomy


@dataclass(frozen=True, eq=False)
class Slices:
    """One contrast as the networks are given it, its range, and what the user should know."""

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
    found: str = ""  # what the folder held, in one line
    files: tuple[str, ...] = ()  # of each volume, relative to the folder; of a DICOM series the first and how many
    taken: tuple[dict[str, Any], ...] = ()  # of each volume: what it was taken as, and why
    left_out: tuple[tuple[str, str], ...] = ()  # files of the folder, and why each was not used

    def summary(self) -> str:
        """Count, size and range in one line."""
        (n, height, width), i = self.images.shape, self.intensity
        heads = len(set(self.subjects) - {""})
        of = f" of {heads} patient{'s' * (heads != 1)}" if heads else ""
        return f"{n} slices{of} for training, {height}x{width}, values {i.low:g} to {i.high:g} scaled to -1 to 1"

    def fingerprints_of(self, chosen: npt.NDArray[np.intp]) -> frozenset[str]:
        """Of the volumes that these slices come from, and of their slices."""
        return frozenset(known for i in np.unique(self.owners[chosen]) for known in self.fingerprints[i].split())

    def uses(self, trained: npt.NDArray[np.intp], held: npt.NDArray[np.intp]) -> list[dict[str, Any]]:
        """What became of each file: how many of its slices are trained on, how many are held out; or why none is."""
        slices = {"trained on": np.setdiff1d(trained, []), "held out": np.setdiff1d(held, trained)}
        counts = {use: np.bincount(self.owners[of], minlength=len(self.files)) for use, of in slices.items()}
        used = [
            {"file": file} | {use: int(count[i]) for use, count in counts.items() if count[i]}
            for i, file in enumerate(self.files)
        ]
        return used + [{"file": file, "left out": why} for file, why in self.left_out]

    def to_json(self) -> dict[str, Any]:
        """All but the images, as plain values."""
        known = {f.name: getattr(self, f.name) for f in fields(self)} | {"images": self.images.shape}
        known |= {
            "intensity": asdict(self.intensity),
            "affines": [a if a is None else a.tolist() for a in self.affines],
        }
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in known.items()}

    @classmethod
    def from_json(cls, known: dict[str, Any], images: Images) -> Slices:
        """The inverse, with the images. Raises what a damaged record gives."""
        made: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in known.items()
        }
        made |= {name: np.array(known[name], np.intp) for name in ("owners", "places")}
        made |= {"images": images, "intensity": Intensity(**known["intensity"])}
        made |= {"affines": tuple(None if a is None else np.array(a) for a in known["affines"])}
        return cls(**{f.name: made[f.name] for f in fields(cls)})


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
    plan = Plan.of(replace(folder, volumes=[SeenVolume.of(v, model.plane) for v in folder.volumes]), model, pixel)
    cut = [plan.cut(i, volume.data) for i, volume in enumerate(plan.volumes)]
    return plan.gather(np.concatenate([images for _, images in cut]), [shown for shown, _ in cut])


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenVolume(Outline):
    """A volume that was looked at, with what must be known of it once its voxels are let go."""

    fingerprint: str  # and those of its slices
    glimpse: Intensity | Image
    ends: tuple[float, float]  # the lowest and the highest value

    @classmethod
    def of(cls, volume: Volume, plane: Plane, source: Source = (), number: int = 0, frame: int = 0) -> Self:
        """Look at a volume, which was read from a source, and at its slices in a plane."""
        known: dict[str, Any] = {f.name: getattr(volume, f.name) for f in fields(Volume)}
        seen, ends = glimpse(volume), (float(volume.data.min()), float(volume.data.max()))
        known |= {"source": source, "number": number, "frame": frame, "glimpse": seen, "ends": ends}
        return cls(**known, fingerprint=fingerprint(volume, plane))

    def let_go(self) -> Self:
        """The same without voxels, and without those that a glimpse of a single slice holds."""
        bare = super().let_go()
        return bare if bare.sample is None else replace(bare, glimpse=bare.sample)


def seen_in(held: Folder | Part) -> list[SeenVolume]:
    """Its volumes, all of which were looked at."""
    return [v for v in held.volumes if isinstance(v, SeenVolume)]


@dataclass(frozen=True, eq=False)
class Plan:
    """How the volumes of a folder become slices, decided before any is made: they may be too many for memory."""

    folder: Folder
    volumes: list[SeenVolume]
    views: list[View]
    frames: list[Frame]  # of one size
    ranges: list[Intensity]
    intensity: Intensity  # speaks for all
    notes: list[str]

    @classmethod
    def of(cls, folder: Folder, model: ModelConfig, pixel: float) -> Plan:
        """For a folder of `SeenVolume`s; of their voxels only the shapes are looked at."""
        volumes, notes = seen_in(folder), folder.notes()
        views = [View.of(model.plane, v.affine, v.spacing) for v in volumes]
        _check_sizes(folder, views, model, pixel, notes)
        frames: list[Frame] = []
        for v, view in zip(volumes, views, strict=True):
            spacing = view.spacing and view.spacing[1:]
            side = view.shape(v.data.shape)[1:]
            frames.append(Frame.of(side, model.size, model.multiple, spacing=spacing, pixel=pixel))
        framed = max(f.framed[0] for f in frames), max(f.framed[1] for f in frames)
        ranges, spoken = measure_set(volumes, [v.glimpse for v in volumes])
        notes += dict.fromkeys(filter(None, (r.remark() for r in ranges)))
        return cls(folder, volumes, views, [f.padded_to(framed) for f in frames], ranges, spoken, notes)

    def most(self) -> int:
        """How many slices there are, were none of them empty."""
        return sum(view.shape(v.data.shape)[0] for v, view in zip(self.volumes, self.views, strict=True))

    def cut(self, i: int, data: Image) -> tuple[Shown, Image]:
        """Which slices of a volume show anatomy, and these, (n, H, W) in [-1, 1]."""
        seen, frame, intensity = self.views[i].apply(data), self.frames[i], self.ranges[i]
        shown = intensity.shows_anatomy(seen)
        rows = np.flatnonzero(shown)
        images: Image = np.empty((len(rows), *frame.framed), np.float32)
        for at in range(0, len(rows), 16):  # some at a time: a large volume is not held several times over
            images[at : at + 16] = frame.put(intensity.to_unit(seen[rows[at : at + 16]]))
        return shown, images

    def gather(self, images: Images, shown: Sequence[Shown]) -> Slices:
        """The slices of all volumes, in their order. Raises `Refusal` where there are none."""
        volumes, where, notes = self.volumes, self.folder.path, self.notes.copy()
        if empty := sum(int((~s).sum()) for s in shown):
            notes.append(f"{empty} slice{'s' * (empty != 1)} without anatomy left out")
        if not len(images):
            raise Refusal(f"{where}: every slice is empty, so there is nothing to train on: give other images.")
        titles = [v.series or v.name for v in volumes]
        stacks = [len(v.data) > 1 for v in volumes]
        return Slices(
            images,
            owners=np.repeat(np.arange(len(shown)), [s.sum() for s in shown]),
            names=tuple(titles),
            subjects=tuple(v.subject or (t if s else "") for v, t, s in zip(volumes, titles, stacks, strict=True)),
            fingerprints=tuple(v.fingerprint for v in volumes),
            intensity=self.intensity,
            notes=tuple(f"{where.name}: {note}" for note in notes),
            files=tuple(_file_of(v, where) for v in volumes),
            taken=tuple(_told(v, where) for v in volumes),
            left_out=tuple((_below(s.path, where), s.why) for s in self.folder.skipped),
            places=np.concatenate([np.flatnonzero(s) for s in shown]),
            affines=tuple(
                None if v.affine is None else view.affine(v.affine, v.data.shape) @ frame.affine()
                for v, view, frame in zip(volumes, self.views, self.frames, strict=True)
            ),
            keys=tuple(pair_key(v.path, v.subject, where, stack=s) for v, s in zip(volumes, stacks, strict=True)),
            found=self.folder.summary([v.ends for v in volumes]),
        )


def _file_of(volume: Volume, folder: Path) -> str:
    """Where a volume lies below the folder; a DICOM series by its first file and how many there are."""
    name = _below(volume.path or Path(volume.name), folder)
    return f"{name} and {len(volume.files) - 1} more" if len(volume.files) > 1 else name


def _told(volume: Volume, folder: Path) -> dict[str, Any]:
    """What a volume was taken as and why, as `check` tells it; shape and spacing are (Z, Y, X)."""
    return {
        "series": volume.series or volume.name,
        "contrast": volume.contrast,
        "looks": volume.looks,
        "why": volume.why,
        "shape": list(volume.data.shape),
        "spacing": volume.spacing and [round(mm, 4) for mm in volume.spacing],
        "plane": plane_of(volume.affine),
        "subject": volume.subject,
        "file": _below(volume.path or Path(volume.name), folder),
        "files": max(1, len(volume.files)),
    }


def _below(path: Path, folder: Path) -> str:
    return (path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)).as_posix()


def _check_sizes(folder: Folder, views: list[View], model: ModelConfig, pixel: float, notes: list[str]) -> None:
    """Refuse images of several sizes whose scale is not known; note what is done to the others."""
    if pixel:
        other = {f"{min(v.spacing[1:]):.3g}" for v in views if v.spacing and abs(min(v.spacing[1:]) / pixel - 1) > 0.01}
        if other:
            notes.append(f"resampled from {', '.join(sorted(other))} mm to {pixel:.3g} mm in plane")
        if unknown := sum(not v.spacing for v in views):
            notes.append(f"{unknown} image{'s' * (unknown != 1)} without pixel spacing: not resampled")
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
            "Set size (64, 128, ...) to scale and pad all to one square, or remove the others."
        )
