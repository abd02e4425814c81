"""Does the uncertainty map lie where the error lies? Prints Markdown tables and draws a reliability plot.

    python benchmarks/trust.py T1 T2 EVAL_T1 EVAL_T2 --model RUN [--ensemble RUN ...] [--plot reliability.png]

Calibrated on the pairs in T1 and T2 (equal names), which the model should not have seen; measured on EVAL_T1 and
EVAL_T2, another patient. Positive are the 10 % of pixels with the largest absolute error, of the head or of the frame.
"""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from scipy.stats import rankdata

from napari_t1t2.images.read import read_image
from napari_t1t2.images.volume import Image, Volume
from napari_t1t2.model.saved import load_model
from napari_t1t2.synthesis.calibration import Sample, calibrate, samples
from napari_t1t2.synthesis.uncertainty import Calibration, UncertaintyMap

WORST = 0.9  # quantile of the error


def main() -> None:
    """Calibrate, measure, print, draw."""
    parser = ArgumentParser(description="Measure the expected error against the error.")
    for name in ("t1", "t2", "eval_t1", "eval_t2"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--ensemble", type=Path, nargs="*", default=[])
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, members = load_model(args.model), [load_model(path) for path in args.ensemble]
    calibrations = calibrate(model, pairs(args.t1, args.t2), members)
    alone = calibrate(model, pairs(args.t1, args.t2))
    tested = pairs(args.eval_t1, args.eval_t2)

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 0.6], [0, 0.6], color="grey", label="as expected")
    bare = replace(model, about=replace(model.about, calibration={}))
    for side in ("t2", "t1"):
        known = list(samples(UncertaintyMap(bare, side, members), [p if side == "t2" else p[::-1] for p in tested]))
        calibration = calibrations[side]
        expected = [calibration.expect(s.terms) for s in known]
        maps = {
            "cycle error": [s.signs[0] for s in known],
            "augmentation spread": [s.signs[1] for s in known],
            **({"ensemble spread": [s.signs[2] for s in known]} if members else {}),
            "sum of the signs, not calibrated": [np.add.reduce(s.signs) for s in known],
            "calibrated, one model": [alone[side].expect(without_members(s, alone[side])) for s in known],
            **({"calibrated, ensemble": expected} if members else {}),
        }
        print(f"\nto {model.config.label(side)}, {len(known)} slices\n")
        print("| AUC against the worst 10 % | head, pooled | head, mean of slices | frame, pooled |\n|---|---|---|---|")
        error, head = [s.error for s in known], [s.head for s in known]
        everywhere = [np.ones_like(h) for h in head]
        for name, score in maps.items():
            each = [auc([a], [b], [h]) for a, b, h in zip(score, error, head, strict=True)]
            cells = (auc(score, error, head), np.mean(each), auc(score, error, everywhere))
            print(f"| {name} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
        said, met = (np.concatenate([a[h] for a, h in zip(maps_, head, strict=True)]) for maps_ in (expected, error))
        parts = np.array_split(np.argsort(said, kind="stable"), 10)
        rows = [(float(said[p].mean()), float(met[p].mean())) for p in parts]
        print("\n| tenth of the head | " + " | ".join(map(str, range(1, 11))) + " |\n" + "|---" * 11 + "|")
        for label, column in (("expected", 0), ("met", 1)):
            print(f"| {label} | " + " | ".join(f"{row[column]:.3f}" for row in rows) + " |")
        axes.plot(*zip(*rows, strict=True), marker="o", label=f"to {model.config.label(side)}")
    axes.set(xlabel="expected error, part of the range", ylabel="error met")
    axes.legend()
    if args.plot:
        figure.savefig(args.plot, dpi=100)


def pairs(t1: Path, t2: Path) -> list[tuple[Volume, Volume]]:
    """Files of equal names."""
    names = sorted({p.name for p in t1.iterdir()} & {p.name for p in t2.iterdir()})
    return [(read_image(t1 / name), read_image(t2 / name)) for name in names]


def without_members(sample: Sample, alone: Calibration) -> Image:
    """The terms that one model has: those of an ensemble but for its spread."""
    extra = sample.terms.shape[-1] - len(alone.weights)
    return np.delete(sample.terms, np.s_[3 : 3 + extra], axis=-1)


def auc(score: list[Image], error: list[Image], where: list[npt.NDArray[np.bool_]]) -> float:
    """Area under the ROC curve: how often one of the worst pixels scores higher than one of the others."""
    s, e = (np.concatenate([a[w] for a, w in zip(arrays, where, strict=True)]) for arrays in (score, error))
    worst = e >= np.quantile(e, WORST)
    n, rest = int(worst.sum()), int((~worst).sum())
    return float((rankdata(s)[worst].sum() - n * (n + 1) / 2) / (n * rest))


if __name__ == "__main__":
    main()
