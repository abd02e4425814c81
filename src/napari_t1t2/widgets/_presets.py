"""Where a training starts from: a preset and what it is for, or an earlier training."""

from __future__ import annotations

from typing import Any, get_args

from magicgui.widgets import CheckBox, ComboBox, Container
from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QWidget

from ..config import PresetName
from ._form import name_row, stack
from ._memory import memory

FOR: dict[PresetName, str] = {
    "laptop": "For any computer. Contrast is right after some 2,000 steps, detail after 5,000.",
    "notebook": "The networks and settings of the course notebooks, for comparison: large, and slow without a GPU. Set "
    "slice size 64 for slices as there.",
    "gpu": "For a graphics card: twice the channels, whole slices. Sharper than laptop after 5,000 steps.",
}
TOOLS = {
    "How fast here?": "Train some steps on these folders, and throw them away.",
    "Copy as command": "The line that does this training in a terminal.",
    "Copy as Python": "A script that does this training.",
    "Reset": "The rows as the preset has them; forget what was remembered.",
}


class PresetRows(QWidget):
    """The rows `preset` and `resume`, what the preset is for, and buttons that act on all rows."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: Container[Any] = Container(
            widgets=[
                ComboBox(name="preset", choices=get_args(PresetName), tooltip="Fills the rows below."),
                CheckBox(
                    name="resume",
                    text="Continue an earlier training",
                    tooltip="The one in the run folder, with its own settings; give more minutes or steps than it had.",
                ),
            ]
        )
        for row in self.rows:
            name_row(row)
        self.purpose = QLabel()
        self.purpose.setWordWrap(True)
        stack(self, self.rows.native, self.purpose)
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        self.buttons = QWidget()
        self.buttons.setLayout(grid)
        self.tools = {text: QPushButton(text) for text in TOOLS}
        for n, (text, tip) in enumerate(TOOLS.items()):
            self.tools[text].setToolTip(tip)
            grid.addWidget(self.tools[text], n // 2, n % 2)

    def say_purpose(self, minutes: float) -> None:
        """Tell what the preset is for, and how far it comes here in so many minutes, if it was tried."""
        name: PresetName = self.rows["preset"].value
        speed, here = memory.recall("speed").get(name), "Not tried here yet."
        if isinstance(speed, int | float):
            here = f"Here: {speed:.1f} steps/s, so {speed * 60 * minutes:,.0f} steps in {minutes:g} minutes."
        self.purpose.setText(f"{FOR[name]} {here}")
