"""What is plotted under a form; the loss curve under that of Train."""

from __future__ import annotations

import math
import time
from typing import Any, Literal

from qtpy.QtWidgets import QWidget

from ._form import stack

POINTS = 500  # drawn at most, whatever the length of the run
SECONDS = 1.0  # between two drawings, as each takes the GUI thread some 25 ms
LOSSES = {  # what each is, and which way is good
    "adversarial": "how well the discriminators tell synthetic slices from real ones; should fall, not rise for long",
    "cycle": "how far T1 -> T2 -> T1 is from the original; should fall once its weight has risen",
    "structure": "how far the anatomy of the synthetic slices is from that of their sources; should fall",
    "identity": "how much a generator changes a slice that already has its contrast; should fall",
    "paired": "how far synthetic slices are from the real ones of the same place; should fall",
    "discriminators": "how often the discriminators are wrong; should stay above 0, or the generators learn little",
}
MARGINS = {"left": 0.45, "bottom": 0.34, "right": 0.08, "top": 0.2}  # inches


def load_matplotlib() -> None:
    """Import it ahead, in a worker thread: it takes half a second that the window would be frozen for."""
    import matplotlib.backends.backend_qtagg
    import matplotlib.figure  # noqa: F401


class Plot(QWidget):
    """Axes that are made when first drawn, as matplotlib loads slowly; hidden until then."""

    def __init__(self) -> None:
        super().__init__()
        stack(self)
        self.canvas: Any = None
        self.axes: Any = None
        self.hide()

    def make_canvas(self, lowest: int, highest: int, layout: Literal["constrained"] | None = None) -> Any:
        """Make the axes, as high as that in pixels, as other docks may need the room; returns the canvas."""
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.figure import Figure

        figure = Figure(layout=layout)
        self.axes = figure.subplots()
        self.canvas = FigureCanvasQTAgg(figure)
        self.canvas.setMinimumHeight(lowest)
        self.canvas.setMaximumHeight(highest)
        packed = self.layout()
        assert packed is not None
        packed.addWidget(self.canvas)
        self.show()
        return self.canvas


class LossCurve(Plot):
    """One line per loss, on a logarithmic axis."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: dict[str, Any] = {}
        self.clear()

    def clear(self) -> None:
        """Forget all points."""
        self.steps: list[int] = []
        self.losses: dict[str, list[float]] = {}
        self._drawn_at = 0.0

    def add(self, step: int, losses: dict[str, float]) -> None:
        """Add a point of each loss, and draw if it is time."""
        self.steps.append(step)
        for name in dict.fromkeys([*self.losses, *losses]):  # not every report has all
            values = self.losses.setdefault(name, [math.nan] * (len(self.steps) - 1))
            values.append(losses.get(name, math.nan))
        if time.monotonic() - self._drawn_at >= SECONDS:
            self.draw_now()

    def draw_now(self) -> None:
        """Draw all points."""
        if not self.steps:
            return
        if self.canvas is None:
            self.make_canvas(60, 180).mpl_connect("resize_event", self._fit)
            self._fit()
        if self.losses.keys() != self._lines.keys():
            self._make_lines()
        every = -(-len(self.steps) // POINTS)
        for name, values in self.losses.items():
            self._lines[name].set_data(self.steps[::every], values[::every])
        self.axes.relim()
        self.axes.autoscale_view()
        self.canvas.draw_idle()
        self._drawn_at = time.monotonic()

    def _make_lines(self) -> None:
        """One for each loss. New ones at each drawing, with minor ticks and a layout, took four times as long."""
        from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

        self.axes.clear()
        style = {"linewidth": 1, "marker": ".", "markersize": 2}  # a single point is no line
        self._lines = {name: self.axes.semilogy([], [], label=name, **style)[0] for name in self.losses}
        self.axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        self.axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        self.axes.yaxis.set_minor_locator(NullLocator())
        self.axes.set_xlabel("step; rest the mouse here to read what each line is", fontsize=7, labelpad=1)
        self.axes.tick_params(labelsize=7)
        place = {"loc": "lower left", "bbox_to_anchor": (0, 0.97), "ncols": len(LOSSES), "frameon": False}
        self.axes.legend(fontsize=6, handlelength=1, columnspacing=1, borderpad=0, **place)
        self.setToolTip("\n".join(f"{name}: {LOSSES[name]}." for name in self.losses if name in LOSSES))

    def _fit(self, _: Any = None) -> None:
        """Leave room for the labels, whatever the size."""
        width, height = self.axes.figure.get_size_inches()
        self.axes.figure.subplots_adjust(
            left=MARGINS["left"] / width,
            bottom=MARGINS["bottom"] / height,
            right=1 - MARGINS["right"] / width,
            top=1 - MARGINS["top"] / height,
        )
