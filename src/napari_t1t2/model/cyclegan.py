"""Four networks, two optimizers, one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ..config import TrainConfig
from .cpu_layers import arrange
from .device import autocast
from .losses import ImagePool, Verdict, cross_entropy, forgiving_l1, intrusion, least_squares, structure
from .memory import Footprint, free_memory, kept_for_backward
from .networks import Discriminator, UNetGenerator
from .ranks import ALONE, Ranks

KEPT = 0.998  # of the running mean of the generators with every step: it spans some 500


@dataclass(frozen=True, slots=True)
class Made:
    """What the generators made of one batch. `back_t1` is T1 -> T2 -> T1, `same_t1` is T1 put in for a T2."""

    fake_t1: Tensor
    fake_t2: Tensor
    back_t1: Tensor
    back_t2: Tensor
    same_t1: Tensor | None
    same_t2: Tensor | None


class CycleGAN(nn.Module):
    """Unpaired translation between two contrasts (Zhu et al., 2017)."""

    def __init__(self, config: TrainConfig, ranks: Ranks = ALONE) -> None:
        super().__init__()
        self.config = config
        self.ranks = ranks
        self.verdict: Verdict = least_squares if config.adversarial == "least squares" else cross_entropy
        self.t1_to_t2, self.t2_to_t1 = UNetGenerator(config.model), UNetGenerator(config.model)
        self.disc_t1, self.disc_t2 = (
            Discriminator(config.disc_channels, coarse=config.coarse, normed=config.disc_norm, depth=config.model.depth)
            for _ in range(2)
        )
        arrange(self)
        self.generator_adam = self._adam(self.t1_to_t2, self.t2_to_t1)
        self.discriminator_adam = self._adam(self.disc_t1, self.disc_t2)
        self.means: list[Tensor] = []  # of the generators' weights, over the last steps
        self.mean_of = 0  # steps
        self.cycle_weight = config.cycle_weight  # of the next step; training may raise it slowly
        self.pool_t1, self.pool_t2 = ImagePool(config.pool), ImagePool(config.pool)
        self.footprint = Footprint(config.batch)

    def start(self, *, falling: bool) -> None:
        """Let the intensity mappings begin falling, where what is dark in one contrast is bright in the other."""
        for generator in (self.t1_to_t2, self.t2_to_t1):
            if generator.tone is not None:
                generator.tone.start(falling=falling)

    def step(
        self,
        t1: Tensor,
        t2: Tensor,
        rng: np.random.Generator,
        pair: tuple[Tensor, Tensor] | None = None,
        unpaired: float = 1.0,
    ) -> dict[str, Tensor]:
        """Improve the generators, then the discriminators. Returns detached losses, still on the device.

        `pair` are a T1 and a T2 batch that show the same slices; they count with `paired_weight`, and all other losses
        with `unpaired`. Where the memory runs out, the same step is made again in smaller parts, with the same result.
        """
        c = self.config
        fakes, losses = self.footprint.retry_smaller(lambda: self._learn_to_make(t1, t2, pair, unpaired))
        self._descend(self.generator_adam, losses)
        self._average()
        if c.adversarial_weight and unpaired:
            fake_t1, fake_t2 = (with_depth_of(made, source) for made, source in zip(fakes, (t2, t1), strict=True))
            fake_t1 = self._mix_with_past(self.pool_t1, fake_t1, rng)
            fake_t2 = self._mix_with_past(self.pool_t2, fake_t2, rng)
            judged = self.footprint.retry_smaller(lambda: self._learn_to_judge(t1, t2, fake_t1, fake_t2))
            self._descend(self.discriminator_adam, judged)
            losses |= judged
        return losses

    def _descend(self, adam: torch.optim.Adam, losses: dict[str, Tensor]) -> None:
        """A step along the gradients of the whole batch, whose losses these become; each process has those of its part.

        They are exchanged after the backward, not during it as by DistributedDataParallel: a process whose memory runs
        out makes its backward again, by itself.
        """
        gradients = [p.grad for group in adam.param_groups for p in group["params"] if p.grad is not None]
        self.ranks.average([*gradients, *losses.values()])
        adam.step()

    def _generator_weights(self) -> list[Tensor]:
        return [p.detach() for network in (self.t1_to_t2, self.t2_to_t1) for p in network.parameters()]

    def _average(self) -> None:
        """Add the generators to their running mean, which forgets the first steps."""
        weights = self._generator_weights()
        self.means = self.means or [weight.clone() for weight in weights]
        torch._foreach_lerp_(self.means, weights, 1 - min(KEPT, self.mean_of / (self.mean_of + 10)))
        self.mean_of += 1

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Meanwhile the generators have the mean of their last weights, with which a model is saved and shown.

        Adversarial training circles around where it should go; the mean is nearer (Yazici et al., 2019).
        """
        weights = self._generator_weights()
        own = [weight.clone() for weight in weights]
        for weight, mean in zip(weights, self.means, strict=False):
            weight.copy_(mean)
        try:
            yield
        finally:
            for weight, before in zip(weights, own, strict=True):
                weight.copy_(before)

    def _mix_with_past(self, pool: ImagePool, fresh: Tensor, rng: np.random.Generator) -> Tensor:
        """What the pool gives for new slices. Every process has the same pool, of all slices."""
        swapped = pool.swap(self.ranks.gather(fresh), rng)
        return swapped[self.ranks.part(len(swapped))]

    def _learn_to_make(
        self, t1: Tensor, t2: Tensor, pair: tuple[Tensor, Tensor] | None, unpaired: float
    ) -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]]:
        """Gradients of the generators; returns the fakes, T1 and T2, and the losses."""
        c = self.config
        self.generator_adam.zero_grad(set_to_none=True)
        fakes: list[tuple[Tensor, Tensor]] = []
        total: dict[str, Tensor] = {}
        for part, share in self.footprint.parts(len(t1)):
            losses: dict[str, Tensor] = {}
            with frozen(self.disc_t1, self.disc_t2), autocast(t1.device, c.precision):
                if unpaired and (c.adversarial_weight or c.cycle_weight or c.identity_weight or c.structure_weight):
                    made = self.translate(t1[part], t2[part])
                    whole = self.generator_losses(t1[part], t2[part], made)
                    losses |= {name: unpaired * loss for name, loss in whole.items()}
                    fakes.append((made.fake_t1.detach(), made.fake_t2.detach()))
                if pair:
                    losses["paired"] = c.paired_weight * self.paired_loss(pair[0][part], pair[1][part])
            _add_gradients(losses, share, total)
        fake_t1, fake_t2 = (torch.cat([pair[side] for pair in fakes]) if fakes else t1[:0] for side in (0, 1))
        return (fake_t1, fake_t2), total

    def _learn_to_judge(self, t1: Tensor, t2: Tensor, fake_t1: Tensor, fake_t2: Tensor) -> dict[str, Tensor]:
        """Gradients of the discriminators; returns their loss."""
        self.discriminator_adam.zero_grad(set_to_none=True)
        total: dict[str, Tensor] = {}
        for part, share in self.footprint.parts(len(t1)):
            with autocast(t1.device, self.config.precision):
                loss = self.discriminator_loss(t1[part], t2[part], fake_t1[part], fake_t2[part])
            _add_gradients({"discriminators": loss}, share, total)
        return total

    def fit(self, t1: Tensor, t2: Tensor) -> None:
        """Choose how much of such a batch is computed at once, from what one slice keeps and what memory is free."""
        c, device = self.config, t1.device
        numbers = sum(p.numel() for p in self.parameters())
        moments = 0 if self.generator_adam.state else 2  # that Adam has yet to make, beside the gradients
        means = 0 if self.means else sum(weight.numel() for weight in self._generator_weights())
        room = self.ranks.memory(device, free_memory(device, c.memory)) - 4 * (numbers * (1 + moments) + means)

        def kept(slices: int) -> int:
            def forward() -> Tensor:
                with frozen(self.disc_t1, self.disc_t2), autocast(device, c.precision):
                    some_t1, some_t2 = t1[:slices], t2[:slices]
                    losses = self.generator_losses(some_t1, some_t2, self.translate(some_t1, some_t2))
                return torch.stack(list(losses.values())).sum()

            return kept_for_backward(forward)

        one, two = kept(1), kept(min(2, len(t1)))
        each = two - one or one  # whatever their number, copies of the weights in bfloat16 are kept as well
        self.footprint.fit(len(t1), each, room - (one - each))

    def translate(self, t1: Tensor, t2: Tensor) -> Made:
        """Each contrast into the other, and back again.

        A generator translates one contrast and leaves the other alone in one forward: every slice is normalised
        by itself, so the two halves of the batch do not see each other.
        """
        run = self.footprint.run
        if not self.config.identity_weight:
            fake_t2, fake_t1, same_t1, same_t2 = run(self.t1_to_t2, t1), run(self.t2_to_t1, t2), None, None
        else:
            (fake_t2,), (same_t2,) = _in_one_forward(lambda x: [run(self.t1_to_t2, x)], t1, t2)
            (fake_t1,), (same_t1,) = _in_one_forward(lambda x: [run(self.t2_to_t1, x)], t2, t1)
        back_t1, back_t2 = (
            run(self.t2_to_t1, with_depth_of(fake_t2, t1)),
            run(self.t1_to_t2, with_depth_of(fake_t1, t2)),
        )
        return Made(fake_t1, fake_t2, back_t1, back_t2, same_t1, same_t2)

    def generator_losses(self, t1: Tensor, t2: Tensor, made: Made) -> dict[str, Tensor]:
        """Fool the discriminators, give the input back, keep the anatomy, leave the target contrast alone."""
        c = self.config
        image_t1, image_t2 = t1[:, :1], t2[:, :1]
        losses = {"cycle": self.cycle_weight * (l1_loss(made.back_t1, image_t1) + l1_loss(made.back_t2, image_t2))}
        if c.adversarial_weight:
            fakes = self.disc_t1(with_depth_of(made.fake_t1, t2)), self.disc_t2(with_depth_of(made.fake_t2, t1))
            fooled = self.adversarial_loss(fakes[0], 1) + self.adversarial_loss(fakes[1], 1)
            losses = {"adversarial": c.adversarial_weight * fooled} | losses
        if c.structure_weight:
            pairs = ((made.fake_t2, image_t1), (made.fake_t1, image_t2))
            moved = structure(*pairs[0]) + structure(*pairs[1])
            if c.air_weight:
                moved = moved + c.air_weight * (intrusion(*pairs[0]) + intrusion(*pairs[1]))
            losses["structure"] = c.structure_weight * moved
        if made.same_t1 is not None and made.same_t2 is not None:
            losses["identity"] = c.identity_weight * (l1_loss(made.same_t1, image_t1) + l1_loss(made.same_t2, image_t2))
        return losses

    def paired_loss(self, t1: Tensor, t2: Tensor) -> Tensor:
        """Mean absolute error of both generators on slices whose other contrast is known (pix2pix, Isola 2017)."""
        return forgiving_l1(self.t1_to_t2(t1), t2[:, :1]) + forgiving_l1(self.t2_to_t1(t2), t1[:, :1])

    def discriminator_loss(self, t1: Tensor, t2: Tensor, fake_t1: Tensor, fake_t2: Tensor) -> Tensor:
        """Tell real slices from made ones."""
        loss = torch.zeros((), device=t1.device)
        for judge, real, fake in ((self.disc_t1, t1, fake_t1), (self.disc_t2, t2, fake_t2)):
            on_real, on_fake = _in_one_forward(judge, real, fake)
            loss = loss + self.adversarial_loss(on_real, 1) + self.adversarial_loss(on_fake, 0)
        return 0.5 * loss

    def adversarial_loss(self, scores: Sequence[Tensor], verdict: float) -> Tensor:
        """How far the score maps are from a verdict, 1 for real; their mean."""
        return torch.stack([self.verdict(score, verdict) for score in scores]).mean()

    def set_learning_rate(self, rate: float) -> None:
        """For both optimizers, from the next step on."""
        for adam in (self.generator_adam, self.discriminator_adam):
            for group in adam.param_groups:
                group["lr"] = rate

    def _adam(self, *modules: nn.Module) -> torch.optim.Adam:
        parameters = [p for module in modules for p in module.parameters()]
        # fused: one pass over the weights instead of ten, half of a step where the networks are large
        return torch.optim.Adam(parameters, lr=self.config.learning_rate, betas=(self.config.beta1, 0.999), fused=True)


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Let gradients flow through the modules but not into them."""
    for module in modules:
        module.requires_grad_(False)
    try:
        yield
    finally:
        for module in modules:
            module.requires_grad_(True)


def with_depth_of(made: Tensor, source: Tensor) -> Tensor:
    """What was made of a source, (B, 1, H, W), with the depth that the source came with, if any."""
    return torch.cat([made, source[:, 1:]], dim=1)


def _in_one_forward(
    network: Callable[[Tensor], list[Tensor]], first: Tensor, second: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """What a network makes of two batches, together where their slices have one size, as that is faster."""
    if first.shape[1:] != second.shape[1:]:
        return network(first), network(second)
    made = network(torch.cat([first, second]))
    return [m[: len(first)] for m in made], [m[len(first) :] for m in made]


def _add_gradients(losses: dict[str, Tensor], share: float, total: dict[str, Tensor]) -> None:
    """Backward of a part of the batch; what it weighs in the batch's mean is added to the total."""
    weighed = {name: share * loss for name, loss in losses.items()}
    torch.stack(list(weighed.values())).sum().backward()  # type: ignore[no-untyped-call]
    for name, loss in weighed.items():
        total[name] = total[name] + loss.detach() if name in total else loss.detach()
