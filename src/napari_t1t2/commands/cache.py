"""The command cache: which slice caches there are, and away with them."""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime

from ..errors import Refusal

GIB = 2**30


def cache(args: Namespace) -> None:
    """List or delete the slice caches, which training writes to disk where memory does not hold the images."""
    from ..data.bank import find_caches, home

    found = find_caches()
    total = f"{home()}: {len(found)} slice cache{'s' * (len(found) != 1)}, {sum(c.size for c in found) / GIB:.2f} GiB"
    if not args.delete:
        print(total)
        for c in found:
            used = datetime.fromtimestamp(c.used).strftime("%Y-%m-%d %H:%M")
            of = " and ".join(c.folders) or "a training that was interrupted or still prepares its images"
            print(f"{c.path.name}  {c.size / GIB:.2f} GiB, last used {used}, of {of}")
        return
    chosen = [c for c in found if args.delete in ("all", c.path.name)]
    if not chosen and args.delete != "all":
        raise Refusal(f"{home()} has no slice cache called {args.delete}: `napari-t1t2 cache` lists what there is.")
    for c in chosen:
        c.delete()
        print(f"Deleted {c.path} ({c.size / GIB:.2f} GiB)")
