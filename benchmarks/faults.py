"""Kill trainings at random, fill their disk, take their folder away: does the run go on bit for bit? Markdown rows.

    python benchmarks/faults.py [--kills 200] [--failures 50] [--seconds 900]

Tiny networks on generated slices, in each of some settings. A child is forked with everything imported, so that a
kill costs a second; half of the kills come after the first save. What is left must be resumable or startable, and its
end must equal an undisturbed run's: weights, optimizers, image buffers, losses. ENOSPC is that of a tiny tmpfs (only as
root), which is enlarged before the run goes on; it must end in a sentence that names the file. A failure of every
single write: writes.py. Linux only.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SETTINGS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "batch 3": {"batch": 3},
    "cross entropy": {"adversarial": "bce"},
    "no image buffer": {"pool": 0},
    "identity": {"identity_weight": 5.0},
    "pairs": {"pairs": "auto"},
    "bfloat16": {"precision": "bfloat16"},
    "whole slices": {"crop": 0},
}


def main() -> None:
    """Disturb runs and print what became of them."""
    parser = ArgumentParser(description="Kill trainings and fail their writes.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--failures", type=int, default=50, help="of each kind")
    parser.add_argument("--seconds", type=float, default=900.0, help="end after so long, whatever was tried")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    import SimpleITK  # noqa: F401  # all that a child would import
    import skimage.filters  # noqa: F401
    import torch
    import torch._dynamo  # which the first optimizer brings, for seconds

    import napari_t1t2.runs.training  # noqa: F401

    torch.set_num_threads(1)
    rng, began = random.Random(args.seed), time.monotonic()
    print("| attack | setting | tried | bit-equal in the end | said a sentence | failed |\n|---|---|---|---|---|---|")
    attacks: list[tuple[str, int, float, Callable[..., str]]] = [("kill", args.kills, 0.6, killed)]
    attacks += [("folder removed", args.failures, 0.75, vanished), ("file size limited", args.failures, 0.85, limited)]
    if os.getuid() == 0:
        attacks.append(("ENOSPC, a tiny disk", args.failures, 1.0, full))
    with tempfile.TemporaryDirectory() as home:
        wholes: dict[str, tuple[Any, float]] = {}
        for name, count, until, attack in attacks:
            rows: dict[str, Counter[str]] = {setting: Counter() for setting in SETTINGS}
            for number in range(count):
                if time.monotonic() - began > until * args.seconds:
                    break
                setting = list(SETTINGS)[number % len(SETTINGS)]
                folder = Path(home) / setting.replace(" ", "-")
                if setting not in wholes:
                    wholes[setting] = whole(folder, setting)
                if (became := attack(folder, setting, wholes[setting], rng)) != "too late":
                    rows[setting][became] += 1
            for setting, row in rows.items():
                failed = "; ".join(f"{what} x{n}" for what, n in row.items() if what not in ("equal", "said")) or "none"
                ended = row["equal"] + row["said"]
                print(
                    "|", " | ".join(map(str, (name, setting, row.total(), ended, row["said"], failed))), "|", flush=True
                )


def config_of(folder: Path, setting: str, run: str) -> Any:
    """A run of seven steps that is saved after every second one, on slices that are drawn once."""
    from napari_t1t2.config import ModelConfig, TrainConfig

    for side, contrast in enumerate(("T1", "T2")):
        if not (folder / contrast).exists():
            (folder / contrast).mkdir(parents=True)
            for index in range(8):
                y, x = np.mgrid[-1:1:44j, -1:1:36j]
                tissue = 0.6 + 0.3 * np.sin(7 * x + index) * np.cos(5 * y - index)
                head = np.where(np.hypot(y / 0.9, x / 0.7) < 1, abs(1.2 * side - tissue), 0)
                Image.fromarray(np.rint(200 * head).astype(np.uint8)).save(folder / contrast / f"{index}.png")
    config = TrainConfig(
        t1_folder=folder / "T1",
        t2_folder=folder / "T2",
        run_folder=folder / run,
        minutes=0,
        steps=7,
        crop=32,
        device="cpu",
        precision="float32",
        disc_channels=4,
        pool=2,
        pairs="off",
        report_every=2,
        preview_every=3,
        save_every=2,
        model=ModelConfig(channels=4, levels=2),
    )
    return replace(config, **SETTINGS[setting])


def go_on(config: Any) -> None:
    """Resume the run, or begin it where nothing was saved."""
    from napari_t1t2.runs.training import train

    for _ in train(config, resume=(config.run_folder / "checkpoint.pt").exists()):
        pass


def end_of(run: Path) -> list[Any]:
    """All of a run that decides how it goes on and what it has told, times apart."""
    import torch
    from safetensors.torch import load_file

    kept = torch.load(run / "checkpoint.pt", weights_only=True)
    names = ("step", "networks", "generator_adam", "discriminator_adam", "means", "pool_t1", "pool_t2")
    with (run / "losses.csv").open(newline="") as file:
        losses = [{k: float(v or -1) for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    return [load_file(run / "model.safetensors"), [kept[name] for name in names], losses]


def whole(folder: Path, setting: str) -> tuple[Any, float]:
    """How the undisturbed run ends, and how many seconds it takes."""
    config = config_of(folder, setting, "whole")
    began = time.monotonic()
    in_child(lambda: go_on(config))
    return end_of(config.run_folder), time.monotonic() - began


def outcome(config: Any, expected: Any) -> str:
    """Go on with what an attack has left, and compare the end."""
    if (said := in_child(lambda: go_on(config))) == "done":
        return compared(config, expected)
    shutil.rmtree(config.run_folder, ignore_errors=True)
    return f"not to be gone on with: {said[:160]}"


def compared(config: Any, expected: list[Any]) -> str:
    """Whether a run has ended as expected, in all parts that are, with nothing left over; and remove it."""
    from torch.testing import assert_close

    try:
        assert_close(end_of(config.run_folder)[: len(expected)], expected, rtol=0, atol=0)
        left = [path.name for path in config.run_folder.rglob(".*partial*")]
        return f"left {left}" if left else "equal"
    except Exception as error:
        return f"not equal: {type(error).__name__} {str(error)[:160]}".replace("\n", " ")
    finally:
        shutil.rmtree(config.run_folder, ignore_errors=True)


def killed(folder: Path, setting: str, expected: tuple[Any, float], rng: random.Random) -> str:
    """SIGKILL at a random time; every second one after the first save, some of them twice."""
    config = config_of(folder, setting, "killed")
    for _ in range(rng.choice((1, 1, 2))):
        child = forked(lambda: go_on(config))
        if rng.random() < 0.5:
            until = time.monotonic() + 60
            while not list(config.run_folder.glob("*.pt")) and time.monotonic() < until:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, expected[1] / 2))
        else:
            time.sleep(rng.uniform(0, expected[1]))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    from napari_t1t2.errors import Refusal
    from napari_t1t2.model.checkpoint import read_checkpoint

    with suppress(Refusal):
        import torch

        if read_checkpoint(config.run_folder / "checkpoint.pt", torch.device("cpu")).position.step == config.steps:
            shutil.rmtree(config.run_folder)
            return "too late"
    return outcome(config, expected[0])


def full(folder: Path, setting: str, expected: tuple[Any, float], rng: random.Random) -> str:
    """The run folder is on a disk of some kB, which is enlarged before the run goes on."""
    config = config_of(folder, setting, "full/run")
    disk = config.run_folder.parent
    disk.mkdir(exist_ok=True)
    try:
        mount("-t", "tmpfs", "-o", f"size={rng.randrange(8, 1600)}k", "tmpfs", str(disk))
        said = in_child(lambda: go_on(config))
        mount("-o", "remount,size=64m", str(disk))
        return _judged(config, said, expected)
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def mount(*args: str) -> None:
    """A disk comes, or changes."""
    subprocess.run(["mount", *args], check=True)


def _judged(config: Any, said: str, expected: tuple[Any, float]) -> str:
    """What an attack has led to: what was said must be ours and name a file, and the end be that of the whole run."""
    if said != "done" and (not said.startswith("Refusal") or str(config.run_folder) not in said):
        shutil.rmtree(config.run_folder, ignore_errors=True)
        return said[:200].replace("\n", " ")
    if said == "done":
        shutil.rmtree(config.run_folder)
        return "equal"
    ended = outcome(config, expected[0])
    return "said" if ended == "equal" else ended


def vanished(folder: Path, setting: str, expected: tuple[Any, float], rng: random.Random) -> str:
    """The run folder is removed while the run goes on: it makes it anew, or says so."""
    config = config_of(folder, setting, "vanished")
    child = forked(lambda: go_on(config))
    time.sleep(rng.uniform(0.2, 0.9) * expected[1])
    shutil.rmtree(config.run_folder, ignore_errors=True)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        return outcome(config, expected[0])
    if not all((config.run_folder / name).exists() for name in ("checkpoint.pt", "losses.csv", "model.safetensors")):
        shutil.rmtree(config.run_folder, ignore_errors=True)  # it went while the last files were written, or later
        return "too late"
    return compared(config, expected[0][:2])  # the losses of before are lost with the folder


def limited(folder: Path, setting: str, expected: tuple[Any, float], rng: random.Random) -> str:
    """The disk takes no more: every file is limited to a size, as a quota would; permissions do not hold for root."""
    config = config_of(folder, setting, "full")

    import resource  # not on Windows

    def run() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        most = rng.randrange(100, 100_000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        go_on(config)

    return _judged(config, in_child(run), expected)


def forked(work: Callable[[], None], say: Callable[[str], None] = lambda _: None) -> int:
    """The process id of a child that does the work."""
    if child := os.fork():
        return child
    said = "done"
    try:
        work()
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    say(said)
    os._exit(said != "done")


def in_child(work: Callable[[], None]) -> str:
    """Do the work in a child; "done", or what it was ended by."""
    here, there = os.pipe()
    child = forked(work, lambda said: os._exit(0) if os.write(there, said.encode()[:2000]) else None)
    os.close(there)
    with os.fdopen(here, "rb") as answers:
        said = answers.read().decode(errors="replace")
    os.waitpid(child, 0)
    return said or "ended without a word"


if __name__ == "__main__":
    main()
