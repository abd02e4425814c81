"""What is plotted under a form; the loss curve under that of Train."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QCheckBox, QLabel, QVBoxLayout, QWidget

from ..runs.listing import losses_of
from ._form import stack

POINTS = 500  # drawn at most, whatever the length of the run
SECONDS = 1.0  # between two drawings, as each takes the GUI thread some 25 ms
LOSSES = {  # what each is, and which way is good
    "adversarial": "synthetic slices told from real ones; should not rise for long",
    "cycle": "how far T1 -> T2 -> T1 is from the original; should fall",
    "structure": "how far the anatomy has moved; should fall",
    "identity": "change of a slice that has its contrast; should fall",
    "paired": "how far from the real slice of the same place; should fall",
    "discriminators": "how often they are wrong; should stay above 0",
    "held-out": "error on a slice that is not trained on, in both contrasts; should fall",
}
COLOURS = (  # of the lines on a dark and on a light ground: Okabe and Ito's, which the colour-blind can tell apart
    ("#56b4e9", "#0072b2"),
    ("#e69f00", "#a86f00"),
    ("#2fc79a", "#00785a"),
    ("#f0e442", "#7a7000"),
    ("#ff8a50", "#c04a00"),
    ("#dd8fbc", "#a8487f"),
    ("#ffffff", "#000000"),
)
MARGINS = {"left": 0.45, "bottom": 0.36, "right": 0.08, "top": 0.08}  # inches


def load_matplotlib() -> None:
    """Import it ahead, in a worker thread: it takes half a second that the window would be frozen for."""
    import matplotlib.backends.backend_qtagg
    import matplotlib.figure  # noqa: F401


class Plot(QWidget):
    """Axes that are made when first drawn, as matplotlib loads slowly; hidden until then."""

    canvas: Any = None
    axes: Any = None

    def __init__(self) -> None:
        super().__init__()
        stack(self)
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

    def changeEvent(self, event: QEvent | None) -> None:
        """Follow the window when it changes its theme."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.StyleChange and self.axes is not None:
            self.colour_anew()

    def colour_anew(self) -> None:
        """Draw what is there in the colours of the window."""
        self.wear_theme()
        self.canvas.draw_idle()

    def wear_theme(self) -> tuple[str, bool]:
        """Give the axes the colours of the window; returns that of text, and whether the ground is dark."""
        palette = self.palette()
        text, ground = (palette.color(role) for role in (self.foregroundRole(), self.backgroundRole()))
        self.axes.figure.set_facecolor(ground.name())
        self.axes.set_facecolor(ground.name())
        self.axes.tick_params(colors=text.name())
        for part in (*self.axes.spines.values(), self.axes.xaxis.label, self.axes.yaxis.label, self.axes.title):
            part.set_color(text.name())
        return text.name(), ground.lightness() < 128


class LossCurve(Plot):
    """One line per loss: raw and faint, and bold its running mean; below, what each line is and which way is good."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: dict[str, tuple[Any, Any]] = {}
        self.log = QCheckBox("logarithmic")
        self.log.setChecked(True)
        self.legend = QLabel()
        self.legend.setWordWrap(True)
        packed = self.layout()
        assert packed is not None
        for part in (self.log, self.legend):
            packed.addWidget(part)
        self.log.toggled.connect(lambda _: self.colour_anew())
        self.clear()

    def clear(self) -> None:
        """Forget all points, and hide until there are others."""
        self.hide()
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

    def add_earlier(self, run: Path, step: int) -> None:
        """Add the points of the sittings before, up to a step."""
        for row in losses_of(run):
            if row["step"] <= step:
                losses = {name: value for name, value in row.items() if name not in ("step", "images", "seconds")}
                self.add(int(row["step"]), losses)
        self.draw_now()

    def draw_now(self) -> None:
        """Draw all points."""
        if not self.steps:
            return
        if self.canvas is None:
            canvas = self.make_canvas(90, 150)
            canvas.setAccessibleName("curves of the losses; what each is stands below")
            canvas.mpl_connect("resize_event", self._fit)
            packed = self.layout()
            assert isinstance(packed, QVBoxLayout)
            packed.insertWidget(0, self.canvas)
            self._fit()
        self.show()
        if self.losses.keys() != self._lines.keys():
            self._make_lines()
        every = -(-len(self.steps) // POINTS)
        for name, values in self.losses.items():
            raw, mean = self._lines[name]
            there = [n for n, value in enumerate(values) if not math.isnan(value)][::every]
            means = running_mean(values)
            raw.set_data([self.steps[n] for n in there], [values[n] for n in there])
            mean.set_data([self.steps[n] for n in there], [means[n] for n in there])
        self.axes.relim()
        self.axes.autoscale_view()
        self.canvas.draw_idle()
        self._drawn_at = time.monotonic()

    def colour_anew(self) -> None:
        """With new lines, as their colours depend on the ground."""
        self._lines = {}
        self.draw_now()

    def _make_lines(self) -> None:
        """Two for each loss. New ones at each drawing, with minor ticks and a layout, took four times as long."""
        from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

        self.axes.clear()
        text, dark = self.wear_theme()
        colours = dict(zip(LOSSES, (light if dark else deep for light, deep in COLOURS), strict=True))
        self._lines = {}
        for name in self.losses:
            style = {"color": colours.get(name, text)}
            (raw,) = self.axes.plot([], [], linewidth=0.8, alpha=0.3, marker=".", markersize=2, **style)
            self._lines[name] = raw, self.axes.plot([], [], linewidth=1.8, **style)[0]
        if self.log.isChecked():
            self.axes.set_yscale("log")
            self.axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
            self.axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            self.axes.yaxis.set_minor_locator(NullLocator())
        self.axes.set_xlabel("step", fontsize=8, labelpad=1)
        self.axes.tick_params(labelsize=8)
        lines = [
            f'<span style="color:{colours.get(name, text)}">&#9632;</span> <b>{name}</b>: {LOSSES.get(name, "")}'
            for name in self.losses
        ]
        self.legend.setText(f'<div style="font-size:11px">{"<br>".join(lines)}</div>')

    def _fit(self, _: Any = None) -> None:
        """Leave room for the labels, whatever the size."""
        width, height = self.axes.figure.get_size_inches()
        self.axes.figure.subplots_adjust(
            left=MARGINS["left"] / width,
            bottom=MARGINS["bottom"] / height,
            right=1 - MARGINS["right"] / width,
            top=1 - MARGINS["top"] / height,
        )


def running_mean(values: list[float]) -> list[float]:
    """Each value averaged with those before it, over a twentieth of all; what is no number is left out."""
    some = np.asarray(values, float)
    sums = np.cumsum(np.r_[0, np.nan_to_num(some)])
    counts = np.cumsum(np.r_[0, np.isfinite(some)])
    first = np.maximum(0, np.arange(len(some)) + 1 - max(1, len(some) // 20))
    end = np.arange(1, len(some) + 1)
    means: list[float] = ((sums[end] - sums[first]) / np.maximum(1, counts[end] - counts[first])).tolist()
    return means
