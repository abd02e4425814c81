"""The command cache: what earlier trainings keep on this disk, and away with it."""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime

from ..errors import Refusal
from .progress import say

GIB = 2**30
ALIGNMENTS = "alignments"


def cache(args: Namespace) -> None:
    """List or delete what trainings keep: slices that memory does not hold, and where exams lie upon each other."""
    from ..data.bank import find_caches, home
    from ..data.exams import kept_alignments

    found, kept = find_caches(), kept_alignments()
    size = sum(path.stat().st_size for path in kept)
    total = f"{home()}: {len(found)} slice cache{'s' * (len(found) != 1)}, {sum(c.size for c in found) / GIB:.2f} GiB"
    if not args.delete:
        say(total)
        for c in found:
            used = datetime.fromtimestamp(c.used).strftime("%Y-%m-%d %H:%M")
            of = " and ".join(c.folders) or "a training that was interrupted or still prepares its images"
            say(f"{c.path.name}  {c.size / GIB:.2f} GiB, last used {used}, of {of}")
        if kept:
            say(f"{ALIGNMENTS}  {size / 2**20:.2f} MiB, {len(kept)} of exams: where T2 lies upon T1")
        return
    chosen = [c for c in found if args.delete in ("all", c.path.name)]
    if not chosen and args.delete not in ("all", ALIGNMENTS):
        raise Refusal(f"{home()} has no slice cache called {args.delete}: `napari-t1t2 cache` lists what there is.")
    for c in chosen:
        c.delete()
        say(f"Deleted {c.path} ({c.size / GIB:.2f} GiB)")
    if kept and args.delete in ("all", ALIGNMENTS):
        for path in kept:
            path.unlink(missing_ok=True)
        say(f"Deleted {len(kept)} alignments of exams ({size / 2**20:.2f} MiB)")
