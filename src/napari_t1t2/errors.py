"""What is refused, with a sentence for the user."""

from __future__ import annotations


class Refusal(ValueError):
    """A sentence for the user: what was found, why it cannot be used, what to do.

    Only this is shown as it stands. Whatever else a library raises is logged with its traceback and told as unforeseen.
    """


class UnusableError(Refusal):
    """A file or folder that cannot be used: the sentence names it."""
