"""Where layers lie, against nibabel's world coordinates."""

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from napari.layers import Image, Layer

from napari_t1t2.images.read import read_files, read_image
from napari_t1t2.images.volume import Volume, spacing_of
from napari_t1t2.widgets._layers import affine_as_lps, affine_of, layer_of, spacing_of_layer

TURNED = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.2, -0.1, 0.07) @ np.diag([0.7, 0.9, 3.0]), [-80.5, -60.25, 12.125]
)
SHEARED = TURNED @ (np.eye(4) + np.eye(4, k=1) * [0.3, 0.1, 0, 0])
ORDERS = [
    "".join(letters)
    for ends in permutations(("RL", "AP", "SI"))
    for letters in product(*ends)  # 48, half of them with a negative determinant
]
MM = {"atol": 1e-4, "rtol": 0}


def stored_as(order: str, base: np.ndarray, shape=(5, 4, 3)) -> np.ndarray:
    """The affine of an array whose axes lead where the letters say."""
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(base), nibabel.orientations.axcodes2ornt(order)
    )
    return base @ nibabel.orientations.inv_ornt_aff(turn, shape)


def corners(shape) -> np.ndarray:
    """The outer corners of the outer voxels."""
    return np.array(list(product(*((-0.5, n - 0.5) for n in shape))))


def world_of(affine: np.ndarray, ijk: np.ndarray) -> np.ndarray:
    """(superior, posterior, left), from (i, j, k) as nibabel counts."""
    return nibabel.affines.apply_affine(affine, ijk)[:, ::-1] * [1, -1, -1]


def ramp(shape) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def voxels_and_places(layer):
    """Values and world coordinates of all voxels, sorted by value."""
    index = np.argwhere(np.ones(layer.data.shape, bool))
    order = np.argsort(layer.data[tuple(index.T)])
    places = np.array([layer.data_to_world(i) for i in index[order]])
    return layer.data[tuple(index[order].T)], places


@pytest.mark.parametrize("base", [np.diag([0.7, 0.9, 3.0, 1]), TURNED, SHEARED], ids=["plain", "oblique", "sheared"])
@pytest.mark.parametrize("order", ORDERS)
def test_each_voxel_lies_where_nibabel_puts_it(tmp_path, order, base):
    data, affine = ramp((4, 3, 2)), stored_as(order, base)
    image = nibabel.Nifti1Image(data, affine)
    image.to_filename(tmp_path / "it.nii")
    layer = Layer.create(*layer_of(read_image(tmp_path / "it.nii")))
    values, places = voxels_and_places(layer)
    ijk = np.argwhere(np.ones(data.shape, bool))
    np.testing.assert_array_equal(values, data.ravel())
    np.testing.assert_allclose(places, world_of(nibabel.load(tmp_path / "it.nii").affine, ijk), **MM)
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3 and layer.axis_labels == ("z", "y", "x")


@pytest.mark.parametrize("base", [TURNED, SHEARED], ids=["oblique", "sheared"])
@pytest.mark.parametrize("order", ORDERS)
def test_it_is_seen_from_below_with_the_front_on_top(order, base):
    affine = stored_as(order, base)
    data = np.zeros((6, 7, 8), np.float32)
    data[0, 0, 0] = 1
    layer = Layer.create(*layer_of(Volume(data=data, name="it", affine=affine, spacing=spacing_of(affine))))
    steps = np.array([layer.data_to_world(step) for step in np.eye(3)]) - layer.data_to_world((0, 0, 0))
    assert (np.abs(steps).argmax(axis=1) == (0, 1, 2)).all() and (np.diag(steps) > 0).all()


@pytest.mark.parametrize("base", [np.diag([0.7, 0.9, 3.0, 1]), TURNED, SHEARED], ids=["plain", "oblique", "sheared"])
@pytest.mark.parametrize("unit", ["mm", "um", "cm"])
def test_the_affine_comes_back_from_the_layer_in_any_unit(base, unit):
    data = np.random.default_rng(0).random((3, 4, 5), np.float32)
    volume = Volume(data=data, name="it", affine=stored_as("PSL", base), spacing=spacing_of(stored_as("PSL", base)))
    layer = Layer.create(*layer_of(volume))
    expected, per_unit = affine_of(layer), {"mm": 1, "um": 0.001, "cm": 10}[unit]
    layer.units = (unit,) * 3
    scaled = np.diag([per_unit] * 3 + [1]) @ expected
    np.testing.assert_allclose(affine_of(layer), scaled, atol=1e-9)
    np.testing.assert_allclose(affine_as_lps(layer), scaled, atol=1e-9)
    np.testing.assert_allclose(spacing_of_layer(layer), np.multiply(spacing_of(expected), per_unit))


def test_a_layer_without_lengths_has_no_spacing_and_one_of_slices_has_that_of_its_pixels():
    data = np.zeros((2, 3, 4))
    assert spacing_of_layer(Image(data, scale=(5, 2, 2))) is None
    assert affine_as_lps(Image(data, scale=(5, 2, 2))) is None
    assert spacing_of_layer(Image(data, scale=(5, 2, 3), units=("pixel", "mm", "mm"))) == (5, 2, 3)
    assert spacing_of_layer(Image(data[0], scale=(2, 3), units=("um", "um"))) == (1, 0.002, 0.003)


REAL = [
    *("anatomical.nii", "lit_2d.nii.gz", "lit_axes_permuted_ZXY.nii.gz", "lit_flipped_noheaderfix.nii.gz"),
    *("lit_no_affine_codes.nii.gz", "lit_oblique_int16.nii.gz", "lit_single_slice_3d.nii.gz"),
]


@pytest.mark.parametrize("name", REAL)
def test_the_corners_of_real_files_lie_where_nibabel_puts_them(real_data, name):
    path = real_data / "odd/nifti" / name
    source, layer = nibabel.load(path), Layer.create(*layer_of(read_image(path)))
    shape = (*source.shape, 1)[:3]
    expected = world_of(source.affine, corners(shape))
    places = np.array([layer.data_to_world(corner) for corner in corners(layer.data.shape)])
    apart = np.linalg.norm(places[:, None] - expected, axis=-1)
    assert apart.min(axis=1).max() < 1e-4 and sorted(apart.argmin(axis=1)) == list(range(8))
    rng = np.random.default_rng(0)
    for ijk in rng.integers(0, shape, (50, 3)):
        index = np.rint(layer.world_to_data(world_of(source.affine, ijk[None])[0])).astype(int)
        assert layer.data[tuple(index)] == np.asarray(source.dataobj).reshape(shape)[tuple(ijk)]


def test_two_contrasts_of_one_head_lie_over_each_other(real_data):
    t1, t2 = (
        Layer.create(*layer_of(read_image(real_data / f"eval/lit_p04/{contrast}.nii.gz"))) for contrast in ("T1", "T2")
    )
    np.testing.assert_allclose(t1.extent.world, t2.extent.world, **MM)
    inside = [layer.data > layer.contrast_limits[1] / 10 for layer in (t1, t2)]
    assert 2 * (inside[0] & inside[1]).sum() / (inside[0].sum() + inside[1].sum()) > 0.85


def test_two_dicom_series_of_one_folder_lie_over_each_other_and_over_the_nifti(real_data):
    folder = real_data / "odd/dicom/lit_p04_T1_T2_mixed_folder"
    volumes, skipped = read_files(sorted(folder.iterdir()))
    t1, t2 = (Layer.create(*layer_of(v)) for v in sorted(volumes, key=lambda v: v.looks))
    assert not skipped and [t1.metadata["contrast"], t2.metadata["contrast"]] == ["T1", "T2"]
    nifti = Layer.create(*layer_of(read_image(real_data / "eval/lit_p04/T1.nii.gz")))

    def overlap(one, other, shift=0):
        """Dice's coefficient of the two heads, in the voxels of the first."""
        index = np.argwhere(np.ones(one.data.shape, bool))[::7]
        steps = np.array([one.data_to_world(step) for step in np.eye(3)]) - one.data_to_world((0, 0, 0))
        at = index @ steps + one.data_to_world((0, 0, 0)) + np.array([0, shift, shift])
        back = np.array([other.world_to_data(step) for step in np.eye(3)]) - other.world_to_data((0, 0, 0))
        there = np.rint(at @ back + other.world_to_data((0, 0, 0))).astype(int)
        both = ((there >= 0) & (there < other.data.shape)).all(axis=1)
        a, b = one.data[tuple(index[both].T)], other.data[tuple(there[both].T)]
        a, b = a > one.contrast_limits[1] / 8, b > other.contrast_limits[1] / 8
        return 2 * (a & b).sum() / (a.sum() + b.sum())

    assert overlap(t1, t2) > 0.85 > overlap(t1, t2, shift=15)
    assert overlap(t1, nifti) > 0.95 > overlap(t1, nifti, shift=8)


@pytest.mark.parametrize("slices", [3, 4])
def test_a_few_sagittal_slices_are_no_colours(slices):
    affine = stored_as("PIR", np.eye(4))
    volume = Volume(data=np.random.default_rng(0).random((slices, 9, 8), np.float32), name="it", affine=affine)
    layer = Layer.create(*layer_of(volume))
    assert not layer.rgb and layer.data.shape == (9, 8, slices)
