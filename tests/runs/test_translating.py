"""Translating in a child that keeps its model."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from napari_t1t2.errors import Refusal
from napari_t1t2.events import Translated
from napari_t1t2.images.volume import Volume
from napari_t1t2.model.saved import load_model
from napari_t1t2.runs import child as child_module
from napari_t1t2.runs import translating
from napari_t1t2.runs.child import Child
from napari_t1t2.runs.command import run_command
from napari_t1t2.runs.translating import Begun, Glimpsed, Looked, Mapped, shared, translate_in_child
from napari_t1t2.synthesis.translation import translate

WAIT = 20  # seconds, at most, for another process
pytestmark = pytest.mark.slow


@pytest.fixture
def child():
    made = Child()
    yield made
    made.close()
    assert made._process is None


@pytest.fixture
def stack(head):
    return np.stack([head(i, "T1") for i in range(6)]).astype(np.float32)


def begin(child, trained, data, *, looked_at=lambda: None, stop=lambda: False, model=None, **options):
    options = {"planes": "one", "resampled": False, "device": "cpu"} | options
    volume = Volume(data=data, name="scan")
    return translate_in_child(child, volume, model or trained, "t2", looked_at=looked_at, stop=stop, **options)


def test_a_child_makes_what_the_engine_makes_shows_first_what_is_looked_at_and_keeps_its_model(
    child, trained, stack, tmp_path, monkeypatch
):
    monkeypatch.setattr(translating, "IN_MEMORY", str(tmp_path))
    mapped, begun, glimpsed, looked, *rest = begin(child, trained, stack, looked_at=lambda: (4, None, None))
    assert [type(event) for event in (mapped, begun, glimpsed, looked)] == [Mapped, Begun, Glimpsed, Looked]
    assert glimpsed.at == (4, None, None) and rest[-1] == Translated(6, 6)
    np.testing.assert_allclose(mapped.images[0], translate(stack, load_model(trained), to="t2"), atol=1e-2)
    assert looked.says[0].seen_in_training is not None and begun.says[0][0].contrast == "T2"
    first = child._process.pid
    child.warm(trained, "cpu")
    lazy = da.from_array(stack, chunks=(2, 44, 36))
    again = list(begin(child, trained, lazy, maps=["expected error"]))
    np.testing.assert_array_equal(again[0].images[0], mapped.images[0])
    assert again[0].images[1].any() and child._process.pid == first
    assert not list(tmp_path.iterdir())


def test_a_child_that_is_killed_is_a_sentence_and_the_next_one_goes_on(child, trained, stack):
    events = begin(child, trained, stack)
    for event in events:
        if isinstance(event, Looked):
            break
    child._process.kill()
    with pytest.raises(ChildProcessError, match="ended by the system, most likely as the memory ran short"):
        list(events)
    assert list(begin(child, trained, stack))[-1] == Translated(6, 6)
    child._process.send_signal(signal.SIGKILL)  # between two jobs
    child._process.wait()
    assert list(begin(child, trained, stack))[-1] == Translated(6, 6)


def test_a_refusal_is_the_engines_own_and_the_child_stays(child, trained, stack, tmp_path):
    with pytest.raises(Refusal, match="Every pixel is 3"):
        list(begin(child, trained, np.full_like(stack, 3)))
    kept = child._process
    with pytest.raises(Refusal, match="does not exist"):
        list(begin(child, trained, stack, model=tmp_path / "none"))
    assert child._process is kept and list(begin(child, trained, stack))[-1] == Translated(6, 6)


def test_a_stop_ends_the_job_within_a_slice_and_keeps_the_child(child, trained, stack):
    told = threading.Event()
    done = 0
    for event in begin(child, trained, stack, stop=told.is_set):
        if isinstance(event, Translated):
            done = event.done
            told.set()
    assert done == 1 and child._process.poll() is None


def test_a_job_that_nobody_iterates_ends_with_its_child(child, trained, stack):
    events = begin(child, trained, stack)
    next(events), next(events)
    events.close()
    assert child._process is None


def test_closing_while_a_job_runs_ends_the_child_after_it(child, trained, stack):
    events = begin(child, trained, stack)
    next(events), next(events)
    running = child._process
    child.close()
    assert running.poll() is None
    assert list(events)[-1] == Translated(6, 6) and running.poll() is not None


def test_a_child_whose_window_was_killed_ends(trained):
    window = (
        "import sys, time\nfrom pathlib import Path\nfrom napari_t1t2.runs.child import Child\n"
        f"child = Child()\nchild.warm(Path({str(trained)!r}), 'cpu')\n"
        "print(child._process.pid, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", window], stdout=subprocess.PIPE) as killed:
        pid = int(killed.stdout.readline())
        killed.kill()
    until = time.monotonic() + WAIT
    while time.monotonic() < until and alive(pid):
        time.sleep(0.02)
    assert not alive(pid)


def alive(pid):
    """Whether a process runs; one that has ended and that nobody has asked for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_where_nothing_is_shared_in_memory_a_file_on_the_disk_is(monkeypatch, tmp_path):
    monkeypatch.setattr(translating, "IN_MEMORY", str(tmp_path / "none"))
    monkeypatch.setattr(translating.tempfile, "gettempdir", lambda: str(tmp_path))
    with shared((3, 4)) as room:
        array = room.open()
        assert not array.any() and [tmp_path] == list({file.parent for file in tmp_path.iterdir()})
        room.open()[1] = 5
    assert array[1].sum() == 20 and not list(tmp_path.iterdir())


def test_a_full_disk_is_told_before_the_translation_begins(child, trained, stack, monkeypatch, tmp_path):
    monkeypatch.setattr(translating, "IN_MEMORY", str(tmp_path / "none"))
    monkeypatch.setattr(translating, "reserve", lambda *_: (_ for _ in ()).throw(Refusal("The result takes 9 GiB")))
    with pytest.raises(Refusal, match="9 GiB"):
        list(begin(child, trained, stack))
    assert child._process is None


def test_the_side_of_the_window_loads_no_torch():
    code = "import sys, napari_t1t2.runs.translating, napari_t1t2.runs.command; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said == "False\n"


def test_a_folder_is_translated_by_the_command_line_which_says_how_far_it_is(trained, t1_folder, tmp_path):
    arguments = ["translate", str(t1_folder), "--model", str(trained), "--to", "T2", "--out", str(tmp_path / "out")]
    lines = list(run_command(arguments))
    assert max(line.done for line in lines) == 8 == max(line.total for line in lines)
    assert len(list((tmp_path / "out").iterdir())) == 8
    assert any("8 had been made before" in line.text for line in run_command(arguments))
    with pytest.raises(Refusal, match=r"invalid choice"):
        list(run_command(["translates"]))


def test_a_command_that_is_stopped_ends_and_is_no_failure(monkeypatch, tmp_path):
    slow = "import time\nprint('1 of 9: a', flush=True)\ntime.sleep(60)"
    monkeypatch.setattr("napari_t1t2.runs.command.COMMAND", (sys.executable, "-c", slow))
    told = threading.Event()
    lines = run_command([], stop=told.is_set)
    first = next(lines)
    told.set()
    list(lines)
    assert (first.done, first.total) == (1, 9)


def test_a_command_that_nobody_reads_on_is_ended(monkeypatch):
    pids = []
    monkeypatch.setattr(
        "napari_t1t2.runs.command.COMMAND",
        (sys.executable, "-c", "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)"),
    )
    lines = run_command([])
    pids.append(int(next(lines).text))
    lines.close()
    assert not alive(pids[0]) and os.getpid() != pids[0]


def test_what_a_crashing_child_said_last_is_told(child, trained, stack, monkeypatch):
    monkeypatch.setattr(child_module, "COMMAND", (sys.executable, "-c", "import sys; sys.exit('bailing out')"))
    with pytest.raises(ChildProcessError, match=r"crashed \(exit code 1: bailing out\)"):
        list(begin(child, trained, stack))
