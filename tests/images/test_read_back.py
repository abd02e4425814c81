"""What we write, read by us and by others: nibabel, pydicom, SimpleITK (GDCM) and dcm2niix."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from napari_t1t2.images.read import read_files
from napari_t1t2.images.volume import Volume, spacing_of
from napari_t1t2.images.write import write_image
from napari_t1t2.provenance import Provenance

SAYS = Provenance(contrast="T2", model="run/model", model_sha256="ab" * 32, step=7, source="a.nii", version="1")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (5, 8, 6)


def oblique(*order: int) -> np.ndarray:
    """Voxels to RAS+ mm, turned by some degrees about all axes, the axes in an order of their own."""
    nod, turn, roll = 0.2, -0.15, 0.1
    about_x = [[1, 0, 0], [0, np.cos(nod), -np.sin(nod)], [0, np.sin(nod), np.cos(nod)]]
    about_y = [[np.cos(roll), 0, np.sin(roll)], [0, 1, 0], [-np.sin(roll), 0, np.cos(roll)]]
    about_z = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    affine = np.eye(4)
    turned = np.array(about_x) @ np.array(about_y) @ np.array(about_z) @ np.diag([0.9, 1.1, 3.3])
    affine[:3, :3] = turned[:, list(order)]
    affine[:3, 3] = -31.25, 40.5, 12.125
    return affine


AFFINES = {
    "straight": np.array([[-1, 0, 0, 3], [0, -1, 0, 4], [0, 0, 2.5, -7], [0, 0, 0, 1.0]]),
    "oblique": oblique(0, 1, 2),
    "sagittal": oblique(1, 2, 0),
    "upside down": oblique(0, 1, 2) @ np.diag([1, -1, -1, 1]),
}
KINDS = {"uint8": (0, 255), "int16": (-300, 900), "uint16": (0, 60000), "float32": (0.0, 1.5)}
WRITTEN = [(a, k) for a in AFFINES for k in KINDS]


@pytest.fixture(params=WRITTEN, ids=lambda pair: f"{pair[0]} {pair[1]}")
def volume(request) -> Volume:
    affine, dtype = AFFINES[request.param[0]], request.param[1]
    low, high = KINDS[dtype]
    data = np.random.default_rng(3).uniform(low, high, SHAPE)
    data = data if dtype == "float32" else np.rint(data)
    data = data.astype(np.float32)
    return Volume(data=data, name="a", dtype=dtype, affine=affine, spacing=spacing_of(affine), provenance=SAYS)


def places(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(n, 4): where each voxel of (Z, Y, X) data lies in RAS+ mm, and its value, in an order that knows no indices."""
    z, y, x = np.indices(data.shape).reshape(3, -1)
    at = (affine @ np.stack([x, y, z, np.ones_like(x)]))[:3].T
    return np.c_[at, data.ravel()][np.lexsort(np.round(at, 2).T)]


def assert_same(volume: Volume, data: np.ndarray, affine: np.ndarray) -> None:
    wanted, found = places(volume.data, volume.affine), places(data, affine)
    np.testing.assert_allclose(found[:, :3], wanted[:, :3], atol=1e-3)
    steps = np.ptp(volume.data) / 65535 if volume.dtype == "float32" else 1e-6  # 16 bits in DICOM
    np.testing.assert_allclose(found[:, 3], wanted[:, 3], atol=steps)


def of_itk(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image), LPS @ affine


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "series"])
def test_we_read_back_places_values_and_provenance(tmp_path, volume, name):
    (read,), skipped = read_files(write_image(tmp_path / name, volume))
    assert not skipped and read.provenance == SAYS
    assert_same(volume, read.data, read.affine)


def test_nibabel_reads_back_places_and_values(tmp_path, volume):
    image = nibabel.load(write_image(tmp_path / "a.nii.gz", volume)[0])
    assert_same(volume, image.get_fdata().T, image.affine)
    np.testing.assert_allclose(image.get_sform(), image.get_qform(), atol=1e-3)
    assert b"SYNTHETIC T2" in image.header["descrip"].item()


def test_itk_reads_back_the_nifti(tmp_path, volume):
    assert_same(volume, *of_itk(sitk.ReadImage(write_image(tmp_path / "a.nii.gz", volume)[0])))


def test_gdcm_reads_back_the_series(tmp_path, volume):
    write_image(tmp_path / "series", volume)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    assert_same(volume, *of_itk(reader.Execute()))


def test_pydicom_reads_back_the_values_of_each_slice(tmp_path, volume):
    for path, plane in zip(write_image(tmp_path / "series", volume), volume.data, strict=True):
        ds = pydicom.dcmread(path)
        values = ds.pixel_array * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))
        np.testing.assert_allclose(values, plane, atol=np.ptp(volume.data) / 65535 if "RescaleSlope" in ds else 0)


@pytest.mark.skipif(not shutil.which("dcm2niix"), reason="dcm2niix is absent")
def test_dcm2niix_reads_back_the_series_and_says_that_it_is_synthetic(tmp_path, volume):
    write_image(tmp_path / "series", volume)
    command = ["dcm2niix", "-f", "made", "-o", str(tmp_path), str(tmp_path / "series")]
    subprocess.run(command, check=True, capture_output=True)
    image = nibabel.load(tmp_path / "made.nii")
    assert_same(volume, image.get_fdata().T, image.affine)
    assert "SYNTHETIC T2 - not for diagnosis" in (tmp_path / "made.json").read_text()


def test_the_map_of_errors_keeps_its_kind_on_each_way(tmp_path, volume):
    errors = replace(SAYS, kind="expected error", calibrated=True)
    for name in ("a.nii.gz", "series", "a.tif"):
        paths = write_image(tmp_path / name, volume, errors)
        (read,), _ = read_files([p for p in paths if p.suffix != ".json"])
        assert read.provenance == errors


def test_a_second_writing_changes_nothing(tmp_path, volume):
    """Read and written again and again, as files are that wander between programs."""
    first = write_image(tmp_path / "0.nii.gz", volume)[0]
    for k in range(3):
        (read,), _ = read_files([first])
        again = write_image(tmp_path / f"{k + 1}.nii.gz", read)[0]
        assert Path(again).read_bytes() == first.read_bytes()
