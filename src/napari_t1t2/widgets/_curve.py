"""The loss curve under the Train form."""

from __future__ import annotations

import time
from typing import Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

POINTS = 500  # drawn at most, whatever the length of the run
SECONDS = 1.0  # between two drawings, as drawing takes the GUI thread some 30 ms


def load_matplotlib() -> None:
    """Import it ahead, in a worker thread: it takes half a second that the window would be frozen for."""
    import matplotlib.backends.backend_qtagg
    import matplotlib.figure  # noqa: F401


class LossCurve(QWidget):
    """One line per loss, on a logarithmic axis. The plot is made with the first point, as matplotlib loads slowly."""

    def __init__(self) -> None:
        super().__init__()
        QVBoxLayout(self).setContentsMargins(0, 0, 0, 0)
        self._canvas: Any = None
        self._axes: Any = None
        self.hide()
        self.clear()

    def clear(self) -> None:
        """Forget all points."""
        self.steps: list[int] = []
        self.losses: dict[str, list[float]] = {}
        self._drawn_at = 0.0

    def add(self, step: int, losses: dict[str, float]) -> None:
        """Add a point of each loss, and draw if it is time."""
        self.steps.append(step)
        for name, value in losses.items():
            self.losses.setdefault(name, []).append(value)
        if time.monotonic() - self._drawn_at >= SECONDS:
            self.draw_now()

    def draw_now(self) -> None:
        """Draw all points."""
        if not self.steps:
            return
        if self._canvas is None:
            self._make_canvas()
        every = -(-len(self.steps) // POINTS)
        self._axes.clear()
        for name, values in self.losses.items():
            self._axes.semilogy(self.steps[::every], values[::every], label=name, linewidth=1)
        self._axes.set_xlabel("step", fontsize=7)
        self._axes.tick_params(which="both", labelsize=7)
        self._axes.legend(fontsize=7, loc="upper right")
        self._canvas.draw_idle()
        self._drawn_at = time.monotonic()

    def _make_canvas(self) -> None:
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        self._axes = figure.subplots()
        self._canvas = FigureCanvasQTAgg(figure)
        self._canvas.setFixedHeight(180)
        layout = self.layout()
        assert layout is not None
        layout.addWidget(self._canvas)
        self.show()
