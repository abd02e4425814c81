import csv
import os
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_t1t2.config import TrainConfig
from napari_t1t2.data.batches import Bank
from napari_t1t2.model.ranks import ALONE, Ranks, joined
from napari_t1t2.runs.training import train

# The command, in which the second process meets something at one of its steps, unless torchrun has begun anew.
COMMAND = """
import os, signal, sys
from napari_t1t2.__main__ import main
from napari_t1t2.model import ranks
from napari_t1t2.model.cyclegan import CycleGAN

ranks.LARGE = 1000  # so that some tensors of tiny networks are exchanged by themselves
whole_step, taken = CycleGAN.step, []

def step(*batch):
    taken.append(batch)
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and len(taken) == {at}:
        {meets}
    return whole_step(*batch)

CycleGAN.step = step
sys.exit(main())
"""


def torchrun(home: Path, run: Path, *flags: str, at: int, meets: str, restarts: int = 0) -> SimpleNamespace:
    """Two processes on the CPU, as the README starts them."""
    (home / "command.py").write_text(COMMAND.format(at=at, meets=meets))
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--max-restarts={restarts}", "-m", "--", "command"]
    ended = subprocess.run(
        [sys.executable, *launch, "train", "T1", "T2", "--run", run.name, *flags],
        cwd=home,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return SimpleNamespace(code=ended.returncode, out=ended.stdout, said=ended.stderr)


def losses(run: Path) -> np.ndarray:
    with (run / "losses.csv").open(newline="") as file:
        return np.array([[float(v) for k, v in row.items() if k != "seconds"] for row in csv.DictReader(file)])


@pytest.fixture
def shared(config) -> TrainConfig:
    """Ten steps of batches that two processes can share; the pool is full, and swaps, from the second step on."""
    return replace(config, steps=10, batch=4, pool=6, report_every=2, save_every=4, preview_every=10, threads=1)


@pytest.mark.timeout(300)
def test_a_run_that_changes_hands_equals_one_of_one_process(shared, tmp_path):
    relay = replace(shared, run_folder=tmp_path / "relay")
    flags = ["--pairs=off", "--levels=2"] + [
        f"--{name.replace('_', '-')}={getattr(shared, name)}" for name in ("steps", "batch", "pool", "crop")
    ]
    flags += [f"--{name}-every={getattr(shared, f'{name}_every')}" for name in ("report", "save", "preview")]
    flags += [
        "--disc-channels=4",
        "--identity-weight=5",
        "--channels=4",
        "--no-depth",
        "--threads=1",
        "--precision=float32",
    ]
    list(train(shared))

    # a signal to one of two processes stops both after the same step, and the run is saved
    stopped = torchrun(tmp_path, relay.run_folder, *flags, at=3, meets="os.kill(os.getpid(), signal.SIGTERM)")
    assert stopped.code == 0, stopped.said
    assert "Training on 2 x cpu (1 thread): 7 T1 and 7 T2 slices" in stopped.out
    assert stopped.out.count("Stopped at step 3") == 1

    # one process goes on
    asked = count()
    assert list(train(relay, resume=True, stop=lambda: next(asked) >= 2))[-1].step == 5

    # two do again; one is killed after the last save, and torchrun starts both anew
    killed = torchrun(
        tmp_path, relay.run_folder, "--resume", at=5, meets="os.kill(os.getpid(), signal.SIGKILL)", restarts=1
    )
    assert killed.code == 0, killed.said
    assert "all were started anew: the run goes on from its last checkpoint." in killed.said
    lines = [line for line in killed.out.splitlines() if not line.startswith("step")]
    assert [line.split(" on ")[0].split(";")[0] for line in lines] == [
        "Resuming at step 5",
        "Resuming at step 8",
        "Completed at step 10",
    ]

    ours, theirs = (torch.load(c.run_folder / "checkpoint.pt", weights_only=True) for c in (shared, relay))
    for what in ("networks", "pool_t1", "pool_t2"):
        torch.testing.assert_close(theirs[what], ours[what], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(losses(relay.run_folder), losses(shared.run_folder), rtol=1e-4)


def test_a_failure_of_one_process_ends_all_with_its_sentence_alone(shared, tmp_path):
    failed = torchrun(
        tmp_path,
        shared.run_folder,
        "--batch=2",
        "--steps=1000",
        at=1,
        meets="raise __import__('napari_t1t2').errors.Refusal('The disk is gone.')",
    )
    assert failed.code == 1
    assert [line for line in failed.said.splitlines() if "napari-t1t2:" in line] == ["napari-t1t2: The disk is gone."]


def test_the_parts_of_all_processes_are_the_batch(shared):
    images = np.random.default_rng(0).random((5, 40, 40), np.float32)
    whole = Bank(images, shared, torch.device("cpu"), 0)
    parts = [Bank(images, shared, torch.device("cpu"), 0, part=Ranks(2, own).part(4)) for own in (0, 1)]
    for step in (0, 3):
        assert torch.equal(torch.cat([bank.batch(step) for bank in parts]), whole.batch(step))


@pytest.mark.parametrize(
    ("batch", "processes", "remedy"), [(1, 2, "take a batch of 2,"), (7, 3, "take a batch of 6 or 9,")]
)
def test_a_batch_that_cannot_be_shared_evenly_is_refused(shared, batch, processes, remedy):
    with pytest.raises(ValueError, match=f"batch is {batch}, but {processes} processes share it.*{remedy}"):
        next(train(replace(shared, batch=batch), ranks=Ranks(processes)))
    assert not shared.run_folder.exists()


def test_every_process_needs_a_gpu_of_its_own(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert Ranks(4, own=3, beside=2, place=1).device("auto") == torch.device("cuda", 1) == taken[0]
    with pytest.raises(ValueError, match=r"3 processes .* a machine of 2 GPUs.*--nproc-per-node=2"):
        Ranks(3, own=0, beside=3, place=0).device("auto")


def test_memory_of_the_machine_is_shared_and_that_of_a_gpu_is_not():
    ranks = Ranks(4, beside=2)
    assert ranks.memory(torch.device("cpu"), 10) == 5
    assert ranks.memory(torch.device("cuda"), 10) == 10


def test_a_process_that_torchrun_did_not_start_or_started_alone_is_alone(monkeypatch):
    with joined() as ranks:
        assert ranks is ALONE
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined() as ranks:
        assert ranks is ALONE
