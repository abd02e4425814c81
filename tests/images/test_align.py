import numpy as np
import pytest
from heads import SPACING, head
from scipy.spatial.transform import Rotation

from napari_t1t2.images.align import Scan, align, mirror_image
from napari_t1t2.images.intensity import measure
from napari_t1t2.images.read import read_image


def scan(data, affine):
    return Scan.of(np.ascontiguousarray(measure([data]).to_unit(data)), affine)


def made(patient, contrast):
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = -90, -110, -40
    return scan(head(patient, contrast).T.astype(np.float32), affine)


def moved(one, angles, shift):
    """The same head where a patient lies otherwise, and the matrix that says how."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = one.centre - matrix[:3, :3] @ one.centre + shift
    return Scan(one.data, matrix @ one.affine, one.head), matrix


def distances(fixed, truth, found):
    """mm between where two transforms bring the voxels of a head."""
    at = np.argwhere(fixed.head)[::101, ::-1]
    points = fixed.affine @ np.c_[at, np.ones(len(at))].T
    return np.linalg.norm((truth @ points - found @ points)[:3], axis=0)


@pytest.mark.parametrize(
    "angles, shift", [((0, 0, 0), (0, 0, 0)), ((4, -3, 5), (8, -6, 7)), ((10, 5, -12), (60, 0, 90))]
)
def test_a_head_that_moved_between_two_scans_is_found_again(angles, shift):
    fixed = made("01", "T1")
    moving, truth = moved(made("01", "T2"), angles, shift)
    found = align(fixed, moving)
    assert distances(fixed, truth, found.matrix).mean() < 2.0  # voxels are 3x3x6 mm
    assert not mirror_image(fixed, moving, found)


def test_a_stack_without_a_head_or_of_few_slices_is_not_aligned():
    one = made("01", "T1")
    few = Scan(one.data[:2], one.affine, one.head[:2])
    empty = Scan(one.data, one.affine, np.zeros_like(one.head))
    assert align(one, few) is None and align(empty, one) is None


@pytest.mark.slow
@pytest.mark.parametrize("exam", ["sub-p01/ses-2", "sub-p12/ses-1"])
def test_real_exams_lie_where_published_transforms_say(real_data, exam):
    folder = real_data / "exams" / exam / "anat"
    name = exam.replace("/", "_")
    fixed, moving = (
        scan(v.data, v.affine) for v in (read_image(folder / f"{name}_{c}.nii.gz") for c in ("T1w", "T2w"))
    )
    lps = np.diag([-1.0, -1, 1, 1])
    t1, t2 = (itk_affine(folder / f"{name}_{c}_to_flair.txt") for c in ("T1w", "T2w"))
    truth = lps @ t2 @ np.linalg.inv(t1) @ lps
    found = align(fixed, moving)
    assert distances(fixed, truth, found.matrix).mean() < 0.7
    assert not mirror_image(fixed, moving, found)
    wrong = Scan(moving.data[:, :, ::-1].copy(), moving.affine, moving.head[:, :, ::-1].copy())  # left for right
    assert mirror_image(fixed, wrong, align(fixed, wrong))


def itk_affine(path):
    (numbers,) = (line.split(":")[1] for line in path.read_text().splitlines() if line.startswith("Parameters"))
    values = np.array(numbers.split(), float)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = values[:9].reshape(3, 3), values[9:]
    return matrix
