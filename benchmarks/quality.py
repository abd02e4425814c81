"""How close to the real T2 (and T1) does a preset get on the course set? Prints a Markdown table.

    python benchmarks/quality.py SEED_FOLDER --minutes 10 [--preset laptop] [--seeds 0 1 2]

SEED_FOLDER holds TrainT1, TrainT2 and pairs.csv. Split by block, as neighbours are near-duplicates: trained on T2
#70-#100 and the T1 of the same positions, unpaired; tested on #111-#125. The lookup table is fitted on the pairs of
the training block, which the CycleGAN never sees as pairs.
"""

from __future__ import annotations

import csv
import os
import platform
import shutil
import subprocess
import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch

from napari_t1t2.engine.checkpoint import load_model
from napari_t1t2.engine.config import preset
from napari_t1t2.engine.evaluation import Score, evaluate, lookup_table, mean
from napari_t1t2.engine.events import Finished, Progress
from napari_t1t2.engine.training import train
from napari_t1t2.engine.translation import translate
from napari_t1t2.images.read import read_image
from napari_t1t2.images.volume import Image, Volume

TRAIN, TEST = range(70, 101), range(111, 126)  # numbers of T2 slices


def main() -> None:
    """Train, score, print."""
    parser = ArgumentParser(description="Score a preset on the course set.")
    parser.add_argument("seed_folder", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()

    pairs = {
        int(row["TrainT2"].removesuffix(".png").split("#")[1]): (
            args.seed_folder / "TrainT1" / row["TrainT1"],
            args.seed_folder / "TrainT2" / row["TrainT2"],
        )
        for row in csv.DictReader((args.seed_folder / "pairs.csv").open())
    }
    fitted = [[read_image(pairs[n][side]) for n in TRAIN if n in pairs] for side in (0, 1)]
    tested = [[read_image(pairs[n][side]) for n in TEST if n in pairs] for side in (0, 1)]

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(
        f"{date.today()}, commit {commit}, {platform.machine()}, {os.cpu_count()} CPU cores, torch {torch.__version__}"
    )
    print(f"preset {args.preset}, {args.minutes:g} min; {len(fitted[0])} + {len(fitted[1])} slices to train on, "
          f"{len(tested[0])} to test on\n")  # fmt: skip
    print("| T1 -> T2 | PSNR | SSIM | head PSNR | head SSIM | T2 -> T1: PSNR | SSIM | head PSNR | head SSIM |")
    print("|---|---|---|---|---|---|---|---|---|")
    show("source shown as target", tested, tested[::-1])
    show("lookup table", recoloured(fitted, tested), tested[::-1])
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            run, steps = trained(Path(folder), pairs, args.preset, args.minutes, seed)
            model = load_model(run)
            made = [
                [translate(v, model, to=to) for v in volumes] for to, volumes in zip(("t2", "t1"), tested, strict=True)
            ]
        show(f"{args.preset}, seed {seed}, {steps} steps", made, tested[::-1])


def trained(
    folder: Path, pairs: dict[int, tuple[Path, Path]], name: str, minutes: float, seed: int
) -> tuple[Path, int]:
    """Train one model on the training block."""
    for side, contrast in enumerate(("T1", "T2")):
        (folder / contrast).mkdir()
        for n in TRAIN:
            if n in pairs:
                shutil.copy(pairs[n][side], folder / contrast)
    base = preset(name)  # type: ignore[arg-type]
    config = replace(
        base, t1_folder=folder / "T1", t2_folder=folder / "T2", run_folder=folder / "run", minutes=minutes, seed=seed
    )
    steps, told = 0, 0.0
    for event in train(config):
        match event:
            case Progress() if event.seconds - told > 60:
                told = event.seconds
                print(f"<!-- {event.step} steps, {event.seconds:.0f} s -->", flush=True)
            case Finished(step=step):
                steps = step
    return config.run_folder, steps


def recoloured(fitted: list[list[Volume]], tested: list[list[Volume]]) -> list[list[Volume]]:
    """Both directions by the best lookup table of the training pairs."""
    made = []
    for source, target in ((0, 1), (1, 0)):
        table = lookup_table(*([v.data.astype(np.uint8) for v in fitted[side]] for side in (source, target)))
        made.append([replace(v, data=table[v.data.astype(np.uint8)]) for v in tested[source]])
    return made


def show(name: str, made: Sequence[Sequence[Volume]], real: Sequence[Sequence[Volume]]) -> None:
    """One row: both directions."""
    cells = []
    for fakes, reals in zip(made, real, strict=True):
        s: Score = mean(
            [evaluate(as_bytes(f.data), r.data, data_range=255.0) for f, r in zip(fakes, reals, strict=True)]
        )
        cells += [f"{s.psnr:.2f}", f"{s.ssim:.3f}", f"{s.head_psnr:.2f}", f"{s.head_ssim:.3f}"]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def as_bytes(data: Image) -> Image:
    """As it would be read back from an 8-bit PNG."""
    rounded: Image = np.clip(np.rint(data), 0, 255)
    return rounded


if __name__ == "__main__":
    main()
