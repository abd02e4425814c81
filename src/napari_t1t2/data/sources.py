"""Work on many files or slices at once in threads, with progress and a way to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, TypeVar

from ..config import TrainConfig, cores
from ..errors import Refusal
from ..events import Doing, Reading

ItemT = TypeVar("ItemT")
MadeT = TypeVar("MadeT")
Stop = Callable[[], bool]
THREADS = 8  # at most: each holds a volume
EVERY = 1.0  # seconds between reports; what is done faster says nothing


def work_through(
    work: Callable[[ItemT], MadeT],
    items: Iterable[ItemT],
    doing: Doing,
    stop: Stop,
    config: TrainConfig,
    take: Callable[[ItemT, MadeT], None] | None = None,
) -> Generator[Reading, None, list[MadeT]]:
    """Do `work` on each item in threads; every second yield how many are done, and ask `stop`.

    Returns what was made, in the order of the items. With `take`, each is handed to that as it comes, in whatever
    order, and nothing is kept: few are ever under way. Raises `Refusal` where `stop` says so.
    """
    threads = min(config.threads or cores(), THREADS)
    waiting = enumerate(items := list(items))
    running: dict[Future[MadeT], int] = {}
    made: dict[int, MadeT] = {}
    done, said = 0, time.monotonic()
    pool = ThreadPoolExecutor(threads, "reading")
    try:
        while True:
            for index, item in islice(waiting, threads + 1 - len(running)):
                running[pool.submit(work, item)] = index
            if not running:
                return [made[index] for index in sorted(made)]
            ready, _ = wait(running, max(0.0, said + EVERY - time.monotonic()), FIRST_COMPLETED)
            for future in ready:
                done += 1
                index = running.pop(future)
                if take:
                    take(items[index], future.result())
                else:
                    made[index] = future.result()
            if time.monotonic() >= said + EVERY:
                yield from report(Reading(done, len(items), doing), stop)
                said = time.monotonic()
    finally:
        pool.shutdown(cancel_futures=True)


def report(progress: Reading, stop: Stop) -> Iterator[Reading]:
    """Yield it, then ask `stop`. Raises `Refusal` where that says so."""
    yield progress
    if stop():
        raise Refusal("Stopped while the images were read: there is nothing to save.")


def finish(steps: Generator[Any, None, MadeT], show: Callable[[Any], None] = lambda _: None) -> MadeT:
    """Take a generator to its end, show what it yields, and give back what it returns."""
    while True:
        try:
            show(next(steps))
        except StopIteration as end:
            made: MadeT = end.value
            return made
