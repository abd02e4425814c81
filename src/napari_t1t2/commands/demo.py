"""The command demo: the whole way on simulated heads, from two folders to a scored overlay."""

from __future__ import annotations

import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..atomic import written_file
from ..config import TrainConfig, preset
from ..errors import Refusal
from ..images.volume import NOTICE
from .progress import say
from .train import print_run

if TYPE_CHECKING:
    from ..images.volume import Image, Volume
    from ..model.saved import Model
    from ..synthesis.evaluation import Score


def demo(args: Namespace) -> Sequence[Volume]:
    """Train on the sample heads, score, draw; open napari where there is a screen."""
    volumes = run_demo(args.out, minutes=args.minutes, train=print_run)
    return volumes if args.window and has_screen() else ()


def run_demo(out: Path, *, minutes: float, train: Callable[[TrainConfig], None]) -> tuple[Volume, Volume, Volume]:
    """Make the heads, train, translate the held-out subject, score and draw it.

    `train` drives the run, so that a terminal can print its progress. Writes `run/`, `heads/`, `synthetic/`,
    `losses.png` and `side-by-side.png` under `out`, in place of an earlier demo's. Returns the held-out subject:
    the simulated "real" T2, T1 and the synthetic T2, each a stack, in the order in which they lie over each other.
    """
    from ..images.read import read_folder
    from ..images.write import write_image
    from ..model.saved import load_model
    from ..runs.folder import load_config
    from ..sample import write_heads
    from ..synthesis.translation import translate

    run = out / "run"
    config = replace(
        preset("laptop"),
        t1_folder=out / "heads" / "T1",
        t2_folder=out / "heads" / "T2",
        run_folder=run,
        minutes=minutes,
    )
    if run.exists():
        if load_config(run).t1_folder != config.t1_folder:
            raise Refusal(f"{run} holds a run that is not the demo's: give another --out.")
        shutil.rmtree(run)
    say(f"Making simulated heads in {out / 'heads'}")
    heads = write_heads(out / "heads")
    train(config)
    model = load_model(run)

    t1s, t2s = read_folder(heads.held_out_t1, "T1").volumes, read_folder(heads.held_out_t2, "T2").volumes
    fakes = [translate(t1, model, to="t2") for t1 in t1s]
    for t1, fake in zip(t1s, fakes, strict=True):
        write_image(out / "synthetic" / f"{t1.name}.png", fake)
    print_scores(t1s, fakes, t2s)

    drawn = [out / "side-by-side.png"]
    if draw_losses(run, out / "losses.png"):
        drawn.append(out / "losses.png")
    middle = len(t1s) // 2
    draw_side_by_side(t1s[middle].data[0], fakes[middle].data[0], t2s[middle].data[0], model, out / "side-by-side.png")
    say(f"Look at {' and '.join(map(str, drawn))}; the model is {model.about.path}")
    return _stack(t2s, "T2 (simulated head)"), _stack(t1s, "T1 (simulated head)"), _stack(fakes, "T2 (synthetic)")


def print_scores(t1s: list[Volume], fakes: list[Volume], t2s: list[Volume]) -> None:
    """The table that says whether the model learnt more than recolouring."""
    from ..synthesis.evaluation import SSIM_WINDOW, evaluate, mean

    t1, fake, t2 = ([v.data for v in volumes] for volumes in (t1s, fakes, t2s))
    table = fitted_table()
    rows: dict[str, list[Image]] = {
        "T1 shown as T2": t1,
        "lookup table, fitted on training pairs": [table[image.astype(np.uint8)] for image in t1],
        "synthetic T2": fake,
    }
    say("", f"Held-out subject, {len(t2)} slices{'':14}{'full frame':>17}{'inside the head':>18}")
    say(f"{'':42}{'PSNR dB':>8}{'SSIM':>8}{'PSNR dB':>10}{'SSIM':>8}")
    for name, images in rows.items():
        s: Score = mean([evaluate(np.clip(a, 0, 255), b, data_range=255.0) for a, b in zip(images, t2, strict=True)])
        say(f"{name:42}{s.psnr:8.2f}{s.ssim:8.3f}{s.head_psnr:10.2f}{s.head_ssim:8.3f}")
    say(f"SSIM window: {SSIM_WINDOW}", "")


def fitted_table() -> Image:
    """The best recolouring of the training subjects' T1, fitted on T2 of theirs that the model never sees."""
    from ..sample import PLANES, T1_SUBJECTS, load_template, scan
    from ..synthesis.evaluation import lookup_table

    template = load_template()
    pairs = [scan(template, PLANES, subject=subject, seed=0) for subject in T1_SUBJECTS]
    return lookup_table([t1 for t1, _ in pairs], [t2 for _, t2 in pairs])


def draw_losses(run: Path, path: Path) -> bool:
    """The losses of a run as a picture; whether there were any, as the first are reported after some steps."""
    from matplotlib.figure import Figure

    from ..runs.listing import losses_of

    if not (rows := losses_of(run)):
        path.unlink(missing_ok=True)  # of an earlier demo
        return False
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in list(dict.fromkeys(name for row in rows for name in row))[3:]:
        axes.semilogy([row["step"] for row in rows], [row.get(name, np.nan) for row in rows], ".-", label=name)
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()
    with written_file(path) as partial:
        figure.savefig(partial, dpi=120)
    return True


def draw_side_by_side(t1: Image, fake_t2: Image, t2: Image, model: Model, path: Path) -> None:
    """T1, synthetic T2, real T2 and their difference, one slice, (rows, columns) each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.6), layout="constrained")
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255}
    panels = [
        ("T1 (simulated)", t1, grey),
        (f"T2 (synthetic, step {model.about.step})", fake_t2, grey),
        ("T2 (simulated)", t2, grey),
        ("synthetic - simulated", fake_t2 - t2, {"cmap": "RdBu_r", "vmin": -128, "vmax": 128}),
    ]
    for axes, (title, image, look) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        shown = axes.imshow(image, **look)
        axes.set_title(title)
        axes.set_axis_off()
    figure.colorbar(shown, ax=axes, shrink=0.8)
    figure.suptitle("Synthetic image, not for diagnosis", fontsize=9)
    with written_file(path) as partial:
        figure.savefig(partial, dpi=110, metadata={"Description": NOTICE})


def has_screen() -> bool:
    """Whether a window can be opened here."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _stack(volumes: list[Volume], name: str) -> Volume:
    return replace(volumes[0], data=np.concatenate([v.data for v in volumes]), name=name)
