import csv
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_t1t2.engine.evaluation import Score, evaluate, evaluate_volumes, lookup_table, mean
from napari_t1t2.images.plane import View
from napari_t1t2.images.volume import Volume


@pytest.fixture
def real(head) -> np.ndarray:
    return np.stack([head(i, "T2") for i in range(3)]).astype(np.float32)


@pytest.fixture(scope="module")
def seed(real_data):
    """Reads the slices of the course set whose T2 number lies in a range: T1 and T2, each (N, 217, 181) uint8."""
    with (real_data / "seed" / "pairs.csv").open(newline="") as file:
        pairs = [(row["TrainT1"], row["TrainT2"]) for row in csv.DictReader(file)]

    def read(first: int, last: int) -> list[np.ndarray]:
        wanted = [pair for pair in pairs if first <= int(Path(pair[1]).stem.removeprefix("Image #")) <= last]
        folders = real_data / "seed" / "TrainT1", real_data / "seed" / "TrainT2"
        return [np.stack([np.asarray(Image.open(folders[i] / pair[i])) for pair in wanted]) for i in (0, 1)]

    return read


def test_equal_images_score_best(real):
    score = evaluate(real, real)
    assert astuple(score) == pytest.approx((100, 1, 0, 100, 1, 0, 3))


def test_psnr_and_mae_are_those_computed_by_hand():
    real = np.tile(np.linspace(0, 255, 32, dtype=np.float32), (1, 32, 1))
    score = evaluate(real + np.float32(25.5), real, data_range=255)
    assert score.psnr == pytest.approx(20, abs=1e-4)
    assert score.mae == pytest.approx(0.1, abs=1e-6)


def test_an_error_outside_the_head_counts_for_the_frame_alone(real):
    fake = real.copy()
    fake[:, :3, :3] = 100
    score = evaluate(fake, real)
    assert score.psnr < 50
    assert (score.head_psnr, score.head_mae) == (100, 0)


def test_a_black_hole_within_the_head_belongs_to_it():
    real = np.zeros((1, 40, 40), np.float32)
    real[0, 5:35, 5:35] = 1
    real[0, 15:25, 15:25] = 0
    fake = real.copy()
    fake[0, 15:25, 15:25] = 1
    assert evaluate(fake, real).head_mae == pytest.approx(100 / 900)


def test_the_data_range_is_the_spread_of_the_real_image_unless_given(real):
    fake = real + 10
    score, shifted = evaluate(fake, real), evaluate(1000 + 3 * fake, 1000 + 3 * real)
    assert astuple(shifted) == pytest.approx(astuple(score), rel=1e-4)
    assert evaluate(fake, real, data_range=255).mae == pytest.approx(10 / 255, rel=1e-4)


@pytest.mark.parametrize(
    ("fake", "real", "words"),
    [
        (np.ones((1, 9, 9)), np.ones((1, 9, 8)), r"\(1, 9, 9\).*\(1, 9, 8\)"),
        (np.ones((1, 6, 9)), np.ones((1, 6, 9)), "6x9 are too small: SSIM needs 7x7"),
        (np.ones((1, 9, 9)), np.ones((1, 9, 9)), "flat"),
        (np.eye(9), np.eye(9), "slices"),
    ],
    ids=["shapes", "tiny", "flat", "2D"],
)
def test_what_cannot_be_compared_is_refused_with_the_numbers(fake, real, words):
    with pytest.raises(ValueError, match=words):
        evaluate(fake, real)


def test_a_mean_weighs_by_slices():
    one, three = Score(10, 0, 0, 0, 0, 0, slices=1), Score(30, 1, 0, 0, 0, 0, slices=3)
    assert astuple(mean([one, three])) == pytest.approx((25, 0.75, 0, 0, 0, 0, 4))


def test_the_lookup_table_finds_a_known_mapping():
    source = np.arange(256, dtype=np.uint8).reshape(16, 16)
    mapping = np.round(255 * (np.arange(256) / 255) ** 2).astype(np.uint8)
    np.testing.assert_array_equal(lookup_table([source, source], [mapping[source]] * 2), mapping)


def test_the_lookup_table_bridges_greys_it_never_saw():
    source = np.array([0, 100, 200], np.uint8)
    table = lookup_table([source], [np.array([0, 50, 250], np.uint8)])
    assert table[[50, 150, 255]].tolist() == [25, 150, 250]


def test_doing_nothing_on_the_course_set_scores_what_its_readme_says(seed):
    t1, t2 = seed(111, 125)
    score = evaluate(t1.astype(np.float32), t2.astype(np.float32), data_range=255)
    assert (score.psnr, score.ssim) == (pytest.approx(11.29, abs=0.005), pytest.approx(0.084, abs=0.0005))


def test_the_lookup_table_on_the_course_set_scores_what_its_readme_says(seed):
    table = lookup_table(*seed(70, 100)).astype(np.uint8)  # whole greys, as in the README
    t1, t2 = seed(111, 125)
    score = evaluate(table[t1].astype(np.float32), t2.astype(np.float32), data_range=255)
    assert (score.psnr, score.ssim) == (pytest.approx(25.65, abs=0.005), pytest.approx(0.922, abs=0.0005))


@pytest.fixture
def placed(real) -> Volume:
    affine = np.diag([-1.0, -1, 3, 1])
    return Volume(data=real, name="real", affine=affine, spacing=(3, 1, 1), dtype="int16")


def test_empty_slices_do_not_flatter(placed):
    fake = replace(placed, data=0.8 * placed.data)
    padded = [replace(v, data=np.concatenate([v.data, 0 * v.data])) for v in (fake, placed)]
    assert evaluate_volumes(*padded).psnr == pytest.approx(evaluate_volumes(fake, placed).psnr, abs=0.1)


def test_a_gain_is_no_fault_on_its_own_scale(placed):
    louder = replace(placed, data=3 * placed.data)
    assert evaluate_volumes(louder, placed).psnr < 15
    assert evaluate_volumes(louder, placed, own_scale=True).psnr > 60


def test_a_hot_voxel_does_not_change_the_score(placed):
    fake = replace(placed, data=0.8 * placed.data)
    hot = placed.data.copy()
    hot[0, 20, 20] = 1e7
    assert evaluate_volumes(fake, replace(placed, data=hot)).ssim == pytest.approx(
        evaluate_volumes(fake, placed).ssim, abs=0.1
    )


def test_volumes_are_compared_where_they_lie(placed):
    view = View.towards("RAI", placed.affine)
    turned = replace(placed, data=view.apply(placed.data), affine=view.affine(placed.affine, placed.data.shape))
    assert evaluate_volumes(turned, placed).psnr > 90
    moved = placed.affine.copy()
    moved[0, 3] += 2
    assert evaluate_volumes(replace(placed, affine=moved), placed).psnr < 30


def test_images_that_hardly_overlap_are_refused(placed):
    moved = placed.affine.copy()
    moved[0, 3] += 25
    with pytest.raises(ValueError, match=r"covers \d+% of the synthetic head"):
        evaluate_volumes(replace(placed, affine=moved), placed)


def test_eight_bits_are_scored_over_255(placed):
    fake, bits = replace(placed, data=placed.data + 10), replace(placed, dtype="uint8")
    assert evaluate_volumes(fake, bits).mae == pytest.approx(10 / 255, rel=1e-3)
