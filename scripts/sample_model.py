"""Make the general model that comes with the package, `--model sample`, from heads whose licence allows it.

    python scripts/sample_model.py LIT/T1 LIT/T2 --out src/napari_t1t2/sample.safetensors --minutes 60

LIT holds slices of real heads, 1 mm in plane and 3 mm apart, PNG of 8 bits, one name for both contrasts of a slice and
one beginning, before the `_z`, for those of a visit (Lesjak et al., 2016, CC-BY). The simulated heads come from the
MNI152 template that nilearn carries. Both are made general by chance, as by SynthSeg and SynthSR (Billot et al., 2023;
Iglesias et al., 2021): every tissue, found by clustering both contrasts, gets another brightness; coil shading, noise,
blur, thick slices, other fields of view, turned and bent heads, with scalp, without, or with a scalp made up.
The networks learn from pairs: an input so changed, the partner as it was.
"""

from __future__ import annotations

import math
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load, save
from scipy import ndimage
from scipy.cluster.vq import kmeans2
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate

from napari_t1t2 import __version__
from napari_t1t2.config import ModelConfig, Side, TrainConfig
from napari_t1t2.data.seen import fingerprint
from napari_t1t2.data.stored import HeldSlices
from napari_t1t2.images.intensity import Intensity, measure
from napari_t1t2.images.read import read_image
from napari_t1t2.images.volume import Image
from napari_t1t2.model.about import About, header_of
from napari_t1t2.model.cyclegan import CycleGAN, frozen
from napari_t1t2.model.device import autocast
from napari_t1t2.model.known import learn
from napari_t1t2.model.losses import forgiving_l1
from napari_t1t2.model.saved import save_model
from napari_t1t2.sample import load_template

RANGES: dict[Side, Intensity] = {  # every image is measured by itself; what is made has grey values of 8 bits
    "t1": Intensity(0.0, 255.0, "uint8", per_stack=True, headroom=2.7, each=True),
    "t2": Intensity(0.0, 255.0, "uint8", per_stack=True, headroom=2.55, each=True),
}
CARD = {
    "general": True,
    "data": "4 visits of 2 adults with multiple sclerosis, whole heads of 3 mm slices, with their scalp and "
    "with the brain alone (Lesjak et al. 2016, CC-BY); simulated heads from the MNI152 template (ICBM 2009a, Fonov "
    "et al. 2011); brightness, shading, noise, resolution and pose of all changed by chance",
    "licence": "BSD-3-Clause, as napari-t1t2; the real training images are CC-BY",
    "citation": "Lesjak Z. et al., Neuroinformatics 14:403 (2016); Fonov V. et al., NeuroImage 54:313 (2011)",
    "slices": [165, 165],
    "patients": [2, 2],
    "version": __version__,
}
CHANNELS = 24  # 2.7 MB in float16
SIZES = ((128, 4), (160, 3), (192, 2))  # sides of crops, and how many of them in a batch
INSIDE, OUTSIDE = 5, 5  # classes of the brain, and of what is around
SHARE = {"whole": 0.35, "bare": 0.2, "simulated": 0.2, "capped": 0.25}  # of the batches
CAPS = 3  # skulls made up for each plane and thickness
ADVERSARIAL, EVERY = 0.15, 3  # weight of the discriminators' judgement, in one of so many steps
RATE, FALLS_FROM = 6e-4, 0.4

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Heads:
    """Slices of one kind: T1 and T2 (N, 2, H, W), 1 the median of the head, and the class of each pixel."""

    images: Tensor
    labels: Tensor  # (N, 1, H, W); 0 is air
    shares: Tensor  # (N, classes + 1) of the head that the slice is of


def main() -> None:
    """Read, train, save."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    real, seen = read_real(args.t1, args.t2)
    kinds = real | simulated(rng)
    for name, heads in kinds.items():
        print(name, tuple(heads.images.shape), flush=True)
    config = TrainConfig(
        model=ModelConfig(channels=CHANNELS, pixel=1.0), learning_rate=RATE, seed=args.seed, threads=args.threads
    )
    gan, step = CycleGAN(config), 0
    for step, told in enumerate(training(gan, kinds, rng, args.minutes, args.at_most or math.inf), start=1):
        if told:
            print(told, flush=True)
            with gan.averaged():
                save_small(args.out, gan, step, seen, {})
    with gan.averaged():
        save_small(args.out, gan, step, seen, kinds)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB")


def read_real(t1_folder: Path, t2_folder: Path) -> tuple[dict[str, Heads], frozenset[str]]:
    """The real heads, with their scalp and without, and the fingerprints by which they are known again."""
    names = sorted(p.name for p in t1_folder.glob("*.png"))
    visits = sorted({name.rsplit("_z", 1)[0] for name in names})
    seen: set[str] = set()
    whole, bare = [], []
    for visit in visits:
        volumes = [
            [read_image(folder / n) for n in names if n.startswith(f"{visit}_z")] for folder in (t1_folder, t2_folder)
        ]
        seen.update(mark for side in volumes for v in side for mark in fingerprint(v, "axial").split())
        stacks = [np.concatenate([v.data for v in side]) for side in volumes]
        t1, t2 = (stack / _median(stack) for stack in stacks)
        brain = brain_mask(t1, t2)
        head = (t1 > 0.15) | (t2 > 0.15)
        labels = classes(t1, t2, brain, INSIDE, 1) + classes(t1, t2, head & ~brain, OUTSIDE, INSIDE + 1)
        whole.append(_heads(t1, t2, labels))
        some = brain.mean(axis=(1, 2)) > 0.03
        inner = [np.where(brain, stack, 0)[some] for stack in stacks]
        bare.append(_heads(*(stack / _median(stack) for stack in inner), np.where(brain, labels, 0)[some]))
    return {"whole": _together(whole), "bare": _together(bare)}, frozenset(seen)


def brain_mask(t1: Image, t2: Image) -> npt.NDArray[np.bool_]:
    """The brain in (Z, Y, X) stacks of whole heads: the largest piece that no dark bone connects to the scalp."""
    tissue = ((t2 > 0.55) & (t1 > 0.3) & (t1 < 1.75)) | ((t2 > 1.6) & (t1 < 0.9))
    parts, n = ndimage.label(ndimage.binary_erosion(tissue, _disc(4)))
    if not n:
        return np.zeros(t1.shape, bool)
    core = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    brain = ndimage.binary_closing(ndimage.binary_dilation(core, _disc(6)) & tissue, _disc(5))
    return ndimage.binary_opening(np.stack([ndimage.binary_fill_holes(s) for s in brain]), _disc(3))


def classes(t1: Image, t2: Image, where: npt.NDArray[np.bool_], count: int, first: int) -> Labels:
    """Tissues by k-means of both contrasts together, numbered from `first`, the darkest in T1 first; 0 elsewhere."""
    pixels = np.stack([t1[where], t2[where]], axis=1).clip(0, 3)
    centres, _ = kmeans2(pixels[:: max(1, len(pixels) // 50_000)].astype(np.float64), count, seed=0, minit="++")
    centres = centres[np.argsort(centres[:, 0])]
    made = np.zeros(t1.shape, np.int64)
    made[where] = first + ((pixels[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    return made


def simulated(rng: np.random.Generator) -> dict[str, Heads]:
    """The template in all three planes, as a bare brain and under a skull and a scalp made up."""
    t1, t2 = load_template()
    brain = t1 > 0
    bare, capped = [], []
    far = ndimage.distance_transform_edt(~np.pad(brain, 20))
    for axis in (2, 1, 0):  # axial, coronal, sagittal
        for thick in (1, 4):
            a, b = (ndimage.uniform_filter1d(c, thick, axis=axis) if thick > 1 else c for c in (t1, t2))
            mask = (a > 0.02) & (b > 0)
            a, b = (_slices(c / np.median(c[mask]), axis) for c in (a, b))
            labels = classes(a, b, _slices(mask, axis), INSIDE, 1)
            bare.append(_heads(a, b, labels))
            capped += [_capped(t1, t2, far, axis, thick, rng) for _ in range(CAPS)]
    return {"simulated": _together(bare), "capped": _together(capped)}


def _capped(t1: Image, t2: Image, far: Image, axis: int, thick: int, rng: np.random.Generator) -> Heads:
    """The template under fluid, bone and a scalp, of thicknesses by chance; `far` is the distance to its brain."""
    a, b = (np.pad(c, 20) for c in (t1, t2))
    fluid, bone, scalp = np.cumsum([rng.uniform(1, 9), rng.uniform(3, 8), rng.uniform(2, 10)])
    layers = np.digitize(far, [1e-3, fluid, bone, scalp])  # 0 brain, then what is around it
    skin = 1 + 0.2 * ndimage.gaussian_filter(rng.standard_normal(a.shape), 2) / 0.06
    for c, levels in ((a, (0.18, 0.06, 0.9)), (b, (0.95, 0.05, 0.5))):
        for layer, level in enumerate(levels, start=1):
            c[layers == layer] = (level * skin)[layers == layer]
    if thick > 1:
        a, b = (ndimage.uniform_filter1d(c, thick, axis=axis) for c in (a, b))
    a, b = (_slices(c.astype(np.float32), axis) for c in (a, b))
    a, b = a / np.median(a[a > 0.1]), b / np.median(b[b > 0.1])
    around = np.where(np.isin(layers, (1, 2, 3)), INSIDE + layers, 0)
    inner = _slices(far <= 0, axis)
    return _heads(a, b, classes(a, b, inner, INSIDE, 1) + _slices(around, axis))


def training(
    gan: CycleGAN, kinds: dict[str, Heads], rng: np.random.Generator, minutes: float, at_most: float
) -> Iterator[str]:
    """Steps until so many minutes of computing, or `at_most` of the clock, are over; every two says how far it is."""
    began, clock, told, mean = time.process_time(), time.monotonic(), 0.0, 0.0

    def used() -> tuple[float, float]:
        spent = (time.process_time() - began) / 60
        return spent, max(spent / minutes, (time.monotonic() - clock) / 60 / at_most)

    device = torch.device("cpu")
    names, odds = list(kinds), np.array([SHARE[kind] for kind in kinds])
    step = 0
    while (used_up := used())[1] < 1:
        spent, part = used_up
        gan.set_learning_rate(RATE * min(1.0, (1 - part) / (1 - FALLS_FROM), (step + 1) / 200))
        side, count = SIZES[rng.choice(len(SIZES))]
        kind = names[rng.choice(len(names), p=odds / odds.sum())]
        (in_t1, in_t2), (t1, t2) = batch(kinds[kind], side, count, rng)
        judged = step % EVERY == 0
        gan.generator_adam.zero_grad(set_to_none=True)
        with frozen(gan.disc_t1, gan.disc_t2), autocast(device, "auto"):
            fake_t2, fake_t1 = gan.t1_to_t2(in_t1), gan.t2_to_t1(in_t2)
            error = forgiving_l1(fake_t2, t2) + forgiving_l1(fake_t1, t1)
            loss = error
            if judged:
                fooled = gan.adversarial_loss(gan.disc_t1(fake_t1), 1) + gan.adversarial_loss(gan.disc_t2(fake_t2), 1)
                loss = error + ADVERSARIAL * fooled
        loss.backward()
        gan.generator_adam.step()
        gan._average()
        if judged:
            gan.discriminator_adam.zero_grad(set_to_none=True)
            with autocast(device, "auto"):
                gan.discriminator_loss(t1, t2, fake_t1.detach(), fake_t2.detach()).backward()
            gan.discriminator_adam.step()
        mean += 0.01 * (float(error.detach()) - mean) if step else float(error.detach())
        step += 1
        now = spent >= told + 2
        told = spent if now else told
        yield f"{spent:.1f} min, step {step}, error {mean:.4f}" if now else ""


def batch(
    heads: Heads, side: int, count: int, rng: np.random.Generator
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """T1 and T2 as the networks see them, changed by chance, and as they should come out, each (B, 1, side, side)."""
    at = torch.from_numpy(rng.integers(len(heads.images), size=count))
    grid = _grid(heads.images.shape[-2:], side, count, rng)
    clean = grid_sample(heads.images[at], grid, mode="bicubic", align_corners=False).clamp_min(0)
    labels = grid_sample(heads.labels[at].float(), grid, mode="nearest", align_corners=False)[:, 0].round().long()
    changed = [
        torch.stack([_change(clean[i, c], labels[i], heads.shares[at[i]], c, rng) for i in range(count)])
        for c in (0, 1)
    ]
    inputs, targets = (
        [_bent(x, side) for x, side in zip(xs, ("t1", "t2"), strict=True)] for xs in (changed, clean.unbind(1))
    )
    return tuple(x[:, None] for x in inputs), tuple(x[:, None] for x in targets)


def _grid(shape: tuple[int, ...], side: int, count: int, rng: np.random.Generator) -> Tensor:
    """Where the pixels of crops come from: turned, scaled, sheared, mirrored, bent and cut at random."""
    rows, columns = shape
    turn = np.radians(rng.normal(0, 8, count) + 90 * (rng.random(count) < 0.08) * rng.integers(1, 4, count))
    scale = np.exp(rng.uniform(math.log(0.72), math.log(1.3), count))  # pixels of the image in one of the crop
    wide = np.exp(rng.normal(0, 0.05, count))
    flip = np.where(rng.random(count) < 0.5, -1, 1), np.where(rng.random(count) < 0.1, -1, 1)
    cos, sin = np.cos(turn), np.sin(turn)
    x, y = scale * wide * flip[0], scale / wide * flip[1]
    reach = [np.maximum(0.15, (s * 0.8 - side * scale) / s) for s in (columns, rows)]
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0] = np.stack(
        [x * cos * side / columns, -y * sin * side / columns, rng.uniform(-1, 1, count) * reach[0]], 1
    )
    theta[:, 1] = np.stack([x * sin * side / rows, y * cos * side / rows, rng.uniform(-1, 1, count) * reach[1]], 1)
    grid = affine_grid(torch.from_numpy(theta), [count, 1, side, side], align_corners=False)
    bend = torch.from_numpy(rng.normal(0, 1, (count, 2, 6, 6)).astype(np.float32)) * float(rng.uniform(0, 3.5))
    smooth = interpolate(bend, (side, side), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    return grid + smooth * torch.tensor([2 / columns, 2 / rows])


def _change(image: Tensor, labels: Tensor, shares: Tensor, contrast: int, rng: np.random.Generator) -> Tensor:
    """One slice (H, W), 1 the median of its head, as another scanner might have made it."""
    spread = np.r_[0, np.full(INSIDE, rng.choice([0.05, 0.15, 0.25])), np.full(OUTSIDE, rng.choice([0.1, 0.35]))]
    tones = rng.normal(0, 1, len(spread)) * spread
    if contrast == 0 and rng.random() < 0.2:  # fat is suppressed
        tones[-2:] -= rng.uniform(0.5, 1.5)
    tones = torch.from_numpy(tones.astype(np.float32))
    log = avg_pool2d(tones[labels][None, None], 3, 1, 1)[0, 0] - float((tones * shares).sum())
    image = image * log.exp()
    image = image ** float(np.exp(rng.normal(0.1 if contrast == 0 else 0, 0.25)))  # the median stays 1
    side = image.shape[0]
    if rng.random() < 0.8:
        knots = torch.from_numpy(rng.normal(0, rng.uniform(0.05, 0.35), (1, 1, 4, 4)).astype(np.float32))
        image = image * interpolate(knots, (side, side), mode="bicubic", align_corners=True)[0, 0].exp()
    if rng.random() < 0.45:  # coarser, along one axis or both
        kind, by = rng.integers(3), rng.uniform(1.2, 3)
        small = [max(8, round(side / (by if kind in (axis, 2) else 1))) for axis in (0, 1)]
        coarse = interpolate(image[None, None], small, mode="bilinear", antialias=True)
        image = interpolate(coarse, (side, side), mode="bilinear")[0, 0]
    if rng.random() < 0.7:
        real, imaginary = rng.normal(0, rng.uniform(0, 0.08), (2, side, side)).astype(np.float32)
        image = torch.hypot(image + torch.from_numpy(real), torch.from_numpy(imaginary))
    if rng.random() < 0.06:  # a face is cut away
        image = image.clone()
        image[: int(rng.uniform(0.05, 0.35) * side)] = 0
    return image * float(np.exp(rng.normal(0, 0.08)))


def _bent(image: Tensor, side: Side) -> Tensor:
    """1 for the median of the head to the networks' [-1, 1], as `Intensity.to_unit` does."""
    headroom = RANGES[side].headroom
    bend = 1 / (headroom - 2)
    unit = (image / headroom).clamp(0, 1)
    return unit * (bend + 1) / (unit + bend) * 2 - 1


def save_small(path: Path, gan: CycleGAN, step: int, seen: frozenset[str], kinds: dict[str, Heads]) -> None:
    """In float16, with what must be known of it; of heads of all kinds, changed, how they look."""
    rng, looks = np.random.default_rng(0), ([], [])
    for heads in kinds.values():
        for _ in range(20):
            inputs, _ = batch(heads, 192, 4, rng)
            for side, images in zip(looks, inputs, strict=True):
                side.append(images.numpy())
    familiar = {}
    if kinds:
        held = [HeldSlices(np.concatenate(side), np.arange(4 * len(side))) for side in looks]
        familiar = learn(held[0], np.arange(len(held[0])), held[1], np.arange(len(held[1])))
    about = About(path, gan.config.model, RANGES, step, seen, familiar, card=CARD)
    save_model(path, gan, about)
    content = path.read_bytes()
    with path.open("rb") as file:
        header = header_of(path, file)
    path.write_bytes(save({name: tensor.half() for name, tensor in load(content).items()}, metadata=header))


def _heads(t1: Image, t2: Image, labels: Labels) -> Heads:
    some = (labels > 0).mean(axis=(1, 2)) > 0.03  # the others show hardly any head
    t1, t2, labels = t1[some], t2[some], labels[some]
    head = np.bincount(labels[labels > 0], minlength=INSIDE + OUTSIDE + 1).astype(np.float32)
    shares = torch.from_numpy(head / head.sum())
    images = torch.from_numpy(np.stack([t1, t2], axis=1).astype(np.float32))
    return Heads(images, torch.from_numpy(labels.astype(np.uint8))[:, None], shares.expand(len(images), -1))


def _together(parts: list[Heads]) -> Heads:
    """Of slices of one size; smaller ones are padded with air."""
    rows, columns = (max(p.images.shape[axis] for p in parts) for axis in (-2, -1))

    def padded(x: Tensor) -> Tensor:
        down, right = rows - x.shape[-2], columns - x.shape[-1]
        return torch.nn.functional.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))

    return Heads(
        torch.cat([padded(p.images) for p in parts]),
        torch.cat([padded(p.labels) for p in parts]),
        torch.cat([p.shares for p in parts]),
    )


def _slices(volume: npt.NDArray[np.generic], axis: int) -> npt.NDArray[np.generic]:
    """(X, Y, Z) in RAS+ as every third slice across an axis that shows anatomy, rows and columns as on a screen."""
    seen = {2: volume.transpose(2, 1, 0)[:, ::-1, ::-1], 1: volume.transpose(1, 2, 0)[:, ::-1, ::-1],
            0: volume.transpose(0, 2, 1)[:, ::-1, ::-1]}[axis]  # fmt: skip
    return np.ascontiguousarray(seen[12:-12:3])


def _median(stack: Image) -> float:
    found = measure([stack])
    return (found.high - found.low) / found.headroom


def _disc(radius: int) -> npt.NDArray[np.bool_]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius + 1)[None]


def _arguments():
    parser = ArgumentParser(description="Make the general model that comes with the package.")
    parser.add_argument("t1", type=Path)
    parser.add_argument("t2", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0, help="of one core")
    parser.add_argument("--at-most", type=float, default=0.0, help="minutes of the clock; 0: no limit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
