"""What must hold for any array, affine and config; hypothesis draws few of them, so that the suite stays fast."""

import nibabel
import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_t1t2.config import TrainConfig
from napari_t1t2.errors import Refusal, shown
from napari_t1t2.images.nifti import read_nifti
from napari_t1t2.images.nifti_write import write_nifti
from napari_t1t2.images.pixels import make_finite
from napari_t1t2.images.plane import PLANES, View
from napari_t1t2.images.volume import Volume, spacing_of
from napari_t1t2.runs.folder import load_config, save_config

few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
shapes = hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=6)
floats = st.floats(-1e6, 1e6, width=32)


@st.composite
def affines(draw):
    """Turned, mirrored, of any spacing that a head may have, anywhere."""
    turned, _ = np.linalg.qr(draw(hnp.arrays(float, (3, 3), elements=st.floats(-1, 1))) + 2 * np.eye(3))
    sides = [draw(st.floats(0.2, 8)) * draw(st.sampled_from((-1, 1))) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = turned @ np.eye(3)[draw(st.permutations(range(3)))] @ np.diag(sides)
    affine[:3, 3] = [draw(st.floats(-200, 200)) for _ in range(3)]
    return affine


@few
@given(data=hnp.arrays(np.float32, shapes, elements=floats), affine=affines())
def test_a_volume_survives_the_way_through_nifti(data, affine, tmp_path):
    assume(len(np.unique(data)) > 2)
    write_nifti(path := tmp_path / "a.nii", Volume(data=data, name="a", affine=affine, spacing=spacing_of(affine)))
    again = read_nifti(path)
    assert np.array_equal(again.data, data)
    np.testing.assert_allclose(again.affine, affine, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(nibabel.load(path).affine, affine, rtol=1e-4, atol=1e-3)


@few
@given(data=hnp.arrays(np.float32, shapes, elements=floats), affine=affines(), plane=st.sampled_from(PLANES))
def test_a_view_of_any_plane_shows_every_voxel_once(data, affine, plane):
    seen = View.of(plane, affine).apply(data)
    assert sorted(seen.shape) == sorted(data.shape)
    assert np.array_equal(np.sort(seen, axis=None), np.sort(data, axis=None))


@few
@given(data=hnp.arrays(np.float32, shapes, elements=st.floats(width=32)))
def test_whatever_is_in_an_array_becomes_finite_or_is_refused(data):
    finite = np.isfinite(data)
    kept = data[finite].copy()
    try:
        values, notes = make_finite(data.copy(), "a.nii")
    except Refusal:
        assert not finite.any()
    else:
        assert np.isfinite(values).all() and np.array_equal(values[finite], kept) and bool(notes) == (not finite.all())


@few
@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(-2, 2**40),
            "minutes": st.floats(),
            "batch": st.integers(-3, 300) | st.floats(),
            "learning_rate": st.floats(),
            "t1_series": st.text(max_size=8),
            "crop": st.integers(-64, 512),
            "beta1": st.floats(),
        },
    )
)
def test_a_config_is_refused_with_a_sentence_or_survives_its_file(changes, tmp_path):
    folders = {f"{name}_folder": tmp_path / name for name in ("t1", "t2")}
    try:
        config = TrainConfig(run_folder=tmp_path, **folders, **changes)
    except Refusal as error:
        assert str(error).endswith(".")
        return
    save_config(tmp_path / "config.json", config)
    assert load_config(tmp_path) == config


@few
@given(st.text())
def test_text_is_shown_in_one_line_that_steers_nothing_and_once_is_enough(text):
    line = shown(text)
    assert len(line.splitlines()) <= 1 and shown(line) == line
