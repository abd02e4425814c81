"""How much memory does translating a large volume take? Prints a Markdown table.

    python benchmarks/memory.py [--shape 400 512 512] [--model RUN]

A volume of float32 noise in a ball is translated from a NIfTI file to one, and from a dask array of thick chunks. Each
row is a process of its own: its peak is counted from the idle process, with everything imported and the model loaded.
Without a model, one with the default networks and fresh weights is made: they take the same memory.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from datetime import date
from pathlib import Path

import numpy as np

ROWS = ("file to file", "dask array", "dask array, three planes")


def main() -> None:
    """Make the volume, run each row in a process, print."""
    parser = ArgumentParser(description="Peak memory of translating a large volume.")
    parser.add_argument("--shape", type=int, nargs=3, default=(400, 512, 512), metavar=("Z", "Y", "X"))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--row", choices=ROWS)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.row:
        run(args.row, args.folder, args.model)
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = make_volume(folder, tuple(args.shape))
        model = args.model or make_model(folder)
        print(f"{date.today()}, commit {commit}, {platform.machine()}, {os.cpu_count()} CPU cores; {made}\n")
        print("| translating | idle MiB | peak above idle MiB | seconds |")
        print("|---|---|---|---|", flush=True)
        for row in ROWS:
            command = [sys.executable, __file__, "--row", row, "--folder", name, "--model", str(model)]
            subprocess.run(command, check=True)


def make_volume(folder: Path, shape: tuple[int, ...]) -> str:
    """Write it as NIfTI and as chunks; says what it is."""
    import nibabel

    z, y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
    data = np.lib.format.open_memmap(folder / "chunks.npy", "w+", np.float32, shape)
    rng = np.random.default_rng(0)
    for k, at in enumerate(z):
        inside = at**2 + y[:, None] ** 2 + x**2 < 0.9
        data[k] = inside * (300 + 100 * rng.random(shape[1:], dtype=np.float32))
    nibabel.Nifti1Image(data.T, np.diag([-0.5, -0.5, 0.5, 1])).to_filename(folder / "volume.nii")
    data.flush()
    return f"{'x'.join(map(str, shape))} float32, {data.nbytes / 2**20:.0f} MiB"


def make_model(folder: Path) -> Path:
    """The default networks with fresh weights, as training would save them."""
    from dataclasses import replace

    from napari_t1t2.config import preset
    from napari_t1t2.images.intensity import Intensity
    from napari_t1t2.model.about import About
    from napari_t1t2.model.cyclegan import CycleGAN
    from napari_t1t2.model.saved import save_model

    config = preset("laptop")
    path = folder / "model.safetensors"
    ranges = {side: Intensity(0, 1000, "int16", per_stack=True, headroom=3.0) for side in ("t1", "t2")}
    save_model(path, CycleGAN(config), About(path, replace(config.model, pixel=0.5), ranges, 0))
    return path


def run(row: str, folder: Path, model_path: Path) -> None:
    """One row, in this process."""
    import dask.array as da

    from napari_t1t2.config import Planes
    from napari_t1t2.images.read import read_image
    from napari_t1t2.images.write import write_image
    from napari_t1t2.model.saved import load_model
    from napari_t1t2.synthesis.translation import blank, stream, translate

    model = load_model(model_path)
    translate(np.random.default_rng(0).random((1, 64, 64), dtype=np.float32), model, to="t2")
    planes: Planes = "three" if "three" in row else "one"
    idle, began = resident(), time.perf_counter()
    if row.startswith("file"):
        volume = read_image(folder / "volume.nii")
        made = translate(volume, model, to="t2", planes=planes)
        write_image(folder / "made.nii", made)
    else:
        stored = np.load(folder / "chunks.npy", mmap_mode="r")
        lazy = da.from_array(stored, chunks=(64, 128, 128)).map_blocks(np.array)  # copies: mapped pages are not counted
        spacing = (0.5, 0.5, 0.5)
        out = blank(lazy.shape)
        for _ in stream(lazy, model, to="t2", spacing=spacing, planes=planes, out=out):
            pass
    seconds = time.perf_counter() - began
    print(f"| {row} | {idle:.0f} | {peak() - idle:.0f} | {seconds:.0f} |", flush=True)


def resident() -> float:
    """MiB that this process holds now; the peak counts from here."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of importing
    return _status("VmRSS")


def peak() -> float:
    """The most MiB that it has held since."""
    return _status("VmHWM")


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


if __name__ == "__main__":
    main()
