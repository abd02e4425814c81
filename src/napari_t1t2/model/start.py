"""What a training begins from: random weights, a model, or the general one where it knows such heads already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import avg_pool2d

from ..config import SIDES, ModelConfig, Side, TrainConfig
from ..data.slices import Slices
from ..data.stored import change_intensities
from ..errors import Refusal
from ..images.head import head_mask
from ..images.intensity import Intensity
from ..images.pixels import evenly
from ..images.volume import Image
from .about import SAMPLE, SAMPLE_NAME, About, read_about
from .cyclegan import CycleGAN
from .saved import Model, load_model

AUTO = "auto"
NETWORKS = ("channels", "levels", "tone_curve", "gate", "depth", "upsample")  # settings that weights fit
SOME = 24  # slices of each contrast that are looked at
PATCH, COARSE = 8, 4  # sides of the patches that are compared, in pixels, and of how many pixels the coarse ones are
SHOWN = -0.9  # what is brighter shows more than air
DIRECTIONS, PATCHES = 96, 8192  # in which patches are compared, and how many

Indices = npt.NDArray[np.intp]


def may_begin_from_sample(config: TrainConfig) -> bool:
    """Whether `auto` may choose the general model: for T1 and T2, and networks that nobody has set otherwise."""
    usual = ModelConfig()
    return (config.model.t1_label, config.model.t2_label) == (usual.t1_label, usual.t2_label) and all(
        getattr(config.model, name) == getattr(usual, name) for name in NETWORKS
    )


def beginning_from(start: str, config: TrainConfig) -> TrainConfig:
    """A config whose training begins from a model, with that model's networks. Raises `Refusal`."""
    like, own = about_start(start).config, config.model
    if (like.t1_label.casefold(), like.t2_label.casefold()) == (own.t2_label.casefold(), own.t1_label.casefold()):
        raise Refusal(
            f"{start} was trained with {like.t1_label} as the first contrast and {like.t2_label} as the second: give "
            "the folders and labels in that order to begin from it."
        )
    return with_networks_of(like, replace(config, start=start))


def about_start(start: str) -> About:
    """What the model to begin from says of itself. Raises `Refusal`."""
    return read_about(_path_of(start))


def _path_of(start: str) -> Path:
    """`sample` is the general model here, whatever lies in the working folder: a run's record names it."""
    return SAMPLE if start == SAMPLE_NAME else Path(start)


def with_networks_of(like: ModelConfig, config: TrainConfig) -> TrainConfig:
    """A config with the network settings of another."""
    return replace(config, model=replace(config.model, **{name: getattr(like, name) for name in NETWORKS}))


def begin_from(start: str, gan: CycleGAN) -> None:
    """Give the generators the weights of a model; the discriminators begin anew. Raises `Refusal`."""
    model = load_model(_path_of(start))
    for side, own in (("t2", gan.t1_to_t2), ("t1", gan.t2_to_t1)):
        own.load_state_dict(model.generator(cast("Side", side)).state_dict())


def general_fits(config: TrainConfig, t1: tuple[Slices, Indices], t2: tuple[Slices, Indices], *, falling: bool) -> bool:
    """Whether training may and should begin from the general model, by slices of each contrast."""
    if not may_begin_from_sample(config):
        return False
    model = load_model(SAMPLE)
    one, other = (
        np.stack([_into(s.intensity, like)(s.images[i]) for i in chosen[evenly(len(chosen), SOME)]])
        for (s, chosen), like in zip((t1, t2), (model.about.ranges[side] for side in SIDES), strict=True)
    )
    return knows(model, one, other, falling=falling)


def in_range_of(slices: Slices, like: Intensity) -> Slices:
    """The slices, changed in place, with as many medians of the head between -1 and 1 as a model was trained with."""
    if slices.intensity.headroom == like.headroom:
        return slices
    change_intensities(slices.images, _into(slices.intensity, like))
    return replace(slices, intensity=slices.intensity.with_headroom(like.headroom))


def air_around(slices: Slices, chosen: Indices) -> float:
    """The value around the heads, in units: networks that begin from a model, and learn slowly, keep that one's air.

    The median, so that a frame or a mask of nothing counts for what it is.
    """
    some = [slices.images[i] for i in chosen[evenly(len(chosen), SOME)]]
    around = np.concatenate([image[~head_mask(image)] for image in some])
    level = np.median(around, keepdims=True) if around.size else np.full(1, -1, np.float32)
    return float(slices.intensity.from_unit(level.astype(np.float32))[0])


def _into(own: Intensity, like: Intensity) -> Callable[[Image], Image]:
    return lambda image: own.with_headroom(like.headroom).to_unit(own.from_unit(image))


def knows(model: Model, t1: Image, t2: Image, *, falling: bool) -> bool:
    """Whether what a model makes of T1 is nearer to T2 than a recolouring, and the other way round as well.

    T1 and T2 are (N, rows, columns) in [-1, 1], of any heads. Nearer is what has more alike patches, fine and coarse
    ones, by sliced Wasserstein distance (Rabin et al., 2011). The recolouring brings the intensities of the head,
    `falling` or rising, to the other's.
    """
    sides: tuple[tuple[Side, Image, Image], ...] = (("t2", t1, t2), ("t1", t2, t1))
    for side, source, target in sides:
        with torch.inference_mode():
            made = [model.generator(side)(torch.from_numpy(image)[None, None])[0, 0].numpy() for image in source]
        if apart(np.stack(made), target) >= apart(_recoloured(source, target, falling=falling), target):
            return False
    return True


def apart(one: Image, other: Image) -> float:
    """How far the patches of two stacks (N, H, W) are from each other, sliced Wasserstein, in their units."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((PATCH * PATCH, DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    levels = np.linspace(0.005, 0.995, 200)
    total = 0.0
    for scale in (1, COARSE):
        one_side, other_side = (
            np.quantile(_patches(images, scale, rng) @ directions, levels, axis=0) for images in (one, other)
        )
        total += float(np.abs(one_side - other_side).mean())
    return total


def _patches(images: Image, scale: int, rng: np.random.Generator) -> Image:
    """(patches, pixels) of the head, at random; of slices smaller than one, what there is as air."""
    coarse = avg_pool2d(torch.from_numpy(images)[:, None], scale, ceil_mode=True)
    room = [max(0, PATCH - side) for side in coarse.shape[-2:]]
    coarse = torch.nn.functional.pad(coarse, (0, room[1], 0, room[0]), value=-1.0)
    shown = avg_pool2d((coarse > SHOWN).float(), PATCH, 2).flatten().numpy()
    head = np.flatnonzero(shown > 0.25)
    chosen = rng.permutation(head if len(head) else len(shown))[:PATCHES]
    each = coarse[:, 0].unfold(1, PATCH, 2).unfold(2, PATCH, 2)  # a view: of large slices all are gigabytes
    patches: Image = each[np.unravel_index(chosen, each.shape[:3])].reshape(-1, PATCH * PATCH).numpy()
    return patches


def _recoloured(source: Image, target: Image, *, falling: bool) -> Image:
    """The heads of a stack with the intensities of another's, the darkest or the brightest first; air as it is."""
    head, like = source > SHOWN, target > SHOWN
    if not (head.any() and like.any()):
        return source
    levels = np.linspace(0, 1, 256)
    out = source.copy()
    wanted = np.quantile(target[like], 1 - levels if falling else levels)
    out[head] = np.interp(source[head], np.quantile(source[head], levels), wanted)
    return out
