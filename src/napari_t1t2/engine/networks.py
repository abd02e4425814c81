"""The two networks of a CycleGAN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import ModelConfig

WIDEST = 512


class UNetGenerator(nn.Module):
    """A slice of one contrast in, the same slice in the other out.

    The U-Net of Isola et al. (2017) with InstanceNorm: each level halves by a 4x4 convolution, each level back
    doubles and sees the skip. The deepest map is not normalised, as it may be a single pixel.
    With `upsample="resize"` levels double by a convolution and a bilinear resize (no checkerboard; Odena et al.,
    2016), and two convolutions at full size, beside the way down, keep the finest detail.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = [min(config.channels * 2**level, WIDEST) for level in range(config.levels)]
        deepest = len(widths) - 1
        transposed = config.upsample == "transposed"
        fine = 0 if transposed else config.channels // 2
        self.stem = nn.Sequential(nn.Conv2d(1, fine, 3, 1, 1), nn.LeakyReLU(0.2, inplace=True)) if fine else None
        self.down = nn.ModuleList(
            _down(before, after, normed=0 < level < deepest)
            for level, (before, after) in enumerate(zip([fine or 1, *widths], widths, strict=False))
        )
        self.up = nn.ModuleList(
            _up(widths[level] * (1 if level == deepest else 2), widths[level - 1], transposed)
            for level in range(deepest, 0, -1)
        )
        top = widths[0] * (2 if deepest else 1)
        if fine:
            self.last_up = _up(top, fine, transposed)
            self.head = nn.Sequential(
                nn.Conv2d(2 * fine, fine, 3, 1, 1), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(fine, 1, 3, 1, 1)
            )
        else:
            self.last_up = nn.Sequential()
            self.head = nn.Sequential(nn.ConvTranspose2d(top, 1, 4, 2, 1))
        self.apply(_paper_weights)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) to (B, 1, H, W); H and W are multiples of `2**levels`."""
        skips: list[Tensor] = []
        if self.stem is not None:
            x = self.stem(x)
            skips.append(x)
        for down in self.down:
            x = down(x)
            skips.append(x)

        skips.pop()  # the deepest features are x itself
        for up in self.up:
            x = torch.cat([up(x), skips.pop()], dim=1)

        if skips:
            x = torch.cat([self.last_up(x), skips.pop()], dim=1)
        return torch.tanh(self.head(x))


class PatchDiscriminator(nn.Sequential):
    """One score per 70x70 patch: high where the patch looks real (Isola et al., 2017)."""

    def __init__(self, channels: int) -> None:
        w = channels
        super().__init__(
            _down(1, w, normed=False),
            _down(w, w * 2, normed=True),
            _down(w * 2, w * 4, normed=True),
            nn.Conv2d(w * 4, min(w * 8, WIDEST), 4, 1, 1, bias=False),
            nn.InstanceNorm2d(min(w * 8, WIDEST)),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(min(w * 8, WIDEST), 1, 4, 1, 1),
        )
        self.apply(_paper_weights)


def _down(channels_in: int, channels_out: int, *, normed: bool) -> nn.Sequential:
    norm = [nn.InstanceNorm2d(channels_out)] if normed else []
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 4, 2, 1, bias=not normed), *norm, nn.LeakyReLU(0.2, inplace=True)
    )


def _up(channels_in: int, channels_out: int, transposed: bool) -> nn.Sequential:
    if transposed:
        double: list[nn.Module] = [nn.ConvTranspose2d(channels_in, channels_out, 4, 2, 1, bias=False)]
    else:  # convolving the small map costs a quarter of convolving the large one
        double = [
            nn.Conv2d(channels_in, channels_out, 3, 1, 1, bias=False),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        ]
    return nn.Sequential(*double, nn.InstanceNorm2d(channels_out), nn.ReLU(inplace=True))


def _paper_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
