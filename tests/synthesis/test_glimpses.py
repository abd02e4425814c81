"""Slices that are looked at, made before their turn."""

import numpy as np
import pytest

from napari_t1t2.images.volume import Volume
from napari_t1t2.model.saved import load_model
from napari_t1t2.synthesis.glimpses import Glimpses
from napari_t1t2.synthesis.prepare import input_range
from napari_t1t2.synthesis.translation import stream, translate

TURNED = np.array([[0, -1.0, 0, 9], [0, 0, -2.0, 4], [1.0, 0, 0, -5], [0, 0, 0, 1]])  # stored as no plane of a head's


@pytest.fixture(scope="module")
def model(trained):
    return load_model(trained)


@pytest.fixture
def stack(head):
    return np.stack([np.roll(head(i, "T1"), i, 1) for i in range(5)]).astype(np.float32)


def glimpses_of(data, model, affine=None, planes="one"):
    made = np.zeros(data.shape, np.float32)
    volume = Volume(data=data, name="scan", affine=affine)
    return made, Glimpses(volume, made, model, "t2", planes)


@pytest.mark.parametrize("affine", [None, np.diag([-1.0, -1, 2, 1]), TURNED], ids=["bare", "usual", "turned"])
def test_a_slice_of_the_models_own_plane_is_what_the_volume_will_hold(model, stack, affine):
    whole = translate(Volume(data=stack, name="scan", affine=affine), model, to="t2").data
    made, glimpses = glimpses_of(stack, model, affine)
    axis = glimpses._views[0].axes[0]
    at = tuple(3 if i == axis else None for i in range(3))
    assert glimpses.show(at, 0) and not glimpses.show(at, 0)
    np.testing.assert_allclose(made.take(3, axis), whole.take(3, axis), atol=1e-2)
    assert not np.delete(made, 3, axis).any()


@pytest.mark.parametrize("axis", [1, 2])
def test_a_slice_of_another_plane_never_replaces_one_of_the_models_own(model, stack, axis):
    made, glimpses = glimpses_of(stack, model)
    made[:2] = 7
    at = tuple(10 if i == axis else None for i in range(3))
    assert glimpses.show(at, 2)
    assert (made[:2] == 7).all() and np.ptp(made.take(10, axis)[2:]) > 0
    assert not np.delete(made, 10, axis)[2:].any()


def test_what_has_had_its_turn_is_not_made_again(model, stack):
    made, glimpses = glimpses_of(stack, model)
    assert not glimpses.show((1, None, None), 2) and not glimpses.show((None, 4, None), 5)
    assert not made.any()


def test_of_a_series_the_volume_that_is_looked_at_is_made(model, stack):
    made, glimpses = glimpses_of(np.stack([stack, stack + 1]), model)
    assert not glimpses.show((0, 3, None, None), 5)  # the first has had its turn
    assert glimpses.show((1, 3, None, None), 5)
    assert made[1, 3].any() and not made[0].any() and not made[1, :3].any()


def test_an_empty_volume_is_left_to_whoever_says_so(model, stack):
    made, glimpses = glimpses_of(np.zeros_like(stack), model)
    assert not glimpses.show((1, None, None), 0) and not made.any()


def test_while_three_planes_are_averaged_what_is_there_is_always_an_image(model, head):
    data = np.stack([head(0, "T1")] * 36).astype(np.float32)
    out = np.full(data.shape, 9, np.float32)  # what a glimpse has left
    own = input_range(data, model, "t2")[0]
    one = translate(data, model, to="t2", intensity=own)
    events = stream(data, model, to="t2", planes="three", out=out, intensity=own)
    while next(events).done < len(data):
        pass
    np.testing.assert_allclose(out, one, atol=1e-2)
    list(events)
    np.testing.assert_allclose(out, translate(data, model, to="t2", planes="three", intensity=own), atol=1e-2)
