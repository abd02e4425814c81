"""Does training on more slices than memory holds cost speed or memory? Prints a Markdown table.

    python benchmarks/bank.py [--slices 200000] [--few 2000] [--rounds 6] [--seconds 20] [--folder DIR]

Heads of noise are written as compressed NIfTI volumes of 200 slices of 256x256, half of them T1, half T2: 40 different
volumes, the others are links to them. One run trains on a few of them in memory, one on all from the bank on disk; each
is a process of its own, and they take turns of some seconds, so that a busy machine slows both alike. The bank is
deleted in the end. Of a run's memory the peak is counted, pages of mapped files included.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import median
from typing import IO

import numpy as np

SIDE, DEEP, DISTINCT = 256, 200, 20  # pixels, slices in a volume, different volumes of each contrast
SETTINGS = {  # what a step costs decides whether reading a slice matters
    "laptop": {},
    "light: 4 channels, crop 64": {"crop": 64, "disc_channels": 4, "channels": 4},
}


def main() -> None:
    """Write the volumes, build, read again, let both runs take turns, print."""
    parser = ArgumentParser(description="Training on more slices than memory holds.")
    parser.add_argument("--slices", type=int, default=200_000)
    parser.add_argument("--few", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=1, help="of a training step")
    parser.add_argument("--folder", type=Path, help="where the volumes and the bank go, on a disk that holds them")
    parser.add_argument("--child", nargs=3, help="used by the benchmark itself")
    args = parser.parse_args()
    if args.child:
        child(args, *args.child)
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{date.today()}, commit {commit}, {platform.machine()}, {os.cpu_count()} CPU cores\n")
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        os.environ["NAPARI_T1T2_CACHE"] = str(folder / "cache")
        write_volumes(folder / "all", args.slices)
        write_volumes(folder / "few", args.few)
        rows = {which: read(args, folder, which) for which in ("few", "all")}
        again = read(args, folder, "all")
        stored = sum(p.stat().st_size for p in (folder / "cache").rglob("*") if p.is_file()) / 2**20
        print("| | slices | stored MiB | first reading s, peak MiB | again s, peak MiB |")
        print("|---|---|---|---|---|")
        print(f"| in memory | {rows['few'][2]:.0f} | 0 | {rows['few'][0]:.0f}, {rows['few'][1]:.0f} | every time |")
        print(
            f"| on disk | {rows['all'][2]:.0f} | {stored:.0f} | {rows['all'][0]:.0f}, {rows['all'][1]:.0f} "
            f"| {again[0]:.1f}, {again[1]:.0f} |\n",
            flush=True,
        )
        print("| settings | in memory pairs/s | on disk pairs/s | ratio, each round | training peak MiB on disk |")
        print("|---|---|---|---|---|", flush=True)
        for setting in SETTINGS:
            print(race(args, folder, setting), flush=True)


def write_volumes(folder: Path, slices: int) -> None:
    """So many slices, half of each contrast."""
    import nibabel

    z, y, x = np.mgrid[-1 : 1 : DEEP * 1j, -1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j].astype(np.float32)
    inside = (y / 0.85) ** 2 + (x / 0.7) ** 2 + (z / 1.2) ** 2 < 1
    for side, contrast in enumerate(("T1", "T2")):
        (folder / contrast).mkdir(parents=True)
        for i in range(-(-slices // 2 // DEEP)):
            path = folder / contrast / f"sub-{i:04d}_{contrast}w.nii.gz"
            if i >= DISTINCT:
                os.link(folder / contrast / f"sub-{i % DISTINCT:04d}_{contrast}w.nii.gz", path)
                continue
            rng = np.random.default_rng((side, i))
            folds = np.sin(9 * x + i) * np.cos(8 * y + 5 * z - i) * (1 - 2 * side)
            data = inside * (500 + 250 * folds + 30 * rng.standard_normal(inside.shape, np.float32))
            made = nibabel.Nifti1Image(data.astype(np.int16).T, np.diag([-0.9, -0.9, 0.9, 1]))
            with nibabel.openers.Opener(path, "wb", compresslevel=1) as file:
                made.to_stream(file)


def read(args: Namespace, folder: Path, which: str) -> list[float]:
    """Seconds, peak MiB and slices of reading in a process of its own."""
    command = [sys.executable, __file__, "--threads", str(args.threads), "--child", "read", str(folder), which]
    return [float(word) for word in subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()]


def race(args: Namespace, folder: Path, setting: str) -> str:
    """Both runs by turns; a row of the table."""
    runs = []
    for which in ("few", "all"):
        command = [sys.executable, __file__, "--seconds", str(args.seconds), "--threads", str(args.threads)]
        command += ["--child", setting, str(folder), which]
        run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        runs.append((run, turn(run.stdin, run.stdout)))  # the first turn is for warming up
    rates = [[turn(run.stdin, run.stdout)[0] for run, _ in runs] for _ in range(args.rounds)]
    peak = turn(runs[1][0].stdin, runs[1][0].stdout)[1]
    for run, _ in runs:
        run.communicate("")
    held, stored = (median(r[i] for r in rates) for i in (0, 1))
    ratios = [stored / held for held, stored in rates]
    each = " ".join(f"{ratio:.2f}" for ratio in ratios)
    return f"| {setting} | {held:.2f} | {stored:.2f} | **{median(ratios):.3f}** ({each}) | {peak:.0f} |"


def turn(to: IO[str] | None, back: IO[str] | None) -> list[float]:
    """Let a run go on for a while; its pairs/s and its peak MiB so far."""
    assert to is not None and back is not None
    print("go", file=to, flush=True)
    return [float(word) for word in back.readline().split()]


def child(args: Namespace, task: str, folder: str, which: str) -> None:
    """A process that reads, or that trains whenever it is told to."""
    import torch

    from napari_t1t2.config import ModelConfig, preset
    from napari_t1t2.data.reading import read_both
    from napari_t1t2.events import Progress, Started
    from napari_t1t2.runs.training import train

    config = replace(
        preset("laptop"),
        t1_folder=Path(folder) / which / "T1",
        t2_folder=Path(folder) / which / "T2",
        run_folder=Path(tempfile.mkdtemp(dir=folder)),
        device="cpu",
        minutes=1e6,
        report_every=1,
        preview_every=10**9,
        save_every=10**9,
    )
    if task == "read":
        began = time.perf_counter()
        t1, t2, _ = read_both(config)
        print(time.perf_counter() - began, peak(), len(t1.images) + len(t2.images))
        return
    of_model = {k: v for k, v in SETTINGS[task].items() if k in ModelConfig.__dataclass_fields__}
    own = {k: v for k, v in SETTINGS[task].items() if k not in of_model}
    config = replace(config, threads=args.threads, **own, model=replace(config.model, **of_model))
    torch.set_num_threads(args.threads)
    until, steps, began, started = 0.0, 0, 0.0, False

    def stop() -> bool:
        """Blocks between turns; time spent here is not training time."""
        nonlocal until, steps, began
        now = time.perf_counter()
        if now < until or not started:
            return False
        if until:
            print(steps / (now - began), peak(), flush=True)
        if not sys.stdin.readline():
            return True
        steps, began = 0, time.perf_counter()
        until = began + args.seconds
        return False

    for event in train(config, stop=stop):
        steps += isinstance(event, Progress)
        started |= isinstance(event, Started)
    shutil.rmtree(config.run_folder)


def peak() -> float:
    """The most MiB that this process has held, shared pages of files included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    main()
