import numpy as np
import pytest

from napari_t1t2.images.intensity import Intensity, measure, measure_set, range_for
from napari_t1t2.images.read import read_image
from napari_t1t2.images.volume import Volume


def volume(data: np.ndarray, dtype: str = "uint8") -> Volume:
    return Volume(data=data.astype(np.float32), name="a", dtype=dtype)


def test_units_go_to_the_range_of_the_networks_and_back():
    data = np.linspace(-100, 900, 50, dtype=np.float32)
    intensity = Intensity(-100, 900)
    unit = intensity.to_unit(data)
    assert (unit.min(), unit.max()) == (-1, 1)
    np.testing.assert_allclose(intensity.from_unit(unit), data, atol=1e-3)


@pytest.mark.parametrize("headroom", [1.0, 1.9, 2.0001, 2.6, 4.0, 30.0])
def test_the_median_of_a_head_with_bright_fat_lies_in_the_middle_and_comes_back(headroom):
    intensity = Intensity(-50, -50 + 100 * headroom, headroom=headroom)
    unit = intensity.to_unit(np.array([-50, 50, -50 + 100 * headroom], np.float32))
    assert (unit[0], unit[2]) == (-1, 1)
    assert unit[1] == pytest.approx(0 if headroom > 2 else 2 / headroom - 1, abs=1e-3)
    steps = np.linspace(-50, -50 + 100 * headroom, 99, dtype=np.float32)
    assert (np.diff(intensity.to_unit(steps)) > 0).all()
    np.testing.assert_allclose(intensity.from_unit(intensity.to_unit(steps)), steps, atol=1e-3 * 100 * headroom)


def test_what_lies_outside_the_range_is_clipped():
    np.testing.assert_array_equal(Intensity(0, 10).to_unit(np.array([-5, 5, 1e6], np.float32)), [-1, 0, 1])


def test_one_hot_voxel_does_not_darken_the_rest():
    data = np.random.default_rng(0).uniform(0, 100, (10, 40, 40))
    data[0, 0, 0] = 1e6
    assert 95 < measure([data]).high < 101


def test_nan_and_infinity_are_not_measured():
    data = np.linspace(0, 100, 10_000)
    data[:3] = np.nan, np.inf, -np.inf
    found = measure([data])
    assert 0 <= found.low < found.high <= 100


def test_a_nearly_empty_image_keeps_its_few_pixels():
    data = np.zeros((100, 100))
    data[0, 0] = 7
    assert measure([data]) == Intensity(0, 7)


@pytest.mark.parametrize(("data", "words"), [(np.full(9, 3.0), "Every pixel is 3"), (np.full(9, np.nan), "No pixel")])
def test_what_shows_nothing_is_refused(data, words):
    with pytest.raises(ValueError, match=words):
        measure([data])


def test_slices_share_a_range_and_a_stack_has_its_own():
    rng = np.random.default_rng(0)
    dim, bright, stack = rng.uniform(0, 20, (1, 40, 40)), rng.uniform(0, 200, (1, 40, 40)), rng.uniform(0, 1, (5, 9, 9))
    ranges, spoken = measure_set([volume(dim), volume(stack, "float32"), volume(bright)])
    assert ranges[0] == ranges[2] == spoken
    assert spoken.high > 150
    assert ranges[1].high == pytest.approx(1, rel=0.1)
    assert (ranges[0].dtype, ranges[1].dtype) == ("uint8", "float32")
    assert (ranges[0].per_stack, ranges[1].per_stack) == (False, True)


def test_slices_of_two_types_have_two_ranges():
    data = np.linspace(0, 1, 100).reshape(1, 10, 10)
    ranges, _ = measure_set([volume(data * 255), volume(data * 4095, "uint16")])
    assert ranges[1].high > 10 * ranges[0].high


@pytest.mark.parametrize(
    ("per_stack", "slices", "high"), [(True, 20, 180), (True, 1, 250), (False, 20, 250), (False, 1, 250)]
)
def test_new_data_are_read_as_in_training(per_stack, slices, high):
    """A stack with its own range where the training stacks had theirs, all else with the range of training."""
    trained = Intensity(0, 250, per_stack=per_stack, headroom=1.5)
    found, note = range_for(np.linspace(0, 180, 1000), slices, trained)
    assert found.high == pytest.approx(high, rel=0.01)
    assert note is None


@pytest.mark.parametrize("slices", [1, 20])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 4095), (-1000, 250)])
def test_data_in_other_units_are_measured_and_that_is_said(low, high, slices):
    found, note = range_for(np.linspace(low, high, 1000), slices, trained=Intensity(0, 250, headroom=1.5))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01 * (high - low))
    assert f"{found.high:g}" in note
    assert "250" in note


def tissue(fat: float, air: float = 0.6, gain: float = 1.0) -> np.ndarray:
    """A head of brain at 100 with a rim of fat, in air with some noise."""
    rng = np.random.default_rng(0)
    data = np.abs(rng.normal(0, 1.5, 40_000))
    brain = int(40_000 * (1 - air))
    data[:brain] = rng.normal(100, 15, brain)
    data[: brain // 20] = fat
    return gain * data


@pytest.mark.parametrize(
    "change", [{"fat": 350}, {"fat": 220, "air": 0.2}, {"fat": 300, "air": 0.9}, {"fat": 300, "gain": 7}]
)
def test_brain_is_put_in_one_place_whatever_the_fat_the_air_and_the_gain(change):
    usual = measure([tissue(300)])
    found = measure([tissue(**change)]).with_headroom(usual.headroom)
    assert found.to_unit(np.array([100.0 * change.get("gain", 1)]))[0] == pytest.approx(
        usual.to_unit(np.array([100.0]))[0], abs=0.03
    )


def test_a_set_has_the_headroom_that_half_of_it_needs():
    volumes = [
        volume(tissue(fat, gain=gain).reshape(4, 100, 100), "int16") for fat, gain in ((250, 1), (300, 2), (400, 3))
    ]
    ranges, spoken = measure_set(volumes)
    assert {round(r.headroom, 3) for r in ranges} == {round(spoken.headroom, 3)}
    assert spoken.headroom == pytest.approx(3, rel=0.1)
    assert spoken.high == pytest.approx(ranges[1].high)


@pytest.mark.parametrize("contrast", ["T1", "T2"])
def test_three_patients_and_a_bare_brain_lie_in_one_range(real_data, contrast):
    files = [*(real_data / "volumes" / contrast).glob("*.nii.gz"), *(real_data / "eval").glob(f"*/{contrast}.nii.gz")]
    medians = [(i.high - i.low) / i.headroom / 370 for i in (measure([read_image(f).data]) for f in files)]
    assert len(medians) == 4
    assert all(0.7 < m < 1.3 for m in medians)
