"""How the learning rate and the cycle weight change over a run's budget of minutes or steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..config import TrainConfig
from ..model.checkpoint import Began, Checkpoint

MOST = 0.5  # of the slices
WARM = 0.02  # of the learning rate where training begins from a model, so as not to lose what it knows
EVERY, BESIDE_PAIRS = 4, 0.3  # steps, and the weight of the unpaired losses in such a step


@dataclass(frozen=True)
class Schedule:
    """A position, from 0 to 1 at the end of the budget, and what it means.

    Of a budget in steps it depends on the step alone, so that the same seed gives the same run; of one in minutes it
    follows the clock. A run that is given another budget goes on from the position where it stood, and reaches 1 at
    the end of the new one; so the cycle weight never falls back. A run whose learning rate had fallen below half
    begins again at half, as in warm restarts (Loshchilov and Hutter, 2017): with none left it would learn nothing.
    """

    config: TrainConfig
    began: Began = (0.0, 0, 0.0)

    @classmethod
    def of_resumed(cls, config: TrainConfig, saved: Checkpoint) -> Schedule:
        """The schedule of a saved run that goes on, with the budget it had or another one."""
        minutes, steps = saved.budget
        own = cls(replace(config, minutes=minutes, steps=steps), saved.position.began)
        if (config.minutes, config.steps) == saved.budget:
            return own
        half = (1 + config.decay_from) / 2
        at = saved.position
        return cls(config, (min(own.position(at.step, at.seconds), half), at.step, at.seconds))

    def used(self, step: int, seconds: float) -> float:
        """How much of the budget is used, by steps or by time, whichever is further."""
        by_steps = step / self.config.steps if self.config.steps else 0.0
        by_time = seconds / (60 * self.config.minutes) if self.config.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def position(self, step: int, seconds: float) -> float:
        """Where the schedules stand."""
        at, began_step, began_seconds = self.began
        before, used = self.used(began_step, began_seconds), self.used(step, seconds)
        return 1.0 if used >= 1 else at + (1 - at) * (used - before) / (1 - before)

    def unpaired_weight(self, step: int, share: float) -> float:
        """Of all losses but the paired one.

        Where most slices have a partner, a part of it in some of the steps suffices: pairs teach more in less time.
        """
        return 1.0 if share < MOST else (BESIDE_PAIRS if step % EVERY == 0 else 0.0)

    def learning_rate(self, position: float) -> float:
        """Constant up to `decay_from`, then falling linearly to 0; small where a model was begun from."""
        c = self.config
        rate = c.learning_rate * (WARM if c.start else 1.0)
        return rate * (1.0 if position <= c.decay_from else (1 - position) / (1 - c.decay_from))

    def cycle_weight(self, position: float) -> float:
        """A tenth at the start, rising linearly to the whole at `cycle_warmup`; whole where a model was begun from."""
        c = self.config
        whole = position >= c.cycle_warmup or c.start
        return c.cycle_weight * (1.0 if whole else 0.1 + 0.9 * position / c.cycle_warmup)
