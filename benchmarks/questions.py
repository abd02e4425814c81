"""Check the constants of model/known.py: whole head or bare brain, axial or not. Prints a Markdown table.

    python benchmarks/questions.py DATA_FOLDER

DATA_FOLDER holds lit, volumes and seed; with the MNI template these are four heads. The eval folders are not read.
Bare brains are the template, and the others' with scalp and skull removed by morphology (both contrasts of a slice
give one mask, which no network ever sees); other planes are their resliced volumes. Each head is also turned, cropped
and shaded at random, as others lie, and are shaded, otherwise. The outlines are compared with those of the axial
slices of the other heads, as many of each as a model keeps.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from familiar import SIDES, course_set
from scipy import ndimage

from napari_t1t2.config import Side
from napari_t1t2.data.features import SKULL, Numbers, describe
from napari_t1t2.images.head import Mask
from napari_t1t2.images.intensity import measure
from napari_t1t2.images.pixels import evenly
from napari_t1t2.images.plane import PLANES, Plane, View
from napari_t1t2.images.read import read_folder
from napari_t1t2.images.volume import Image
from napari_t1t2.model.known import BAND, KEPT, LIMITS, distances
from napari_t1t2.sample import SPACING, load_template, scan

HEADROOM: dict[Side, float] = {"t1": 2.9, "t2": 2.6}  # of lit
SLICE = 3.0  # mm between slices of lit
FINE = 1.5  # mm of turned heads


@dataclass(frozen=True, eq=False)
class Case:
    """Slices (N, rows, columns) in [-1, 1] of which all is known."""

    slices: Image
    subject: str
    side: Side
    plane: Plane = "axial"
    bare: bool = False
    made: bool = False  # turned, cropped, shaded

    @property
    def kind(self) -> str:
        """What is shown, in words."""
        return f"{self.side.upper()} {'bare, ' * self.bare}{self.plane}{', made' * self.made}"


def main() -> None:
    """Describe all slices, compare each head with the others, print."""
    parser = ArgumentParser(description="Check the constants of model/known.py.")
    parser.add_argument("data", type=Path)
    random = np.random.default_rng(0)
    found: dict[tuple[str, str], list[Numbers]] = defaultdict(list)
    for case in cases(parser.parse_args().data, random):
        for image in case.slices:
            numbers = describe(shaded(image, random) if case.made else image)
            if numbers is not None:
                found[case.subject, case.kind].append(numbers)
    print(f"| head | shown | slices | skull above {BAND:g} | outlines beyond {LIMITS[0]:g} and {LIMITS[1]:g} |")
    print("|---|---|---|---|---|")
    for (subject, kind), those in sorted(found.items()):
        side = kind[:2]
        others = [
            np.stack(o) for (s, k), o in found.items() if s != subject and k in (f"{side} axial", f"{side} bare, axial")
        ]
        rows = np.stack(those)
        apart = distances(rows, np.concatenate([o[evenly(len(o), KEPT)] for o in others])).min(axis=1)
        beyond = " and ".join(f"{(apart > limit).mean():.0%}" for limit in LIMITS)
        print(f"| {subject} | {kind} | {len(rows)} | {(rows[:, SKULL] > BAND).mean():.0%} | {beyond} |")


def cases(data: Path, random: np.random.Generator) -> Iterator[Case]:
    """All there is to learn from."""
    lit = {s: read_folder(data / "lit" / s.upper(), s.upper()).volumes for s in SIDES}
    for visit in ("p01s1", "p01s2", "p12s1", "p12s2"):
        raw = {s: np.stack([v.data[0] for v in lit[s] if v.name.startswith(visit)]) for s in SIDES}
        unit = {s: on_unit(raw[s], s) for s in SIDES}
        for s in SIDES:
            yield Case(shown(unit[s]), visit[:3], s)
            for _ in range(4):
                head = on_unit(turned(raw[s], random), s)
                for plane, step in (("axial", 6), ("coronal", 6), ("sagittal", 8)):
                    yield Case(every(seen(head, plane), step, random), visit[:3], s, plane, made=True)
        for kept in (1.0, 3.0):
            brain = bare(unit, kept)[len(raw["t1"]) // 4 : -2]  # below, morphology finds other things than the brain
            for s in SIDES:
                yield Case(shown(on_unit(raw[s][len(raw["t1"]) // 4 : -2] * brain, s)), visit[:3], s, bare=True)
    for s in SIDES:
        for volume in read_folder(data / "volumes" / s.upper(), s.upper()).volumes:
            for plane in PLANES:
                view = View.of(plane, volume.affine)
                assert view.spacing
                slices = on_unit(np.ascontiguousarray(view.apply(volume.data))[:: 1 if plane == "axial" else 8], s)
                square = np.stack([ndimage.zoom(image, view.spacing[1:], order=1) for image in slices])
                for stack in (square,) if plane == "axial" else (slices, square):
                    yield Case(shown(stack), volume.name[4:7], s, plane)
    course = course_set(data / "seed")
    raw = {s: np.stack([v.data[0] for v in course[s, "train"]]) for s in SIDES}
    unit = {s: on_unit(raw[s], s) for s in SIDES}
    masks = [bare(unit, kept)[::2] for kept in (1.0, 3.0)]
    for s in SIDES:
        yield Case(unit[s], "course set", s)
        for mask in masks:
            yield Case(shown(on_unit(raw[s][::2] * mask, s)), "course set", s, bare=True)
    template = load_template()
    for subject in (1, 2, 4):
        heads = scan(template, np.arange(0.0, template.shape[3], SPACING), subject=subject, seed=0).astype(np.float32)
        for s, head in zip(SIDES, heads, strict=True):
            for plane, step in (("axial", 4), ("coronal", 6), ("sagittal", 6)):
                yield Case(every(seen(on_unit(head, s), plane), step, random), "template", s, plane, bare=True)


def on_unit(stack: Image, side: Side) -> Image:
    """As a model would read it."""
    return measure([stack]).with_headroom(HEADROOM[side]).to_unit(stack)


def shown(slices: Image) -> Image:
    """Those with anatomy."""
    return slices[(slices > -0.7).mean(axis=(1, 2)) > 0.01]


def every(slices: Image, step: int, random: np.random.Generator) -> Image:
    """One in `step`, with anatomy."""
    return shown(np.ascontiguousarray(slices[random.integers(step) :: step]))


def seen(head: Image, plane: Plane) -> Image:
    """The slices of an axial stack, feet first, in a plane."""
    return {"axial": head, "coronal": head.transpose(1, 0, 2)[:, ::-1], "sagittal": head.transpose(2, 0, 1)[:, ::-1]}[
        plane
    ]


def bare(unit: dict[Side, Image], kept: float) -> Mask:
    """Where the brain and so many mm of fluid around it are, from both contrasts of an axial stack of 1 mm pixels."""
    grey = (unit["t1"] + 1) / 2
    mask = np.zeros(grey.shape, bool)
    for z, both in enumerate((np.maximum(unit["t1"], unit["t2"]) + 1) / 2):
        head = ndimage.binary_fill_holes(ndimage.binary_closing(both > 0.15, iterations=3))
        depth = ndimage.distance_transform_edt(np.pad(head, 1))[1:-1, 1:-1]
        tissue = (grey[z] > 0.3) & (grey[z] < 0.72) & (depth > 8)  # neither bone nor fat
        mask[z] = ndimage.binary_opening(tissue, disc(5))
    parts, n = ndimage.label(mask)
    brain: Mask = parts == 1 + np.bincount(parts.ravel())[1:].argmax() if n else mask
    for z, part in enumerate(brain):
        closed = ndimage.binary_closing(np.pad(part, 20), disc(8))[20:-20, 20:-20]
        brain[z] = ndimage.binary_dilation(ndimage.binary_fill_holes(closed), disc(kept))
    return brain


def disc(radius: float) -> Mask:
    """In pixels."""
    side = int(np.ceil(radius))
    y, x = np.mgrid[-side : side + 1, -side : side + 1]
    inside: Mask = y**2 + x**2 <= radius**2
    return inside


def turned(stack: Image, random: np.random.Generator) -> Image:
    """An axial stack of 1 mm pixels as another head may lie in the scanner, of cubic voxels; cut above and below."""
    head = ndimage.zoom(stack, (SLICE / FINE, 1 / FINE, 1 / FINE), order=1)
    pitch, yaw = np.deg2rad(random.normal(0, (8, 3)))
    matrix = np.array([[np.cos(pitch), -np.sin(pitch), 0], [np.sin(pitch), np.cos(pitch), 0], [0, 0, 1]])
    matrix = matrix @ [[1, 0, 0], [0, np.cos(yaw), -np.sin(yaw)], [0, np.sin(yaw), np.cos(yaw)]]
    matrix *= np.exp(random.normal(0, 0.04))
    centre = (np.array(head.shape) - 1) / 2
    room = (len(head) + 20, *head.shape[1:])
    offset = centre - matrix @ (centre + np.array([10, 0, 0]))
    moved = ndimage.affine_transform(head, matrix, offset, output_shape=room, order=1)
    there = np.flatnonzero(moved.mean(axis=(1, 2)) > 0.02 * moved.max())
    below, above = random.uniform(0, 30) / FINE, max(0.0, random.normal(0, 8)) / FINE
    cut: Image = moved[there[0] + int(below) : there[-1] + 1 - int(above)]
    return cut


def shaded(image: Image, random: np.random.Generator) -> Image:
    """A slice in [-1, 1] as another scanner may show it: turned, stretched, blurred, shaded, its greys bent."""
    grey = ndimage.rotate((image + 1) / 2, random.uniform(-8, 8), reshape=False, order=1)
    grey = ndimage.zoom(grey, random.uniform(0.9, 1.1, 2), order=1)
    grey = ndimage.gaussian_filter(grey, random.uniform(0, 0.8) * max(grey.shape) / 256)
    y, x = np.mgrid[-1 : 1 : grey.shape[0] * 1j, -1 : 1 : grey.shape[1] * 1j]
    a, b, c = random.normal(0, 0.12, 3)
    grey = np.clip(grey * np.exp(a * x + b * y + c * (x * x + y * y - 0.6)), 0, 1) ** np.exp(random.normal(0, 0.12))
    inside = grey[grey > 0.2]
    level = np.median(inside) if inside.size else 0.5
    return (np.clip(grey * 0.5 / level, 0, 1) * 2 - 1).astype(np.float32)


if __name__ == "__main__":
    main()
