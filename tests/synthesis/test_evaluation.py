import csv
import json
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from napari_t1t2.__main__ import main
from napari_t1t2.images.plane import View
from napari_t1t2.images.volume import Volume
from napari_t1t2.synthesis.evaluation import (
    SSIM_WINDOW,
    Score,
    align,
    evaluate,
    evaluate_volumes,
    lookup_table,
    mean,
)


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
    assert astuple(score)[:8] == pytest.approx((100, 1, 0, 2, 100, 1, 0, 2))
    assert (score.slices, score.head_slices, score.region) == (3, 3, "inside the head")


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
    assert evaluate(fake, real).head_mae == pytest.approx(100 / 896)  # the opening cuts the four corners off


def test_the_data_range_is_the_spread_of_the_real_image_unless_given(real):
    fake = real + 10
    score, shifted = evaluate(fake, real), evaluate(1000 + 3 * fake, 1000 + 3 * real)
    assert astuple(shifted)[:-1] == pytest.approx(astuple(score)[:-1], rel=1e-3)
    assert evaluate(fake, real, data_range=255).mae == pytest.approx(10 / 255, rel=1e-4)


@pytest.mark.parametrize(
    ("fake", "real", "words"),
    [
        (np.ones((1, 9, 9)), np.ones((1, 9, 8)), r"\(1, 9, 9\).*\(1, 9, 8\)"),
        (np.ones((1, 10, 12)), np.ones((1, 10, 12)), "10x12 are too small: SSIM needs 11x11 pixels"),
        (np.ones((1, 12, 12)), np.ones((1, 12, 12)), "flat"),
        (np.eye(12), np.eye(12), "slices"),
    ],
    ids=["shapes", "tiny", "flat", "2D"],
)
def test_what_cannot_be_compared_is_refused_with_the_numbers(fake, real, words):
    with pytest.raises(ValueError, match=words):
        evaluate(fake, real)


def test_a_mean_weighs_by_slices():
    one = Score(10, 0, 0, 1, 4, 0, 0, 1, slices=1, head_slices=1, voxels=50, head_voxels=5)
    three = Score(30, 1, 0, 2, 8, 0, 0, 2, slices=3, head_slices=1, voxels=150, head_voxels=7)
    both = astuple(mean([one, three]))
    assert both[:-1] == pytest.approx((25, 0.75, 0, 1.75, 6, 0, 0, 1.5, 4, 2, 200, 12))


def test_the_lookup_table_finds_a_known_mapping():
    source = np.arange(256, dtype=np.uint8).reshape(16, 16)
    mapping = np.round(255 * (np.arange(256) / 255) ** 2).astype(np.uint8)
    np.testing.assert_array_equal(lookup_table([source, source], [mapping[source]] * 2), mapping)


def test_the_lookup_table_bridges_greys_it_never_saw():
    source = np.array([0, 100, 200], np.uint8)
    table = lookup_table([source], [np.array([0, 50, 250], np.uint8)])
    assert table[[50, 150, 255]].tolist() == [25, 150, 250]


def test_doing_nothing_on_the_course_set_scores_what_it_did(seed):
    t1, t2 = seed(111, 125)
    score = evaluate(t1.astype(np.float32), t2.astype(np.float32), data_range=255)
    assert (score.psnr, score.ssim) == (pytest.approx(11.29, abs=0.005), pytest.approx(0.078, abs=0.0005))


def test_the_lookup_table_on_the_course_set_scores_what_it_did(seed):
    table = lookup_table(*seed(70, 100)).astype(np.uint8)  # whole greys
    t1, t2 = seed(111, 125)
    score = evaluate(table[t1].astype(np.float32), t2.astype(np.float32), data_range=255)
    assert (score.psnr, score.ssim) == (pytest.approx(25.65, abs=0.005), pytest.approx(0.918, abs=0.0005))


def test_ssim_is_that_of_wang_et_al_with_its_gaussian_window(real, head):
    one, other = head(0, "T1").astype(np.float64), real[0].astype(np.float64)

    def weighted(image):
        return gaussian_filter(image, 1.5, radius=5)

    m, n, c1, c2 = weighted(one), weighted(other), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    spread, both = weighted(one**2) - m**2 + weighted(other**2) - n**2, weighted(one * other) - m * n
    ssim = (2 * m * n + c1) * (2 * both + c2) / ((m**2 + n**2 + c1) * (spread + c2))
    score = evaluate(one[None].astype(np.float32), real[:1], data_range=255)
    assert score.ssim == pytest.approx(ssim[5:-5, 5:-5].mean(), abs=1e-5)
    assert "11x11" in SSIM_WINDOW and "sigma 1.5" in SSIM_WINDOW


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
    assert evaluate_volumes(louder, placed, match_intensities=True).psnr > 60


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


def test_mutual_information_is_symmetric_and_blind_to_the_mapping(real, head):
    t1 = np.stack([head(i, "T1") for i in range(3)]).astype(np.float32)
    one, other = evaluate(t1, real), evaluate(real, t1)
    assert one.nmi == pytest.approx(other.nmi, abs=1e-9) and 1 < one.nmi < 2
    inverted = evaluate(255 - real, real)
    assert inverted.nmi > 1.8 and inverted.psnr < 5


def test_noise_and_flat_images_share_no_information(real):
    noise = np.random.default_rng(0).normal(size=(20, 200, 200)).astype(np.float32)
    assert evaluate(noise, noise[:, ::-1].copy()).nmi < 1.01
    assert evaluate(0 * real, real).nmi == 1


def test_a_hot_voxel_does_not_hide_the_information(real):
    hot = real.copy()
    hot[0, 20, 20] = 1e7
    assert evaluate(hot, real, data_range=255).nmi > 1.85


def test_a_region_takes_the_place_of_the_head(placed):
    data, marks = placed.data.copy(), np.zeros_like(placed.data)
    data[1, 10:20, 10:20] += 25
    marks[1, 10:20, 10:20] = 7
    region = replace(placed, data=marks, name="in the lesion")
    bits = replace(placed, dtype="uint8")
    score = evaluate_volumes(replace(placed, data=data), bits, region=region)
    assert score.head_mae == pytest.approx(25 / 255)
    assert (score.region, score.head_voxels, score.head_slices, score.slices) == ("in the lesion", 100, 1, 3)
    assert score.mae == evaluate_volumes(replace(placed, data=data), bits).mae


def test_a_region_on_another_grid_comes_by_nearest_neighbour(placed):
    view = View.towards("RAI", placed.affine)
    marks = np.zeros_like(placed.data)
    marks[1, 10:20, 10:18] = 2
    there = replace(
        placed, data=view.apply(marks), affine=view.affine(placed.affine, marks.shape), name="in the lesion"
    )
    assert evaluate_volumes(placed, placed, region=there).head_voxels == 80


def test_a_region_that_touches_nothing_or_does_not_fit_is_refused(placed):
    empty = replace(placed, data=0 * placed.data, name="in the lesion")
    with pytest.raises(ValueError, match="The region, in the lesion, has no pixel"):
        evaluate_volumes(placed, placed, region=empty)
    small = replace(placed, data=placed.data[:, :9], affine=None, name="in the lesion")
    with pytest.raises(ValueError, match=r"in the lesion \(3, 9, 36\)"):
        evaluate_volumes(placed, placed, region=small)


def test_the_difference_is_in_the_order_of_the_synthetic_volume(placed):
    view = View.towards("RAI", placed.affine)
    turned = replace(placed, data=view.apply(placed.data) + 5, affine=view.affine(placed.affine, placed.data.shape))
    aligned = align(turned, placed)
    assert aligned.resampled and aligned.difference().shape == turned.data.shape
    np.testing.assert_allclose(aligned.difference(), 5, atol=1e-3)


def test_the_joint_histogram_counts_every_voxel_of_the_region_once(placed):
    aligned = align(placed, placed)
    counts, edges = aligned.joint_histogram()
    assert counts.sum() == aligned.score().head_voxels == np.trace(counts) and len(edges) == 65


def test_the_command_says_the_window_of_its_ssim_beside_the_figure(tmp_path, head, capsys):
    paths = [tmp_path / "synthetic.png", tmp_path / "real.png"]
    for path, index in zip(paths, (0, 1), strict=True):
        Image.fromarray(head(index, "T2")).save(path)
    command = ["evaluate", *map(str, paths)]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert "SSIM 11x11" in table and f"SSIM window: {SSIM_WINDOW}" in table
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ssim_window"] == SSIM_WINDOW


def test_noise_in_air_is_no_head(placed):
    random = np.random.default_rng(0)
    noisy = replace(
        placed, data=placed.data + np.abs(random.normal(scale=4, size=placed.data.shape)).astype(np.float32)
    )
    inside = [align(volume, volume).inside for volume in (placed, noisy)]
    assert (inside[0] == inside[1]).mean() > 0.99


def test_numbers_of_other_units_or_of_another_place_are_remarked(placed):
    assert evaluate_volumes(placed, placed).remark() == ""
    gain = replace(placed, data=placed.data * np.float32(0.27))
    assert "in other units or contrasts" in evaluate_volumes(gain, placed).remark()
    many = replace(placed, data=np.tile(placed.data, (30, 1, 1)))  # of few voxels NMI is too high
    noise = np.random.default_rng(0).uniform(0, many.data.max(), many.data.shape).astype(np.float32)
    assert "hardly any information" in evaluate_volumes(replace(many, data=noise), many).remark()


def test_the_same_voxels_stored_in_another_order_score_as_identical(placed):
    mirror = np.eye(4)
    mirror[0] = -1, 0, 0, placed.data.shape[2] - 1
    stored = replace(placed, data=placed.data[:, :, ::-1].copy(), affine=placed.affine @ mirror)
    score = evaluate_volumes(stored, placed)
    assert (score.psnr, score.ssim, score.head_psnr) == (100, pytest.approx(1), 100)
