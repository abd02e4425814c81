"""How fast is a training step, against a plain loop and against what the machine can do? Prints Markdown tables.

    python benchmarks/speed.py [--networks paper laptop gpu] [--cases 1x256 4x128 32x64 32x128] [--threads 2]
        [--device cpu] [--rounds 3] [--out FRAGMENT.md] [--limit 6]

"plain" is the loop of the paper's public implementation with PyTorch's own layers: a forward for each use of a network,
a number read from the device at every step, Adam as it comes. Each further row adds one measure to the one above.
Rows take turns and medians are told; ratios count, as machines are noisy. Of one thread the CPU seconds are told, which
other work on the machine does not touch. All rows begin with the same weights and see the same slices and random
numbers, so their losses must agree. Peak memory: each row again in a process of its own, from before the networks are
made. The floor is what products of matrices and the optimizer's memory traffic alone would take at the rates measured
in the same run. With --limit, only whether a step of each case stays within so many GiB, the process and all.
"""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from napari_t1t2.config import ModelConfig, TrainConfig, preset
from napari_t1t2.model import cpu_layers
from napari_t1t2.model.cyclegan import CycleGAN, Made, frozen, with_depth_of
from napari_t1t2.model.device import computes_in_bfloat16, describe, pick_device
from napari_t1t2.model.memory import pages_kept

CASES = ("1x256", "4x128", "32x64", "32x128")
TINY = cpu_layers.TINY


@dataclass(frozen=True)
class Row:
    """A way to make the same step."""

    name: str
    plain_loop: bool = False
    fused: bool = True
    arranged: bool = True
    multiplied: bool = True
    kept: bool = True
    precision: str = "float32"


ROWS = (
    Row("plain", plain_loop=True, fused=False, arranged=False, multiplied=False, kept=False),
    Row("+ one forward for two batches", fused=False, arranged=False, multiplied=False, kept=False),
    Row("+ fused Adam", arranged=False, multiplied=False, kept=False),
    Row("+ channels last, a norm that keeps it", multiplied=False, kept=False),
    Row("+ tiny maps multiplied", kept=False),
    Row("+ pages kept"),
    Row("+ bfloat16", precision="bfloat16"),
)


def main() -> None:
    """One table for each case of each network."""
    args = _arguments()
    device = pick_device(args.device)
    torch.set_num_threads(args.threads)
    if args.row is not None and args.limit:
        print(limited(args.networks[0], args.cases[0], args.limit, device))
        return
    if args.row is not None:
        print(peak(args.networks[0], args.cases[0], ROWS[args.row], device))
        return

    def tell(line: str) -> None:
        print(line, flush=True)
        if args.out:
            with args.out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    if args.limit:
        tell("| networks | batch x side | limit GiB | slices at once | peak GiB | s/step |\n" + "|---" * 6 + "|")
        for name in args.networks:
            for case in args.cases:
                tell(f"| {name} | {case} | {args.limit:g} | {alone(name, case, 0, args)} |")
        return
    rates = {dtype: product_rate(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    copied = copy_rate(device)
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=Path(__file__).parent
    ).stdout.strip()
    tell(
        f"{date.today()}, commit {commit}, {cpu_name()}, {os.cpu_count()} CPU cores, {describe(device)}, torch "
        f"{torch.__version__}. Products of matrices: {rates[torch.float32] / 1e9:.0f} GFLOP/s in float32, "
        f"{rates[torch.bfloat16] / 1e9:.0f} in bfloat16; copying: {copied / 1e9:.1f} GB/s. "
        f"Median of {args.rounds} rounds.\n"
    )
    titles = "networks, batch x side, row, ms/step, pairs/s, times plain, of the floor, peak MiB, loss off plain"
    tell(f"| {titles.replace(', ', ' | ')} |\n" + "|---" * 9 + "|")
    rows = [row for row in ROWS if row.precision == "float32" or computes_in_bfloat16(device, "auto") or args.bfloat16]
    for name in args.networks:
        for case in args.cases:
            for line in measure(name, case, rows, device, rates, copied, args):
                tell(line)


def measure(
    name: str,
    case: str,
    rows: list[Row],
    device: torch.device,
    rates: dict[torch.dtype, float],
    copied: float,
    args: Namespace,
) -> list[str]:
    """The lines of one case."""
    config, size = config_of(name, case)
    steps = {row.name: stepper(config, size, row, device) for row in rows}
    seconds: dict[str, list[float]] = {row.name: [] for row in rows}
    losses: dict[str, list[float]] = {row.name: [] for row in rows}
    clock = clock_for(device)
    for count in range(args.rounds):
        for row in rows:
            cpu_layers.TINY = TINY if row.multiplied else 0
            with pages_kept() if row.kept else nullcontext():
                loss = steps[row.name](count)  # a warm-up, as the pages kept before it were given back
                began = clock()
                steps[row.name](count)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                seconds[row.name].append(clock() - began)
            losses[row.name].append(loss)
    cpu_layers.TINY = TINY
    gan = CycleGAN(config)
    numbers = sum(p.numel() for p in gan.parameters())
    flops = step_flops(gan, config, size)
    lines: list[str] = []
    plain = median(seconds["plain"])
    for row in rows:
        took = median(seconds[row.name])
        rate = rates[torch.bfloat16 if row.precision == "bfloat16" else torch.float32]
        floor = flops / rate + 28 * numbers / copied  # Adam reads four numbers a weight and writes three
        # of the first step: later ones of a GAN amplify rounding
        off = abs(losses[row.name][0] / losses["plain"][0] - 1)
        used = alone(name, case, ROWS.index(row), args)
        lines.append(
            f"| {name}, {numbers / 1e6:.0f} M | {case} | {row.name} | {1000 * took:.0f} | {config.batch / took:.2f} | "
            f"{plain / took:.2f} | {floor / took:.0%} | {used} | {off:.1e} |"
        )
    return lines


def config_of(name: str, case: str) -> tuple[TrainConfig, int]:
    """What is trained, and the side of its slices."""
    batch, size = (int(part) for part in case.split("x"))
    if name != "paper":
        return replace(preset(name), batch=batch), size  # type: ignore[arg-type]
    model = ModelConfig(channels=64, levels=min(8, int(math.log2(size))), tone_curve=False, upsample="transposed")
    config = TrainConfig(
        model=model, batch=batch, crop=0, disc_channels=64, disc_norm=True, coarse=1, cycle_weight=10.0,
        structure_weight=0.0, cycle_warmup=0.0, identity_weight=5.0, learning_rate=2e-4,
    )  # fmt: skip
    return config, size


def stepper(config: TrainConfig, size: int, row: Row, device: torch.device) -> Callable[[int], float]:
    """A function that makes step number so-and-so and returns its loss."""
    torch.manual_seed(0)
    gan = CycleGAN(replace(config, precision=row.precision)).to(device).train()  # type: ignore[arg-type]
    if not row.arranged:
        gan.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if not row.fused:
        for name, pair in (("generator", (gan.t1_to_t2, gan.t2_to_t1)), ("discriminator", (gan.disc_t1, gan.disc_t2))):
            weights = [p for network in pair for p in network.parameters()]
            adam = torch.optim.Adam(weights, lr=config.learning_rate, betas=(config.beta1, 0.999))
            setattr(gan, f"{name}_adam", adam)
    torch.manual_seed(1)
    t1, t2 = (slices(config, size).to(device) for _ in range(2))

    def step(count: int) -> float:
        rng = np.random.default_rng(count)
        losses = plain_step(gan, t1, t2, rng) if row.plain_loop else gan.step(t1, t2, rng)
        return sum(loss.item() for loss in losses.values()) if count == 0 else 0.0

    return step


def slices(config: TrainConfig, size: int) -> Tensor:
    """Noise as a network takes it, with the depth if it wants one."""
    return torch.rand(config.batch, 2 if config.model.depth else 1, size, size) * 2 - 1


def plain_step(gan: CycleGAN, t1: Tensor, t2: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
    """The step as the public implementation of Zhu et al. (2017) makes it."""
    t1_to_t2, t2_to_t1 = gan.t1_to_t2, gan.t2_to_t1
    fake_t2, fake_t1 = t1_to_t2(t1), t2_to_t1(t2)
    back_t1, back_t2 = t2_to_t1(with_depth_of(fake_t2, t1)), t1_to_t2(with_depth_of(fake_t1, t2))
    with frozen(gan.disc_t1, gan.disc_t2):
        same = (t2_to_t1(t1), t1_to_t2(t2)) if gan.config.identity_weight else (None, None)
        losses = gan.generator_losses(t1, t2, Made(fake_t1, fake_t2, back_t1, back_t2, *same))
        gan.generator_adam.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        gan.generator_adam.step()
    fakes = (
        gan.pool_t1.swap(with_depth_of(fake_t1.detach(), t2), rng),
        gan.pool_t2.swap(with_depth_of(fake_t2.detach(), t1), rng),
    )
    gan.discriminator_adam.zero_grad()
    judged = torch.zeros((), device=t1.device)
    for judge, real, fake in zip((gan.disc_t1, gan.disc_t2), (t1, t2), fakes, strict=True):
        loss = 0.5 * (gan.adversarial_loss(judge(real), 1) + gan.adversarial_loss(judge(fake), 0))
        loss.backward()
        judged = judged + loss.detach()
    gan.discriminator_adam.step()
    losses["discriminators"] = judged
    for loss in losses.values():
        loss.item()
    return {name: loss.detach() for name, loss in losses.items()}


def alone(name: str, case: str, row: int, args: Namespace) -> str:
    """What a process of its own prints of a row."""
    command = [sys.executable, __file__, "--networks", name, "--cases", case, "--row", str(row)]
    command += ["--threads", str(args.threads), "--device", args.device, "--limit", str(args.limit)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def limited(name: str, case: str, limit: float, device: torch.device) -> str:
    """What a step takes that has to fit: slices at once, GiB in all, seconds."""
    config, size = config_of(name, case)
    gan = CycleGAN(replace(config, memory=limit)).to(device).train()
    t1, t2 = (slices(config, size).to(device) for _ in range(2))
    gan.fit(t1, t2)
    with pages_kept():
        for count in range(2):  # Adam makes its moments in the first
            began = time.perf_counter()
            gan.step(t1, t2, np.random.default_rng(count))
    taken = torch.cuda.max_memory_reserved() / 2**20 if device.type == "cuda" else most_resident()
    recomputed = ", activations twice" if gan.footprint.recomputes else ""
    return f"{gan.footprint.at_once}{recomputed} | {taken / 1024:.2f} | {time.perf_counter() - began:.0f}"


def peak(name: str, case: str, row: Row, device: torch.device) -> int:
    """MiB that two steps take at most, from before the networks are made."""
    config, size = config_of(name, case)
    cpu_layers.TINY = TINY if row.multiplied else 0
    before = most_resident()
    step = stepper(config, size, row, device)
    with pages_kept() if row.kept else nullcontext():
        for count in range(2):
            step(count)
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20)
    return round(most_resident() - before)


def most_resident() -> float:
    """MiB that this process has taken at most; not `ru_maxrss`, which a child inherits from its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def step_flops(gan: CycleGAN, config: TrainConfig, size: int) -> float:
    """Additions and multiplications of a step, of one slice times the batch."""
    one = replace(config, batch=1)
    t1, t2 = slices(one, size), slices(one, size)
    gan.config = replace(one, precision="float32")
    with FlopCounterMode(display=False) as counter:
        gan.step(t1, t2, np.random.default_rng(0))
    return float(counter.get_total_flops() * config.batch)


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating point operations a second of a product of matrices."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / best(lambda: a @ b, device)


def copy_rate(device: torch.device) -> float:
    """Bytes read and written a second."""
    a = torch.randn(2**26, device=device)
    b = torch.empty_like(a)
    return 8 * a.numel() / best(lambda: b.copy_(a), device)


def best(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of some."""
    seconds: list[float] = []
    clock = clock_for(device)
    for _ in range(8):
        began = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(clock() - began)
    return min(seconds)


def clock_for(device: torch.device) -> Callable[[], float]:
    """Wall time; of one thread of a CPU its own seconds, so that other work on the machine does not count."""
    return time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def cpu_name() -> str:
    """As the system calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _arguments() -> Namespace:
    parser = ArgumentParser(description="Time training steps.")
    parser.add_argument("--networks", nargs="+", choices=("paper", "laptop", "gpu"), default=["paper", "laptop"])
    parser.add_argument("--cases", nargs="+", default=CASES, help="batch x side, as 4x128")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bfloat16", action="store_true", help="measure it also where it is known to be slow")
    parser.add_argument("--row", type=int, help="only print the peak memory of this row")
    parser.add_argument("--limit", type=float, default=0.0, help="GiB that training may take")
    parser.add_argument("--out", type=Path, help="append the table to this file as well")
    return parser.parse_args()


if __name__ == "__main__":
    main()
