"""What differs between Linux, Windows and macOS, tried on one of them by taking away what the others lack."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from napari_t1t2 import atomic
from napari_t1t2.__main__ import main
from napari_t1t2.atomic import locked, written_file
from napari_t1t2.commands import demo
from napari_t1t2.commands import train as train_command
from napari_t1t2.commands import translate as translate_command
from napari_t1t2.config import cores
from napari_t1t2.errors import Refusal
from napari_t1t2.images import limits
from napari_t1t2.images.volume import Volume
from napari_t1t2.model.memory import pages_kept
from napari_t1t2.model.ranks import Ranks
from napari_t1t2.model.saved import load_model
from napari_t1t2.runs import child, command, process, translating
from napari_t1t2.runs.session import Session


@pytest.fixture
def windows(monkeypatch):
    """Nothing that is open can be replaced, for the first tries."""
    monkeypatch.setattr(atomic, "WINDOWS", True)
    monkeypatch.setattr(atomic, "WAITS", (0.001, 0.001))


def opened_elsewhere(monkeypatch, times):
    """As if a virus scanner or a viewer had the file open, for so many tries."""
    left, real = [times], Path.replace

    def replace(self, target):
        if left[0]:
            left[0] -= 1
            raise PermissionError(13, "The process cannot access the file because it is being used", str(target))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)


def test_a_file_that_windows_has_open_for_a_moment_is_replaced_all_the_same(tmp_path, monkeypatch, windows):
    (tmp_path / "a").write_text("old")
    opened_elsewhere(monkeypatch, 2)
    with written_file(tmp_path / "a") as partial:
        partial.write_text("new")
    assert (tmp_path / "a").read_text() == "new"


def test_a_file_that_windows_keeps_open_is_told_of_and_the_old_one_kept(tmp_path, monkeypatch, windows):
    (tmp_path / "a").write_text("old")
    opened_elsewhere(monkeypatch, 99)
    with pytest.raises(Refusal, match="cannot be written"), written_file(tmp_path / "a") as partial:
        partial.write_text("new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_elsewhere_nothing_is_tried_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "WINDOWS", False)
    opened_elsewhere(monkeypatch, 1)
    with pytest.raises(Refusal, match="cannot be written"), written_file(tmp_path / "a") as partial:
        partial.write_text("new")


def test_a_lock_is_let_go_of_before_it_is_removed_where_what_is_open_cannot_be(tmp_path, monkeypatch, windows):
    free, real = [], Path.unlink

    def unlink(self, missing_ok=False):
        if self.name == atomic.LOCK_FILE:
            lock = FileLock(self)
            lock.acquire(timeout=0)  # fails where it is still held
            lock.release()
            free.append(self)
        real(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    with locked(tmp_path / "run", "in use"):
        pass
    assert free and not (tmp_path / "run").exists()


def test_folders_are_not_synced_where_they_cannot_be_opened(tmp_path, monkeypatch, windows):
    real = os.open

    def refuse(path, *args, **kwargs):
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    with written_file(tmp_path / "a") as partial:
        partial.write_text("new")
    assert (tmp_path / "a").read_text() == "new"


def test_cores_are_counted_where_no_affinity_is_told(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert cores() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


def test_ctrl_c_stops_a_training_where_there_is_no_hang_up(monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    before = signal.getsignal(signal.SIGINT)
    session = Session(lambda stop: iter(()))
    with train_command._ctrl_c(session, Ranks()):
        signal.raise_signal(signal.SIGINT)
        assert session.state == "stopping"
    assert signal.getsignal(signal.SIGINT) is before


def test_no_control_groups_are_no_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(limits, "OWN_CGROUP", tmp_path / "none")
    assert limits.left_in_cgroup() == float("inf")


def test_pages_are_left_to_the_system_without_glibc(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pages_kept():
        pass


def test_pixels_are_shared_in_the_temporary_folder_where_there_is_no_shared_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(translating, "IN_MEMORY", str(tmp_path / "none"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    with translating.shared((2, 3, 4)) as room:
        pixels = room.open()
        pixels[:] = 1
        assert room.path.parent == tmp_path and pixels.sum() == 24
    assert pixels.sum() == 24
    assert sys.platform == "win32" or not any(tmp_path.iterdir())  # there what is in use stays, and goes later


def test_pixels_that_a_killed_window_left_are_removed_later(monkeypatch, tmp_path):
    """On Windows every layer's, as they are in use when the translation ends."""
    monkeypatch.setattr(translating, "IN_MEMORY", str(tmp_path))
    left, mine, fresh = (tmp_path / name for name in ("napari-t1t2-left", "mine", "napari-t1t2-fresh"))
    for path, age in ((left, 2 * atomic.ABANDONED), (mine, 2 * atomic.ABANDONED), (fresh, 10)):
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    with translating.shared((2, 3, 4)):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "napari-t1t2-fresh"]


@pytest.mark.parametrize("begun", ["train", "translate", "command"])
def test_no_child_opens_a_console(begun, monkeypatch, config):
    """On Windows a window without a console would get one for each child."""
    asked = []

    class Begun(Exception):
        pass

    def popen(*_, creationflags=0, **__):
        asked.append(creationflags)
        raise Begun

    monkeypatch.setattr(subprocess, "Popen", popen)
    for module in (process, child, command):
        monkeypatch.setattr(module, "NO_CONSOLE", 2**27)
    with pytest.raises(Begun):
        match begun:
            case "train":
                next(process.train_in_process(config))
            case "translate":
                monkeypatch.setattr("tempfile.TemporaryFile", io.BytesIO)
                child.Child()._send(None)
            case _:
                next(command.run_command([]))
    assert asked == [2**27]


@pytest.fixture
def alike(head):
    """Two series whose names differ in case alone."""
    image = head(0, "T1").astype(np.float32)
    return [Volume(data=image, name=name, contrast="T1") for name in ("Head", "head")]


def test_results_whose_names_differ_in_case_alone_are_refused_where_they_are_one_file(
    alike, trained, tmp_path, monkeypatch
):
    ask = (alike, tmp_path / "in", tmp_path / "out", load_model(trained), "t2")
    monkeypatch.setattr(translate_command, "FOLDS_CASE", False)
    assert len(translate_command.targets_for(*ask)) == 2
    monkeypatch.setattr(translate_command, "FOLDS_CASE", True)
    with pytest.raises(Refusal, match="Two inputs would both become"):
        translate_command.targets_for(*ask)


def test_names_of_other_scripts_do_not_end_a_command_whose_output_takes_a_code_page(tmp_path, trained, head):
    """So writes Python into a file or a pipe on Windows."""
    folder = tmp_path / "脳"
    folder.mkdir()
    Image.fromarray(head(0, "T1")).save(folder / "頭_T1.png")
    code = "import sys; from napari_t1t2.__main__ import main; sys.exit(main(sys.argv[1:]))"
    ask = ["translate", str(folder), "--model", str(trained), "--to", "T2", "--out", str(tmp_path / "出")]
    done = subprocess.run(
        [sys.executable, "-c", code, *ask], env=os.environ | {"PYTHONIOENCODING": "cp1252"}, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert b"\\u" in done.stdout and len(list((tmp_path / "出").iterdir())) == 1


def test_the_window_hears_names_of_other_scripts_from_a_command(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    monkeypatch.setattr(command, "COMMAND", (sys.executable, "-c", "print('1 of 2: 脳.png')"))
    assert [line.text for line in command.run_command([])] == ["1 of 2: 脳.png"]


@pytest.mark.parametrize(("system", "there"), [("darwin", True), ("win32", True), ("linux", False)])
def test_a_screen_is_asked_for_where_it_may_be_missing(system, there, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", system)
    assert demo.has_screen() is there


def test_help_is_printed_to_an_output_that_is_no_file(monkeypatch):
    monkeypatch.setattr(sys, "stdout", said := io.StringIO())
    with pytest.raises(SystemExit):
        main(["--version"])
    assert "napari-t1t2" in said.getvalue()
