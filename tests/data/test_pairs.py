from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from napari_t1t2.data.batches import Bank
from napari_t1t2.data.pairs import find_pairs
from napari_t1t2.data.reading import read_both
from napari_t1t2.data.sources import finish
from napari_t1t2.data.split import split
from napari_t1t2.data.stored import StoredSlices
from napari_t1t2.events import Finished, Progress, Started
from napari_t1t2.model.cyclegan import CycleGAN
from napari_t1t2.runs.training import train


def brain(contrast: str, slices: int = 12, seed: int = 0) -> np.ndarray:
    """(slices, 48, 40) uint8; folds that change from slice to slice, dark in one contrast where bright in the other."""
    folds = gaussian_filter(np.random.default_rng(seed).normal(size=(slices + 4, 48, 40)), 1.5)[2:-2]
    folds = np.clip(0.5 + folds / folds.std() / 6, 0.1, 0.9)
    y, x = np.mgrid[-1:1:48j, -1:1:40j]
    return np.where(np.hypot(y, x) < 0.9, 255 * (folds if contrast == "T1" else 1 - folds**1.5), 0).astype(np.uint8)


def pictures(folder, stack, first=0, stem="p01_z"):
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(stack, first):
        Image.fromarray(image).save(folder / f"{stem}{index:03d}.png")


def nifti(folder, contrast, stack, affine, name="sub-01"):
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(stack.T.astype(np.int16), affine), folder / f"{name}_{contrast}w.nii.gz")


@pytest.fixture
def plain(config, tmp_path):
    """A run on folders that are still to be filled; nobody held out."""
    folders = {"t1_folder": tmp_path / "a", "t2_folder": tmp_path / "b"}
    return replace(config, **folders, hold_out=0, identity_weight=0, pairs="names")


def found(config):
    t1, t2, _ = read_both(config)
    return finish(find_pairs(t1, t2, split(t1, t2, config), config))


def test_pairs_beyond_memory_are_those_of_memory_and_stay_on_the_disk(plain, tmp_path, monkeypatch):
    pictures(plain.t1_folder, brain("T1"), stem="p01_T1_z")
    pictures(plain.t2_folder, brain("T2"), stem="p01_T2_z")
    held = found(plain)
    monkeypatch.setenv("NAPARI_T1T2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("napari_t1t2.data.reading.MEMORY", 1000)
    kept = found(plain)
    assert kept.count == held.count
    for images, others in zip(held.images, kept.images, strict=True):
        assert isinstance(others, StoredSlices)
        for n, image in enumerate(images):
            np.testing.assert_allclose(others[n], image, atol=0.05)  # a range of fewer pixels


@pytest.mark.parametrize("how", ["auto", "names"])
def test_pictures_of_one_name_pair_up(plain, how):
    pictures(plain.t1_folder, brain("T1"), stem="p01_T1_z")
    pictures(plain.t2_folder, brain("T2"), stem="p01_T2_z")
    pairs = found(replace(plain, pairs=how))
    assert pairs.count == len(pairs.images[0]) == len(pairs.images[1]) == 12
    assert "12 T1 slices have a matching T2 slice and are trained on as pairs." in pairs.notes


def test_no_pairs_are_looked_for_where_they_are_off_or_weigh_nothing(plain):
    pictures(plain.t1_folder, brain("T1"))
    pictures(plain.t2_folder, brain("T2"))
    for config in (replace(plain, pairs="off"), replace(plain, paired_weight=0)):
        assert found(config).count == 0 and not found(config).notes


@pytest.mark.parametrize("shift", [1, 5])
def test_equal_names_of_other_slices_are_refused_and_the_right_ones_found_by_what_they_show(plain, shift):
    pictures(plain.t1_folder, brain("T1"))
    pictures(plain.t2_folder, brain("T2"), first=shift)
    with pytest.raises(ValueError, match=r"no slice of .* has a partner"):
        found(plain)
    pairs = found(replace(plain, pairs="auto"))
    assert f"{12 - shift} T1 slices have a T2 slice of equal name that shows another place." in pairs.notes
    assert pairs.count == 12
    assert all(np.corrcoef(a[a > -0.9], b[a > -0.9])[0, 1] < -0.9 for a, b in zip(*pairs.images, strict=True))


def test_pictures_whose_names_tell_nothing_are_paired_by_what_they_show(plain):
    order = np.random.default_rng(1).permutation(12)
    pictures(plain.t1_folder, brain("T1"), stem="a")
    pictures(plain.t2_folder, brain("T2")[order], stem="b")
    pairs = found(replace(plain, pairs="auto"))
    assert pairs.count == 12
    assert all(np.corrcoef(a[a > -0.9], b[a > -0.9])[0, 1] < -0.9 for a, b in zip(*pairs.images, strict=True))


@pytest.mark.parametrize("stem", ["p01_z", "q"])
def test_of_another_head_no_picture_is_a_partner(plain, stem):
    pictures(plain.t1_folder, brain("T1"))
    pictures(plain.t2_folder, brain("T2", seed=1), stem=stem)
    assert found(replace(plain, pairs="auto")).count == 0


def test_names_that_occur_twice_are_told_and_not_paired(plain):
    pictures(plain.t1_folder, brain("T1"))
    pictures(plain.t2_folder, brain("T2"))
    first = min(plain.t2_folder.iterdir())
    Image.open(first).save(first.with_suffix(".tif"))  # the same picture once more
    pairs = found(plain)
    assert pairs.count == 11
    assert any("occur more than once" in note and "are not paired by name" in note for note in pairs.notes)


def test_half_paired_data_use_the_pairs_there_are(plain):
    pictures(plain.t1_folder, brain("T1"))
    pictures(plain.t2_folder, brain("T2")[:6])
    pictures(plain.t2_folder, brain("T2")[6:], stem="q")
    config = replace(plain, paired_weight=1.0)
    assert found(config).count == 6 and found(replace(plain, pairs="auto")).count == 12
    started = next(e for e in train(config) if isinstance(e, Started))
    assert started.slices == (12, 12) and any("6 T1 slices have a matching T2 slice" in note for note in started.notes)


def test_volumes_of_a_subject_on_one_grid_pair_slice_by_slice_though_their_frames_differ(plain):
    nifti(plain.t1_folder, "T1", brain("T1"), np.diag([1.0, 1, 3, 1]))
    nifti(plain.t2_folder, "T2", brain("T2"), np.diag([1.0, 1, 3, 1]))
    nifti(
        plain.t2_folder, "T2", np.pad(brain("T2", seed=3), ((0, 0), (4, 4), (6, 6))), np.diag([1.0, 1, 3, 1]), "sub-02"
    )
    pairs = found(plain)
    assert pairs.count == 12
    assert pairs.images[0][0].shape == pairs.images[1][0].shape
    a, b = np.array(pairs.images[0]), np.array(pairs.images[1])
    assert np.corrcoef(a[a > -0.9], b[a > -0.9])[0, 1] < -0.9


def test_a_volume_on_another_grid_is_brought_to_that_of_its_partner(plain):
    where = np.diag([1.0, 1, 3, 1])
    moved = where.copy()
    moved[:3, 3] = 3, 4, 6
    nifti(plain.t1_folder, "T1", brain("T1"), where)
    nifti(plain.t2_folder, "T2", brain("T2")[2:, 4:, 3:], moved)
    pairs = found(plain)
    assert pairs.count >= 8
    a, b = np.array(pairs.images[0])[:, 8:-8, 8:-8], np.array(pairs.images[1])[:, 8:-8, 8:-8]
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] < -0.9


def test_volumes_of_two_places_stay_unpaired(plain):
    far = np.diag([1.0, 1, 3, 1])
    far[:3, 3] = 500
    nifti(plain.t1_folder, "T1", brain("T1"), np.diag([1.0, 1, 3, 1]))
    nifti(plain.t2_folder, "T2", brain("T2"), far)
    with pytest.raises(ValueError, match="the other one lies elsewhere"):
        found(plain)


def test_held_out_subjects_are_not_among_the_pairs(plain):
    for i in range(5):
        for contrast, folder in (("T1", plain.t1_folder), ("T2", plain.t2_folder)):
            nifti(folder, contrast, brain(contrast, 6, seed=i), np.diag([1.0, 1, 3, 1]), f"sub-{i:02d}")
    assert found(plain).count == 30
    assert found(replace(plain, hold_out=1)).count == 24


def test_both_contrasts_of_a_pair_are_cut_and_mirrored_alike(plain):
    image = np.random.default_rng(0).normal(size=(5, 48, 40)).astype(np.float32)
    config = replace(plain, crop=16, batch=3)
    one, other = (Bank(images, config, torch.device("cpu"), 5) for images in (image, -image))
    assert all(torch.equal(one.batch(step)[:, :1], -other.batch(step)[:, :1]) for step in range(9))


def test_whole_slices_of_pairs_are_moved_and_both_contrasts_alike(plain):
    image = np.full((2, 32, 32), -1, np.float32)
    image[:, 12:20, 12:20] = 1
    deep = replace(plain, crop=0, flip=False, model=replace(plain.model, depth=True))
    one, other = (Bank(images, deep, torch.device("cpu"), 5, moved=True) for images in (image, image.copy()))
    places = set()
    for step in range(40):
        batch = one.batch(step)
        assert torch.equal(batch, other.batch(step))
        (rows, columns) = np.nonzero(batch[0, 0].numpy() > 0)
        places.add((int(rows.min()), int(columns.min())))
        assert len(rows) == 64 and (batch[0, 0][batch[0, 1] > 0] > 0).all() and batch[0, 1].min() == 0
    tops, lefts = zip(*places, strict=True)
    assert {*tops} == {*lefts} == {*range(8, 17)}
    assert all(
        torch.equal(Bank(image, deep, torch.device("cpu"), 5).batch(s)[0, 0], torch.tensor(image[0])) for s in range(3)
    )


def test_without_adversarial_weight_the_discriminators_stay_as_they_are(plain):
    gan = CycleGAN(replace(plain, adversarial_weight=0, cycle_weight=0, structure_weight=0, paired_weight=1.0))
    before = [p.clone() for p in gan.disc_t1.parameters()]
    t1, t2 = torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
    losses = gan.step(t1, t2, np.random.default_rng(0), (t1, t2))
    assert losses.keys() == {"paired"}
    assert all(torch.equal(a, b) for a, b in zip(before, gan.disc_t1.parameters(), strict=True))
    assert not gan.discriminator_adam.state


def test_the_paired_term_counts_with_its_weight(plain):
    pair = torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
    losses = []
    for weight in (1.0, 3.0):
        torch.manual_seed(0)
        losses.append(
            CycleGAN(replace(plain, paired_weight=weight)).step(*pair, np.random.default_rng(0), pair)["paired"]
        )
    assert losses[1] == pytest.approx(3 * losses[0])


def test_a_paired_run_resumes_exactly(plain, tmp_path):
    pictures(plain.t1_folder, brain("T1"))
    pictures(plain.t2_folder, brain("T2"))
    config = replace(plain, paired_weight=2.0, decay_from=1.0, cycle_warmup=0.0, save_every=2)
    whole = list(train(config))
    parted = replace(config, run_folder=tmp_path / "parted")
    list(train(replace(parted, steps=2)))
    rest = list(train(parted, resume=True))
    assert isinstance(rest[-1], Finished)
    last = [next(e for e in reversed(run) if isinstance(e, Progress)).losses for run in (whole, rest)]
    assert last[0] == last[1] and "paired" in last[0]


def test_between_steps_with_all_losses_mostly_paired_runs_learn_from_the_pairs_alone(plain):
    pictures(plain.t1_folder, brain("T1"))
    pictures(plain.t2_folder, brain("T2"))
    reports = [e.losses for e in train(replace(plain, report_every=1, steps=5)) if isinstance(e, Progress)]
    assert [set(losses) == {"paired"} for losses in reports] == [False, True, True, True, False]
    table = (plain.run_folder / "losses.csv").read_text().splitlines()
    assert len({line.count(",") for line in table}) == 1 and table[2].count(",,") and "paired" in table[0]


def test_where_few_slices_are_paired_every_step_has_all_losses(plain):
    pictures(plain.t1_folder, brain("T1"))
    pictures(plain.t2_folder, brain("T2")[:4])
    pictures(plain.t2_folder, brain("T2", seed=5), stem="q")
    reports = [e.losses for e in train(replace(plain, report_every=1, steps=3)) if isinstance(e, Progress)]
    assert all({"paired", "cycle"} <= losses.keys() for losses in reports)


def test_a_run_that_would_learn_nothing_is_refused(plain):
    with pytest.raises(ValueError, match="Every weight is 0"):
        replace(plain, adversarial_weight=0, cycle_weight=0, structure_weight=0, pairs="off")


def test_names_of_real_slices_are_believed_only_where_the_images_agree(real_data, plain, tmp_path):
    lit = replace(plain, t1_folder=real_data / "lit/T1", t2_folder=real_data / "lit/T2")
    assert found(lit).count == 165
    seed = real_data / "seed"
    (tmp_path / "wrong").mkdir()
    for path in (seed / "TrainT2").glob("*.png"):  # the partner of T1 #10 is T2 #70, so #11 is a wrong one by a slice
        number = int(path.stem.split("#")[1]) - 59
        (tmp_path / "wrong" / f"Image #{number}.png").write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"no slice of .* has a partner"):
        found(replace(plain, t1_folder=seed / "TrainT1", t2_folder=tmp_path / "wrong"))
