"""The command check: what two folders hold, read as training would read them."""

from __future__ import annotations

from argparse import Namespace

from ..config import preset
from ..events import Reading
from .progress import ProgressLine
from .train import with_flags


def check(args: Namespace) -> None:
    """Say what two folders hold and whether a model can be trained on them."""
    from ..data.pairs import find_pairs
    from ..data.reading import read_both
    from ..data.sources import finish
    from ..data.split import split

    config, line = with_flags(preset("laptop"), args), ProgressLine()

    def show(event: Reading) -> None:
        line.show(event.text(), event.done / max(1, event.total))

    t1, t2, pixel = read_both(config, show=show)
    parts = split(t1, t2, config)
    pairs = finish(find_pairs(t1, t2, parts, config), show)
    line.end()
    for slices, folder in ((t1, config.t1_folder), (t2, config.t2_folder)):
        print(f"{folder}: {slices.found}", *slices.notes, slices.summary(), sep="\n")
    for exam in pairs.exams:
        moved = f", moved by {exam.alignment.describe()}" if exam.alignment else ""
        print(f"{exam.files[0]} and {exam.files[1]}{moved}: {exam.verdict()}")
    print(*parts.notes, *pairs.notes, sep="\n", end="\n" * bool(parts.notes + pairs.notes))
    print(f"A model can be trained on these folders{f', at {pixel:.3g} mm a pixel' if pixel else ''}.")
