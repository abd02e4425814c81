"""The real window: what a user does from the menus."""

import gc

import numpy as np
import pytest
from qtpy.QtWidgets import QWidget

from napari_t1t2.provenance import Provenance
from napari_t1t2.runs.session import Session
from napari_t1t2.synthesis.prepare import TRAINED_ON
from napari_t1t2.widgets._job import JobWidget, SessionWorker

pytestmark = pytest.mark.slow


@pytest.fixture
def viewer(make_napari_viewer_proxy):  # its proxy fails where a worker thread touches the viewer
    return make_napari_viewer_proxy()


def open_widget(viewer, name):
    return viewer.window.add_plugin_dock_widget("napari-t1t2", name)[1]


def test_load_train_and_translate_in_one_session(viewer, config, told):
    load = open_widget(viewer, "Load T1/T2 folders")
    load.form["t1_folder"].value, load.form["t2_folder"].value = config.t1_folder, config.t2_folder
    load.go.click()
    load.wait(60)

    train = open_widget(viewer, "Train")
    train.form.fill(config, keep=["t1_folder", "t2_folder"])
    train.go.click()
    assert train.wait(60).reason == "completed"

    translate = open_widget(viewer, "Translate")
    viewer.layers.selection.active = viewer.layers["T1: T1"]
    translate.go.click()
    translate.wait(60)
    made = viewer.layers["T2 (synthetic) from T1: T1"]
    assert made.data.shape == viewer.layers["T1: T1"].data.shape and np.ptp(made.data) > 0
    assert told == [TRAINED_ON]

    evaluate = open_widget(viewer, "Evaluate")
    evaluate.form["real"].value = viewer.layers["T2: T2"]
    evaluate.go.click()
    assert evaluate.wait(60).score.slices == len(made.data)
    assert f"difference: {made.name} minus T2: T2" in viewer.layers


def test_the_sample_opens_from_the_menu(viewer):
    pytest.importorskip("nilearn", reason="the sample heads need nilearn (extra demo)")
    viewer.open_sample("napari-t1t2", "heads")
    assert [layer.metadata["contrast"] for layer in viewer.layers] == ["T1", "T2"]


def test_layers_are_known_again_though_napari_hands_out_a_new_proxy_each_time(viewer, head):
    widget = open_widget(viewer, "Evaluate")
    viewer.add_image(head, name="scan", metadata={"contrast": "T2"})
    viewer.add_image(head + 1.0, name="made", metadata=Provenance(contrast="T2").to_dict() | {"contrast": "T2"})
    widget.form["synthetic"].value, widget.form["real"].value = viewer.layers["made"], viewer.layers["scan"]
    widget.form["view"].value = "difference"
    assert widget.view.layer.colormap.name == "blue-black-orange"
    widget.form["view"].value = "separate layers"
    for _ in range(2):
        widget.go.click()
        widget.wait(60)
    assert sum("difference" in layer.name for layer in viewer.layers) == 1


def test_jobs_that_have_ended_leave_no_worker_and_no_session_behind(viewer, qtbot):
    """napari keeps what it would quit each job with for as long as its window lives."""

    def found():
        gc.collect()
        return [one for one in gc.get_objects() if type(one) in (SessionWorker, Session)]

    before = {id(one): one for one in found()}  # of other tests
    job = JobWidget(QWidget(), "Go")
    job.start = lambda: lambda stop: iter((1, 2))
    for _ in range(3):
        job.go.click()
        job.wait(20)
    qtbot.waitUntil(lambda: all(id(one) in before for one in found()), timeout=20_000)
