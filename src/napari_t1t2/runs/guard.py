"""What keeps a training from being lost: it stops where it has diverged, and is interrupted between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..errors import Refusal
from ..model.cyclegan import CycleGAN

FAR = 1000.0  # times its weight: no loss of images in [-1, 1] gets there, but one of scores without bounds
RANGE = 0.01  # between the darkest and the brightest pixel: less is one grey
SETTLED = 100  # steps in which a generator may pass through anything


class Guard:
    """Looks whether a training still learns, by its losses, its weights and a held-out slice of each contrast."""

    def __init__(self, gan: CycleGAN, shown: tuple[Tensor, Tensor]) -> None:
        self._gan, self._shown = gan, shown
        c = gan.config
        self._limits = {
            "adversarial": FAR * max(1.0, c.adversarial_weight),
            "discriminators": FAR,
        }
        self._drew = self._ranges()  # a generator that begins with one grey is not judged by that

    def check_losses(self, means: dict[str, float], step: int, saved_at: int) -> None:
        """Raises `Refusal` where a loss is beyond all bounds. NaN is left to the weights, which it reaches at once."""
        for name, value in means.items():
            if value > self._limits.get(name, float("inf")):
                raise self._diverged(f"the {name} loss is {value:.3g}", step, saved_at)

    def check_weights(self, step: int, saved_at: int) -> None:
        """Raises `Refusal` where a weight is not finite."""
        if not torch.stack([torch.isfinite(p).all() for p in self._gan.parameters()]).all():
            raise self._diverged("a weight is no longer a number", step, saved_at)

    def check_images(self, step: int, saved_at: int) -> None:
        """Raises `Refusal` where a generator that drew an image now draws one grey."""
        if step < SETTLED:
            return
        names = self._gan.config.model.t2_label, self._gan.config.model.t1_label
        for name, before, now in zip(names, self._drew, self._ranges(), strict=True):
            if before > 10 * RANGE and now < RANGE:
                raise self._diverged(f"every pixel of the synthetic {name} is the same", step, saved_at)

    @torch.inference_mode()
    def _ranges(self) -> tuple[float, float]:
        """Between the darkest and the brightest pixel of the synthetic T2 and T1."""
        t1, t2 = self._shown
        with self._gan.averaged():
            made = self._gan.t1_to_t2(t1), self._gan.t2_to_t1(t2)
        return float(made[0].max() - made[0].min()), float(made[1].max() - made[1].min())

    def _diverged(self, how: str, step: int, saved_at: int) -> Refusal:
        kept = f"the model of step {saved_at} is kept" if saved_at >= 0 else "nothing was saved yet"
        return Refusal(
            f"Training diverged before step {step} ({how}): {kept}. Lower the learning_rate and train again."
        )


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C, where Python would raise it anywhere, wait for the end: of half a step there is nothing to save."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt
