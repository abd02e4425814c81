"""How the networks are judged, and the memory of past synthetic slices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, l1_loss, mse_loss

from ..images.head import BACKGROUND

APART = 2  # pixels between the patches that are compared
REACH, BLOCK = 2, 32  # pixels that a partner may be off, and sides of the blocks that may be so each by itself
FLAT = 1e-3  # of the squared range; less is noise

Verdict = Callable[[Tensor, float], Tensor]  # (score map, 1 for real or 0 for synthetic) -> loss


def least_squares(score: Tensor, verdict: float) -> Tensor:
    """How far a score map is from the verdict (LSGAN, Mao et al., 2017)."""
    return mse_loss(score, torch.full_like(score, verdict))


def cross_entropy(score: Tensor, verdict: float) -> Tensor:
    """The original GAN's loss, the score map being logits (Goodfellow et al., 2014)."""
    return binary_cross_entropy_with_logits(score, torch.full_like(score, verdict))


def structure(made: Tensor, source: Tensor) -> Tensor:
    """How far the anatomy of (B, 1, H, W) is from that of its source, whatever the brightness of the tissues.

    The mean difference of their self-similarity: how much each patch resembles those above, below and beside it (MIND,
    Heinrich et al., 2012). Two generators that shift every sulcus, one to the left and one back, have no cycle loss.
    """
    return l1_loss(self_similarity(made), self_similarity(source))


def self_similarity(x: Tensor) -> Tensor:
    """(B, 1, H, W) to (B, 4, H - 6, W - 6), 1 where a neighbouring patch is the same: all lie inside the crop."""
    height, width = x.shape[-2:]

    def moved(down: int, right: int) -> Tensor:
        return x[..., APART + down : height - APART + down, APART + right : width - APART + right]

    steps = ((0, APART), (APART, 0), (0, -APART), (-APART, 0))
    apart = avg_pool2d(torch.cat([(moved(0, 0) - moved(*step)) ** 2 for step in steps], dim=1), 3, 1)
    return torch.exp(-apart / apart.mean(dim=1, keepdim=True).clamp_min(FLAT))


def intrusion(made: Tensor, source: Tensor) -> Tensor:
    """How much brighter than noise (B, 1, H, W) is where its source shows the air around the head; mean of all pixels.

    Self-similarity knows no bright from dark. Unpaired, scalp and bone may swap, fat dark over bright bone, with a new
    bright ring drawn outside the head; where nothing may be drawn there, they keep their places.
    """
    return ((made - BACKGROUND).clamp_min(0) * around_head(source)).mean()


def around_head(x: Tensor) -> Tensor:
    """1 where (B, 1, H, W) is air from which one looks along two axes or more out of the image, else 0.

    One way may lead out of a ventricle that the crop cuts. Noise counts as air, and a pixel beside the head as head.
    """
    head = (avg_pool2d(x, 3, 1, 1, count_include_pad=False) > BACKGROUND).float()
    before = [head.cumsum(axis) for axis in (-1, -2)]  # so many of the head's pixels on the way, this one included
    after = [head.sum(axis, keepdim=True) - b + head for axis, b in zip((-1, -2), before, strict=True)]
    return (torch.stack([*before, *after]).eq(0).sum(0) >= 2).float()


def forgiving_l1(made: Tensor, real: Tensor) -> Tensor:
    """Mean absolute error of (B, 1, H, W), in each block with that small shift of the real slice that fits best.

    Registration leaves a millimetre or two; where it is held against the generator, it learns to blur.
    """
    height, width = made.shape[-2] - 2 * REACH, made.shape[-1] - 2 * REACH
    inner = made[..., REACH : REACH + height, REACH : REACH + width]
    steps = range(2 * REACH + 1)
    block = min(BLOCK, height, width)
    errors = [
        avg_pool2d((inner - real[..., down : down + height, right : right + width]).abs(), block, ceil_mode=True)
        for down in steps
        for right in steps
    ]
    return torch.stack(errors).amin(dim=0).mean()


class ImagePool:
    """Past synthetic slices, so that a discriminator does not chase the generator's last trick.

    Half of what it is asked for are slices from the past (Shrivastava et al., 2017). `images` is None while empty.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: Tensor | None = None  # (up to size, 1, H, W)

    def swap(self, fresh: Tensor, rng: np.random.Generator) -> Tensor:
        """(B, 1, H, W) of new slices in, as many out, some of them old."""
        if self.size == 0:
            return fresh
        given: list[Tensor] = []
        kept = [] if self.images is None else list(self.images)
        for image in fresh:
            if len(kept) < self.size:
                kept.append(image)
                given.append(image)
            elif rng.random() < 0.5:
                old = int(rng.integers(self.size))
                given.append(kept[old])
                kept[old] = image
            else:
                given.append(image)
        self.images = torch.stack(kept)
        return torch.stack(given)
