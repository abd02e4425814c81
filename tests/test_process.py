import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from napari_t1t2 import process
from napari_t1t2.engine.events import Failed, Finished, Preview, Progress, Saved, Started
from napari_t1t2.engine.files import CHECKPOINT_FILE, is_taken, read_about
from napari_t1t2.engine.training import train
from napari_t1t2.process import train_in_process
from napari_t1t2.session import Session

ENDLESS = 1_000_000


def in_process(config, **options):
    return Session(lambda stop: train_in_process(config, stop=stop, **options))


@pytest.fixture
def started(monkeypatch):
    """The children that a test has started, as `subprocess` knows them."""
    children = []

    class Noted(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            children.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return children


def test_a_child_says_what_the_engine_says(config, tmp_path):
    ours = list(train(replace(config, run_folder=tmp_path / "here")))
    theirs = list(train_in_process(replace(config, run_folder=tmp_path / "dort, ü")))
    assert [type(event) for event in theirs] == [type(event) for event in ours]
    for here, there in zip(ours, theirs, strict=True):
        match here:
            case Progress():
                assert (there.step, there.losses) == (here.step, here.losses)
            case Preview():
                for name in ("t1", "fake_t2", "back_t1", "t2", "fake_t1", "back_t2"):
                    image = getattr(there, name)
                    np.testing.assert_array_equal(image, getattr(here, name))
                    assert image.flags.writeable and image.dtype == np.float32
            case Saved() | Finished():
                assert there == replace(here, path=tmp_path / "dort, ü" / here.path.name)
            case Started():
                assert there == here


def test_a_run_goes_on_in_another_child(config):
    list(train(config))
    events = list(train_in_process(replace(config, steps=config.steps + 2), resume=True))
    assert events[-1].step == config.steps + 2


def test_stop_saves_the_step_that_it_reached(config):
    session = in_process(replace(config, steps=ENDLESS, save_every=ENDLESS))
    for event in session:
        if isinstance(event, Progress):
            session.stop()
    assert isinstance(event, Finished) and event.reason == "stopped"
    assert read_about(config.run_folder).step == event.step > 0


def test_a_run_stopped_before_it_began_saves_and_ends(config):
    session = in_process(replace(config, steps=ENDLESS))
    session.stop()
    assert list(session)[-1] == Finished(0, config.run_folder / "model.safetensors", "stopped")


def test_a_pause_holds_the_child_and_is_not_training_time(config):
    session = in_process(replace(config, steps=4, report_every=1))
    seconds = []
    for event in session:
        if isinstance(event, Progress):
            seconds.append(event.seconds)
            if event.step == 2:
                session.pause()
                waker = __import__("threading").Timer(1.0, session.go_on)
                waker.start()
    assert len(seconds) == 4 and seconds[-1] < 1


def test_a_child_trains_no_further_than_somebody_iterates(config):
    events = train_in_process(replace(config, steps=ENDLESS, report_every=1))
    reports = (event.step for event in events if isinstance(event, Progress))
    first = next(reports)
    time.sleep(0.5)
    assert next(reports) == first + 1
    events.close()


@pytest.mark.parametrize("saved", [True, False])
def test_a_killed_child_is_a_sentence_that_names_the_run(config, started, saved):
    endless = replace(config, steps=ENDLESS, save_every=2 if saved else ENDLESS)
    events = []
    for event in in_process(endless):
        events.append(event)
        if isinstance(event, Saved if saved else Progress):
            started[0].kill()
    assert isinstance(event, Failed)
    assert str(config.run_folder) in event.sentence
    assert (config.run_folder / CHECKPOINT_FILE).is_file() == saved
    assert ("resume that run" if saved else "Nothing was saved") in event.sentence


def test_what_a_crashing_child_said_last_is_told(config, monkeypatch, tmp_path, caplog):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "torch.py").write_text("import os, sys\nsys.stderr.write('x' * 1_000_000 + '\\nno such chip\\n')\nos.abort()")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(broken), os.environ.get("PYTHONPATH", "")]))
    (event,) = in_process(config)
    assert "crashed" in event.sentence and "no such chip" in event.sentence
    assert "no such chip" in caplog.text


def test_a_folder_that_holds_a_model_is_refused_in_the_engines_own_words(config):
    list(train(config))
    here, there = (list(Session(lambda stop, t=t: t(config, stop=stop))) for t in (train, train_in_process))
    assert there == here and isinstance(here[0], Failed)


def test_two_children_do_not_train_in_one_folder(config):
    events = train_in_process(replace(config, steps=ENDLESS))
    next(events)
    with pytest.raises(ValueError, match="is being trained in right now"):
        next(train_in_process(config))
    events.close()


def test_a_child_left_alone_saves_and_ends(config, started):
    events = train_in_process(replace(config, steps=ENDLESS, save_every=ENDLESS))
    while not isinstance(next(events), Progress):
        pass
    events.close()  # closes its pipes, as the system does for a napari that was killed
    assert started[0].wait(20) == 0
    assert read_about(config.run_folder).step > 0


def test_a_child_of_a_killed_window_saves_and_ends(config):
    """The window is a process of its own, which is killed; its child is ours to wait for by what it leaves."""
    code = (
        "import json, sys\n"
        "from napari_t1t2.engine.config import TrainConfig\n"
        "from napari_t1t2.process import train_in_process\n"
        "for event in train_in_process(TrainConfig.from_dict(json.load(sys.stdin))): print(type(event).__name__, flush=True)\n"
    )
    endless = replace(config, steps=ENDLESS, save_every=ENDLESS)
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as window:
        window.stdin.write(json.dumps(endless.to_dict()).encode())
        window.stdin.close()
        while window.stdout.readline() != b"Progress\n":
            pass
        window.kill()
    until = time.monotonic() + 20
    while not is_taken(config.run_folder) and time.monotonic() < until:
        time.sleep(0.05)
    assert is_taken(config.run_folder)


@pytest.mark.skipif(sys.platform == "win32", reason="its Ctrl-C goes to a whole console, the tests included")
def test_ctrl_c_in_the_terminal_does_not_end_a_child_that_somebody_drives(config, started):
    session = in_process(replace(config, steps=ENDLESS))
    reports = 0
    for event in session:
        if isinstance(event, Progress):
            reports += 1
            if reports == 1:
                started[0].send_signal(signal.SIGINT)
            if reports == 3:
                session.stop()
    assert isinstance(event, Finished) and event.reason == "stopped"


def test_what_prints_in_a_child_does_not_garble_its_events(config, monkeypatch, tmp_path):
    noisy = tmp_path / "noisy"
    noisy.mkdir()
    (noisy / "sitecustomize.py").write_text("import atexit\nprint('x')")
    assert process  # placeholder


def test_the_window_side_loads_no_torch():
    code = "import sys, napari_t1t2.process; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
