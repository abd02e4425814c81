import threading

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QSettings
from superqt.utils import WorkerBase

from napari_t1t2.runs.child import Models
from napari_t1t2.widgets import _job, translate
from napari_t1t2.widgets._memory import Memory


@pytest.fixture
def viewer():
    """napari's viewer without a window: layers and events, no OpenGL."""
    return ViewerModel()


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    """What the user's windows remember is neither read nor overwritten by tests, and their runs lie elsewhere."""
    monkeypatch.setattr(Memory, "home", tmp_path / "runs")
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(tmp_path / "settings"))


@pytest.fixture(autouse=True)
def no_thread_left_behind():
    yield
    WorkerBase.await_workers(10_000)  # what napari does when it quits
    jobs = [thread for thread in threading.enumerate() if thread.name == _job.THREAD]
    for job in jobs:
        job.join(10)
    assert not any(job.is_alive() for job in jobs)


@pytest.fixture
def informed(monkeypatch):
    """What was shown to the user as good to know."""
    sentences = []
    monkeypatch.setattr(_job, "show_info", sentences.append)
    return sentences


@pytest.fixture
def told(monkeypatch, informed):
    """What was shown to the user as warnings and errors."""
    sentences = []
    for name in ("show_error", "show_warning"):
        monkeypatch.setattr(_job, name, sentences.append)
    return sentences


@pytest.fixture
def head(head) -> np.ndarray:
    """One slice of 44x36, in 0..255."""
    return head(0, "T1").astype(np.float32)


class Here:
    """Stands in for a child: does its jobs in the thread that asks for them."""

    def __init__(self):
        self.models = Models()

    def run(self, job, answer):
        return job.run(self.models, answer)

    def warm(self, model, device):
        pass

    def close(self):
        pass


@pytest.fixture
def here(monkeypatch):
    """Translating begins no process, which takes seconds."""
    monkeypatch.setattr(translate, "Child", Here)
