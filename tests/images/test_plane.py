from itertools import permutations, product

import nibabel
import numpy as np
import pytest

from napari_t1t2.images.plane import PLANES, TOWARDS, View, stored_towards

ORDERS = ["".join(ends) for axes in permutations(["LR", "PA", "IS"]) for ends in product(*axes)][::5]
SHAPE = (3, 4, 5)
TILT = nibabel.eulerangles.euler2mat(0.05, -0.12, 0.08)


def affine_towards(letters: str, tilt: np.ndarray = TILT) -> np.ndarray:
    """Of voxels whose (Z, Y, X) axes lead towards three letters, 2 x 1 x 0.5 mm, slightly oblique."""
    affine = nibabel.orientations.inv_ornt_aff(nibabel.orientations.axcodes2ornt(letters[::-1]), SHAPE[::-1])
    affine = np.linalg.inv(affine) @ np.diag([1, 1, 1, 1.0])
    affine[:3, :3] = tilt @ affine[:3, :3] @ np.diag([0.5, 1, 2])
    affine[:3, 3] = (-7, 11, 40)
    return affine


@pytest.mark.parametrize("letters", ORDERS)
@pytest.mark.parametrize("plane", PLANES)
def test_every_voxel_of_a_view_lies_where_it_was_stored(letters, plane):
    affine = affine_towards(letters)
    data = np.arange(60).reshape(SHAPE)
    view = View.of(plane, affine)
    seen, moved = view.apply(data), view.affine(affine, SHAPE)
    for index in np.ndindex(*seen.shape):
        z, y, x = np.unravel_index(seen[index], SHAPE)
        np.testing.assert_allclose(moved @ [*index[::-1], 1], affine @ [x, y, z, 1], atol=1e-12)


@pytest.mark.parametrize("letters", ORDERS)
@pytest.mark.parametrize("plane", PLANES)
def test_slices_rows_and_columns_lead_where_a_radiologist_expects(letters, plane):
    affine = affine_towards(letters)
    view = View.of(plane, affine)
    assert stored_towards(affine) == letters
    assert stored_towards(view.affine(affine, SHAPE)) == TOWARDS[plane]
    np.testing.assert_allclose(np.linalg.norm(view.affine(affine, SHAPE)[:3, :3], axis=0)[::-1], view.spacing)


@pytest.mark.parametrize("letters", ORDERS)
def test_a_view_can_be_undone(letters):
    data = np.random.default_rng(0).random((2, *SHAPE))
    view = View.of("sagittal", affine_towards(letters))
    np.testing.assert_array_equal(view.undo(view.apply(data)), data)
    assert np.shares_memory(view.apply(data), data)


def test_without_an_affine_slices_are_seen_as_stored():
    data = np.random.default_rng(0).random(SHAPE)
    view = View.of("coronal", None, (3.0, 1.0, 0.5))
    np.testing.assert_array_equal(view.apply(data), data)
    assert view.spacing == (3.0, 1.0, 0.5)


def test_a_head_tilted_by_forty_degrees_counts_as_the_nearest_plane():
    tilted = affine_towards("SPL", nibabel.eulerangles.euler2mat(0, 0, np.deg2rad(40)))
    assert View.of("axial", tilted).axes == (0, 1, 2)
    assert View.of("coronal", tilted).axes == (1, 0, 2)
