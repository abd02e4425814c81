import re
import threading
import weakref

import pytest
import torch

from napari_t1t2.errors import Refusal
from napari_t1t2.events import Failed, Finished
from napari_t1t2.runs.session import Session, explain
from napari_t1t2.runs.training import train

WAIT = 20  # seconds, at most, for another thread


def failing(error: BaseException) -> Session:
    def start(stop):
        yield "first"
        raise error

    return Session(start)


def counting(stop):
    """Counts until it is told to stop."""
    number = 0
    while not stop():
        number += 1
        yield number


@pytest.fixture
def driven():
    """Drives a session in a thread; gives back the thread and the growing list of events."""
    threads = []

    def drive(session):
        events = []
        thread = threading.Thread(target=lambda: [events.append(event) for event in session], daemon=True)
        threads.append((session, thread))
        thread.start()
        return thread, events

    yield drive
    for session, thread in threads:
        session.stop()
        thread.join(WAIT)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Refusal("crop is 33, but needs 32."), "crop is 33, but needs 32."),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
            "The memory ran out",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            "The memory ran out",
        ),
        *(
            (RuntimeError(text), "The memory ran out")
            for text in (
                "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried",
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
                "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
                "GET was unable to find an engine to execute this computation",
                "HIP out of memory. Tried to allocate 2.00 GiB",
                "MPS backend out of memory (MPS allocated: 9.06 GB)",
            )
        ),
        (MemoryError(), "The memory ran out"),
        (KeyError("t3"), "KeyError: 't3'"),
        (RuntimeError("shape mismatch"), "unforeseen .*RuntimeError: shape mismatch.* report"),
        (StopIteration(), "unforeseen"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), r"a\.png: No such file or directory\."),
        (PermissionError(13, "Permission denied", "run"), "run: no permission .* choose another folder"),
        (OSError(28, "No space left on device"), "the disk is full: free some space"),
        (OSError(28, "No space left on device", "a.png"), r"a\.png: the disk is full: free some space"),
        (ValueError("operands could not be broadcast together"), "unforeseen .*report it with the log"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_any_error_becomes_a_last_event_with_a_sentence(error, words):
    first, last = failing(error)
    assert first == "first"
    assert isinstance(last, Failed)
    assert re.search(words, last.sentence)


def test_what_was_not_foreseen_is_logged_in_full(caplog):
    list(failing(KeyError("t3")))
    assert caplog.records[0].exc_info[0] is KeyError


def test_an_error_that_has_a_sentence_is_not_logged(caplog):
    list(failing(Refusal("A sentence.")))
    assert caplog.records == []


def test_an_error_before_the_first_event_is_an_event_too():
    def start(stop):
        raise Refusal("No.")

    assert list(Session(start)) == [Failed("No.")]


def test_ctrl_c_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        list(failing(KeyboardInterrupt()))


def test_a_permission_without_a_name_is_still_a_sentence():
    assert "None" not in explain(PermissionError("Permission denied"))


def test_the_events_are_those_of_the_run(config):
    events = list(Session(lambda stop: train(config, stop=stop)))
    assert isinstance(events[-1], Finished)
    assert len(events) == 7


def test_a_stopped_session_ends_its_run():
    session = Session(counting)
    events = []
    for event in session:
        events.append(event)
        if event == 3:
            session.stop()
            session.stop()
    assert events == [1, 2, 3]


def test_a_session_stopped_before_it_began_runs_nothing():
    session = Session(counting)
    session.stop()
    assert list(session) == []


def test_a_pause_holds_the_run_until_it_goes_on(driven):
    def start(stop):
        stop()
        yield "a step"

    session = Session(start)
    session.pause()
    thread, events = driven(session)
    thread.join(0.2)
    assert (session.state, events) == ("paused", [])
    session.go_on()
    thread.join(WAIT)
    assert (session.state, events) == ("completed", ["a step"])


def test_stop_ends_a_paused_run_and_keeps_its_weights(config, driven):
    session = Session(lambda stop: train(config, stop=stop))
    session.pause()
    thread, events = driven(session)
    thread.join(0.2)
    assert thread.is_alive()
    session.stop()
    thread.join(WAIT)
    assert events[-1] == Finished(0, config.run_folder / "model.safetensors", "stopped")
    assert events[-1].path.is_file()


def test_a_session_that_has_ended_keeps_nothing_of_what_it_was_begun_with():
    """napari keeps each worker, and with it the session, for as long as its window lives."""

    class Image:
        def steps(self, stop):
            yield "a step"

    image = Image()
    kept = weakref.ref(image)
    session = Session(image.steps)
    del image
    assert list(session) == ["a step"] and kept() is None


def test_a_session_that_has_failed_keeps_nothing_either():
    class Image:
        def steps(self, stop):
            yield "a step"
            raise Refusal("No.")

    image = Image()
    kept = weakref.ref(image)
    session = Session(image.steps)
    del image
    assert list(session) == ["a step", Failed("No.")] and kept() is None
