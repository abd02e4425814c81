import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest

from napari_t1t2.errors import Refusal
from napari_t1t2.events import Failed, Finished, Preview, Progress, Saved
from napari_t1t2.model.about import MODEL_FILE, read_about
from napari_t1t2.runs import process
from napari_t1t2.runs.folder import CHECKPOINT_FILE, claimed
from napari_t1t2.runs.process import train_in_process
from napari_t1t2.runs.session import Session
from napari_t1t2.runs.training import train

ENDLESS = 1_000_000
WAIT = 20  # seconds, at most, for another process
COUNTING = """
import os, sys, time, types
from pathlib import Path
from napari_t1t2.events import Finished, Progress, Saved
from napari_t1t2.runs import process

def count(config, *, stop, resume, preview_at):
    print("what a library prints")
    config.run_folder.mkdir()
    step, seconds = 0, 0.0
    while not stop():
        began = time.perf_counter()
        step += 1
        seconds += time.perf_counter() - began
        yield Progress(step, step, seconds, 0.0, 0.0, 1.0, {{"cycle": step / 3, "at": preview_at()}})
        {then}
    (config.run_folder / "reached").write_text(str(step))
    yield Finished(step, config.run_folder / "model.safetensors", "stopped")

sys.modules["napari_t1t2.runs.training"] = types.SimpleNamespace(train=count)
process.main()
"""


@pytest.fixture
def counting(monkeypatch):
    """Children count steps in place of training, so that no torch is loaded; what follows a step can be chosen."""

    def replace_engine(then="pass"):
        monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", COUNTING.format(then=then)))

    replace_engine()
    return replace_engine


@pytest.fixture
def children(monkeypatch):
    """The processes that a test has started."""
    started = []

    class Noted(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return started


def in_process(config):
    return Session(lambda stop: train_in_process(config, stop=stop))


def reached(config):
    return int((config.run_folder / "reached").read_text())


def test_the_events_are_those_of_the_engine(config, tmp_path):
    list(train(config))
    longer = replace(config, steps=2 * config.steps)
    elsewhere = replace(longer, run_folder=tmp_path / "Läufe, weiter")
    shutil.copytree(config.run_folder, elsewhere.run_folder)
    ours = list(train(longer, resume=True))
    theirs = list(train_in_process(elsewhere, resume=True))
    assert [type(event) for event in theirs] == [type(event) for event in ours]
    for here, there in zip(ours, theirs, strict=True):
        match here:
            case Progress():
                assert (there.step, there.losses) == (here.step, here.losses)
            case Preview():
                for name in ("t1", "fake_t2", "back_t1", "t2", "fake_t1", "back_t2"):
                    np.testing.assert_array_equal(getattr(there, name), getattr(here, name))
                assert there.t1.dtype == np.float32 and there.t1.flags.writeable
            case Saved() | Finished():
                assert there == replace(here, path=elsewhere.run_folder / here.path.name)
            case _:
                assert there == here


def test_a_folder_that_holds_a_model_is_refused_in_the_engines_own_words(config):
    list(train(config))
    here, there = (list(Session(lambda stop, run=run: run(config, stop=stop))) for run in (train, train_in_process))
    assert there == here and isinstance(here[0], Failed)


def test_a_child_whose_window_was_killed_saves_and_ends(config):
    endless = replace(config, steps=ENDLESS, save_every=ENDLESS)
    window = (
        "import sys\n"
        "from napari_t1t2.config import TrainConfig\n"
        "from napari_t1t2.runs.process import train_in_process\n"
        f"for event in train_in_process(TrainConfig.from_dict({endless.to_dict()!r})):\n"
        "    print(type(event).__name__, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", window], stdout=subprocess.PIPE) as killed:
        while killed.stdout.readline() != b"Progress\n":
            assert killed.poll() is None
        killed.kill()
    until = time.monotonic() + WAIT
    while not (config.run_folder / MODEL_FILE).is_file() and time.monotonic() < until:
        time.sleep(0.02)
    assert read_about(config.run_folder).step > 0


def test_stop_ends_the_child_within_a_step(config, counting):
    session = in_process(config)
    for event in session:
        if event.step == 3:
            session.stop()
    assert event == Finished(3, config.run_folder / "model.safetensors", "stopped")
    assert reached(config) == 3


def test_a_run_that_is_stopped_before_it_began_does_no_step(config, counting):
    session = in_process(config)
    session.stop()
    assert [event.step for event in session] == [0]


def test_a_child_makes_no_step_that_nobody_iterates_for_and_ends_by_itself(config, counting, children):
    events = train_in_process(config)
    next(events)
    events.close()
    assert children[0].returncode == 0
    assert reached(config) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there Ctrl-C goes to the whole console, the tests included")
def test_ctrl_c_in_the_terminal_leaves_the_end_to_whoever_drives_it(config, counting, children):
    session = in_process(config)
    for event in session:
        if event.step == 1:
            children[0].send_signal(signal.SIGINT)
        if event.step == 50:
            session.stop()
    assert event == Finished(50, config.run_folder / "model.safetensors", "stopped")


@pytest.mark.skipif(sys.platform == "win32", reason="there no process is asked to end")
def test_a_child_that_is_asked_to_end_saves(config, counting, children):
    for event in in_process(config):
        if isinstance(event, Progress) and event.step == 2:
            children[0].terminate()  # it ends with the step in which the signal arrives
    assert isinstance(event, Finished) and event.reason == "stopped"
    assert reached(config) == event.step


@pytest.mark.parametrize("saved", [True, False])
def test_a_killed_child_is_a_sentence_that_names_the_run(config, counting, children, saved):
    for event in in_process(config):
        if isinstance(event, Progress):
            if saved:
                (config.run_folder / CHECKPOINT_FILE).touch()
            children[0].kill()
    assert isinstance(event, Failed)
    assert str(config.run_folder) in event.sentence
    assert ("resume that run" if saved else "Nothing was saved") in event.sentence


def test_what_a_crashing_child_said_last_is_told(config, counting, caplog):
    counting(
        "sys.stderr.write('x' * 1_000_000 + '\\nCUDA out of memory, bailing out\\n'); sys.stderr.flush(); os.abort()"
    )
    *_, event = in_process(config)
    assert "crashed" in event.sentence and "bailing out" in event.sentence
    assert str(config.run_folder) in event.sentence
    assert "bailing out" in caplog.text


def test_what_was_not_foreseen_is_logged_where_the_window_runs(config, counting, caplog):
    counting("raise KeyError('t3')")
    *_, event = in_process(config)
    assert "KeyError: 't3'" in event.sentence
    assert "Traceback" in caplog.text


def test_a_folder_in_which_somebody_trains_is_refused_to_a_child(config):
    config.t1_folder.rename(config.t1_folder.with_name("hidden"))  # the child would refuse that next
    with claimed(config.run_folder), pytest.raises(Refusal, match="is being trained in right now"):
        next(train_in_process(config))


def test_the_side_of_the_window_loads_no_torch():
    code = "import sys, napari_t1t2.runs.process; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said == "False\n"


def test_the_slice_to_preview_reaches_the_child_with_the_next_step(config, counting):
    at = [0.25]
    run = train_in_process(config, stop=lambda: False, preview_at=lambda: at[0])
    assert next(run).losses["at"] == 0.25
    at[0] = 1.0
    assert next(run).losses["at"] == 1.0
    run.close()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="a closed terminal says nothing on Windows")
def test_a_child_whose_terminal_is_closed_saves_and_ends(config):
    sent = False
    for event in train_in_process(replace(config, steps=1_000_000, report_every=1, save_every=1_000_000)):
        if isinstance(event, Progress) and not sent:
            child = next(c for c in psutil.Process().children() if "napari_t1t2.runs.process" in c.cmdline())
            child.send_signal(signal.SIGHUP)
            sent = True
    assert isinstance(event, Finished) and event.reason == "stopped"
    assert (config.run_folder / "checkpoint.pt").exists()
