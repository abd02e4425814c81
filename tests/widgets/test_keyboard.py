"""The window without a mouse, and read aloud."""

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QApplication, QComboBox, QLineEdit, QScrollBar, QWidget

from napari_t1t2.config import preset
from napari_t1t2.runs import training
from napari_t1t2.widgets.cockpit import STEPS, CockpitWidget

TAB, SPACE, DOWN, RIGHT = Qt.Key.Key_Tab, Qt.Key.Key_Space, Qt.Key.Key_Down, Qt.Key.Key_Right


@pytest.fixture
def cockpit(viewer, qtbot, told, here, monkeypatch):
    monkeypatch.setattr("napari_t1t2.widgets.train.train_in_process", lambda *run, **how: training.train(*run, **how))
    cockpit = CockpitWidget(viewer)
    qtbot.addWidget(cockpit)
    cockpit.resize(420, 950)
    cockpit.show()
    return cockpit


def is_part(control):
    """Whether it belongs to another control, which has the name."""
    return isinstance(control, QScrollBar) or (
        isinstance(control, QLineEdit) and isinstance(control.parent(), QAbstractSpinBox | QComboBox)
    )


def tab_stops(cockpit):
    """What the Tab key goes through on the page that is open, from its beginning to its end."""
    at = cockpit.tabBar()
    at.setFocus()
    stops = []
    while len(stops) < 200:
        QTest.keyClick(at, TAB)
        at = cockpit.focusWidget()
        if at is None or at in stops or at is cockpit.tabBar():
            break
        stops.append(at)
    return stops


def go_to(cockpit, control):
    assert control in tab_stops(cockpit), "the Tab key does not lead there"
    control.setFocus()


@pytest.mark.parametrize("step", range(len(STEPS)), ids=STEPS)
def test_every_control_has_a_name_that_a_screen_reader_says(cockpit, step):
    page = cockpit.page(step)
    nameless = [
        control
        for control in page.findChildren(QWidget)
        if control.focusPolicy() != Qt.FocusPolicy.NoFocus and not is_part(control)
        if control.window() is cockpit  # the lists of choices have windows of their own
        if not control.accessibleName() and not (isinstance(control, QAbstractButton) and control.text())
    ]
    assert not nameless, [(type(c).__name__, c.objectName(), type(c.parent()).__name__) for c in nameless]


@pytest.mark.parametrize("step", range(len(STEPS)), ids=STEPS)
def test_the_tab_key_goes_through_a_page_from_top_to_bottom(cockpit, viewer, head, step):
    viewer.add_image(np.stack([head] * 3), name="scan", metadata={"contrast": "T1"})
    page = cockpit.page(step)
    cockpit.setCurrentIndex(step)
    stops = tab_stops(cockpit)
    assert page.go in stops and len(stops) > 5
    places = [(at := stop.mapTo(page, stop.rect().center())).y() // 24 * 1000 + at.x() // 1000 for stop in stops]
    tops = [place // 1000 for place in places]
    assert tops == sorted(tops), [(type(s).__name__, s.accessibleName(), y) for s, y in zip(stops, tops, strict=True)]


@pytest.mark.parametrize("step", range(len(STEPS)), ids=STEPS)
def test_what_has_the_focus_is_seen(cockpit, step):
    page = cockpit.page(step)
    cockpit.setCurrentIndex(step)
    QApplication.setActiveWindow(cockpit)  # no window manager does it here
    page.go.setFocus()
    with_focus = page.go.grab().toImage()
    page.go.clearFocus()
    assert with_focus != page.go.grab().toImage()


def test_the_whole_way_by_keys_alone(cockpit, viewer, config, qtbot):
    load = cockpit.page(0)
    for name, folder in (("t1_folder", config.t1_folder), ("t2_folder", config.t2_folder)):
        line = load.form[name].line_edit.native
        go_to(cockpit, line)
        QTest.keyClicks(line, str(folder))
    for page, button in ((load, load.go), (load, load.next)):
        go_to(cockpit, button)
        QTest.keyClick(button, SPACE)
        page.wait(30)
    train = cockpit.page(1)
    assert cockpit.currentIndex() == 1
    rows = train.start_rows["preset"].native
    go_to(cockpit, rows)
    QTest.keyClick(rows, DOWN)
    assert train.start_rows["preset"].value == "notebook" and train.form["minutes"].value == preset("notebook").minutes
    train.form.fill(config, keep=["t1_folder", "t2_folder"])  # tiny networks
    for page, button in ((train, train.go), (train, train.next)):
        go_to(cockpit, button)
        QTest.keyClick(button, SPACE)
        page.wait(60)
    translate = cockpit.page(2)
    for page, button in ((translate, translate.go), (translate, translate.next)):
        go_to(cockpit, button)
        QTest.keyClick(button, SPACE)
        page.wait(60)
    compare = cockpit.page(3)
    assert cockpit.currentIndex() == 3 and compare.form["synthetic"].value.metadata["synthetic"]
    view = compare.form["view"].native
    go_to(cockpit, view)
    QTest.keyClick(view, DOWN)
    assert compare.view.layer.name.startswith("curtain: ")
    at = compare.form["at"]
    slider = at.native.findChildren(QWidget)[0] if at.native.focusPolicy() == Qt.FocusPolicy.NoFocus else at.native
    go_to(cockpit, slider)
    QTest.keyClick(slider, RIGHT)
    assert at.value > 0.5
    compare.form["view"].value = "separate layers"
