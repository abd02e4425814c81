"""Work on many files at once in threads, with progress and a way to stop."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from ..config import TrainConfig, cores
from ..errors import Refusal
from ..events import Doing, Reading

ItemT = TypeVar("ItemT")
MadeT = TypeVar("MadeT")
Stop = Callable[[], bool]
THREADS = 8  # at most: each holds a volume
EVERY = 1.0  # seconds between reports; what is read faster says nothing


def worked_through(
    work: Callable[[ItemT], MadeT], items: Sequence[ItemT], doing: Doing, stop: Stop, config: TrainConfig
) -> Iterator[tuple[ItemT, MadeT] | Reading]:
    """Each item with what was made of it, in whatever order, and now and then how many are done.

    Few are ever under way or wait to be taken, so that memory holds them. Raises `Refusal` where `stop` says so.
    """
    threads = min(config.threads or cores(), THREADS)
    waiting = iter(items)
    running: dict[Future[MadeT], ItemT] = {}
    done, said = 0, time.monotonic()
    pool = ThreadPoolExecutor(threads, "reading")
    try:
        while True:
            for item in islice(waiting, threads + 1 - len(running)):
                running[pool.submit(work, item)] = item
            if not running:
                return
            ready, _ = wait(running, max(0.0, said + EVERY - time.monotonic()), FIRST_COMPLETED)
            for future in ready:
                done += 1
                yield running.pop(future), future.result()
            if time.monotonic() >= said + EVERY:
                yield Reading(done, len(items), doing)
                if stop():
                    raise Refusal("Stopped while the images were read: there is nothing to save.")
                said = time.monotonic()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def hushed_readers() -> Iterator[None]:
    """Give back what readers hush while they read: several at a time, each would give back another's silence."""
    nibabel, pydicom = logging.getLogger("nibabel.global"), logging.getLogger("pydicom")
    level, disabled = nibabel.level, pydicom.disabled
    try:
        with warnings.catch_warnings():
            yield
    finally:
        nibabel.setLevel(level)
        pydicom.disabled = disabled
