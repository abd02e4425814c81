from dataclasses import replace

import numpy as np
import pytest

from napari_t1t2.engine import translation
from napari_t1t2.engine.checkpoint import load_model
from napari_t1t2.engine.training import train
from napari_t1t2.engine.translation import NOTICE, input_range, provenance, stream, translate
from napari_t1t2.images.intensity import Intensity
from napari_t1t2.images.volume import Volume


@pytest.fixture(scope="module")
def model(trained):
    return load_model(trained)


@pytest.fixture
def stack(head):
    """(5, 44, 36) in the units of the training images."""
    return np.stack([head(i, "T1") for i in range(5)]).astype(np.float32)


class Recorder:
    """An array that remembers what it was asked for."""

    def __init__(self, data):
        self._data = data
        self.shape = data.shape
        self.asked = []

    def __getitem__(self, index):
        self.asked.append(index)
        return self._data[index]


@pytest.fixture
def two_at_once(monkeypatch):
    monkeypatch.setattr(translation, "PIXELS_AT_ONCE", 2 * 44 * 36)


@pytest.mark.parametrize("shape", [(44, 36), (3, 44, 36), (2, 3, 40, 40), (1, 2, 1, 9, 37, 23), (217, 60), (3, 5)])
def test_any_size_and_any_number_of_axes_is_translated(model, head, shape):
    slices = np.stack([head(i, "T1", shape[-2:]) for i in range(int(np.prod(shape[:-2])))])
    made = translate(slices.reshape(shape), model, to="t2")
    assert made.shape == shape
    assert made.dtype == np.float32
    assert made.min() < made.max()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_the_type_of_the_input_changes_nothing(model, stack, dtype):
    np.testing.assert_array_equal(translate(stack.astype(dtype), model, to="t2"), translate(stack, model, to="t2"))


@pytest.mark.parametrize("shape", [(7,), (0, 44, 36), (44, 0)])
def test_what_is_no_image_is_refused_with_its_shape(model, shape):
    with pytest.raises(ValueError, match="needs rows and columns"):
        translate(np.zeros(shape, np.float32), model, to="t2")


def test_a_flat_image_is_refused(model):
    with pytest.raises(ValueError, match="Every pixel is 3"):
        translate(np.full((44, 36), 3.0, np.float32), model, to="t2")


def test_the_two_directions_use_the_two_generators(model, stack):
    assert not np.array_equal(translate(stack, model, to="t1"), translate(stack, model, to="t2"))


def test_the_contrast_is_asked_for_by_name(model, stack):
    np.testing.assert_array_equal(translate(stack, model, to="T2"), translate(stack, model, to="t2"))
    with pytest.raises(ValueError, match="makes T1 and T2, not 'PD'"):
        translate(stack, model, to="PD")


def test_the_output_has_the_units_of_the_target(model, stack):
    in_other_units = replace(model.about, ranges=model.about.ranges | {"t2": Intensity(1000, 3000, "int16")})
    made = translate(stack, model, to="t2")
    scaled = translate(stack, replace(model, about=in_other_units), to="t2")
    target = model.about.ranges["t2"]
    assert target.low <= made.min() < made.max() <= target.high
    expected = 1000 + 2000 * (made - target.low) / (target.high - target.low)
    np.testing.assert_allclose(scaled, expected, rtol=1e-4)


def test_a_volume_stays_where_it_is_and_says_that_it_is_synthetic(model, stack):
    volume = Volume(
        data=stack, name="head", contrast="T1", spacing=(3, 1, 1), affine=np.diag([1.0, 1, 3, 1]), dtype="float64"
    )
    made = translate(volume, model, to="t2")
    np.testing.assert_array_equal(made.data, translate(stack, model, to="t2"))
    assert (made.name, made.contrast, made.notes) == ("T2 (synthetic) from head", "T2", (NOTICE,))
    assert made.spacing == volume.spacing
    np.testing.assert_array_equal(made.affine, volume.affine)
    assert made.dtype == "uint8"  # of the target's files


def test_the_provenance_names_model_step_and_source(model, trained):
    said = provenance(model, "t2", "head.png")
    assert (said["synthetic"], said["contrast"], said["source"], said["step"]) == (True, "T2", "head.png", 4)
    assert said["model"] == str(trained / "model.safetensors")
    assert len(said["model_sha256"]) == 64


def test_the_stream_equals_the_whole(model, stack, two_at_once):
    events = list(stream(stack, model, to="t2"))
    assert [(e.start, e.total, len(e.slices)) for e in events] == [(0, 5, 2), (2, 5, 2), (4, 5, 1)]
    np.testing.assert_array_equal(np.concatenate([e.slices for e in events]), translate(stack, model, to="t2"))


def test_the_size_of_a_batch_changes_nothing(model, stack, two_at_once, monkeypatch):
    few = translate(stack, model, to="t2")
    monkeypatch.undo()
    np.testing.assert_allclose(few, translate(stack, model, to="t2"), atol=1e-3)


def test_the_stream_reads_slice_by_slice_and_no_further_than_its_batch(model, stack, two_at_once):
    data = Recorder(stack.reshape(5, 1, 44, 36))
    read = [len(data.asked) for _ in stream(data, model, to="t2", intensity=Intensity(0, 255))]
    assert read == [2, 4, 5]
    assert data.asked == [(i, 0) for i in range(5)]


def test_the_range_is_measured_on_a_few_slices(model, stack):
    data = Recorder(np.broadcast_to(stack[:, None], (5, 100, 44, 36)))
    input_range(data, model, "t2")
    assert len(data.asked) <= 32
    assert {0, 4} <= {first for first, _ in data.asked}


def test_a_stopped_stream_ends_early(model, stack, two_at_once):
    made = []
    made.extend(stream(stack, model, to="t2", stop=lambda: len(made) > 0))
    assert len(made) <= 3
    done = []
    for event in stream(stack, model, to="t2", stop=lambda: bool(done)):
        done.append(event)
    assert [e.start for e in done] == [0]


def test_a_slice_in_the_units_of_training_needs_no_notice(model, stack):
    assert input_range(stack, model, "t2") == (model.about.ranges["t1"], None)


def test_a_slice_in_other_units_is_translated_alike_with_a_notice(model, stack):
    notice = input_range(stack / 255, model, "t2")[1]
    assert notice is not None
    assert "training images" in notice
    usual, unusual = (translate(data, model, to="t2") for data in (stack, stack / 255))
    assert np.abs(usual - unusual).mean() < 0.02 * np.ptp(usual)


def test_a_volume_in_other_units_is_translated_alike(model, head):
    volume = np.stack([head(i % 8, "T1") for i in range(10)]).astype(np.float32)
    usual, unusual = (translate(data, model, to="t2") for data in (volume, 16 * volume - 1000))
    np.testing.assert_allclose(unusual, usual, atol=0.02 * np.ptp(usual))


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_a_hole_in_one_slice_does_not_spread(model, stack, hole):
    holed = stack.copy()
    holed[2, 20, 10:20] = hole
    made, whole = translate(holed, model, to="t2"), translate(stack, model, to="t2")
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(np.delete(made, 2, axis=0), np.delete(whole, 2, axis=0))


def test_the_input_is_left_as_it_was(model, stack):
    before = stack.copy()
    translate(stack, model, to="t2")
    np.testing.assert_array_equal(stack, before)


def test_a_contrast_called_like_the_other_side_gets_its_own_generator(config, tmp_path):
    swapped = replace(config.model, t1_label="T2", t2_label="T1")
    list(train(replace(config, model=swapped)))
    model = load_model(config.run_folder)
    image = np.linspace(0, 200, 44 * 36, dtype=np.float32).reshape(1, 44, 36)
    made = translate(image, model, to="T2")
    del model.generators["t2"]  # makes the contrast called T1, so it must not be asked
    np.testing.assert_array_equal(translate(image, model, to="T2"), made)
