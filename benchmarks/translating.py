"""How fast is translating? Prints Markdown tables.

    python benchmarks/translating.py [--device cpu] [--threads 2] [--shape 182 218 182] [--slices 16] [--rounds 3]

First a volume of float32 noise in a ball through the default networks with fresh weights, depth, scaling and all. Then
the paper's U-Net of 54 million weights on slices of 256x256: slice by slice with PyTorch's own layers, as the public
implementation does it, against ours; "off" is the largest difference of the results in [-1, 1]. Rows take turns;
medians are told, of one CPU thread in its own seconds, which other work on the machine does not touch.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import torch
from memory import make_model
from speed import clock_for, cpu_name
from torch import Tensor

from napari_t1t2.config import ModelConfig, Precision
from napari_t1t2.model import cpu_layers
from napari_t1t2.model.cpu_layers import arrange
from napari_t1t2.model.device import autocast, computes_in_bfloat16, describe, pick_device
from napari_t1t2.model.networks import UNetGenerator
from napari_t1t2.model.saved import load_model
from napari_t1t2.synthesis.translation import translate

TINY = cpu_layers.TINY


def main() -> None:
    """Both tables."""
    args = _arguments()
    device = pick_device(args.device)
    torch.set_num_threads(args.threads)
    folder = Path(__file__).parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=folder
    ).stdout.strip()
    print(
        f"{date.today()}, commit {commit}, {cpu_name()}, {os.cpu_count()} CPU cores, {describe(device)}, torch "
        f"{torch.__version__}. Median of {args.rounds} rounds.\n"
    )
    precisions: list[Precision] = ["float32"]
    precisions += ["bfloat16"] if computes_in_bfloat16(device, "auto") else []
    volume(args, device, precisions)
    print()
    paper(args, device, precisions)


def volume(args: Namespace, device: torch.device, precisions: list[Precision]) -> None:
    """The default networks on a volume."""
    z, y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in args.shape)
    inside = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 < 0.9
    data = inside * (300 + 100 * np.random.default_rng(0).random(inside.shape, dtype=np.float32))
    print(f"| default networks, {'x'.join(map(str, args.shape))} | seconds |\n|---|---|")
    with tempfile.TemporaryDirectory() as name:
        path = make_model(Path(name))
        for precision in precisions:
            model = load_model(path, device, precision)
            translate(data[:8], model, to="t2")
            took = timed(lambda model=model: translate(data, model, to="t2"), device, args.rounds)
            print(f"| {precision} | {median(took):.1f} |", flush=True)


def paper(args: Namespace, device: torch.device, precisions: list[Precision]) -> None:
    """The paper's U-Net, slice by slice and as we do it."""
    torch.manual_seed(0)
    network = UNetGenerator(ModelConfig(channels=64, levels=8, tone_curve=False, upsample="transposed"))
    network = network.eval().requires_grad_(False).to(device)
    slices = torch.rand(args.slices, 1, 256, 256, device=device) * 2 - 1

    def reference() -> Tensor:
        cpu_layers.TINY = 0
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        with torch.no_grad():
            return torch.cat([network(one[None]) for one in slices])

    def ours(precision: Precision) -> Tensor:
        cpu_layers.TINY = TINY
        arrange(network)
        with torch.inference_mode(), autocast(device, precision):
            return torch.cat([network(part) for part in torch.split(slices, 8)])

    rows: dict[str, Callable[[], Tensor]] = {"slice by slice": reference}
    rows |= {f"ours, {p}": lambda p=p: ours(p) for p in precisions}
    wanted = reference()
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(args.rounds):
        for name, work in rows.items():
            seconds[name] += timed(work, device, 1)
    print(f"| paper's U-Net, {args.slices} slices | ms/slice | times slice by slice | off |\n|---|---|---|---|")
    for name, work in rows.items():
        took, slow = median(seconds[name]), median(seconds["slice by slice"])
        off = (work() - wanted).abs().max().item()
        print(f"| {name} | {1000 * took / args.slices:.0f} | {slow / took:.1f} | {off:.1e} |", flush=True)


def timed(work: Callable[[], object], device: torch.device, rounds: int) -> list[float]:
    """Seconds of each round."""
    clock = clock_for(device)
    seconds: list[float] = []
    for _ in range(rounds):
        began = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(clock() - began)
    return seconds


def _arguments() -> Namespace:
    parser = ArgumentParser(description="Time translating.")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--shape", type=int, nargs=3, default=(182, 218, 182), metavar=("Z", "Y", "X"))
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
