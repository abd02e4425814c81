from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from napari_t1t2.config import ModelConfig
from napari_t1t2.events import Finished, Preview, Started
from napari_t1t2.runs.preview import head_among, heads_among, slice_at
from napari_t1t2.runs.training import train


def test_the_previews_show_a_slice_of_one_head_and_not_of_all_in_a_row():
    slices = SimpleNamespace(owners=np.repeat([0, 1, 2], [3, 5, 4]))
    np.testing.assert_array_equal(head_among(slices, np.r_[0:3, 8:12]), np.r_[8:12])
    np.testing.assert_array_equal(head_among(slices, np.r_[1:3]), np.r_[1:3])


def test_of_single_slices_all_that_are_held_out_are_one_head():
    np.testing.assert_array_equal(head_among(SimpleNamespace(owners=np.arange(9)), np.r_[3:6]), np.r_[3:6])


@pytest.mark.parametrize(("at", "index"), [(0.0, 4), (0.5, 6), (0.99, 8), (1.0, 8)])
def test_a_slice_is_named_by_how_far_up_the_head_it_lies(at, index):
    images = np.arange(9.0, dtype=np.float32)[:, None, None] * np.ones((9, 8, 8), np.float32)
    shown = slice_at(at, images, np.r_[4:9], ModelConfig(depth=False, levels=1))
    assert shown[0, 0, 4, 4] == index


def test_a_stopped_run_shows_what_it_has_learned(config):
    steps = iter([False] * 3 + [True])
    events = list(train(replace(config, preview_every=100), stop=lambda: next(steps)))
    assert [e.step for e in events if isinstance(e, Preview)] == [0, 3]
    assert isinstance(events[-1], Finished) and events[-1].step == 3


def test_another_slice_asked_for_is_shown_after_the_next_step(config):
    asked = iter([0.5, 0.5, 1.0, *[1.0] * 99])
    run = replace(config, preview_every=100, hold_out=4)
    steps = [e.step for e in train(run, preview_at=lambda: next(asked)) if isinstance(e, Preview)]
    assert steps == [0, 2, 4]


def test_a_run_says_of_how_many_patients_its_slices_are(config, made_data):
    folders = {"t1_folder": made_data.nifti[0], "t2_folder": made_data.nifti[1]}
    run = train(replace(config, **folders, steps=1))
    assert next(e for e in run if isinstance(e, Started)).patients == (2, 2)
    run.close()


def slices_of(keys, counts, affines):
    owners = np.repeat(np.arange(len(keys)), counts)
    places = np.concatenate([np.arange(count) for count in counts])
    return SimpleNamespace(images=owners, owners=owners, places=places, keys=keys, affines=affines)


GRID, OTHER = np.eye(4), np.diag([1, 1, 2, 1.0])


def test_a_head_held_out_of_both_contrasts_is_shown_slice_by_slice_where_it_lies_on_one_grid():
    t1 = slices_of(("a", "b", "c"), (3, 4, 5), (GRID, GRID, GRID))
    t2 = slices_of(("c", "b"), (5, 3), (OTHER, GRID))
    parts = SimpleNamespace(held=(np.r_[3:12], np.r_[0:8]), train=(np.r_[0:3], np.r_[0:0]))
    (_, first), (_, second), paired = heads_among(t1, t2, parts)
    assert paired and (first.tolist(), second.tolist()) == ([3, 4, 5], [5, 6, 7])  # b; c lies on two grids


@pytest.mark.parametrize("affine", [OTHER, None])
def test_heads_on_other_grids_or_known_by_name_alone_are_no_pair(affine):
    t1, t2 = (slices_of(("a", "b"), (3, 4), (grid, grid)) for grid in (affine if affine is None else GRID, affine))
    parts = SimpleNamespace(held=(np.r_[0:7], np.r_[3:7]), train=(np.r_[0:0],) * 2)
    (_, first), _, paired = heads_among(t1, t2, parts)
    assert not paired and first.tolist() == [3, 4, 5, 6]


def test_a_head_that_is_trained_on_gives_no_score():
    slices = slices_of(("a",), (3,), (GRID,))
    parts = SimpleNamespace(held=(np.r_[0:3],) * 2, train=(np.r_[0:3],) * 2)
    assert not heads_among(slices, slices, parts)[2]
