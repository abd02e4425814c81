"""Does anything grow? Trainings are begun, paused and stopped, and images translated, again and again in one process.

    python benchmarks/soak.py [--cycles 1000] [--translations 500] [--seconds 600]

Tiny networks on generated slices. Prints memory, threads, open files and temporary files after the warm-up and in the
end, and how much each grew: all must stay flat (memory within a few MiB, as allocators round).
"""

from __future__ import annotations

import gc
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from faults import config_of

WARM_UP = 20  # rounds


def main() -> None:
    """Repeat both and print a Markdown table."""
    parser = ArgumentParser(description="Look for what grows.")
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--translations", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=600.0, help="for both, whatever was reached")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    print("| what | rounds | measured | after the warm-up | in the end |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as scratch:
        tempfile.tempdir = scratch  # so that what is left in it is ours
        config = config_of(Path(home), "as it comes", "run")
        soak("start, pause, stop", args.cycles, args.seconds / 2, cycle(config), Path(scratch))
        soak("translate", args.translations, args.seconds / 2, translation(config), Path(scratch))


def cycle(config: Any) -> Callable[[int], None]:
    """Begin a run or go on with it, pause it, let another thread end the pause, stop it; every tenth run is new."""
    from napari_t1t2.events import Failed
    from napari_t1t2.runs.session import Session
    from napari_t1t2.runs.training import train

    config = replace(config, steps=1_000_000, report_every=1)

    def once(number: int) -> None:
        one = replace(config, run_folder=config.run_folder.with_name(f"run{number // 10}"))
        resume = (one.run_folder / "checkpoint.pt").exists()
        session: Session[Any] = Session(lambda stop: train(one, stop=stop, resume=resume))
        for told, event in enumerate(session):
            if isinstance(event, Failed):
                raise RuntimeError(event.sentence)
            if told == 2:
                session.pause()
                threading.Timer(0.01, session.go_on).start()
            if told == 4:
                session.stop()

    return once


def translation(config: Any) -> Callable[[int], None]:
    """Load the model, translate a volume and write it."""
    from napari_t1t2.images.volume import Volume
    from napari_t1t2.images.write import write_image
    from napari_t1t2.model.saved import load_model
    from napari_t1t2.synthesis.translation import translate

    run = config.run_folder.with_name("run0")
    y, x = np.mgrid[-1:1:44j, -1:1:36j]
    head = np.where(np.hypot(y / 0.9, x / 0.7) < 1, 100 + 60 * np.sin(7 * x) * np.cos(5 * y), 0).astype(np.float32)

    def once(_: int) -> None:
        volume = Volume(data=np.repeat(head[None], 4, axis=0), name="head", contrast="T1", affine=np.eye(4))
        write_image(run.with_name("made.nii.gz"), translate(volume, load_model(run), to="T2"))

    return once


def soak(what: str, rounds: int, seconds: float, once: Callable[[int], None], scratch: Path) -> None:
    """Repeat, measure after the warm-up and in the end, and print."""
    began, first, number = time.monotonic(), {}, 0
    for number in range(rounds):
        once(number)
        if number == WARM_UP:
            first = measured(scratch)
        if time.monotonic() - began > seconds:
            break
    for name, value in measured(scratch).items():
        print(f"| {what} | {number + 1} | {name} | {first.get(name, float('nan')):.1f} | {value:.1f} |", flush=True)


def measured(scratch: Path) -> dict[str, float]:
    """What may grow."""
    gc.collect()
    process = psutil.Process()
    return {
        "memory, MiB": process.memory_info().rss / 2**20,
        "threads": float(process.num_threads()),
        "open files": float(process.num_fds() if hasattr(process, "num_fds") else process.num_handles()),
        "temporary files": float(sum(1 for _ in scratch.rglob("*"))),
        "objects": float(len(gc.get_objects())),
    }


if __name__ == "__main__":
    main()
