"""Do the commands go file by file? Peak memory and seconds to the first image, for many volumes. A Markdown table.

    python benchmarks/batch.py [--volumes 2000] [--seconds 40] [--layout flat|bids] [--broken 20] [--folder DIR]

Three heads of noise of 256x256x180, int16, compressed, and hard links to them; of `--broken` files the end is missing.
Each command runs as a user runs it, is stopped by Ctrl-C after some seconds, and its printed lines are shown.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path

import numpy as np

SHAPE, DISTINCT = (256, 256, 180), 3
PROGRAM = [sys.executable, "-m", "napari_t1t2"]


def main() -> None:
    """Write the volumes, train a model of four steps, run each command, print."""
    parser = ArgumentParser(description="Many volumes, one after the other.")
    parser.add_argument("--volumes", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--layout", choices=("flat", "bids"), default="flat")
    parser.add_argument("--broken", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        home = Path(name)
        write(home, args.volumes, args.layout, args.broken)
        model = trained(home)
        t1, t2 = home / "T1", home / "T2"
        out = ["--to", "T2", "--model", model, "--out", home / "made", "--report", home / "report.csv"]
        again = ["translate", t1, *out]
        rows = {"translate": again, "translate, going on": again}
        rows |= {"evaluate": ["evaluate", named_as_synthetic(t1), t2], "calibrate": ["calibrate", model, t1, t2]}
        print("| command | volumes | first image begun, s | peak MiB | exit code |\n|---|---|---|---|---|")
        for title, command in rows.items():
            begun, peak, code, said = run([*PROGRAM, *map(str, command)], args.seconds)
            print(f"| {title} | {args.volumes} | {begun:.1f} | {peak:.0f} | {code} |", flush=True)
            print("\n".join(f"    {line}" for line in said[-8:]), file=sys.stderr)


def write(home: Path, count: int, layout: str, broken: int) -> None:
    """So many volumes of both contrasts."""
    import nibabel

    x, y, z = np.mgrid[tuple(slice(-1, 1, n * 1j) for n in SHAPE)].astype(np.float32)
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
                data = inside * (500 + 250 * folds + 30 * rng.standard_normal(SHAPE, np.float32))
                made = nibabel.Nifti1Image(data.astype(np.int16), np.diag([-0.9, -0.9, 0.9, 1]))
                with nibabel.openers.Opener(source, "wb", compresslevel=1) as file:
                    made.to_stream(file)
            if broken and i % (count // broken) == 2:
                path.write_bytes(source.read_bytes()[:100_000])
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


def run(command: list[str], seconds: float) -> tuple[float, float, int, list[str]]:
    """Seconds to the first image, peak MiB, exit code and lines of a command that is stopped in the end."""
    began, said = time.monotonic(), list[str]()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line.rstrip())
        if " of " in line and line[0].isdigit():
            break
    begun = time.monotonic() - began
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGINT)  # not send_signal, which would take the usage of one that has ended
    said += process.stdout.read().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    return begun, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status), said


if __name__ == "__main__":
    main()
