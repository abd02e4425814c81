"""Does a model reveal the images it was trained on? Nearest training patch against nearest held-out patch.

    python benchmarks/memorised.py DATA_FOLDER [--minutes 5 | --runs RUN ...]

Of the course set, T2 #70 to #100 and the T1 that belong to them are trained on, here or by the runs given (those that
quality.py keeps of the set `seed`); #111 to #125 are not. T1 are translated, and each patch of 16x16 pixels is compared
with all patches of the T2 trained on and of the T2 held out, but for those of its own slice. The real T2 of the same
slices, which can copy nothing, says how near patches lie anyway. A synthetic patch that is copied from training lies
nearer to training than nearly all of the real ones do: that share, and the mean error of the grey values, of slices
trained on and held out, by which a slice may be told to have been trained on. Prints a Markdown table for each run.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]

SIDE, STEP = 16, 8
COPIED = 0.01  # of the real patches lie nearer to training than what is called a copy
TRAINED, HELD = range(70, 101), range(111, 126)  # T2 slices, by the number in their name


def main() -> None:
    """Train, or take what is trained, translate, compare, print."""
    parser = ArgumentParser(description="Look for memorised patches.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="trained on the same slices")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        for run in args.runs or [trained(args.data / "seed", Path(home), args.minutes)]:
            table(args.data / "seed", run)


def trained(seed: Path, home: Path, minutes: float) -> Path:
    """A run on the slices to train on."""
    from napari_t1t2.config import TrainConfig
    from napari_t1t2.runs.training import train

    folders = {side: home / side for side in ("T1", "T2")}
    for side, folder in folders.items():
        folder.mkdir()
        for path in slices(seed, side, TRAINED):
            shutil.copy(path, folder)
    run = home / "run"
    config = TrainConfig(t1_folder=folders["T1"], t2_folder=folders["T2"], run_folder=run, minutes=minutes)
    for _ in train(replace(config, pairs="off")):
        pass
    return run


def table(seed: Path, run: Path) -> None:
    """Print what a run gives."""
    from napari_t1t2.model.saved import load_model
    from napari_t1t2.runs.folder import load_config
    from napari_t1t2.synthesis.translation import translate

    model = load_model(run)
    sets = {"trained on": TRAINED, "held out": HELD}
    t1, t2 = ({what: load(slices(seed, side, of)) for what, of in sets.items()} for side in ("T1", "T2"))
    count = min(map(len, t2.values()))  # as many slices on each side
    banks = {what: images[np.linspace(0, len(images) - 1, count).astype(int)] for what, images in t2.items()}
    print(f"{run.name}, pairs {load_config(run).pairs}, {model.about.step} steps; {count} T2 on each side\n")
    print("| patches of | number | to training T2 | to held-out T2 | ratio | copies (1 % of the real) | mean error |")
    print("|---|---|---|---|---|---|---|")
    for what in sets:
        made, limit = translate(t1[what], model, to="t2"), 0.0
        for kind, images in (("real T2", t2[what]), ("synthetic T2 of T1", made)):
            near = {of: np.concatenate(list(distances(images, t2[what], bank))) for of, bank in banks.items()}
            limit = limit or float(np.quantile(near["trained on"], COPIED))
            ratio = np.median(near["trained on"] / np.maximum(near["held out"], 1e-6))
            error = np.abs(images - t2[what])[t2[what] > 10].mean()
            medians = (f"{np.median(near[of]):.1f}" for of in sets)
            cells = (*medians, f"{ratio:.2f}", f"{(near['trained on'] < limit).mean():.1%}", f"{error:.1f}")
            print("|", " | ".join((f"{kind}, {what}", str(len(near["held out"])), *cells)), "|", flush=True)
    print()


def slices(seed: Path, side: str, numbers: range) -> list[Path]:
    """The files of a contrast that show the T2 slices of these numbers."""
    with (seed / "pairs.csv").open(newline="") as file:
        pairs = [(row[0], row[1]) for row in csv.reader(file) if "#" in row[1]]
    chosen = [pair for pair in pairs if int(pair[1].split("#")[1].split(".")[0]) in numbers]
    return [seed / f"Train{side}" / Path(pair[side == "T2"]).name for pair in chosen]


def load(paths: list[Path]) -> Floats:
    """(N, rows, columns)."""
    return np.stack([np.asarray(Image.open(path).convert("L"), np.float32) for path in paths])


def distances(images: Floats, real: Floats, bank: Floats) -> Iterator[Floats]:
    """For each slice, the root mean square distances of its patches to the nearest of the bank's other slices.

    The patches are those where the slice's `real` T2 shows tissue, whichever image they are taken from.
    """
    for image, own in zip(images, real, strict=True):
        others = bank[~(bank == own).all(axis=(1, 2))]
        yield nearest(patches(image, own), np.concatenate([patches(other, other) for other in others]))


def patches(image: Floats, real: Floats) -> Floats:
    """(P, pixels) of those patches where the real slice shows tissue, without their mean."""
    windows = np.lib.stride_tricks.sliding_window_view(np.stack([image, real]), (SIDE, SIDE), axis=(1, 2))
    flat, shown = windows[:, ::STEP, ::STEP].reshape(2, -1, SIDE * SIDE).astype(np.float32)
    flat = flat[(shown > 10).mean(axis=1) > 0.8]
    return flat - flat.mean(axis=1, keepdims=True)


def nearest(some: Floats, bank: Floats) -> Floats:
    """Root mean square distance of each patch to the nearest of a bank."""
    squares = (bank**2).sum(axis=1)
    apart = (some**2).sum(axis=1)[:, None] - 2 * some @ bank.T + squares
    return np.sqrt(np.maximum(apart, 0).min(axis=1)) / SIDE


if __name__ == "__main__":
    main()
