"""Do the commands go file by file? Peak memory and seconds to the first image, for many volumes. A Markdown table.

    python benchmarks/batch.py [--volumes 2000] [--seconds 40] [--layout flat|bids] [--broken 20] [--folder DIR]
        [--shape 256 256 180] [--whole] [--only translate]

Three heads of noise, int16, compressed, and hard links to them; of `--broken` files the end is missing. Each command
runs as a user runs it, is stopped by Ctrl-C after some seconds, and its printed lines are shown; `--whole` then lets it
go on to the end, and tells how much memory is resident when a quarter is done, and all. Load is what its worker thread
does, without a window.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path

import numpy as np

DISTINCT = 3
PROGRAM = [sys.executable, "-m", "napari_t1t2"]
LOAD = """
import sys
from pathlib import Path
from napari_t1t2.config import ModelConfig
from napari_t1t2.widgets._folders import look
from napari_t1t2.widgets._memory import Chosen
wanted = {side: Chosen(Path(folder), "", side.upper(), 0) for side, folder in zip(("t1", "t2"), sys.argv[1:])}
for event in look(wanted, ModelConfig(), prepared=False, stop=lambda: False):
    print(event.text() if hasattr(event, "text") else type(event).__name__, flush=True)
"""


def main() -> None:
    """Write the volumes, train a model of four steps, run each command, print."""
    parser = ArgumentParser(description="Many volumes, one after the other.")
    parser.add_argument("--volumes", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--layout", choices=("flat", "bids"), default="flat")
    parser.add_argument("--broken", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--shape", type=int, nargs=3, default=(256, 256, 180))
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--only", default="", help="only the commands whose title begins so")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        home = Path(name)
        write(home, args.volumes, args.layout, args.broken, tuple(args.shape))
        model = trained(home)
        t1, t2 = home / "T1", home / "T2"
        translate = ["translate", t1, "--to", "T2", "--model", model, "--out", home / "made"]
        evaluate = ["evaluate", named_as_synthetic(t1), t2]
        commands = {"translate": translate, "evaluate": evaluate, "calibrate": ["calibrate", model, t1, t2]}
        rows: dict[str, list[object]] = {"Load": [sys.executable, "-c", LOAD, t1, t2]}
        for name, command in commands.items():
            command = [*PROGRAM, *command, "--report", home / f"{name}.csv"]
            rows |= {name: command, f"{name}, going on": command} if name != "calibrate" else {name: command}
        print("| command | volumes | first line, s | first image, s | seconds | resident MiB | peak MiB | exit code |")
        print("|---|---|---|---|---|---|---|---|")
        for title, words in rows.items():
            if not title.startswith(args.only):
                continue
            stop = not (args.whole and ("going on" in title or title in ("Load", "calibrate")))
            begun, counted, took, peak, code, said, held = run(list(map(str, words)), args.seconds if stop else None)
            row = [title, args.volumes, f"{begun:.1f}", f"{counted:.1f}", f"{took:.0f}", held, f"{peak:.0f}", code]
            print(f"| {' | '.join(map(str, row))} |", flush=True)
            print("\n".join(f"    {line}" for line in (*said[:2], "...", *said[-14:])), file=sys.stderr)
            report = home / f"{title.split(',')[0]}.csv"
            if report.exists():
                outcomes = Counter(row["outcome"] for row in csv.DictReader(report.open(encoding="utf-8")))
                print(f"    report: {dict(outcomes)}", file=sys.stderr)


def write(home: Path, count: int, layout: str, broken: int, shape: tuple[int, int, int] = (256, 256, 180)) -> None:
    """So many volumes of both contrasts."""
    import nibabel

    x, y, z = np.mgrid[tuple(slice(-1, 1, n * 1j) for n in shape)].astype(np.float32)
    inside = (x / 0.7) ** 2 + (y / 0.85) ** 2 + (z / 0.9) ** 2 < 1
    for side, contrast in enumerate(("T1", "T2")):
        for i in range(count):
            where = home / contrast / (f"sub-{i:04d}/anat" if layout == "bids" else "")
            where.mkdir(parents=True, exist_ok=True)
            path = where / f"sub-{i:04d}_{contrast}w.nii.gz"
            source = home / f"{contrast}{i % DISTINCT}.nii.gz"
            if not source.exists():
                rng = np.random.default_rng((0, i))
                folds = np.sin(9 * x + i) * np.cos(8 * y + 5 * z - i) * (1 - 2 * side)
                data = inside * (500 + 250 * folds + 30 * rng.standard_normal(shape, np.float32))
                made = nibabel.Nifti1Image(data.astype(np.int16), np.diag([-0.9, -0.9, 0.9, 1]))
                with nibabel.openers.Opener(source, "wb", compresslevel=1) as file:
                    made.to_stream(file)
            if broken and i % (count // broken) == 2:
                path.write_bytes(source.read_bytes()[: min(100_000, source.stat().st_size // 2)])
            else:
                os.link(source, path)


def named_as_synthetic(t1: Path) -> Path:
    """A folder of links to the T1 under the names that synthetic T2 would have."""
    folder = t1.with_name("named")
    for path in t1.rglob("*.nii.gz"):
        link = folder / path.relative_to(t1).with_name(path.name.replace("_T1w", "_desc-synthetic_T2w"))
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, link)
    return folder


def trained(home: Path) -> Path:
    """The run folder of a model that has learnt nothing."""
    for contrast in ("T1", "T2"):
        (home / "few" / contrast).mkdir(parents=True)
        for i in range(DISTINCT):
            os.link(home / f"{contrast}{i}.nii.gz", home / "few" / contrast / f"sub-{i}_{contrast}w.nii.gz")
    folders = [str(home / "few" / contrast) for contrast in ("T1", "T2")]
    options = ["--run", str(home / "run"), "--steps", "2", "--pairs", "off"]
    subprocess.run([*PROGRAM, "train", *folders, *options], check=True, stdout=subprocess.DEVNULL)
    return home / "run"


def run(command: list[str], seconds: float | None) -> tuple[float, float, float, float, int, list[str], str]:
    """Seconds to the first line, the first image and the end, peak MiB, exit code, lines and what was resident.

    It may be stopped; only if not, the memory that is resident is looked at with each line.
    """
    began, begun, said = time.monotonic(), 0.0, list[str]()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line.rstrip())
        begun = begun or time.monotonic() - began
        if " of " in line:
            break
    counted = time.monotonic() - began
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGINT)  # not send_signal, which would take the usage of one that has ended
    resident = list[float]()
    for line in process.stdout:
        said.append(line.rstrip())
        if seconds is None:
            resident.append(resident_of(process.pid) or (resident or [0])[-1])
    _, status, usage = os.wait4(process.pid, 0)
    held = f"{resident[len(resident) // 4]:.0f}, {resident[-1]:.0f}" if resident else ""
    took, code = time.monotonic() - began, os.waitstatus_to_exitcode(status)
    return begun, counted, took, usage.ru_maxrss / 1024, code, said, held


def resident_of(pid: int) -> float:
    """MiB of a process that are in memory; 0 of one that has ended."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0.0)


if __name__ == "__main__":
    main()
