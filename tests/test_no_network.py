"""Nothing leaves the machine: the whole way, each command a process in which any address that is asked for ends it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FORBID = """
import os, sys
def forbid(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request") or (
        event == "socket.connect" and isinstance(args[1], tuple)  # not between processes, by a file
    ):
        with open(os.environ["ASKED"], "a") as asked:
            asked.write(f"{event} {args[1:]}\\n")
        raise PermissionError("no network here")
sys.addaudithook(forbid)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command line where sockets are forbidden; all that asked for one must be nobody."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(FORBID)
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    paths = [str(tmp_path / "hook"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))

    def call(*args: object) -> None:
        command = [sys.executable, "-m", "napari_t1t2", *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "asked").exists(), (tmp_path / "asked").read_text()

    return call


def test_the_hook_forbids(run, tmp_path):
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode
    assert "getaddrinfo" in (tmp_path / "asked").read_text()


@pytest.mark.slow
def test_check_train_translate_and_evaluate_ask_for_no_address(run, made_data, tmp_path):
    t1, t2 = made_data.nifti
    run("check", t1, t2)
    small = ("--channels", 4, "--disc-channels", 4, "--levels", 2, "--crop", 32, "--device", "cpu")
    run("train", t1, t2, "--run", tmp_path / "run", "--steps", 2, *small)
    run("translate", t1, "--model", tmp_path / "run", "--to", "T2", "--out", tmp_path / "out", "--uncertainty")
    run("evaluate", tmp_path / "out", t2)
    assert list(Path(tmp_path / "out").rglob("*.nii*"))


@pytest.mark.slow
def test_the_demo_asks_for_no_address(run, tmp_path):
    pytest.importorskip("nilearn")
    run("demo", "--out", tmp_path / "demo", "--minutes", 0.15, "--no-window")
    assert (tmp_path / "demo" / "side-by-side.png").exists()
