"""The model that did best on the held-out slice, kept beside the last one."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..errors import Refusal
from ..model.about import About, read_about
from ..model.cyclegan import CycleGAN
from ..model.saved import save_model
from .folder import BEST_FILE


class Best:
    """Of the models that a run saves, that of the lowest error on the slice held out, where that can be known.

    The error is that of `card["held_out"]`, beside that of doing nothing, as another slice may be chosen meanwhile.
    """

    def __init__(self, run: Path, *, resumed: bool) -> None:
        self._path, self._least = run / BEST_FILE, math.inf
        with suppress(Refusal, OSError):
            if resumed:
                self._least = relative_error(read_about(self._path, brief=True))
            else:
                self._path.unlink(missing_ok=True)

    def keep(self, gan: CycleGAN, about: About) -> None:
        """Write the model if it is better than those before it."""
        if (error := relative_error(about)) < self._least:
            save_model(self._path, gan, about)
            self._least = error


def relative_error(about: About) -> float:
    """Of the slice held out, 1 as of doing nothing, mean of both contrasts; infinite where it is not known."""
    ratios = [made / max(nothing, 1e-9) for made, nothing in about.card.get("held_out", {}).values()]
    return float(np.mean(ratios)) if ratios else math.inf
