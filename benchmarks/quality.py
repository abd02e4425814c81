"""How close to the real contrast do we get, against the paper, recolouring and supervision? Prints Markdown tables.

    python benchmarks/quality.py DATA --sets seed seed64 lit sim --rows source table histogram paper laptop supervised
        --minutes 5 --seeds 0 1 2 --threads 1 --keep RUNS --out FRAGMENT.md

DATA holds seed/ (TrainT1, TrainT2, pairs.csv), lit/ and eval_png/, each with a T1 and a T2 folder; `sim` needs none.
Each line is printed, and appended to --out, as soon as it is known. With --keep the trained models stay, and are
scored again instead of trained again. Budgets: 5 or 30 minutes on two cores; 30 on a GPU, with `gpu` among the rows.
"""

from __future__ import annotations

import csv
import math
import os
import platform
import shutil
import subprocess
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, uniform_filter
from skimage.exposure import match_histograms

from napari_t1t2.config import ModelConfig, TrainConfig, preset
from napari_t1t2.images.frame import Frame
from napari_t1t2.images.head import head_mask
from napari_t1t2.images.intensity import Intensity, measure, ranges_for
from napari_t1t2.images.read import read_image
from napari_t1t2.images.volume import Image, Volume
from napari_t1t2.model.about import MODEL_FILE
from napari_t1t2.model.device import describe, pick_device
from napari_t1t2.model.saved import load_model
from napari_t1t2.runs.folder import CHECKPOINT_FILE, LOSSES_FILE, MAY_CHANGE, load_config
from napari_t1t2.runs.training import as_begun, train
from napari_t1t2.sample import PLANES, T1_SUBJECTS, load_template, scan, write_heads
from napari_t1t2.synthesis.evaluation import SSIM_WINDOW, Score, evaluate, lookup_table, mean
from napari_t1t2.synthesis.translation import translate

SETS = ("seed", "seed64", "lit", "exams", "p01", "p12", "p04", "sim")  # of lit, a name leaves that patient out
UNTRAINED = {"source": "source shown as target", "table": "lookup table", "histogram": "histogram matching"}
GENERAL = "sample"  # the model that comes with the package, made by scripts/sample_model.py
TRAINED = ("paper", "laptop", "auto", "notebook", "gpu", "supervised")  # auto: laptop, with the pairs it finds
TRAIN, TEST = range(70, 101), range(111, 126)  # T2 slices of the course set, by block: neighbours are near-duplicates
WAYS = ("T1 -> T2", "T2 -> T1")
KINDS = ("psnr", "ssim", "mae", "nmi")
METRICS = [n for n in (*KINDS, *(f"head_{kind}" for kind in KINDS)) if n in {f.name for f in fields(Score)}]
METRICS += ["unexplained", "in real"]
WINDOW = 9  # pixels, in which a line maps the source's intensities to those of another image
NEVER = 10**9
ALONE = dict.fromkeys(("adversarial_weight", "cycle_weight", "structure_weight", "identity_weight"), 0.0)

Pair = tuple[list[Volume], list[Volume]]  # T1 and T2 slices, one of each at a place


@dataclass(frozen=True)
class Set:
    """Folders to train on, without and with pairs of one name, and slices of other blocks or heads to test on."""

    name: str
    unpaired: tuple[Path, Path]
    pairs: tuple[Path, Path]
    tested: dict[str, Pair]
    size: int = 0  # the networks and the scores see slices fitted into such a square; 0: as they are
    in_units: bool = False  # the tested ones are volumes in units of their own

    def fitted(self) -> Pair:
        """The pairs of the training part, for rows that may see them."""
        t1, t2 = read_pairs(*self.pairs)
        return [fit(v, self.size) for v in t1], [fit(v, self.size) for v in t2]


def main() -> None:
    """Train, score, print."""
    args = _arguments()
    for name in args.sets:
        with tempfile.TemporaryDirectory() as folder:
            run_set(load_set(name, args.data, Path(folder)), args, Path(folder) / "runs")


def run_set(data: Set, args: Namespace, scratch: Path) -> None:
    """One table: for every row, a line for each test set, way and seed, and their mean and spread."""

    def tell(line: str) -> None:
        print(line, flush=True)
        if args.out:
            with args.out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    fitted = data.fitted()
    tell(f"\n### {data.name}\n\n{caption(data, len(fitted[0]), args)}\n")
    header = ["tested on", "way", "row", "steps", "minutes", *(_title(name) for name in METRICS)]
    tell("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for row in args.rows:
        if row in UNTRAINED:
            scores = {test: score(recoloured(row, fitted, pair), pair) for test, pair in data.tested.items()}
            tell_lines(tell, UNTRAINED[row], "", "", [scores])
            continue
        if row == GENERAL:
            made = {test: translated(Path(GENERAL), pair, together=True) for test, pair in data.tested.items()}
            scores = {test: score(made[test], pair) for test, pair in data.tested.items()}
            tell_lines(tell, "the general model", "", "", [scores])
            made = {test: with_medians_of(made[test], pair) for test, pair in data.tested.items()}
            scores = {test: score(made[test], pair) for test, pair in data.tested.items()}
            tell_lines(tell, "the general model, intensities matched", "", "", [scores])
            continue
        seeds: list[dict[str, list[Namespace]]] = []
        for seed in args.seeds:
            try:
                run, steps, minutes = trained(config_of(row, data, args, seed), args.keep or scratch)
            except ValueError as error:
                tell(f"| | | {row}, seed {seed}: {error} |" + " |" * (len(header) - 3))
                continue
            ranges = load_model(run).about.ranges if data.in_units else None
            made = {test: translated(run, pair) for test, pair in data.tested.items()}
            seeds.append({test: score(made[test], pair, ranges) for test, pair in data.tested.items()})
            if args.pictures and not data.in_units:
                for test, pair in data.tested.items():
                    draw(args.pictures / f"{data.name}-{test}-{row}-{seed}.png".replace(" ", "-"), made[test], pair)
            tell_lines(tell, f"{row}, seed {seed}", str(steps), minutes, seeds[-1:])
        if len(seeds) > 1:
            tell_lines(tell, f"**{row}, {len(seeds)} seeds**", "", "", seeds)


def tell_lines(
    tell: Callable[[str], None], row: str, steps: str, minutes: str, seeds: Sequence[dict[str, list[Namespace]]]
) -> None:
    """A line for each test set and way; of several seeds their mean and standard deviation."""
    for test in seeds[0]:
        for i, way in enumerate(WAYS):
            cells = [test, way, row, steps, minutes]
            for name in METRICS:
                values = np.array([getattr(scores[test][i], name) for scores in seeds])
                digits = 2 if name.endswith("psnr") else 3
                spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
                cells.append(f"{values.mean():.{digits}f}{spread}")
            tell("| " + " | ".join(cells) + " |")


def caption(data: Set, pairs: int, args: Namespace) -> str:
    """What made the table."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=Path(__file__).parent
    ).stdout.strip()
    if args.threads:
        torch.set_num_threads(args.threads)
    budget = f"{args.steps} steps" if args.steps else f"{args.minutes:g} minutes"
    tested = ", ".join(f"{len(t1)} pairs of {test}" for test, (t1, _) in data.tested.items())
    changes = f"; with {', '.join(args.set)}" if args.set else ""
    at = f" Trained and scored on slices fitted into {data.size}x{data.size}." if data.size else ""
    return (
        f"{date.today()}, commit {commit}, {platform.machine()}, {os.cpu_count()} CPU cores, "
        f"{describe(pick_device(args.device))}, torch {torch.__version__}. {budget} of training{changes}; {pairs} "
        f"slices of each contrast to train on, tested on {tested}.{at} ± is the standard deviation over seeds. "
        f"SSIM: {SSIM_WINDOW}; head: the one mask (images/head.py)."
    )


def load_set(name: str, data: Path, folder: Path) -> Set:
    """One of `SETS`; what has to be written goes under `folder`."""
    if name == "sim":
        heads = write_heads(folder)
        pairs = folder / "pairs" / "T1", folder / "pairs" / "T2"
        template = load_template()
        for subject in T1_SUBJECTS:
            for side, stack in zip(pairs, scan(template, PLANES, subject=subject, seed=0), strict=True):
                _write(stack, [side / f"sub-{subject:02d}_z{plane:03d}.png" for plane in PLANES])
        held_out = {"held-out head": read_pairs(heads.held_out_t1, heads.held_out_t2)}
        return Set(name, (heads.t1_folder, heads.t2_folder), pairs, held_out)
    if name == "lit":
        both = data / "lit" / "T1", data / "lit" / "T2"
        patients = ("lit_p04", "lit_p07_brain")
        tested = {p: read_pairs(data / "eval_png" / p / "T1", data / "eval_png" / p / "T2") for p in patients}
        return Set(name, both, both, tested)
    if name == "exams":  # raw and moved, each T2 on its own grid
        lit = load_set("lit", data, folder)
        stacks = {p: tuple([read_image(data / "eval" / p / f"{c}.nii.gz")] for c in ("T1", "T2")) for p in lit.tested}
        return replace(lit, name=name, unpaired=(data / "exams",) * 2, tested=stacks, in_units=True)
    if name in ("p01", "p12", "p04"):
        return _without_patient(name, data, folder)
    size = 64 if name == "seed64" else 0
    unpaired, pairs = (
        (folder / kind / "T1", folder / kind / "T2") for kind in ("unpaired", "pairs")
    )  # under equal names only where pairs may be seen
    tested_pairs: Pair = ([], [])
    for row in csv.DictReader((data / "seed" / "pairs.csv").open()):
        number = int(row["TrainT2"].removesuffix(".png").split("#")[1])
        for side, contrast in enumerate(("TrainT1", "TrainT2")):
            path = data / "seed" / contrast / row[contrast]
            if number in TEST:
                tested_pairs[side].append(fit(read_image(path), size))
            elif number in TRAIN:
                for copy in (unpaired[side] / path.name, pairs[side] / f"{number:03d}.png"):
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, copy)
    return Set(name, unpaired, pairs, {f"#{TEST[0]}-#{TEST[-1]}": tested_pairs}, size)


def _without_patient(name: str, data: Path, folder: Path) -> Set:
    """All patients of lit but one, who is tested on."""
    for side in ("T1", "T2"):
        for home in (data / "lit" / side, data / "eval_png" / "lit_p04" / side):
            patient = "p04" if "p04" in str(home) else ""
            for path in home.glob("*.png"):
                place = folder / ("tested" if (patient or path.name).startswith(name) else "trained") / side
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place / f"{patient}{path.name}")
    both = folder / "trained" / "T1", folder / "trained" / "T2"
    return Set(name, both, both, {name: read_pairs(folder / "tested" / "T1", folder / "tested" / "T2")})


def read_pairs(t1_folder: Path, t2_folder: Path) -> Pair:
    """The slices of two folders that have one name."""
    names = sorted({p.name for p in t1_folder.glob("*.png")} & {p.name for p in t2_folder.glob("*.png")})
    if not names:
        raise ValueError(f"{t1_folder} and {t2_folder} share no file name: give the folder that holds the data sets.")
    return [read_image(t1_folder / n) for n in names], [read_image(t2_folder / n) for n in names]


def fit(volume: Volume, size: int) -> Volume:
    """An 8-bit slice as the networks' frame of `size` shows it; unchanged for 0."""
    if not size:
        return volume
    rows, columns = volume.data.shape[1:]
    framed = Frame.of((rows, columns), size, 1).put(volume.data / np.float32(127.5) - 1)
    return replace(volume, data=as_bytes((framed + 1) * np.float32(127.5)))


def config_of(row: str, data: Set, args: Namespace, seed: int) -> TrainConfig:
    """What a row trains; the run folder's name is to be put into the folder of runs."""
    if row == "paper":
        config = paper(min(min(v.data.shape[1:]) for pair in data.tested.values() for v in pair[0]))
    elif row == "supervised" or row == "auto":  # what our generator could do if it were told
        config = preset("laptop")
    else:
        config = replace(preset(row), pairs="off")  # type: ignore[arg-type]
    if data.size:
        config = replace(config, model=replace(config.model, size=data.size))
    t1_folder, t2_folder = data.pairs if row == "supervised" else data.unpaired
    config = replace(
        config, t1_folder=t1_folder, t2_folder=t2_folder, run_folder=Path(f"{data.name}-{row}-{seed}"),
        minutes=0 if args.steps else args.minutes, steps=args.steps, device=args.device, threads=args.threads,
        seed=seed, preview_every=NEVER, save_every=NEVER,
    )  # fmt: skip
    for change in args.set if row != "paper" else ():
        config = changed(config, change)
    if row == "supervised":  # whatever was changed, its loss is that of the pairs alone
        config = replace(config, **ALONE, paired_weight=1.0)
    return replace(config, report_every=min(config.report_every, config.steps or NEVER))


def paper(side: int) -> TrainConfig:
    """Zhu et al. (2017) with the U-Net that they name beside their ResNet, for slices of at least `side` pixels.

    Slices are padded to what the levels need.
    """
    levels = min(7, int(math.log2(side)))
    return TrainConfig(
        model=ModelConfig(channels=64, levels=levels, tone_curve=False, upsample="transposed"),
        start="", batch=1, crop=0, adversarial="least squares",
        disc_channels=64, disc_norm=True, coarse=1, cycle_weight=10.0,
        structure_weight=0.0, cycle_warmup=0.0, identity_weight=5.0, learning_rate=2e-4, beta1=0.5, decay_from=0.5,
        pool=50, flip=True, pairs="off",
    )  # fmt: skip


def changed(config: TrainConfig, change: str) -> TrainConfig:
    """With one field of it, or of its model, set by "name=value"."""
    name, _, text = change.partition("=")
    owner: Any = config.model if name in {f.name for f in fields(ModelConfig)} else config
    kind = type(getattr(owner, name, None))
    if kind not in (bool, int, float, str):
        raise ValueError(f"--set {change}: {name} is no setting of a run or model that can be changed so.")
    if kind is bool and text not in ("True", "False"):
        raise ValueError(f"--set {change}: {name} is True or False.")
    made = replace(owner, **{name: text == "True" if kind is bool else kind(text)})
    return replace(config, model=made) if owner is config.model else made


def trained(config: TrainConfig, runs: Path) -> tuple[Path, int, str]:
    """A run folder with a model, trained now unless it is there already; its steps and minutes."""
    config = replace(config, run_folder=runs / config.run_folder)
    run = config.run_folder
    if (run / MODEL_FILE).exists():
        before, now = load_config(run).to_dict(), as_begun(config).to_dict()
        free = MAY_CHANGE - {"minutes", "steps"}
        if other := sorted(name for name in now.keys() - free if before.get(name) != now[name]):
            raise ValueError(f"{run} was trained with another {', '.join(other)}: give another --keep.")
    else:
        for _ in train(config):
            pass
        (run / CHECKPOINT_FILE).unlink()  # it is three times as large as the model, and nobody goes on from here
    table = np.genfromtxt(run / LOSSES_FILE, delimiter=",", names=True)
    return run, load_model(run).about.step, f"{float(np.max(table['seconds'])) / 60:.1f}"


def translated(run: Path, pair: Pair, *, together: bool = False) -> Pair:
    """Both ways by a model: synthetic T2, synthetic T1. `together`: slices share the range that is measured on all."""
    model = load_model(run)
    made = []
    for volumes, source, side in zip(pair, ("t1", "t2"), ("t2", "t1"), strict=True):
        ranges = [found for found, _ in ranges_for(volumes, model.about.ranges[source])]
        shared = ranges if together else [None] * len(volumes)
        made.append([translate(v, model, to=side, intensity=own) for v, own in zip(volumes, shared, strict=True)])
    return made[0], made[1]


def with_medians_of(made: Pair, pair: Pair) -> Pair:
    """Synthetic T2 and T1 scaled so that the median of the head is that of the real T2 and T1."""
    scaled = []
    for fakes, reals in zip(made, pair[::-1], strict=True):
        own, real = (measure([v.data for v in volumes]) for volumes in (fakes, reals))
        gain = np.float32((real.high / real.headroom) / (own.high / own.headroom))
        scaled.append([replace(v, data=v.data * gain) for v in fakes])
    return scaled[0], scaled[1]


def recoloured(row: str, fitted: Pair, tested: Pair) -> Pair:
    """Both ways without a network."""
    made: Pair = ([], [])
    for source, out in enumerate(made):
        images = [v.data for v in tested[source]]
        if row == "table":
            table = table_of(fitted, source)
            images = [table[image.astype(np.uint8)] for image in images]
        elif row == "histogram":  # all slices at once, as one alone may show little of a tissue
            wanted = np.concatenate([v.data.ravel() for v in fitted[1 - source]])
            matched = match_histograms(np.concatenate([image.ravel() for image in images]), wanted)
            ends = np.cumsum([image.size for image in images])[:-1]
            images = [
                p.reshape(i.shape).astype(np.float32) for p, i in zip(np.split(matched, ends), images, strict=True)
            ]
        out += [replace(v, data=image) for v, image in zip(tested[source], images, strict=True)]
    return made


def table_of(fitted: Pair, source: int) -> Image:
    """The best lookup table of the training pairs, from T1 (0) or T2 (1)."""
    return lookup_table(*([v.data.astype(np.uint8) for v in fitted[side]] for side in (source, 1 - source)))


def score(made: Pair, real: Pair, ranges: dict[str, Intensity] | None = None) -> list[Namespace]:
    """Both ways: synthetic T2 against T2, synthetic T1 against T1, in grey values of 8 bit.

    Volumes in other units come to these by the `ranges` that a model was trained on, real ones by their own.
    """
    if ranges:
        made = tuple([_as_grey(v, ranges[side]) for v in own] for own, side in zip(made, ("t2", "t1"), strict=True))
        real = tuple([_as_grey(v, measure([v.data])) for v in own] for own in real)
        shown = [(v.data > 13).mean(axis=(1, 2)) > 0.02 for v in real[0]]  # the others have no head to score
        made, real = (
            tuple([replace(v, data=v.data[some]) for v, some in zip(own, shown, strict=True)] for own in both)
            for both in (made, real)
        )
    rows = []
    for fakes, sources, targets in zip(made, real, real[::-1], strict=True):
        each = [evaluate(as_bytes(f.data), r.data, data_range=255.0) for f, r in zip(fakes, targets, strict=True)]
        found = {"unexplained": unexplained(fakes, sources), "in real": unexplained(targets, sources)}
        rows.append(Namespace(**asdict(mean(each)), **found))
    return rows


def draw(path: Path, made: Pair, real: Pair) -> None:
    """The best, the median and the worst slice by PSNR from T1 to T2, and back: source, synthetic, real, difference."""
    ways = zip(made, real, real[::-1], strict=True)
    columns = []
    for fakes, sources, targets in ways:
        found = [evaluate(as_bytes(f.data), r.data, data_range=255.0).psnr for f, r in zip(fakes, targets, strict=True)]
        order = np.argsort(found)[::-1]
        rows = []
        for i in (order[0], order[len(order) // 2], order[-1]):
            images = [np.clip(v[i].data[0], 0, 255) for v in (sources, fakes, targets)]
            rows.append(np.hstack([*images, np.abs(images[1] - images[2])]))
        columns.append(np.vstack(rows))
    _write([np.hstack(columns).astype(np.uint8)], [path])


def _as_grey(volume: Volume, intensity: Intensity) -> Volume:
    return replace(volume, data=(intensity.to_unit(volume.data) + 1) * np.float32(127.5))


def unexplained(images: list[Volume], sources: list[Volume]) -> float:
    """The strongest structure (99.9 % of the head are weaker) that no local mapping of the source's intensities makes.

    What is left of the images, smoothed over a pixel, after a line through the intensities around each pixel (the
    guided filter of He et al., 2013), as a fraction of the range. Real images have some, too: compare with theirs.
    """
    left = []
    slices = zip((s for v in images for s in v.data), (s for v in sources for s in v.data), strict=True)
    for image, source in slices:
        x, y = source / 255, as_bytes(image) / 255
        inside = head_mask(x * 2 - 1)
        if not inside.any():
            continue
        mx, my, mxx, mxy = (uniform_filter(v, WINDOW) for v in (x, y, x * x, x * y))
        slope = (mxy - mx * my) / (mxx - mx * mx + 1e-4)
        rest = gaussian_filter(y - (my + uniform_filter(slope, WINDOW) * (x - mx)), 1)
        left.append(np.abs(rest[inside]))
    return float(np.percentile(np.concatenate(left), 99.9))


def as_bytes(data: Image) -> Image:
    """As it would be read back from an 8-bit PNG."""
    rounded: Image = np.clip(np.rint(data), 0, 255)
    return rounded


def _title(metric: str) -> str:
    if metric in ("unexplained", "in real"):
        return metric
    *where, name = metric.split("_")
    return " ".join([*where, "SSIM 11x11" if name == "ssim" else name.upper()])


def _write(stack: Any, paths: Sequence[Path]) -> None:
    from PIL import Image as Pillow

    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for pixels, path in zip(stack, paths, strict=True):
        Pillow.fromarray(pixels).save(path)


def _arguments() -> Namespace:
    parser = ArgumentParser(description="Train and score on real and simulated heads.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["seed"])
    default = [*UNTRAINED, "paper", "laptop", "supervised"]
    parser.add_argument("--rows", nargs="+", choices=[*UNTRAINED, GENERAL, *TRAINED], default=default)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--steps", type=int, default=0, help="train for so many instead: the same on any machine")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a setting of every trained row but the paper's",
    )
    parser.add_argument("--keep", type=Path, help="folder for the trained models, SET-ROW-SEED; those there are reused")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the best, median and worst slices")
    parser.add_argument("--out", type=Path, help="append the tables to this file as well")
    args = parser.parse_args()
    try:
        for change in args.set:
            changed(TrainConfig(), change)
    except ValueError as error:
        parser.error(str(error))
    return args


if __name__ == "__main__":
    main()
