"""The table of the Load widget: which series were found, what each looks like, what to use it as."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QHeaderView, QLabel, QTableWidget, QTableWidgetItem

from ..config import Side
from ._form import leave_wheel

LISTED = 200  # rows
HEIGHT = 260  # pixels, at most before it scrolls
WIDEST = 140  # pixels of a choice


@dataclass(frozen=True)
class Series:
    """A series or file with several slices, and what it is used as."""

    call: str  # what the form calls it
    title: str
    size: str
    looks: str
    path: Path
    sides: tuple[Side, ...]  # whose folder it lies in
    uses: frozenset[Side]

    @property
    def choices(self) -> list[frozenset[Side]]:
        """What it can be used as; both contrasts at once is shown where it is so, and never offered."""
        one_or_none = [*(frozenset({side}) for side in self.sides), frozenset[Side]()]
        return one_or_none if self.uses in one_or_none else [*one_or_none, self.uses]


class SeriesTable(QTableWidget):
    """One row for each series, with a choice of what to use it as; hidden while there is none."""

    used = Signal(str)  # a side, when it has other series than before

    def __init__(self) -> None:
        super().__init__(0, 4)
        self.setAccessibleName("series found")
        self.more = QLabel()
        self.more.setWordWrap(True)
        self._series: list[Series] = []
        self._uses: list[frozenset[Side]] = []
        self.setHorizontalHeaderLabels(["series", "size", "looks like", "use as"])
        self.verticalHeader().hide()
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        columns = self.horizontalHeader()
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        columns.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        columns.setMinimumSectionSize(40)
        self.setWordWrap(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QTableWidget.SelectionMode.NoSelection)
        self.setVerticalScrollMode(QTableWidget.ScrollMode.ScrollPerPixel)
        self.hide()
        self.more.hide()

    def fill(self, series: list[Series], labels: dict[Side, str]) -> None:
        """Show other series."""
        self._series, self._uses = series, [s.uses for s in series]
        self.setRowCount(0)
        self.setRowCount(min(len(series), LISTED))
        for row, one in enumerate(series[:LISTED]):
            for column, text in enumerate([one.title.replace(", ", "\n", 1), one.size, one.looks]):
                item = QTableWidgetItem(text)
                item.setToolTip(f"{one.title}\n{one.path}")
                self.setItem(row, column, item)
            combo = QComboBox()
            combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
            combo.setMaximumWidth(WIDEST)  # a label may be long
            combo.setAccessibleName(f"use {one.title} as")
            leave_wheel(combo)
            combo.addItems([""] * len(one.choices))
            combo.setCurrentIndex(one.choices.index(one.uses))
            combo.currentIndexChanged.connect(lambda index, row=row: self._on_choice(row, index))
            self.setCellWidget(row, 3, combo)
        self.name_uses(labels)
        self.more.setText(f"{LISTED} of {len(series)} series are listed; name others in the rows above.")
        self.more.setVisible(len(series) > LISTED)
        rows = self.verticalHeader().length() + self.horizontalHeader().sizeHint().height() + 2 * self.frameWidth()
        self.setFixedHeight(min(rows, HEIGHT))
        self.setVisible(bool(series))

    def name_uses(self, labels: dict[Side, str]) -> None:
        """Call the contrasts by other labels."""
        for row in range(self.rowCount()):
            for index, uses in enumerate(self._series[row].choices):
                text = " and ".join(label for side, label in labels.items() if side in uses)
                self.use(row).setItemText(index, text or "neither")

    def use(self, row: int) -> QComboBox:
        """The choice in a row."""
        combo = self.cellWidget(row, 3)
        assert isinstance(combo, QComboBox)
        return combo

    def calls(self, side: Side) -> list[str]:
        """What the series used as a contrast are called, also of those that are not listed."""
        return [one.call for one, uses in zip(self._series, self._uses, strict=True) if side in uses]

    def _on_choice(self, row: int, index: int) -> None:
        before, self._uses[row] = self._uses[row], self._series[row].choices[index]
        for side in sorted(before ^ self._uses[row]):
            self.used.emit(side)
