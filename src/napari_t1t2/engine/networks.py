"""The two networks of a CycleGAN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from .config import ModelConfig

WIDEST = 512
SMALLEST, SMALLEST_COARSE = 24, 16  # sides of a slice that leave a discriminator a map it can normalise


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
        x = x + 1  # air becomes 0, which is also what the convolutions pad with: no seam at the border
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


class Discriminator(nn.Module):
    """Scores of patches, high where they look real, at full size and, to see the whole head, on a shrunken slice.

    A PatchGAN of 70x70 (Isola et al., 2017) judges texture but sees too little of a head to notice that white matter
    should be darker than grey; a second one on the slice shrunk by `coarse` does (Wang et al., 2018).
    """

    def __init__(self, channels: int, coarse: int) -> None:
        super().__init__()
        self.coarse = coarse
        self.fine = _patch_gan(channels, halvings=3)
        self.whole = _patch_gan(channels, halvings=2) if coarse > 1 else None

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 1, H, W) to one or two score maps (B, 1, h, w)."""
        scores = [self.fine(x)]
        if self.whole is not None:
            height, width = (max(side // self.coarse, SMALLEST_COARSE) for side in x.shape[-2:])
            scores.append(self.whole(adaptive_avg_pool2d(x, (height, width))))
        return scores


def _patch_gan(channels: int, *, halvings: int) -> nn.Sequential:
    widths = [min(channels * 2**i, WIDEST) for i in range(halvings + 1)]
    network = nn.Sequential(
        *(
            _down(before, after, normed=i > 0)
            for i, (before, after) in enumerate(zip([1, *widths], widths[:-1], strict=False))
        ),
        nn.Conv2d(widths[-2], widths[-1], 4, 1, 1, bias=False),
        nn.InstanceNorm2d(widths[-1]),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(widths[-1], 1, 4, 1, 1),
    )
    return network.apply(_paper_weights)


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
