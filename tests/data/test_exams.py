"""Exams: T1 and T2 volumes of one head, wherever they lie."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from heads import SPACING, head

from napari_t1t2.config import ModelConfig, TrainConfig
from napari_t1t2.data import exams as exams_module
from napari_t1t2.data.pairs import find_pairs
from napari_t1t2.data.reading import read_both
from napari_t1t2.data.sources import finish
from napari_t1t2.data.split import split
from napari_t1t2.images.align import Alignment


def write(folder, name, data, shift=(0, 0, 0)):
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = np.array([-84, -102, -36]) + shift
    nib.save(nib.Nifti1Image(data, affine), folder / f"{name}.nii.gz")


@pytest.fixture
def both(tmp_path, monkeypatch):
    """A config of two folders that are still to be filled."""
    monkeypatch.setenv("NAPARI_T1T2_CACHE", str(tmp_path / "cache"))  # of each test its own
    model = ModelConfig(levels=2)
    return TrainConfig(t1_folder=tmp_path / "a", t2_folder=tmp_path / "b", model=model, hold_out=0, threads=1)


def found(config):
    t1, t2, _ = read_both(config)
    return finish(find_pairs(t1, t2, split(t1, t2, config), config))


def test_a_t2_that_moved_is_brought_to_its_t1(both):
    write(both.t1_folder, "sub-01_T1w", head("01", "T1"))
    write(both.t2_folder, "sub-01_T2w", head("01", "T2"), shift=(9, -6, 12))
    pairs = found(both)
    (exam,) = pairs.exams
    assert exam.alignment.shift == pytest.approx(np.sqrt(81 + 36 + 144), abs=1.5)
    assert pairs.count == exam.slices >= 9 and "aligned (moved by" in pairs.notes[-1]
    a, b = (np.stack([images[n] for n in range(pairs.count)]) for images in pairs.images)
    edges = [np.abs(np.diff(x > -0.8, axis=-1)) for x in (a, b)]
    assert (edges[0] & edges[1]).sum() > 0.5 * edges[0].sum()  # the outlines lie upon each other


def test_a_head_that_only_turned_about_its_centre_has_moved_too():
    turned = Alignment(np.eye(4), 1.0, shift=0.05, angle=4.0)
    assert turned.reach == pytest.approx(0.05 + 5.6, abs=0.1)


def test_a_head_that_turned_is_brought_back(both, monkeypatch):
    write(both.t1_folder, "sub-01_T1w", head("01", "T1"))
    write(both.t2_folder, "sub-01_T2w", head("01", "T2"))
    moved = []
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    monkeypatch.setattr(exams_module, "align", lambda *_: Alignment(turn, 1.0, shift=0.0, angle=5.7))
    monkeypatch.setattr(exams_module, "mirror_image", lambda *_: False)
    monkeypatch.setattr(exams_module, "resample", lambda *given, **how: moved.append(given[1]) or given[0])
    found(both)
    assert not np.allclose(moved[0][:3, :3], np.diag(np.diag(moved[0][:3, :3])))


def test_more_exams_than_are_aligned_are_told(both, monkeypatch):
    monkeypatch.setattr("napari_t1t2.data.pairs.EXAMS", 1)
    for patient in ("01", "02"):
        write(both.t1_folder, f"sub-{patient}_T1w", head(patient, "T1"))
        write(both.t2_folder, f"sub-{patient}_T2w", head(patient, "T2"))
    pairs = found(both)
    assert len(pairs.exams) == 1
    assert any("1 of them, spread over all, are aligned" in note for note in pairs.notes)


def test_an_alignment_is_kept_for_the_next_run(both, monkeypatch):
    write(both.t1_folder, "sub-01_T1w", head("01", "T1"))
    write(both.t2_folder, "sub-01_T2w", head("01", "T2"), shift=(9, -6, 12))
    first = found(both)
    monkeypatch.setattr(exams_module, "align", None)  # not called again
    again = found(both)
    np.testing.assert_allclose(again.exams[0].alignment.matrix, first.exams[0].alignment.matrix)
    assert again.count == first.count


def test_a_header_that_takes_left_for_right_is_named_and_not_used(both):
    lopsided = head("01", "T1"), head("01", "T2")
    for data in lopsided:
        data[:20, 30:60, 3:9] //= 3  # on one side only
    write(both.t1_folder, "sub-01_T1w", lopsided[0])
    write(both.t2_folder, "sub-01_T2w", lopsided[1][::-1])
    pairs = found(both)
    assert pairs.count == 0 and "takes left for right" in pairs.exams[0].refused
    assert any("are not used as pairs" in note for note in pairs.notes)


def test_another_part_of_the_body_is_named_and_not_used(both):
    write(both.t1_folder, "sub-01_T1w", head("01", "T1"))
    y, x = np.mgrid[-1:1:68j, -1:1:56j]
    spine = np.where(np.hypot(x / 0.3, y) < 1, 400 + 300 * np.sin(40 * y) + 90 * x, 0).T[..., None] * np.ones(12)
    write(both.t2_folder, "sub-01_T2w", spine.astype(np.int16))
    pairs = found(both)
    assert pairs.count == 0 and pairs.exams[0].refused


def test_one_exam_of_several_t1_and_no_t2_gives_no_pairs(both):
    for run in ("1", "2", "3"):
        write(both.t1_folder, f"sub-01_run-{run}_T1w", head("01", "T1") + int(run))
    write(both.t2_folder, "sub-02_T2w", head("02", "T2"))
    assert found(both).count == 0


def test_of_several_series_each_t1_takes_the_t2_that_fits_best(both):
    write(both.t1_folder, "sub-01_T1w", head("01", "T1"))
    write(both.t2_folder, "sub-01_run-1_T2w", head("01", "T2"))
    noisy = head("01", "T2") + np.random.default_rng(0).normal(0, 300, head("01", "T2").shape).astype(np.int16)
    write(both.t2_folder, "sub-01_run-2_T2w", np.abs(noisy))
    pairs = found(both)
    assert sorted(bool(e.refused) for e in pairs.exams) == [False, True]
    (used,) = (e for e in pairs.exams if not e.refused)
    assert used.files[1].startswith("sub-01_run-1")


def test_in_names_mode_nothing_is_aligned(both):
    write(both.t1_folder, "sub-01_T1w", head("01", "T1"))
    write(both.t2_folder, "sub-01_T2w", head("01", "T2"))
    pairs = found(replace(both, pairs="names"))
    assert pairs.count >= 9 and pairs.exams[0].alignment is None
