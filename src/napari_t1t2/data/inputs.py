"""Slices as the networks take them: the image, and how deep below the surface of the head each pixel lies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter
from torch import Tensor

from ..config import ModelConfig
from ..images.head import head_mask
from ..images.volume import Image
from .stored import HeldSlices, Images


def polarity(images: Images, chosen: npt.NDArray[np.intp]) -> float:
    """Whether fine structure inside the head is dark (negative) or bright (positive) against what surrounds it.

    The skewness of slices minus their local mean, away from the scalp. The sulci are dark in T1 (about -0.9 in five
    sets of real and simulated heads) and bright in T2 (about 1.3); it needs no pairs and no common pose.
    """
    found: list[float] = []
    for index in chosen[:: max(1, len(chosen) // 20)]:
        image = images[index]
        inside = binary_erosion(head_mask(image), iterations=image.shape[0] // 10)
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
    depth: Image = np.zeros(image.shape, np.float32)
    head = head_mask(image)
    if head.any():
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


def hold(images: Image, model: ModelConfig) -> HeldSlices:
    """(N, H, W) in [-1, 1] with what the networks take beside them."""
    return HeldSlices(as_input(images, model).numpy(), np.arange(len(images)))
