"""What is refused, with a sentence for the user."""

from __future__ import annotations

import unicodedata


class Refusal(ValueError):
    """A sentence for the user: what was found, why it cannot be used, what to do.

    Only this is shown as it stands. Whatever else a library raises is logged with its traceback and told as unforeseen.
    Several sentences are lines; what a file's name or text in them would do to a terminal is escaped.
    """

    def __init__(self, *sentences: str) -> None:
        super().__init__(*map(shown, sentences))

    def __str__(self) -> str:
        return "\n".join(self.args)


class UnusableError(Refusal):
    """A file or folder that cannot be used: the sentence names it."""


def shown(text: str) -> str:
    """Text from a file or its name as one line of what can be seen: what steers a terminal or turns text is escaped."""
    if text.isprintable():
        return text
    steers = ("C", "Zl", "Zp")  # controls, directions, lone bytes; the ends of lines and paragraphs
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c).startswith(steers) else c for c in text
    )
