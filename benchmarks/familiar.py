"""How often is a held-out head called out of distribution, and how often what truly is? A Markdown table.

    python benchmarks/familiar.py DATA_FOLDER

DATA_FOLDER holds lit, volumes, seed, eval and eval_png. Nothing is trained: the statistic needs the slices alone. It
is fitted on lit, volumes and the course set's training block, never on eval or eval_png. "slices": each judged by
itself, with the range of its stack; "stacks": judged together.
"""

from __future__ import annotations

import csv
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import zoom
from skimage import data as pictures
from skimage.color import rgb2gray
from skimage.transform import resize

from napari_t1t2.config import ModelConfig, Side, other
from napari_t1t2.data.slices import common_pixel, prepare
from napari_t1t2.images.folder import Folder
from napari_t1t2.images.intensity import range_for
from napari_t1t2.images.plane import View
from napari_t1t2.images.read import read_folder, read_image
from napari_t1t2.images.volume import Image, Volume
from napari_t1t2.model.about import About
from napari_t1t2.model.known import learn
from napari_t1t2.synthesis.familiarity import unfamiliar

SIDES: tuple[Side, Side] = ("t1", "t2")
PHOTOS = ("camera", "astronaut", "coins", "chelsea", "coffee", "rocket", "text", "page", "clock", "moon", "brick",
          "grass", "gravel", "cell")  # fmt: skip
SEED_TRAIN, SEED_TEST = range(70, 101), range(111, 126)  # numbers of T2 slices, as in quality.py


@dataclass
class Stack:
    """Slices judged one by one and together."""

    data: Image
    affine: np.ndarray | None = None
    spacing: tuple[float, float, float] | None = None
    loose: bool = False  # no stack: pictures that have nothing to do with each other


def main() -> None:
    """Fit, judge, print."""
    parser = ArgumentParser(description="False alarms and detection of the warning before translating.")
    parser.add_argument("data", type=Path)
    d: Path = parser.parse_args().data
    lit = {s: read_folder(d / "lit" / s.upper(), s.upper()) for s in SIDES}
    one, two = (
        {s: replace(f, volumes=[v for v in f.volumes if v.name.startswith(p)]) for s, f in lit.items()}
        for p in ("p01", "p12")
    )
    seed = course_set(d / "seed")
    models = {
        "lit p01": fitted(one),
        "lit p12": fitted(two),
        "lit": fitted(lit),
        "volumes": fitted({s: read_folder(d / "volumes" / s.upper(), s.upper()) for s in SIDES}),
        "course": fitted({s: Folder(d / "seed", seed[s, "train"], []) for s in SIDES}),
    }
    png = {(e, s): stacked(read_folder(d / "eval_png" / e / s.upper(), s.upper()).volumes)
           for e in ("lit_p04", "lit_p07_brain") for s in SIDES}  # fmt: skip
    nii = {(e, s): read_image(d / "eval" / e / f"{s.upper()}.nii.gz") for e in ("lit_p04", "lit_p07_brain")
           for s in SIDES}  # fmt: skip
    heads = {(p, s): visits(f[s].volumes) for p, f in (("p01", one), ("p12", two)) for s in SIDES}

    print("| fitted on | given | T1: slices | T1: stacks | T2: slices | T2: stacks | said of T1; of T2 |")
    print("|---|---|---|---|---|---|---|")
    print("| *held out: false alarms* | | | | | | |")
    row(models["lit p01"], "lit p01", "lit p12, 2 visits", {s: heads["p12", s] for s in SIDES})
    row(models["lit p12"], "lit p12", "lit p01, 2 visits", {s: heads["p01", s] for s in SIDES})
    row(models["lit"], "lit", "eval_png/lit_p04", {s: [png["lit_p04", s]] for s in SIDES})
    row(models["volumes"], "volumes", "eval/lit_p04", {s: [of(nii["lit_p04", s])] for s in SIDES})
    row(models["course"], "course set", "its held-out block", {s: [stacked(seed[s, "test"])] for s in SIDES})
    print("| *to be detected* | | | | | | |")
    for p, q in (("p01", "p12"), ("p12", "p01")):
        row(models[f"lit {p}"], f"lit {p}", f"other contrast, lit {q}", {s: heads[q, other(s)] for s in SIDES})
    row(models["lit"], "lit", "other contrast, eval_png/lit_p04", {s: [png["lit_p04", other(s)]] for s in SIDES})
    row(
        models["volumes"], "volumes", "other contrast, eval/lit_p04", {s: [of(nii["lit_p04", other(s)])] for s in SIDES}
    )
    row(models["course"], "course set", "other contrast, its held-out block",
        {s: [stacked(seed[other(s), "test"])] for s in SIDES})  # fmt: skip
    row(models["lit"], "lit", "brain only, eval_png/lit_p07_brain", {s: [png["lit_p07_brain", s]] for s in SIDES})
    row(
        models["volumes"],
        "volumes",
        "brain only, eval/lit_p07_brain",
        {s: [of(nii["lit_p07_brain", s])] for s in SIDES},
    )
    row(models["course"], "course set", "brain only, eval_png/lit_p07_brain",
        {s: [png["lit_p07_brain", s]] for s in SIDES})  # fmt: skip
    for name in ("lit", "volumes", "course"):
        for plane in ("coronal", "sagittal"):
            for how in ("as stored", "isotropic"):
                given = {s: [resliced(nii["lit_p04", s], plane, how == "isotropic")] for s in SIDES}
                row(models[name], name, f"{plane}, {how}, eval/lit_p04", given)
    for name in ("lit", "volumes", "course"):
        row(models[name], name, f"{len(PHOTOS)} photos", {s: [Stack(photos(), loose=True)] for s in SIDES})
        row(models[name], name, "noise", {s: [Stack(noise(), loose=True)] for s in SIDES})
    print("| *real or simulated, other heads* | | | | | | |")
    row(models["course"], "course set", "eval_png/lit_p04", {s: [png["lit_p04", s]] for s in SIDES})
    row(models["lit"], "lit", "course set, held-out block", {s: [stacked(seed[s, "test"])] for s in SIDES})
    row(models["volumes"], "volumes", "eval_png/lit_p04", {s: [png["lit_p04", s]] for s in SIDES})
    print()
    for name, about in models.items():
        limits = ", ".join(f"{s.upper()} {k.limit:g}, skull {k.skull}" for s, k in about.familiar.items())
        print(f"- {name}: limits {limits}; {len(about.to_header()['familiar'])} bytes")
    volume = np.repeat(nii["lit_p04", "t1"].data, 4, axis=0)[:180]
    about = models["volumes"]
    began = time.perf_counter()
    intensity = range_for(volume, len(volume), about.ranges["t1"])[0]
    unfamiliar(volume, about.familiar, about.config, "t2", intensity, spacing=(1, 1, 1))
    print(f"- a volume of {volume.shape}: {time.perf_counter() - began:.2f} s")


def fitted(folders: dict[Side, Folder]) -> About:
    """What a model trained on these folders would know."""
    model = ModelConfig()
    pixel = common_pixel([v for f in folders.values() for v in f.volumes], model)
    t1, t2 = (prepare(folders[s], model, pixel) for s in SIDES)
    known = learn(t1.images, np.arange(len(t1.images)), t2.images, np.arange(len(t2.images)))
    ranges: dict[Side, object] = {"t1": t1.intensity, "t2": t2.intensity}
    return About(Path("model.safetensors"), replace(model, pixel=pixel), ranges, 0, frozenset(), known)  # type: ignore[arg-type]


def row(about: About, name: str, given: str, stacks: dict[Side, list[Stack]]) -> None:
    """One line: both sides, slices and stacks."""
    cells: list[str] = []
    said: list[str] = []
    for side, those in stacks.items():
        slices: list[bool] = []
        whole: list[str] = []
        for stack in those:
            one, together = judged(about, side, stack)
            slices += one
            whole += together
        cells += [
            f"{np.mean(slices):.0%} of {len(slices)}",
            f"{sum(map(bool, whole))} of {len(whole)}" if whole else "",
        ]
        words = Counter(
            s.split("unusual: ")[-1].split(")")[0] if "unusual: " in s else "looks like the other" for s in whole if s
        )
        said.append("/".join(words) or "-")
    print(f"| {name} | {given} | {' | '.join(cells)} | {'; '.join(said)} |", flush=True)


def judged(about: About, side: Side, stack: Stack) -> tuple[list[bool], list[str]]:
    """Which slices are called unfamiliar, each by itself, and what is said of all together."""
    to, trained = other(side), about.ranges[side]
    view = View.of("axial", stack.affine, stack.spacing)
    seen = view.apply(stack.data)
    whole = range_for(stack.data, len(stack.data), trained)[0]
    slices: list[bool] = []
    for image in seen:
        intensity = range_for(image, 1, trained)[0] if stack.loose else whole
        if intensity.shows_anatomy(image[None]).any():
            slices.append(bool(unfamiliar(image, about.familiar, about.config, to, intensity, spacing=view.spacing)))
    if stack.loose:
        return slices, []
    where = {"affine": stack.affine, "spacing": stack.spacing}
    return slices, [unfamiliar(stack.data, about.familiar, about.config, to, whole, **where) or ""]  # type: ignore[arg-type]


def of(volume: Volume) -> Stack:
    """A volume with its geometry."""
    return Stack(volume.data, volume.affine, volume.spacing)


def stacked(volumes: Iterable[Volume]) -> Stack:
    """Single slices as one stack."""
    return Stack(np.concatenate([v.data for v in volumes]))


def visits(volumes: list[Volume]) -> list[Stack]:
    """Single slices of one patient as a stack for each visit."""
    names = sorted({v.name[:5] for v in volumes})
    return [stacked(v for v in volumes if v.name.startswith(name)) for name in names]


def resliced(volume: Volume, plane: str, isotropic: bool) -> Stack:
    """Another plane as if it were the model's: no affine tells it."""
    view = View.of(plane, volume.affine)  # type: ignore[arg-type]
    assert view.spacing
    data = np.ascontiguousarray(view.apply(volume.data))[::8]
    factors = [mm / 1.0 for mm in view.spacing[1:]] if isotropic else [1.0, 1.0]
    return Stack(np.stack([zoom(image, factors, order=1) for image in data]))


def photos() -> Image:
    """Grey pictures, 256x256, 0 to 255."""
    made = []
    for name in PHOTOS:
        picture = getattr(pictures, name)()
        grey = 255 * rgb2gray(picture) if picture.ndim == 3 else picture.astype(float)
        made.append(resize(grey, (256, 256), preserve_range=True))
    return np.stack(made).astype(np.float32)


def noise() -> Image:
    """White and smooth, 256x256, 0 to 255."""
    random = np.random.default_rng(0)
    white = [random.normal(128, 40, (256, 256)), random.uniform(0, 255, (256, 256)), random.exponential(40, (256, 256))]
    smooth = [zoom(random.uniform(0, 255, (n, n)), 256 / n, order=1) for n in (8, 16, 64)]
    return np.clip(np.stack(white + smooth), 0, 255).astype(np.float32)


def course_set(folder: Path) -> dict[tuple[Side, str], list[Volume]]:
    """Its blocks, in the order of the T2 slices."""
    rows = list(csv.DictReader((folder / "pairs.csv").open()))
    number = {row["TrainT2"]: int(row["TrainT2"].removesuffix(".png").split("#")[1]) for row in rows}
    rows.sort(key=lambda row: number[row["TrainT2"]])
    return {
        (side, part): [
            read_image(folder / f"Train{side.upper()}" / row[f"Train{side.upper()}"])
            for row in rows
            if number[row["TrainT2"]] in numbers
        ]
        for side in SIDES
        for part, numbers in (("train", SEED_TRAIN), ("test", SEED_TEST))
    }


if __name__ == "__main__":
    main()
