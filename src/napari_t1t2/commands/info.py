"""The command info: a model's card."""

from __future__ import annotations

import textwrap
from argparse import Namespace
from dataclasses import replace

from ..atomic import written_file
from ..errors import Refusal
from ..model.about import read_about
from ..model.card import KEPT, card_of
from .progress import say


def info(args: Namespace) -> None:
    """Print a model's card: what it was trained on, for how long, how well it does, and its limits."""
    about = read_about(args.model)
    if written := {name: getattr(args, name) for name in KEPT if getattr(args, name) is not None}:
        from ..model.saved import describe_anew, load_model

        model = load_model(args.model)
        about = replace(model.about, card=model.about.card | written)
        describe_anew(model, about)
    card = card_of(about)
    if args.markdown:
        if args.markdown.exists():
            raise Refusal(f"{args.markdown} exists: remove it, or give another name.")
        with written_file(args.markdown) as partial:
            partial.write_text(card.markdown(about.path.name), encoding="utf-8")
        say(f"The card is {args.markdown}")
        return
    say(str(about.path), card.summary(), "")
    for title, text in card.rows():
        say(*textwrap.wrap(text, 110, initial_indent=f"{title:20} ", subsequent_indent=" " * 21))
