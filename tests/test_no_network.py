"""Nothing leaves the machine: the whole way, each command a process in which any address that is asked for ends it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_t1t2.runs.folder import save_config

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


WINDOW = """
import sys
from pathlib import Path
import napari
from napari_t1t2.runs.folder import load_config
viewer, config = napari.Viewer(), load_config(Path(sys.argv[1]))
dock = viewer.window.add_plugin_dock_widget("napari-t1t2", "T1 / T2 contrasts")[1]
load, train, translate, evaluate = map(dock.page, range(4))
load.form["t1_folder"].value, load.form["t2_folder"].value = config.t1_folder, config.t2_folder
for page in (load, train, translate, evaluate):
    dock.setCurrentWidget(page.parent())
    if page is train:
        page.form.fill(config, keep=["t1_folder", "t2_folder"])
    if page is translate:
        viewer.layers.selection.active = viewer.layers["T1: T1"]
    if page is evaluate:
        page.form["synthetic"].value, page.form["real"].value = viewer.layers[-1], viewer.layers["T2: T2"]
    page.go.click()
    page.wait(100)
    assert page.state == "completed", page.status.text()
viewer.close()
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command line where sockets are forbidden; all that asked for one must be nobody."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(FORBID)
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    paths = [str(tmp_path / "hook"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))

    def call(*args: object, how: tuple[str, str] = ("-m", "napari_t1t2")) -> None:
        command = [sys.executable, *how, *map(str, args)]
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


@pytest.mark.slow
def test_the_window_asks_for_no_address(run, config, tmp_path, monkeypatch):
    for name in ("XDG_CONFIG_HOME", "HOME", "USERPROFILE"):  # the settings of whoever runs this stay as they are
        monkeypatch.setenv(name, str(tmp_path / "home"))
    save_config(tmp_path / "config.json", config)
    run(tmp_path, how=("-c", WINDOW))
    assert (config.run_folder / "model.safetensors").exists()
