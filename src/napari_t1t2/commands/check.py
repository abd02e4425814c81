"""The command check: what two folders hold, read as training would read them."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..config import SIDES, TrainConfig, preset
from ..events import Reading
from .progress import ProgressLine, say
from .train import with_flags

if TYPE_CHECKING:
    from ..data.pairs import Pairs
    from ..data.slices import Slices
    from ..data.split import Split


def check(args: Namespace) -> None:
    """Say what two folders hold and whether a model can be trained on them."""
    from ..data.pairs import find_pairs
    from ..data.reading import read_both
    from ..data.sources import finish
    from ..data.split import split

    config, line = with_flags(preset("laptop"), args), ProgressLine(sys.stderr if args.json else None)

    def show(event: Reading) -> None:
        line.show(event.text(), event.done / max(1, event.total))

    t1, t2, pixel = read_both(config, show=show)
    parts = split(t1, t2, config)
    pairs = finish(find_pairs(t1, t2, parts, config), show)
    line.end()
    if args.json:
        say(*json.dumps(document(config, (t1, t2), parts, pairs, pixel), indent=2).splitlines())
        return
    for slices, folder in ((t1, config.t1_folder), (t2, config.t2_folder)):
        say(f"{folder}: {slices.found}")
        say(*lines_of(slices.taken), *slices.notes, slices.summary())
    for exam in pairs.exams:
        moved = f", moved by {exam.alignment.describe()}" if exam.alignment else ""
        say(f"{exam.files[0]} and {exam.files[1]}{moved}: {exam.verdict()}")
    say(*parts.notes, *pairs.notes)
    say(f"A model can be trained on these folders{f', at {pixel:.3g} mm a pixel' if pixel else ''}.")


def lines_of(taken: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each series that was taken; loose slices that are alike share one."""
    alike: dict[tuple[str, str], list[str]] = {}
    for one in taken:
        size = "x".join(map(str, one["shape"])) + (
            f" of {'x'.join(f'{mm:.3g}' for mm in one['spacing'])} mm" if one["spacing"] else ""
        )
        why = f" ({one['why']})" if one["why"] else " (nothing contradicts it)"
        loose = one["shape"][0] == 1
        parts = (one["contrast"] + ("" if loose and one["why"].startswith("named") else why), size, one["plane"])
        who = [f"{one['subject']}"] if one["subject"] else []
        said = "; ".join(filter(None, (*parts, *who, f"{one['files']} files" * (one["files"] > 1))))
        alike.setdefault((said, "" if loose else one["file"]), []).append(one["series" if one["files"] > 1 else "file"])
    for (said, _), names in alike.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"  {names[0]}{more}: {said}"


def document(
    config: TrainConfig, both: tuple[Slices, Slices], parts: Split, pairs: Pairs, pixel: float
) -> dict[str, Any]:
    """What `check --json` prints; docs/scripting.md explains the keys."""
    folders: dict[str, Any] = {
        side: {
            "folder": str(folder),
            "contrast": config.model.label(side),
            "taken": list(slices.taken),
            "left_out": [{"file": file, "why": why} for file, why in slices.left_out],
            "slices": len(slices.images),
            "notes": list(slices.notes),
        }
        for side, folder, slices in zip(SIDES, (config.t1_folder, config.t2_folder), both, strict=True)
    }
    exams = [exam.record() for exam in pairs.exams]
    notes = [*parts.notes, *pairs.notes]
    return {"version": 1, "pixel_mm": pixel or None, **folders, "exams": exams, "notes": notes}
