"""What a model is, told before it is used: a line that stays in sight, and all that its card says behind a title."""

from __future__ import annotations

from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QWidget

from ..model.card import LIMITS, Card
from ._form import Folded, stack


class CardView(QWidget):
    """The card of a model; hidden while there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.rows = QLabel(), QLabel()
        self.line.setAccessibleName("what this model is")
        self.rows.setAccessibleName("card of the model")
        self.more = Folded("Card of this model", self.rows)
        for label in (self.line, self.rows):
            label.setWordWrap(True)
            label.setMinimumWidth(120)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        stack(self, self.line, self.more)
        self.hide()

    def show_card(self, card: Card | None) -> None:
        """Show another one."""
        self.setVisible(card is not None)
        if card is None:
            return
        self.line.setText(f"<b>{escape(card.summary())}.</b> {LIMITS.partition('. ')[0]}.")
        self.rows.setText("".join(f"<p><b>{escape(title)}:</b> {escape(text)}</p>" for title, text in card.rows()))
