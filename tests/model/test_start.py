"""What a training begins from."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from torch import nn

from napari_t1t2.config import ModelConfig, TrainConfig
from napari_t1t2.data.inputs import hold
from napari_t1t2.data.reading import read_both
from napari_t1t2.data.slices import Slices
from napari_t1t2.data.stored import StoredSlices, coded
from napari_t1t2.images.intensity import Intensity, measure
from napari_t1t2.model.start import air_around, general_fits, in_range_of, knows, may_begin_from_sample
from napari_t1t2.runs.schedule import Schedule


def slices(rng, number=6):
    """T1 and T2 (N, 48, 48) of one anatomy: what is dark in T1 is bright fluid below, and dark bone above."""
    t1, t2 = np.full((2, number, 48, 48), -1, np.float32)
    for one, other in zip(t1, t2, strict=True):
        dark = gaussian_filter(rng.standard_normal((40, 40)), 3) > 0.05
        one[4:-4, 4:-4] = np.where(dark, -0.5, 0.3) + rng.normal(0, 0.02, (40, 40))
        bright = np.where(np.arange(40)[:, None] > 20, 0.8, -0.6)
        other[4:-4, 4:-4] = np.where(dark, bright, 0.0) + rng.normal(0, 0.02, (40, 40))
    return t1, t2


class Given(nn.Module):
    """Makes of each slice what it was told to."""

    def __init__(self, sources, targets):
        super().__init__()
        self.made = {source.tobytes(): target for source, target in zip(sources, targets, strict=True)}

    def forward(self, x):
        return x.new_tensor(self.made[x.numpy().tobytes()])[None, None]


def model_of(t1, t2, made_t1, made_t2):
    networks = {"t2": Given(t1, made_t2), "t1": Given(t2, made_t1)}
    return SimpleNamespace(generator=networks.__getitem__)


def test_a_model_is_known_to_fit_by_what_it_makes_of_other_heads():
    rng = np.random.default_rng(0)
    (t1, true_t2), (true_t1, t2) = slices(rng), slices(rng)  # unpaired: those made of T1 are not among the T2

    def fits(made_t1, made_t2):
        return knows(model_of(t1, t2, made_t1, made_t2), t1, t2, falling=True)

    assert fits(true_t1, true_t2)
    assert not fits(-t2, true_t2) and not fits(true_t1, -t1)  # one direction is not enough
    assert not fits(true_t1 + rng.normal(0, 0.4, t1.shape).astype(np.float32), true_t2[:, ::-1].copy() * 0.2)


@pytest.mark.parametrize("side", [3, 8, 20])
def test_slices_smaller_than_what_is_compared_are_no_fault(side):
    rng = np.random.default_rng(0)
    t1, t2 = rng.uniform(-1, 1, (2, 3, side, side)).astype(np.float32)
    knows(model_of(t1, t2, t1, t2), t1, t2, falling=False)


def test_slices_of_air_are_no_fault():
    air = np.full((3, 32, 32), -1, np.float32)
    assert not knows(model_of(air, air, air, air), air, air, falling=False)


def test_auto_is_for_t1_and_t2_and_networks_as_they_come():
    usual = TrainConfig()
    assert may_begin_from_sample(usual)
    assert not may_begin_from_sample(replace(usual, model=ModelConfig(t2_label="FLAIR")))
    assert not may_begin_from_sample(replace(usual, model=ModelConfig(channels=16)))
    assert not may_begin_from_sample(replace(usual, model=ModelConfig(depth=True)))
    assert may_begin_from_sample(replace(usual, model=ModelConfig(size=64, pixel=1.0)))


@pytest.mark.parametrize(("folder", "size", "known"), [("lit", 0, True), ("seed", 0, False), ("seed", 64, False)])
def test_the_general_model_knows_heads_like_its_own_and_not_the_course_set(real_data, tmp_path, folder, size, known):
    names = {"lit": ("T1", "T2"), "seed": ("TrainT1", "TrainT2")}[folder]
    t1_folder, t2_folder = (real_data / folder / name for name in names)
    config = TrainConfig(t1_folder=t1_folder, t2_folder=t2_folder, run_folder=tmp_path, model=ModelConfig(size=size))
    t1, t2, _ = read_both(config)
    few = [(s, np.arange(0, len(s.images), max(1, len(s.images) // 6))) for s in (t1, t2)]
    assert general_fits(config, *few, falling=True) is known


def test_a_run_begun_from_a_model_changes_it_slowly_and_keeps_the_whole_cycle():
    cold, warm = Schedule(TrainConfig(start="")), Schedule(TrainConfig(start="sample"))
    assert warm.learning_rate(0.0) < cold.learning_rate(0.0) / 10
    assert warm.cycle_weight(0.0) == cold.cycle_weight(1.0) > cold.cycle_weight(0.0)


def test_slices_come_to_the_range_that_a_model_knows():
    values = np.linspace(0, 300, 32 * 32, dtype=np.float32).reshape(1, 32, 32)
    own, like = Intensity(0, 200, headroom=1.4), Intensity(0, 90, headroom=2.7)
    wanted = own.with_headroom(2.7).to_unit(values.clip(0, 200))
    slices = Slices(hold(own.to_unit(values), ModelConfig()), np.zeros(1, int), ("",), ("",), ("",), own, ())
    for _ in range(2):  # the second time they are there
        slices = in_range_of(slices, like)
        np.testing.assert_allclose(slices.images[0], wanted[0], atol=1e-5)
        assert slices.intensity == own.with_headroom(2.7)
    assert slices.images[0].min() == -1  # air is air


def test_slices_on_disk_come_to_it_as_they_are_read(tmp_path):
    path, own = tmp_path / "slices", Intensity(0, 200, headroom=1.4)
    unit = own.to_unit(np.linspace(0, 200, 16 * 16, dtype=np.float32).reshape(1, 16, 16))
    coded(unit).tofile(path)
    slices = Slices(StoredSlices(path, 1, (16, 16), np.zeros(1, int)), np.zeros(1, int), ("",), ("",), ("",), own, ())
    like = own.with_headroom(2.7)
    slices = in_range_of(slices, like)
    part = slices.images[np.array([0])]
    assert part[0] == pytest.approx(like.to_unit(own.from_unit(unit))[0], abs=2e-4)


def test_the_air_of_a_set_is_the_value_around_its_heads_and_a_mask_has_none():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    head = np.where(np.hypot(y, x) < 0.7, 100 + 40 * np.sin(7 * x), 0)
    noisy = (head + rng.rayleigh(4, (3, 48, 48))).astype(np.float32)
    for stack, least, most in ((noisy, 3, 7), (np.where(noisy > 40, noisy, 0), 0, 0)):
        own = measure([stack])
        some = Slices(own.to_unit(stack), np.arange(3), ("a", "b", "c"), ("", "", ""), ("1", "2", "3"), own, ())
        assert least <= air_around(some, np.arange(3)) <= most


def test_synthetic_images_are_no_darker_than_the_air_of_the_training_images():
    own = Intensity(0, 200, headroom=1.4)
    unit = np.linspace(-1, 1, 9, dtype=np.float32)
    made = replace(own, air=30.0).synthetic(unit)
    np.testing.assert_array_equal(made, np.maximum(own.from_unit(unit), 30))
    np.testing.assert_array_equal(own.synthetic(unit), own.from_unit(unit))
