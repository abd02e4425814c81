"""Damaged and hostile files, bred by coverage, against each reader and against models, checkpoints and configs.

    python benchmarks/fuzz.py dicom ../shared/data/odd ../shared/data/cases --seconds 300 --out /tmp/fuzz
    python benchmarks/fuzz.py all tests/data/golden ../shared/data/odd ../shared/data/cases --seconds 720

With atheris (libFuzzer for Python, `pip install atheris`) what reaches new lines is bred on; without it, files are
changed at random. What is raised but no sentence of ours, takes more memory than a reader may, takes long, or ends the
process, is a finding: its file is kept under --out, the traceback beside it. Prints a row of a Markdown table; with
"all", one for each target, each in a process of its own: ten times 720 seconds are two hours of a core.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

MOST = 100_000  # bytes of a file
ADDRESSES = 6 * 2**30  # bytes that may be asked for: a read of a length in a header asks, and is given what there is
MEMORY = 2**30  # bytes that may be taken for one file
SLOW = 10.0  # seconds of a core for one file
ENDINGS = {  # of each target's seeds, and of the files that are tried
    "picture": (".png", ".jpg", ".bmp"),
    "tiff": (".tif",),
    "nifti": (".nii", ".hdr", ".mgz"),
    "zipped": (".nii.gz",),
    "dicom": (".dcm", ""),
    "sidecar": (".json",),
    "model": (".safetensors",),
    "checkpoint": (".pt",),
    "config": (".json",),
    "losses": (".csv",),
}


def main() -> None:
    """Breed files for one target and print what became of them."""
    parser = ArgumentParser(description="Fuzz one reader.")
    parser.add_argument("target", choices=("all", *ENDINGS))
    parser.add_argument("seeds", type=Path, nargs="+", help="files, or folders with files of the target's kind")
    parser.add_argument("--seconds", type=int, default=60, help="of a core")
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    args = parser.parse_args()
    if args.target == "all":
        for target in ENDINGS:
            how = ["--seconds", str(args.seconds), "--out", str(args.out)]
            subprocess.run([sys.executable, __file__, target, *map(str, args.seeds), *how], check=False)
        return
    try:
        import atheris
    except ImportError:
        atheris = None
    ours = ["napari_t1t2", "pydicom", "nibabel", "tifffile"]
    with tempfile.TemporaryDirectory() as home:
        with atheris.instrument_imports(include=ours) if atheris else nullcontext():
            attack = Attack(args.target, Path(home), args.out, args.seconds)
        seeds = list(dict.fromkeys(seeds_of(args.target, args.seeds)))
        corpus = args.out / f"corpus-{args.target}"
        corpus.mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            (corpus / sha256(seed).hexdigest()[:16]).write_bytes(seed)
        resource.setrlimit(resource.RLIMIT_AS, (int(_addresses() + ADDRESSES), resource.RLIM_INFINITY))
        if atheris:
            found = f"-artifact_prefix={args.out}/ended-{args.target}-"
            longest = max(MOST, *map(len, seeds))
            limits = [f"-max_len={longest}", "-rss_limit_mb=0", "-timeout=600", "-report_slow_units=600", found]
            atheris.Setup([sys.argv[0], str(corpus), *limits, "-verbosity=0"], attack)
            atheris.Fuzz()
        rng = random.Random(0)
        while True:
            attack(_changed(rng.choice(seeds), rng))


def seeds_of(target: str, places: list[Path]) -> Iterator[bytes]:
    """The contents of the files of a target's kind, not too large; of JSON and CSV whatever has the ending."""
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            name = path.name.casefold()
            fits = any(name.endswith(e) if e else "." not in name for e in ENDINGS[target])
            if path.is_file() and fits and path.stat().st_size <= 5 * MOST:
                yield path.read_bytes()


class Attack:
    """One file after the other put to a reader, and what is not as it should be."""

    def __init__(self, target: str, home: Path, out: Path, seconds: float) -> None:
        from napari_t1t2.errors import Refusal

        self.target, self.home, self.out, self.refusal = target, home, out, Refusal
        self.tried, self.refused, self.slowest = 0, 0, 0.0
        self.began, self.seconds, self.peak = 0.0, seconds, _peak()
        self.found: dict[tuple[str, ...], int] = {}
        self.read: Callable[[Path], Any] = {
            "model": _model,
            "checkpoint": _checkpoint,
            "config": _config,
            "losses": _losses,
            "sidecar": _sidecar,
        }.get(target, _image)(home)

    def __call__(self, content: bytes) -> None:
        """Try one file."""
        endings = ENDINGS[self.target]
        path = self.home / f"file{endings[self.tried % len(endings)]}"
        path.write_bytes(content)
        self.tried += 1
        began = time.process_time()  # of a core: by the clock a busy machine would make every file slow
        self.began = self.began or began
        try:
            self.read(path)
        except self.refusal as error:
            self.refused += 1
            if "do not fit into memory (" in str(error):  # asked for more than there is, and only then refused
                self._note(error, content)
        except (Exception, RecursionError) as error:
            self._note(error, content)
        finally:
            path.unlink(missing_ok=True)
        took, peak = time.process_time() - began, _peak()
        self.slowest = max(self.slowest, took)
        if took > SLOW:
            self._note(TimeoutError(f"{took:.0f} s"), content)
        if peak > self.peak + MEMORY and self.tried > 1:
            self._note(MemoryError(f"{peak - self.peak} bytes"), content)
        self.peak = peak
        if began - self.began > self.seconds:
            self._report()
            shutil.rmtree(self.home)
            os._exit(0)  # libFuzzer would end the process by itself, without a word

    def _note(self, error: BaseException, content: bytes) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = tuple(f"{Path(f.filename).name}:{f.lineno}" for f in frames if "napari_t1t2" in f.filename)[-3:]
        what = (type(error).__name__, *ours)
        self.found[what] = self.found.get(what, 0) + 1
        if self.found[what] == 1:
            name = f"{self.target}-{len(self.found)}-{what[0]}"
            (self.out / f"{name}.bin").write_bytes(content)
            said = "".join(traceback.format_exception(error))
            (self.out / f"{name}.txt").write_text(said[-8000:], encoding="utf-8", errors="replace")

    def _report(self) -> None:
        """Print the row."""
        found = "; ".join(f"{' '.join(what)} x{count}" for what, count in self.found.items()) or "none"
        row = (self.target, f"{self.seconds:.0f}", self.tried, self.refused, f"{self.slowest:.1f}", found)
        print("|", " | ".join(map(str, row)), "|", flush=True)


def _image(_: Path) -> Callable[[Path], Any]:
    from napari_t1t2.images.read import read_files, read_image

    def read(path: Path) -> None:
        read_files([path])
        read_image(path)

    return read


def _model(_: Path) -> Callable[[Path], Any]:
    import numpy as np

    from napari_t1t2.model.saved import load_model
    from napari_t1t2.synthesis.translation import translate

    def read(path: Path) -> None:
        model = load_model(path)
        translate(np.linspace(0, 100, 64**2, dtype=np.float32).reshape(64, 64), model, to="t2")

    return read


def _checkpoint(_: Path) -> Callable[[Path], Any]:
    import torch

    from napari_t1t2.model.checkpoint import read_checkpoint
    from napari_t1t2.model.cyclegan import CycleGAN

    gans: list[CycleGAN] = []

    def read(path: Path) -> None:
        saved = read_checkpoint(path, torch.device("cpu"))
        if not gans:  # of the first seed, which is whole
            from napari_t1t2.config import TrainConfig

            gans.append(CycleGAN(TrainConfig.from_dict(saved.state["config"])))
        saved.restore(gans[0])

    return read


def _config(home: Path) -> Callable[[Path], Any]:
    from napari_t1t2.runs.folder import load_config

    def read(path: Path) -> None:
        load_config(path.rename(home / "config.json").parent)

    return read


def _losses(_: Path) -> Callable[[Path], Any]:
    from napari_t1t2.events import Progress
    from napari_t1t2.runs.folder import LossTable

    return lambda path: LossTable(path, 4).add(Progress(6, 6, 1.0, 0.5, 1.0, 1.0, {"cycle": 0.5}))


def _sidecar(home: Path) -> Callable[[Path], Any]:
    import nibabel
    import numpy as np

    from napari_t1t2.images.nifti import read_nifti

    image = nibabel.Nifti1Image(np.arange(64, dtype=np.float32).reshape(4, 4, 4), np.eye(4)).to_bytes()

    def read(path: Path) -> None:
        path.rename(home / "head.json")
        (home / "head.nii").write_bytes(image)
        read_nifti(home / "head.nii")

    return read


def _changed(content: bytes, rng: random.Random) -> bytes:
    """Bytes set, doubled, removed or cut off at random, mostly near the beginning."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at = int(len(data) * rng.random() ** 3)
        match rng.randrange(4):
            case 0:
                data[at : at + 1] = bytes([rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))])
            case 1:
                data[at:at] = data[at : at + rng.randint(1, 64)]
            case 2:
                del data[at : at + rng.randint(1, 64)]
            case 3:
                data[at : at + 4] = rng.randbytes(4)
    return bytes(data[: rng.randint(1, len(data))] if data and rng.random() < 0.1 else data)


def _peak() -> int:
    """Bytes of memory, at most, until now."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _addresses() -> int:
    """Bytes of address space."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return 8 * 2**30


if __name__ == "__main__":
    main()
