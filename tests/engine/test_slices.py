from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_t1t2.engine.config import ModelConfig, TrainConfig
from napari_t1t2.engine.slices import Bank, polarity, prepare, split
from napari_t1t2.images.read import read_folder

CPU = torch.device("cpu")


@pytest.fixture
def plain(config):
    """Whole slices, one at a time, unmirrored."""
    return replace(config, crop=0, flip=False, batch=1)


def numbered(n: int, side: int = 8) -> np.ndarray:
    """(n, side, side) of slices that tell which they are."""
    return np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None], (n, side, side)).copy()


def which(batch: torch.Tensor) -> list[int]:
    return batch[:, 0, 0, 0].int().tolist()


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 10])
def test_each_slice_comes_once_per_epoch(plain, batch):
    bank = Bank(numbered(7), replace(plain, batch=batch), CPU, 0)
    seen = [i for step in range(21) for i in which(bank.batch(step))]
    epochs = [seen[start : start + 7] for start in range(0, 21, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_batch_larger_than_the_set_is_full(plain):
    assert len(Bank(numbered(3), replace(plain, batch=32), CPU, 0).batch(5)) == 32


def test_a_batch_depends_on_the_seed_and_the_step_alone(config):
    images = np.random.default_rng(0).random((5, 44, 36), dtype=np.float32)
    config = replace(config, batch=2)
    used, fresh = Bank(images, config, CPU, 0), Bank(images, config, CPU, 0)
    for step in range(6):
        used.batch(step)
    assert torch.equal(used.batch(6), fresh.batch(6))
    other_seed = Bank(images, replace(config, seed=1), CPU, 0)
    assert not torch.equal(fresh.batch(6), other_seed.batch(6))


def test_the_two_contrasts_come_in_different_orders(plain):
    t1, t2 = (Bank(numbered(20), plain, CPU, stream) for stream in (0, 1))
    assert [which(t1.batch(s)) for s in range(20)] != [which(t2.batch(s)) for s in range(20)]


def test_about_half_of_the_slices_are_mirrored_left_to_right(plain):
    ramp = np.tile(np.linspace(-1, 1, 8, dtype=np.float32), (1, 8, 1))
    bank = Bank(ramp, replace(plain, flip=True), CPU, 0)
    batches = [bank.batch(step)[0, 0] for step in range(60)]
    mirrored = [torch.equal(image, torch.from_numpy(ramp[0]).flip(-1)) for image in batches]
    assert 20 < sum(mirrored) < 40
    assert all(m or torch.equal(image, torch.from_numpy(ramp[0])) for m, image in zip(mirrored, batches, strict=True))


def test_crops_come_from_all_over_the_slice_and_are_pieces_of_it(plain):
    image = np.arange(44 * 36, dtype=np.float32).reshape(1, 44, 36)
    bank = Bank(image, replace(plain, crop=16), CPU, 0)
    corners = set()
    for step in range(80):
        crop = bank.batch(step)[0, 0].numpy()
        top, left = divmod(int(crop[0, 0]), 36)
        np.testing.assert_array_equal(crop, image[0, top : top + 16, left : left + 16])
        corners.add((top, left))
    tops, lefts = (np.array(c) for c in zip(*corners, strict=True))
    assert tops.min() <= 4 <= 24 <= tops.max()
    assert lefts.min() <= 3 <= 17 <= lefts.max()


def test_a_crop_larger_than_the_slice_takes_the_whole_slice(plain):
    assert Bank(numbered(2), replace(plain, crop=64), CPU, 0).batch(0).shape == (1, 1, 8, 8)


def test_held_out_slices_come_from_the_middle_and_are_not_trained_on():
    kept, held = split(numbered(9, side=24), TrainConfig(hold_out=3), Path("T1"))
    assert held[:, 0, 0].tolist() == [3, 4, 5]
    assert kept[:, 0, 0].tolist() == [0, 1, 2, 6, 7, 8]


def test_too_few_slices_are_refused_with_the_numbers():
    with pytest.raises(ValueError, match=r"T1 has 2 usable slices, but 2 must be held out.*at least 3"):
        split(numbered(2, side=24), TrainConfig(hold_out=2), Path("T1"))


def test_polarity_tells_bright_furrows_from_dark_ones():
    y, x = np.mgrid[-1:1:96j, -1:1:80j]
    head = np.hypot(x, y) < 0.95
    furrow = np.abs(np.sin(9 * x + 3 * np.sin(4 * y))) < 0.2
    dark = np.where(head, np.where(furrow, -0.6, 0.4), -1).astype(np.float32)
    bright = np.where(head, np.where(furrow, 0.8, -0.3), -1).astype(np.float32)
    assert polarity(dark[None]) < -0.3
    assert polarity(bright[None]) > 0.3


def test_polarity_of_slices_without_an_inside_is_none():
    assert polarity(np.full((2, 32, 32), -1, np.float32)) == 0


@pytest.mark.parametrize("folder", ["seed/Train", "lit/", "eval_png/lit_p04/", "eval_png/lit_p07_brain/"])
def test_the_polarity_of_real_heads_is_that_of_their_contrast(real_data, folder):
    for contrast, sign in (("T1", -1), ("T2", 1)):
        slices = prepare(read_folder(real_data / f"{folder}{contrast}"), ModelConfig())
        assert sign * polarity(slices.images) > 0.5


def test_the_networks_see_the_full_range(t1_folder):
    slices = prepare(read_folder(t1_folder), ModelConfig(levels=2))
    assert slices.images.shape == (8, 44, 36)
    assert (slices.images.min(), slices.images.max()) == (-1, 1)
    assert slices.intensity.dtype == "uint8"


def test_a_slice_without_anatomy_is_left_out_and_counted(t1_folder):
    nearly_black = np.zeros((44, 36), np.uint8)
    nearly_black[3, 3] = 200
    Image.fromarray(nearly_black).save(t1_folder / "Image #99.png")
    slices = prepare(read_folder(t1_folder), ModelConfig(levels=2))
    assert len(slices.images) == 8
    assert "T1: 1 slices without anatomy were left out" in slices.notes
