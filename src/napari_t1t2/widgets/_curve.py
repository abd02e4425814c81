"""The loss curve under the Train form."""

from __future__ import annotations

import time
from typing import Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

POINTS = 500  # drawn at most, whatever the length of the run
SECONDS = 1.0  # between two drawings, as each takes the GUI thread some 25 ms
MARGINS = {"left": 0.45, "bottom": 0.34, "right": 0.08, "top": 0.08}  # inches


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
        self._lines: dict[str, Any] = {}
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
        if self.losses.keys() != self._lines.keys():
            self._make_lines()
        every = -(-len(self.steps) // POINTS)
        for name, values in self.losses.items():
            self._lines[name].set_data(self.steps[::every], values[::every])
        self._axes.relim()
        self._axes.autoscale_view()
        self._canvas.draw_idle()
        self._drawn_at = time.monotonic()

    def _make_canvas(self) -> None:
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.figure import Figure

        figure = Figure()
        self._axes = figure.subplots()
        self._canvas = FigureCanvasQTAgg(figure)
        self._canvas.setMinimumHeight(60)  # other docks may need the room
        self._canvas.setMaximumHeight(180)
        self._canvas.mpl_connect("resize_event", self._fit)
        layout = self.layout()
        assert layout is not None
        layout.addWidget(self._canvas)
        self.show()

    def _make_lines(self) -> None:
        """One for each loss. New ones at each drawing, with minor ticks and a layout, took four times as long."""
        from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

        self._axes.clear()
        style = {"linewidth": 1, "marker": ".", "markersize": 2}  # a single point is no line
        self._lines = {name: self._axes.semilogy([], [], label=name, **style)[0] for name in self.losses}
        self._axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        self._axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        self._axes.yaxis.set_minor_locator(NullLocator())
        self._axes.set_xlabel("step", fontsize=7, labelpad=1)
        self._axes.tick_params(labelsize=7)
        self._axes.legend(fontsize=7, loc="upper right")

    def _fit(self, _: Any) -> None:
        """Leave room for the labels, whatever the size."""
        width, height = self._axes.figure.get_size_inches()
        self._axes.figure.subplots_adjust(
            left=MARGINS["left"] / width,
            bottom=MARGINS["bottom"] / height,
            right=1 - MARGINS["right"] / width,
            top=1 - MARGINS["top"] / height,
        )
