"""The two networks of a CycleGAN: a U-Net generator and a multi-scale PatchGAN discriminator."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from ..config import SMALLEST_COARSE, ModelConfig
from .cpu_layers import Double, Down, SliceNorm

WIDEST = 512
KNOTS = 17
KNOT_SCALE = 25.0  # Adam moves every weight alike; this lets a knot cross its range in some hundred steps
AIR = -3.0  # tanh makes it -1
OPEN = 2.0  # before the sigmoid: a gate begins at 0.88
NEAR = 0.06  # of the head's radius; how far below the surface still counts as near it


class UNetGenerator(nn.Module):
    """The generator: a slice of one contrast in, the same slice in the other out.

    The U-Net of Isola et al. (2017) with InstanceNorm, skip connections and tanh: each level halves by a 4x4
    convolution, each level back doubles and sees the skip. The deepest map is not normalised, as it may be a single
    pixel. With `upsample="resize"` levels double by a convolution and a bilinear resize (no checkerboard; Odena et al.,
    2016), and two convolutions at full size, beside the way down, keep the finest detail. With `tone_curve` the U-Net
    corrects a `ToneCurve`; with `gate` it also says where that counts. With `depth` the input has a second channel,
    `inputs.depth_of`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = [min(config.channels * 2**level, WIDEST) for level in range(config.levels)]
        deepest = len(widths) - 1
        transposed = config.upsample == "transposed"
        fine = 0 if transposed else config.channels // 2
        seen = _channels(config.depth)
        self.stem = nn.Sequential(nn.Conv2d(seen, fine, 3, 1, 1), nn.LeakyReLU(0.2, inplace=True)) if fine else None
        self.down = nn.ModuleList(
            _down(before, after, normed=0 < level < deepest)
            for level, (before, after) in enumerate(zip([fine or seen, *widths], widths, strict=False))
        )
        self.up = nn.ModuleList(
            _up(widths[level] * (1 if level == deepest else 2), widths[level - 1], transposed)
            for level in range(deepest, 0, -1)
        )
        top = widths[0] * (2 if deepest else 1)
        made = 1 + (config.tone_curve and config.gate)
        last: nn.Conv2d | nn.ConvTranspose2d
        if fine:
            last = nn.Conv2d(fine, made, 3, 1, 1)
            self.last_up = _up(top, fine, transposed)
            self.head = nn.Sequential(nn.Conv2d(2 * fine, fine, 3, 1, 1), nn.LeakyReLU(0.2, inplace=True), last)
        else:
            last = nn.ConvTranspose2d(top, made, 4, 2, 1)
            self.last_up = nn.Sequential()
            self.head = nn.Sequential(last)
        self.apply(_paper_weights)
        self.tone = ToneCurve() if config.tone_curve else None
        if self.tone is not None:  # the curve comes first, the U-Net learns to correct it
            nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W), or with depth (B, 2, H, W), to (B, 1, H, W); H and W are multiples of `2**levels`."""
        image = x[:, :1]
        tone = 0 if self.tone is None else self.tone(image)
        # air becomes 0, which is also what the convolutions pad with: no seam at the border
        x = torch.cat([image + 1, _surface(x[:, 1:])], dim=1)
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
        correction, *gate = self.head(x).float().split(1, dim=1)
        return torch.tanh((tone * torch.sigmoid(gate[0] + OPEN) if gate else tone) + correction)


class ToneCurve(nn.Module):
    """A learned lookup table of brightness, piecewise linear over equal steps of [-1, 1]; air stays air.

    Most of what tells T1 from T2 is such a curve. Found in the first minute, it leaves to the U-Net what brightness
    alone cannot decide, and it cannot treat a thin band of white matter otherwise than a thick one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.knots = nn.Parameter(torch.zeros(KNOTS - 1))
        self.start(falling=False)

    def start(self, *, falling: bool) -> None:
        """Begin as a straight line, up or down; what is nearly air, noise and bone, begins as nearly air."""
        line = torch.linspace(-1, 1, KNOTS)[1:] * (-1 if falling else 1)
        line[:2] = torch.tensor([AIR, AIR / 3])
        with torch.no_grad():
            self.knots.copy_(line / KNOT_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) in [-1, 1] to what goes into a tanh."""
        heights = torch.cat([self.knots.new_tensor([AIR]), self.knots * KNOT_SCALE])
        at = (x.clamp(-1, 1) + 1) * ((KNOTS - 1) / 2)
        below = at.detach().nan_to_num().long().clamp_max(KNOTS - 2)  # a diverged run ends with a sentence, not here
        return torch.lerp(heights[below], heights[below + 1], at - below)


class Discriminator(nn.Module):
    """The discriminator, a multi-scale PatchGAN: scores of patches, high where they look real.

    A PatchGAN of 70x70 (Isola et al., 2017) judges texture but sees too little of a head to notice that white matter
    should be darker than grey; a second one on the slice downsampled by `coarse` does (Wang et al., 2018).
    """

    def __init__(self, channels: int, *, coarse: int, normed: bool, depth: bool = False) -> None:
        super().__init__()
        self.coarse = coarse
        seen = _channels(depth)
        self.fine = _patch_gan(seen, channels, halvings=3, normed=normed)
        self.whole = _patch_gan(seen, channels, halvings=2, normed=normed) if coarse > 1 else None

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 1, H, W), or with depth (B, 2, H, W), to one or two score maps (B, 1, h, w)."""
        x = torch.cat([x[:, :1], _surface(x[:, 1:])], dim=1)
        scores = [self.fine(x)]
        if self.whole is not None:
            height, width = (max(side // self.coarse, SMALLEST_COARSE) for side in x.shape[-2:])
            scores.append(self.whole(adaptive_avg_pool2d(x, (height, width))))
        return scores


def _channels(depth: bool) -> int:
    return 3 if depth else 1


def _surface(depth: Tensor) -> Tensor:
    """Depth, and how near the surface is, 1 there and 0 in air; of no channel, none."""
    return torch.cat([depth, torch.exp(-depth / NEAR) * (depth > 0)], dim=1)


def _patch_gan(seen: int, channels: int, *, halvings: int, normed: bool) -> nn.Sequential:
    widths = [min(channels * 2**i, WIDEST) for i in range(halvings + 1)]
    steps = zip([seen, *widths[:-1]], widths, strict=True)
    layers = [
        _down(before, after, normed=normed and i > 0, stride=1 if i == halvings else 2)
        for i, (before, after) in enumerate(steps)
    ]
    network = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))
    return network.apply(_paper_weights if normed else _steady_weights)


def _down(channels_in: int, channels_out: int, *, normed: bool, stride: int = 2) -> nn.Sequential:
    norm = [SliceNorm(channels_out)] if normed else []
    return nn.Sequential(
        Down(channels_in, channels_out, 4, stride, 1, bias=not normed), *norm, nn.LeakyReLU(0.2, inplace=True)
    )


def _up(channels_in: int, channels_out: int, transposed: bool) -> nn.Sequential:
    if transposed:
        double: list[nn.Module] = [Double(channels_in, channels_out, 4, 2, 1, bias=False)]
    else:  # convolving the small map costs a quarter of convolving the large one
        double = [
            nn.Conv2d(channels_in, channels_out, 3, 1, 1, bias=False),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        ]
    return nn.Sequential(*double, SliceNorm(channels_out), nn.ReLU(inplace=True))


def _paper_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _steady_weights(module: nn.Module) -> None:
    """Keep the size of signals through layers that are not normalised (He et al., 2015)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, a=0.2)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
