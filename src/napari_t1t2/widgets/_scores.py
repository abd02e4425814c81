"""What the Evaluate form shows below its buttons: the numbers, and the joint histogram."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from ._curve import Plot

if TYPE_CHECKING:
    from ..synthesis.evaluation import Score

SSIM_WINDOW = "Gaussian 11x11, sigma 1.5"  # that of synthesis.evaluation, which loads too slowly for a form
MEASURES = {  # what each is, and the digits to show
    "PSNR dB": ("Peak signal-to-noise ratio; higher is better, 100 stands for equal images.", 2),
    "SSIM": (f"Structural similarity (window: {SSIM_WINDOW}); higher is better, at most 1.", 3),
    "MAE": ("Mean absolute error, as a fraction of the data range; lower is better.", 4),
    "NMI": ("Normalised mutual information, from 1 (nothing in common) to 2; does not depend on the grey values.", 3),
    "slices": ("Slices that were scored: those that show anatomy, and of the region those that it touches.", 0),
}


def rows_of(score: Score) -> dict[str, tuple[float, ...]]:
    """The values of `MEASURES`, for the whole frame and for the region."""
    return {
        "full frame": (score.psnr, score.ssim, score.mae, score.nmi, score.slices),
        score.region: (score.head_psnr, score.head_ssim, score.head_mae, score.head_nmi, score.head_slices),
    }


def as_csv(score: Score, about: dict[str, Any]) -> str:
    """A header and two lines; `about` gives further columns, the same in both lines."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["where", *MEASURES, "voxels", "SSIM window", *about])
    for (where, values), voxels in zip(rows_of(score).items(), (score.voxels, score.head_voxels), strict=True):
        lines.writerow([where, *values, voxels, SSIM_WINDOW, *about.values()])
    return text.getvalue()


class ScoreTable(QTableWidget):
    """One row a measure, one column for the frame and one for the region: it must fit a narrow dock."""

    def __init__(self) -> None:
        super().__init__(len(MEASURES), 2)
        self.setAccessibleName("scores")
        self.setVerticalHeaderLabels([*MEASURES])
        for row, (tip, _) in enumerate(MEASURES.values()):
            header = self.verticalHeaderItem(row)
            assert header is not None
            header.setToolTip(tip)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        across, down = self.horizontalHeader(), self.verticalHeader()
        assert across is not None and down is not None
        across.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        down.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        down.setDefaultSectionSize(down.minimumSectionSize())
        self.setFixedHeight(across.sizeHint().height() + len(MEASURES) * down.defaultSectionSize() + 8)
        self.hide()

    def show_score(self, score: Score) -> None:
        """Fill in the numbers."""
        for column, (where, values) in enumerate(rows_of(score).items()):
            self.setHorizontalHeaderItem(column, QTableWidgetItem(where))
            for row, (value, (_, digits)) in enumerate(zip(values, MEASURES.values(), strict=True)):
                cell = QTableWidgetItem(f"{value:.{digits}f}")
                cell.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
                self.setItem(row, column, cell)
        self.show()


class JointHistogram(Plot):
    """How often a real and a synthetic value meet; on the line they are equal."""

    def draw(
        self, counts: npt.NDArray[np.float64], edges: npt.NDArray[np.float64], region: str, names: Sequence[str]
    ) -> None:
        """Draw (real, synthetic) counts; `names` are those of the real and of the synthetic image."""
        from matplotlib.colors import LogNorm

        if self.canvas is None:
            self.make_canvas(240, 260, "constrained").setAccessibleName("joint histogram of both images")
        self.axes.clear()
        text, _ = self.wear_theme()
        shown = np.ma.masked_equal(counts.T, 0)
        self.axes.pcolormesh(edges, edges, shown, norm=LogNorm(1, max(2.0, counts.max())), cmap="viridis")
        self.axes.axline((edges[0], edges[0]), slope=1, color=text, linewidth=0.8, linestyle="--")
        self.axes.set(xlim=(edges[0], edges[-1]), ylim=(edges[0], edges[-1]), aspect="equal")
        real, fake = (name if len(name) <= 28 else f"{name[:27]}…" for name in names)
        self.axes.set_xlabel(f"real: {real}", fontsize=7, parse_math=False)
        self.axes.set_ylabel(f"synthetic: {fake}", fontsize=7, parse_math=False)
        self.axes.set_title(f"voxels (log), {region}", fontsize=8, parse_math=False)
        self.axes.tick_params(labelsize=7)
        self.canvas.draw_idle()
