from dataclasses import replace

import numpy as np
import pytest

from napari_t1t2.images.intensity import Intensity, measure, measure_set, range_for, ranges_for
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


def noisy_heads(*, air: float = 0.0, slices: int = 6, crop: int = 0, seed: int = 0) -> np.ndarray:
    """(Z, Y, X) round heads of dark fluid, brain and a bright rim in noisy air, `air` added to every value."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    r = np.hypot(x, y)
    clean = np.select([r < 0.2, r < 0.65, r < 0.75], [120.0, 400.0, 900.0], 0.0)
    real, imaginary = rng.normal(0, 8, (2, slices, 64, 64))
    stack = air + np.hypot(clean + real, imaginary)  # a magnitude: hence Rician noise
    return stack[:, crop : 64 - crop, crop : 64 - crop].astype(np.float32)


@pytest.mark.parametrize("air", [200, 1000, 32768])
@pytest.mark.parametrize("loose", [False, True])
def test_air_that_lies_above_0_is_the_darkest_all_the_same(air, loose):
    plain, moved = ([s[None] for s in a] if loose else [a] for a in (noisy_heads(), noisy_heads(air=air)))
    usual, found = measure(plain), measure(moved)
    assert usual.low == 0
    assert found.low == pytest.approx(air, abs=2)
    assert found.high - found.low == pytest.approx(usual.high, rel=0.01)
    assert np.median(found.to_unit(moved[0])[:, 0]) < -0.95
    assert not found.shows_anatomy(np.full((1, 64, 64), air + 3.0)).any()
    assert usual.remark() is None
    assert found.remark() == f"Air is at {found.low:g}, not 0: it was taken as the darkest."


def test_a_background_of_one_value_above_0_is_air():
    stack = noisy_heads()
    stack = np.where(stack > 60, stack + 1000, 1000).astype(np.float32)
    assert measure([stack]).low == 1000


@pytest.mark.parametrize("invert", [False, True])
def test_of_a_head_that_fills_the_frame_no_tissue_is_taken_for_air(invert):
    """Brain on all sides, dark or bright fluid within: nothing is at 0, and 0 is air all the same."""
    inside = noisy_heads(crop=20)
    inside = 600 - inside if invert else inside
    assert inside.min() > 20
    assert measure([inside]).low == 0


def test_noise_in_air_is_no_offset():
    assert measure([noisy_heads() * 12]).low == 0
    assert measure([np.maximum(noisy_heads(), 5)]).low == 0  # less than a twentieth of the range


def test_new_data_with_an_offset_are_not_read_with_the_range_of_data_without():
    trained = Intensity(0, 1000, headroom=2.2)
    found, note = range_for(noisy_heads(air=300), 6, trained)
    assert found.low == pytest.approx(300, abs=2)
    assert f"values go from {found.low:g} to" in note
    found, note = range_for(noisy_heads(air=1000), 6, replace(trained, per_stack=True))
    assert found.low == pytest.approx(1000, abs=2)
    assert note == found.remark() is not None


def test_new_slices_share_a_range_as_in_training_and_stacks_have_their_own():
    dim, bright, wide = noisy_heads(slices=1), 3 * noisy_heads(slices=1, seed=1), noisy_heads(slices=1) * 90
    stack = noisy_heads(seed=2) * 7
    volumes = [volume(dim), volume(stack, "int16"), volume(bright), volume(wide, "uint16")]
    trained = Intensity(0, 10, per_stack=True, headroom=2.2)  # of other units: all are measured
    ranges = [intensity for intensity, _ in ranges_for(volumes, trained)]
    shared = measure([dim, bright]).with_headroom(2.2)
    assert ranges[0] == ranges[2] == shared
    assert ranges[1] == measure([stack]).with_headroom(2.2)
    assert ranges[3] == measure([wide]).with_headroom(2.2)
    told = [note for _, note in ranges_for(volumes, trained)]
    assert told[0] == told[2] != told[3]
    assert told[1] is None
    learnt, _ = measure_set(volumes)
    assert [r.with_headroom(2.2).high for r in learnt] == pytest.approx([r.high for r in ranges])


def test_new_slices_of_the_units_of_training_are_read_with_its_range():
    trained = Intensity(0, 1000, headroom=2.2)
    volumes = [volume(noisy_heads(slices=1)), volume(noisy_heads())]
    assert ranges_for(volumes, trained) == [(trained, None)] * 2
