"""Let every single write of every command fail, the first, the second and so on, and look at what is said and left.

    python benchmarks/writes.py [--only NAME ...] [--every 1] [--seconds 900]

Tiny networks on the heads of the tests. writes.c, built with `cc` and put in front of the C library, counts what is
written, made, renamed and synced below a folder; then a forked child does the same with its n-th call failing, once
with ENOSPC from there on, as of a disk that is full, once with EIO alone. It must end with a sentence that holds the
path, and not with exit code 0 unless nothing is missing; leave whole whatever was there, and no partial file; and the
same command, given once more, must reach what an undisturbed one does, a training bit for bit. Linux only.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults import end_of

HERE = Path(__file__).parent
TINY = ("--channels", "4", "--disc-channels", "4", "--crop", "32", "--device", "cpu", "--precision", "float32")
OFTEN = ("--pairs", "off", "--report-every", "1", "--preview-every", "2", "--save-every", "2", "--steps")
PNG, NIFTI, DICOM = "{data}/png/T1 {data}/png/T2", "{data}/nifti", "{data}/dicom"
TRAIN = ["train", *PNG.split(), "--run", "{here}/run", *TINY, *OFTEN]
MODEL = ["--model", "{here}/run", "--device", "cpu", "--to", "T2"]
ONE = "{data}/nifti/sub-01/anat/sub-01_T1w.nii.gz"
PAIR = [ONE, ONE.replace("T1w", "T2w")]
NEEDED = (  # by a child, which need not import it then
    *("matplotlib.figure", "nibabel", "onnxruntime", "pydicom", "SimpleITK", "skimage.filters", "torch._dynamo"),
    *("napari_t1t2.runs.training", "napari_t1t2.synthesis.calibration", "napari_t1t2.synthesis.lesions"),
)


@dataclass(frozen=True)
class Case:
    """One command: what is run before, what is disturbed, and what is given once more afterwards."""

    command: list[str]
    before: tuple[list[str], ...] = ()
    trained: bool = True  # whether it needs a model
    cache: bool = False  # whether slices go to disk


CASES = {
    "train": Case([*TRAIN, "3"], trained=False),
    "train, resumed": Case([*TRAIN, "4", "--resume"], ([*TRAIN, "2"],), trained=False),
    "train with a slice cache": Case([*TRAIN, "1"], trained=False, cache=True),
    "translate a folder of PNG": Case(["translate", "{data}/png/T1", *MODEL, "--out", "{here}/new/made"]),
    "translate to TIFF": Case(["translate", "{data}/png/T1/patient01 #3.png", *MODEL, "--out", "{here}/made.tif"]),
    "translate to NIfTI, map, report": Case(
        ["translate", ONE, *MODEL, "--out", "{here}/made.nii.gz", "--uncertainty", "--report", "{here}/new/report.csv"]
    ),
    "translate again (--overwrite)": Case(
        ["translate", ONE, *MODEL, "--out", "{here}/made.nii", "--overwrite"],
        (["translate", ONE, *MODEL, "--out", "{here}/made.nii"],),
    ),
    "translate to DICOM": Case(["translate", "{data}/dicom/T1-01", *MODEL, "--out", "{here}/made"]),
    "translate --bids": Case(["translate", "{data}/lack", *MODEL, "--bids", "{here}/made"]),
    "evaluate --report": Case(["evaluate", *PAIR, "--report", "{here}/new/report.csv"], trained=False),
    "evaluate, over an earlier report": Case(
        ["evaluate", *PAIR, "--report", "{here}/report.csv"],
        (["evaluate", *PAIR, "--report", "{here}/report.csv"],),
        trained=False,
    ),
    "calibrate": Case(["calibrate", "{here}/run", *PAIR, "--device", "cpu", "--report", "{here}/report.csv"]),
    "export, ONNX": Case(["export", "{here}/run", "--to", "T2", "--out", "{here}/new/t2.onnx"]),
    "export, bioimage.io": Case(["export", "{here}/run", "--to", "T2", "--out", "{here}/t2.zip"]),
    "info --markdown": Case(["info", "{here}/run", "--markdown", "{here}/card.md"]),
    "info --data": Case(["info", "{here}/run", "--data", "two heads"]),
    "demo": Case(["demo", "--out", "{here}/demo", "--minutes", "0.02", "--no-window"], trained=False),
}


def main() -> None:
    """Disturb each command at each of its writes, and print a Markdown table."""
    parser = ArgumentParser(description="Let every single write fail.")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="cases whose name begins so")
    parser.add_argument("--every", type=int, default=1, help="of so many writes one")
    parser.add_argument("--seconds", type=float, default=900.0, help="end after so long, whatever was tried")
    args = parser.parse_args()
    home = Path(os.environ.setdefault("NAPARI_T1T2_WRITES", tempfile.mkdtemp())).resolve()
    if not (library := home / "writes.so").exists():
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, HERE / "writes.c", "-ldl"], check=True)
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"LD_PRELOAD": str(library)})
    import torch

    for needed in NEEDED:
        importlib.import_module(needed)
    torch.set_num_threads(1)
    data, until = made_data(home), time.monotonic() + args.seconds
    print("| command | writes | tried | done all the same | said a sentence | failed |\n|---|---|---|---|---|---|")
    try:
        for name, case in CASES.items():
            if not args.only or name.startswith(tuple(args.only)):
                attack(name, case, home, data, args.every, until)
    finally:
        shutil.rmtree(home)


def made_data(home: Path) -> Path:
    """The heads of the tests, and of them a BIDS data set of a subject who lacks a T2."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from heads import write_data_set

    write_data_set(home / "data")
    lack = home / "data" / "lack" / "sub-01" / "anat"
    lack.mkdir(parents=True)
    shutil.copy(home / "data" / "nifti" / "sub-01" / "anat" / "sub-01_T1w.nii.gz", lack)
    return home / "data"


def attack(name: str, case: Case, home: Path, data: Path, every: int, until: float) -> None:
    """Disturb one command at each of its writes, and print a row."""
    here, ready, whole = home / "here", home / "ready", home / "whole"
    for folder in (here, ready, whole):
        shutil.rmtree(folder, ignore_errors=True)
    here.mkdir()

    def run(command: list[str], at: int = 0, number: int = 0) -> tuple[int, str, int]:
        return in_child([part.format(data=data, here=here) for part in command], here, case.cache, at, number)

    for command in (*([[*TRAIN, "1"]] if case.trained else []), *case.before):
        code, said, _ = run(command)
        assert code == 0, said
    shutil.copytree(here, ready)
    code, said, writes = run(case.command)
    assert code == 0, said
    here.rename(whole)
    found: Counter[str] = Counter()
    for n, number in ((n, number) for n in range(1, writes + 1, every) for number in (errno.ENOSPC, errno.EIO)):
        if time.monotonic() > until:
            break
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(ready, here)
        code, said, _ = run(case.command, n, number)
        wrong = judged(code, said, here, ready, whole) if code else differs(here, whole)
        if code and not wrong:
            again = [*case.command]
            if case.command[0] == "train" and (here / "run" / "checkpoint.pt").exists():
                again += ["--resume"]
            code_again, said_again, _ = run(again)
            wrong = f"then: {said_again[-200:]}" if code_again else differs(here, whole)
        if wrong:
            what = f"{errno.errorcode[number]} at {n}: {wrong}".replace(str(here), "").replace("\n", " ")
            print(f"<!-- {name}, {what} -->", flush=True)
        found["failed" if wrong else "said" if code else "done"] += 1
    print(
        "|", " | ".join(map(str, (name, writes, found.total(), *(found[k] for k in ("done", "said", "failed"))))), "|"
    )


def in_child(command: list[str], here: Path, cache: bool, at: int, number: int) -> tuple[int, str, int]:
    """The exit code of a command, what it printed as errors, and how often it wrote below `here`."""
    hear, tell = os.pipe()
    if not (child := os.fork()):
        from napari_t1t2.__main__ import main
        from napari_t1t2.data import reading

        os.dup2(tell, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.environ["NAPARI_T1T2_CACHE"] = str(here / "cache")
        reading.MEMORY = 0 if cache else reading.MEMORY
        ours: Any = ctypes.CDLL(None)
        ours.fail_writes(str(here).encode(), at, number, number == errno.ENOSPC)
        try:
            code = main(command)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}".encode())
            code = 77
        os.write(2, f"\0{ours.count_writes()}".encode())
        os._exit(code)
    os.close(tell)
    with os.fdopen(hear, "rb") as answers:
        said, _, writes = answers.read().decode(errors="replace").rpartition("\0")
    return (
        os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]),
        said or writes,
        int(writes) if said or writes.isdigit() else 0,
    )


def judged(code: int, said: str, here: Path, ready: Path, whole: Path) -> str:
    """What is wrong with how a command has failed; empty if nothing is."""
    if code not in (1, 2) or "unforeseen" in said or "Traceback" in said or str(here) not in said:
        return f"exit code {code}, {said[-300:]}"
    if left := [path.name for path in here.rglob("*partial*")]:
        return f"left {left}"
    for path in (p for p in ready.rglob("*") if p.is_file()):
        now = here / path.relative_to(ready)
        if not now.exists():
            return f"{now.name} is gone"
        if now.read_bytes() != path.read_bytes() and not is_whole(now):
            return f"{now.name} is damaged"
    return ""


def differs(here: Path, whole: Path) -> str:
    """Where what was made is not what an undisturbed command makes; empty if it is nowhere."""
    mine, theirs = ({p.relative_to(f).as_posix() for p in f.rglob("*") if p.is_file()} for f in (here, whole))
    mine, theirs = ({n for n in names if not n.startswith("cache/")} for names in (mine, theirs))
    if mine != theirs:
        return f"other files: {sorted(mine ^ theirs)[:5]}"
    if broken := [name for name in mine if not is_whole(here / name)]:
        return f"damaged: {broken[:5]}"
    if (here / "run" / "checkpoint.pt").exists():
        from torch.testing import assert_close

        try:
            assert_close(end_of(here / "run"), end_of(whole / "run"), rtol=0, atol=0)
        except AssertionError as error:
            return f"not equal: {str(error)[:100]}"
    return ""


def is_whole(path: Path) -> bool:
    """Whether a file can be read."""
    import onnx
    import torch

    from napari_t1t2.images.read import read_image
    from napari_t1t2.model.saved import load_model

    ways: dict[str, Callable[[Path], Any]] = {
        ".json": lambda p: json.loads(p.read_text()),
        ".safetensors": load_model,
        ".pt": lambda p: torch.load(p, weights_only=True),
        ".onnx": lambda p: onnx.load(str(p)),
        ".zip": lambda p: shutil.unpack_archive(p, p.parents[1] / "unpacked"),
    }
    images = dict.fromkeys((".png", ".tif", ".nii", ".gz"), read_image)
    if path.suffix == ".csv":
        return path.read_text().endswith("\n")
    if "previews" in path.parts or path.name.startswith(("losses.png", "side-by-side")):
        from PIL import Image

        images[".png"] = lambda p: Image.open(p).load()  # type: ignore[assignment, return-value]
    try:
        (ways | images).get(path.suffix, lambda p: p.read_bytes())(path)
    except Exception:
        return False
    return True


if __name__ == "__main__":
    main()
