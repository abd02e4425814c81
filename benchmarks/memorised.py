"""Does a model reveal the images it was trained on? Nearest training patch against nearest held-out patch.

    python benchmarks/memorised.py DATA_FOLDER --minutes 5

Trains on a part of the course set (T2 #70 to #100 and the T1 among them) and translates T1 slices. A patch of a
synthetic T2 that is copied from training lies nearer to some real training T2 than real patches of unseen slices do.
So for each patch of 16x16 pixels the distance to the nearest training T2 patch is set against that to the nearest T2
patch of as many held-out slices; and the same of real held-out T2, which cannot be copies. Prints a Markdown table.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE, STEP = 16, 8
TRAINED, HELD = range(70, 101), range(111, 126)  # T2 slices, by the number in their name


def main() -> None:
    """Train, translate, compare, print."""
    parser = ArgumentParser(description="Look for memorised patches.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    args = parser.parse_args()
    from napari_t1t2.config import TrainConfig
    from napari_t1t2.model.saved import load_model
    from napari_t1t2.runs.training import train
    from napari_t1t2.synthesis.translation import translate

    seed = args.data / "seed"
    with tempfile.TemporaryDirectory() as home:
        folders = {side: Path(home) / side for side in ("T1", "T2")}
        for side, folder in folders.items():
            folder.mkdir()
            for path in slices(seed, side, TRAINED):
                shutil.copy(path, folder)
        run = Path(home) / "run"
        config = TrainConfig(t1_folder=folders["T1"], t2_folder=folders["T2"], run_folder=run, minutes=args.minutes)
        for event in train(replace(config, pairs="off")):
            last = event
        model = load_model(config.run_folder)
        train_t2, held_t2 = (load(slices(seed, "T2", which)) for which in (TRAINED, HELD))
        count = min(len(train_t2), len(held_t2))
        banks = [patches(images[np.linspace(0, len(images) - 1, count).astype(int)]) for images in (train_t2, held_t2)]
        print(f"{last.step} steps, {len(train_t2)} training T2, {count} T2 on each side\n")
        print("| patches of | number | to training T2 | to held-out T2 | ratio | nearer to training |")
        print("|---|---|---|---|---|---|")
        rows = {"T1 trained on, as T2": load(slices(seed, "T1", TRAINED))}
        rows["T1 held out, as T2"] = load(slices(seed, "T1", HELD))
        for name, t1 in rows.items():
            row(name, patches(translate(t1, model, to="t2")), banks)


def slices(seed: Path, side: str, numbers: range) -> list[Path]:
    """The files of a contrast that show the T2 slices of these numbers."""
    with (seed / "pairs.csv").open(newline="") as file:
        pairs = [(row[0], row[1]) for row in csv.reader(file) if "#" in row[1]]
    chosen = [pair for pair in pairs if int(pair[1].split("#")[1].split(".")[0]) in numbers]
    return [seed / f"Train{side}" / Path(pair[side == "T2"]).name for pair in chosen]


def load(paths: list[Path]) -> npt.NDArray[np.float32]:
    """(N, rows, columns)."""
    return np.stack([np.asarray(Image.open(path).convert("L"), np.float32) for path in paths])


def patches(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(P, pixels) of those patches that show tissue, without their mean."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (SIDE, SIDE), axis=(1, 2))[:, ::STEP, ::STEP]
    flat = windows.reshape(-1, SIDE * SIDE).astype(np.float32)
    flat = flat[(flat > 10).mean(axis=1) > 0.8]
    return flat - flat.mean(axis=1, keepdims=True)


def row(name: str, some: npt.NDArray[np.float32], banks: list[npt.NDArray[np.float32]]) -> None:
    """Print the root mean square distances to the nearest patch of each bank, their ratio, and which is nearer."""
    near = [nearest(some, bank) for bank in banks]
    ratio = np.median(near[0] / np.maximum(near[1], 1e-6))
    share = (near[0] < near[1]).mean()
    cells = (name, len(some), f"{np.median(near[0]):.1f}", f"{np.median(near[1]):.1f}", f"{ratio:.2f}", f"{share:.0%}")
    print("|", " | ".join(map(str, cells)), "|")


def nearest(some: npt.NDArray[np.float32], bank: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Root mean square distance of each patch to the nearest of a bank."""
    squares = (bank**2).sum(axis=1)
    found = [
        np.sqrt(np.maximum((part**2).sum(axis=1)[:, None] - 2 * part @ bank.T + squares, 0).min(axis=1))
        for part in np.array_split(some, max(1, len(some) // 512))
    ]
    return np.concatenate(found) / SIDE


if __name__ == "__main__":
    main()
