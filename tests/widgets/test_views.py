from types import SimpleNamespace

import numpy as np
import pytest
from napari.utils.colormaps.colormap_utils import ensure_colormap
from qtpy.QtCore import QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QDockWidget

from napari_t1t2.images.volume import Volume
from napari_t1t2.provenance import Provenance
from napari_t1t2.widgets._layers import layer_of
from napari_t1t2.widgets._views import DIFFERENCES
from napari_t1t2.widgets.evaluate import EvaluateWidget

SHAPE = 6, 20, 30
TURNED = np.array([[0, -1.0, 0, 9], [1.0, 0, 0, -5], [0, 0, 3, 2], [0, 0, 0, 1]])
OBLIQUE = np.array([[1, 0.05, 0, 0], [-0.05, 1, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])


def add(viewer, value, name, affine=None, shape=SHAPE, **metadata):
    data = np.full(shape, value, np.float32)
    data[..., 0, 0] = 0
    volume = Volume(
        data=data, name=name, contrast="T2", affine=affine, spacing=(3, 1, 1) if affine is not None else None
    )
    made, about, _ = layer_of(volume)
    about |= {"contrast_limits": (0, 10), "metadata": about["metadata"] | metadata}
    return viewer.add_image(made, **about)


@pytest.fixture
def widget(viewer, qtbot, told):
    widget = EvaluateWidget(viewer)
    qtbot.addWidget(widget)
    yield widget
    widget.form["view"].value = "separate layers"
    assert not widget.view._timer.isActive() and not viewer.mouse_move_callbacks


def on_screen(layer):
    """The pixels that napari shows, (down, right)."""
    return np.asarray(layer._slice.image.view)


@pytest.mark.parametrize(
    "affine", [None, np.diag([-1.0, -1, 3, 1]), TURNED, OBLIQUE], ids=["bare", "lps", "turned", "oblique"]
)
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_the_curtain_divides_the_screen_into_left_and_right_in_every_plane(widget, viewer, affine, order):
    add(viewer, 3, "scan", affine)
    add(viewer, 5, "made", affine, synthetic=True)
    viewer.dims.order = order
    widget.form["view"].value = "curtain"
    seen = on_screen(widget.view.layer)[1:-1]
    assert {np.median(seen[:, 1:4]), np.median(seen[:, -4:-1])} == {3, 5}
    widget.form["at"].value = 1.0
    assert (on_screen(widget.view.layer)[1:-1, 1:-1] == 5).all()


def test_two_pictures_are_compared_as_volumes_are(widget, viewer, head):
    viewer.add_image(head, name="scan")
    viewer.add_image(head + 1, name="made", metadata={"synthetic": True})
    widget.form["view"].value = "difference"
    np.testing.assert_allclose(on_screen(widget.view.layer), 1, atol=1e-4)
    widget.form["view"].value = "checkerboard"
    shown = on_screen(widget.view.layer) - head
    assert 0.3 < (shown > 0.5).mean() < 0.7
    assert len(viewer.layers) == 3


def test_blinking_shows_one_after_the_other_and_says_which(widget, viewer, qtbot, monkeypatch):
    add(viewer, 3, "scan")
    add(viewer, 5, "made", synthetic=True)
    widget.view._timer.setInterval(5)
    widget.form["view"].value = "blink"
    for value, name in ((3, "scan"), (5, "made")):
        qtbot.waitUntil(lambda name=name: widget.status.text() == name)
        assert (on_screen(widget.view.layer)[1:, 1:] == value).all()
    widget.form["view"].value = "separate layers"
    assert widget.status.text() == ""
    assert not widget.view._timer.isActive() and [layer.name for layer in viewer.layers] == ["scan", "made"]


def test_contrast_limits_are_linked_while_both_are_one_picture_and_given_back(widget, viewer):
    scan = add(viewer, 3, "scan")
    made = add(viewer, 5, "made", synthetic=True)
    scan.contrast_limits = (0, 8)
    widget.form["view"].value = "curtain"
    assert widget.form["same_limits"].value
    widget.view.layer.contrast_limits = (1, 6)
    assert list(scan.contrast_limits) == list(made.contrast_limits) == [1, 6]
    widget.form["view"].value = "separate layers"
    assert (list(scan.contrast_limits), list(made.contrast_limits)) == ([0, 8], [0, 10])
    made.contrast_limits = (0, 4)
    assert list(scan.contrast_limits) == [0, 8]


def test_images_in_other_units_keep_their_own_limits(widget, viewer):
    scan = add(viewer, 300, "scan")
    scan.contrast_limits = (0, 1000)
    add(viewer, 5, "made", synthetic=True)
    widget.form["view"].value = "curtain"
    assert not widget.form["same_limits"].value
    assert set(np.unique(on_screen(widget.view.layer)[1:-1, 1:-1]).round(3)) == {3, 5}
    scan.contrast_limits = (0, 600)
    assert set(np.unique(on_screen(widget.view.layer)[1:-1, 1:-1]).round(3)) == {5}


def test_another_grid_is_interpolated_slice_by_slice(widget, viewer):
    finer = add(viewer, 3, "scan", np.diag([-0.5, -0.5, 3, 1.0]), shape=(6, 40, 60))
    finer.data = np.broadcast_to(np.arange(60, dtype=np.float32), finer.data.shape).copy()
    made = add(viewer, 5, "made", np.diag([-1.0, -1, 3, 1]), synthetic=True)
    widget.form["real"].value, widget.form["same_limits"].value = finer, True
    widget.form["view"].value = "difference"
    widget.form["same_limits"].value = True
    made.data = np.zeros(SHAPE, np.float32)
    viewer.dims.set_current_step(0, 2)
    widget.view.layer.refresh()
    np.testing.assert_allclose(-on_screen(widget.view.layer)[3, 1:29], 2 * np.arange(1, 29), atol=1.01)


def test_layers_that_cannot_be_laid_over_each_other_are_refused_in_a_sentence(widget, viewer):
    viewer.add_image(np.ones((4, 9, 9), np.float32), name="scan")
    viewer.add_image(np.ones((3, 8, 8), np.float32), name="made", metadata={"synthetic": True})
    widget.form["view"].value = "curtain"
    assert "do not lie in one place" in widget.status.text() and len(viewer.layers) == 2


def test_a_picture_of_two_images_is_no_image_to_go_on_with(widget, viewer):
    add(viewer, 3, "scan")
    add(viewer, 5, "made", synthetic=True)
    widget.form["view"].value = "curtain"
    assert "give one of these" in Provenance.from_dict(widget.view.layer.metadata).why_not()
    assert len(widget.form["synthetic"].choices) == 2


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_the_picture_goes_with_either_of_its_layers(widget, viewer, gone):
    add(viewer, 3, "scan")
    add(viewer, 5, "made", synthetic=True)
    widget.form["view"].value = "blink"
    viewer.layers.remove(viewer.layers[gone])
    assert widget.form["view"].value == "separate layers" and widget.view.layer is None
    assert not any("blink" in layer.name for layer in viewer.layers)


def test_shift_and_the_mouse_move_the_curtain(widget, viewer):
    add(viewer, 3, "scan")
    add(viewer, 5, "made", synthetic=True)
    widget.form["view"].value = "curtain"
    (move,) = viewer.mouse_move_callbacks
    move(viewer, SimpleNamespace(modifiers=["Shift"], position=(0, 0, 29 * 0.25)))
    assert widget.form["at"].value == pytest.approx(0.25, abs=0.01)
    move(viewer, SimpleNamespace(modifiers=[], position=(0, 0, 29)))
    assert widget.form["at"].value == pytest.approx(0.25, abs=0.01)


def test_colours_of_differences_and_errors_change_together(widget, viewer):
    add(viewer, 3, "scan")
    add(viewer, 5, "made", synthetic=True)
    errors = add(viewer, 1, "errors", **Provenance(kind="expected error").to_dict())
    widget.form["view"].value = "difference"
    assert widget.view.layer.colormap.name == "blue-black-orange"
    widget.form["colours"].value = "purple - green"
    assert (widget.view.layer.colormap.name, errors.colormap.name) == ("purple-black-green", "magma")
    widget.form["view"].value = "curtain"
    assert widget.view.layer.colormap.name == "gray"


@pytest.mark.parametrize("errors", [errors for _, errors in DIFFERENCES.values()])
def test_no_error_is_black_which_lets_the_image_through(errors):
    assert ensure_colormap(errors).map(0)[0, :3].max() < 0.02


def test_closing_the_dock_takes_picture_and_planes_away(widget, viewer, qtbot):
    add(viewer, 3, "scan")
    add(viewer, 5, "made", synthetic=True)
    dock = QDockWidget()
    qtbot.addWidget(dock)
    dock.setWidget(widget)
    widget.form["view"].value = "blink"
    widget.planes.click()
    assert widget.planes_window.isVisible()
    widget.setParent(None)  # as napari does
    assert len(viewer.layers) == 2 and not widget.planes_window.isVisible()


@pytest.fixture
def planes(widget, viewer):
    """Three planes of a volume that holds its own world coordinates."""
    source = add(viewer, 1, "scan.nii", TURNED, file="scan.nii")
    made = add(viewer, 1, "made", TURNED, synthetic=True, source="scan.nii")
    for kind, name in (("expected error", "expected error of made"), ("interval", "renamed"), ("interval", "other")):
        of = "another" if name == "other" else "scan.nii"
        add(viewer, 1, name, TURNED, **Provenance(kind=kind, contrast=f"{kind} of T2", source=of).to_dict())
    index = np.stack(np.meshgrid(*map(np.arange, made.data.shape), indexing="ij"), -1).reshape(-1, 3)
    world = np.array([made.data_to_world(i) for i in index])
    source.data = world[:, 0].reshape(made.data.shape).astype(np.float32)
    made.data = world[:, 2].reshape(made.data.shape).astype(np.float32)
    widget.planes.click()
    window = widget.planes_window
    yield window
    window.close()


def test_source_synthetic_expected_error_and_interval_stand_side_by_side(planes):
    assert [layer.name for layer in planes.layers] == ["scan.nii", "made", "expected error of made", "renamed"]


def test_each_plane_goes_through_the_cursor_at_the_place_that_the_layers_say(planes, viewer):
    viewer.dims.set_point(0, 8.0)
    at = planes.cursor_at
    axial = planes.slice_of(planes.layers[0], 0)
    np.testing.assert_allclose(axial[np.isfinite(axial)], at[0], atol=1e-4)
    sagittal = planes.slice_of(planes.layers[1], 2)
    np.testing.assert_allclose(sagittal[np.isfinite(sagittal)], at[2], atol=0.51)
    coronal = planes.slice_of(planes.layers[0], 1)
    assert np.nanmean(coronal[0]) > np.nanmean(coronal[-1])  # the top of the head is on top
    assert np.isfinite(axial).mean() > 0.9


def test_a_click_moves_the_cursor_of_all_planes_and_of_napari(planes, viewer, qtbot):
    planes.resize(900, 600)
    planes.grab()  # paints
    box = planes._box(1, 0)  # coronal
    spot = QPointF(box.x() + 0.25 * box.width(), box.y() + 0.1 * box.height())
    button, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    planes.mousePressEvent(QMouseEvent(QMouseEvent.Type.MouseButtonPress, spot, spot, button, button, none))
    low, high = planes._low, planes._high
    assert planes.cursor_at[0] == pytest.approx(high[0] - 0.1 * (high[0] - low[0]), abs=3.01)
    assert planes.cursor_at[2] == pytest.approx(low[2] + 0.25 * (high[2] - low[2]), abs=1.01)
    np.testing.assert_allclose(viewer.dims.point, planes.cursor_at)


def test_keys_move_the_cursor_and_stay_inside(planes, viewer, qtbot):
    planes.move_cursor(0, *planes._low[1:])
    before = planes.cursor_at
    qtbot.keyClick(planes, Qt.Key.Key_Right)
    assert planes.cursor_at[2] > before[2]
    qtbot.keyClick(planes, Qt.Key.Key_Up)
    assert planes.cursor_at[1] == before[1]


def test_the_planes_close_when_one_of_their_layers_goes(planes, widget, viewer):
    viewer.layers.remove(planes.layers[0])
    assert not planes.isVisible() and planes.layers == []


@pytest.mark.parametrize("way", ["separate layers", "curtain", "checkerboard", "blink", "difference"])
def test_the_row_position_is_there_only_where_it_moves_something(widget, viewer, way):
    add(viewer, 3, "scan")
    add(viewer, 5, "made", synthetic=True)
    widget.form["view"].value = way
    assert widget.form["at"].native.isVisibleTo(widget) == (way in ("curtain", "checkerboard"))
