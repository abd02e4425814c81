import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_t1t2.errors import Refusal
from napari_t1t2.images.read import read_image
from napari_t1t2.images.volume import Volume
from napari_t1t2.images.write import name_for, write_image
from napari_t1t2.provenance import Provenance

SAYS = Provenance(contrast="T2", source="é.png")


def volume(data, dtype: str) -> Volume:
    return Volume(data=np.array(data, np.float32), name="a", dtype=dtype)


def test_a_png_says_that_it_is_synthetic(tmp_path):
    write_image(tmp_path / "a.png", volume([[[0, 9]]], "uint8"), SAYS)
    with Image.open(tmp_path / "a.png") as written:
        assert json.loads(written.text["Description"]) == SAYS.to_dict()


def test_a_tiff_says_that_it_is_synthetic(tmp_path):
    write_image(tmp_path / "a.tif", volume([[[0, 9]]], "float32"), SAYS)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert json.loads(tiff.pages[0].description) == SAYS.to_dict()


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_integers_are_rounded_and_clipped(tmp_path, name):
    write_image(tmp_path / name, volume([[[-3, 0.4, 0.6], [254.6, 255, 300]]], "uint8"), SAYS)
    read = read_image(tmp_path / name)
    assert read.data[0].tolist() == [[0, 0, 1], [255, 255, 255]]
    assert read.dtype == "uint8"


def test_sixteen_bits_are_written_to_a_png(tmp_path):
    write_image(tmp_path / "a.png", volume([[[0, 4080.2]]], "uint16"), SAYS)
    read = read_image(tmp_path / "a.png")
    assert (read.data[0].tolist(), read.dtype) == ([[0, 4080]], "uint16")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_a_stack_comes_back_from_a_tiff(tmp_path, dtype):
    data = np.arange(5 * 4 * 3).reshape(5, 4, 3)
    write_image(tmp_path / "a.tif", volume(data, dtype), SAYS)
    read = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(read.data, data)
    assert read.dtype == dtype


@pytest.mark.parametrize("slices", [3, 4])
def test_a_stack_of_three_slices_is_not_taken_for_a_colour_image(tmp_path, slices):
    data = np.arange(slices * 40, dtype=np.float32).reshape(slices, 8, 5)
    write_image(tmp_path / "a.tif", volume(data, "uint8"), SAYS)
    assert read_image(tmp_path / "a.tif").data.shape == data.shape


@pytest.mark.parametrize(
    ("name", "image", "words"),
    [
        (
            "a.png",
            volume(np.zeros((2, 4, 4)), "uint8"),
            r"a\.png: a PNG holds one slice, the image has 2; write a \.tif",
        ),
        ("a.png", volume(np.zeros((1, 4, 4)), "float32"), r"float32 does not fit into a PNG; write a \.tif"),
        ("a.jpg", volume(np.zeros((1, 4, 4)), "uint8"), r"a\.jpg: .* written as \.png, .*; change the ending"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_and_nothing_is_written(tmp_path, name, image, words):
    with pytest.raises(ValueError, match=words):
        write_image(tmp_path / "new" / name, image, SAYS)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_nothing_but_the_file_is_left(tmp_path, name):
    write_image(tmp_path / "deep" / "er" / name, volume([[[0, 9]]], "uint8"), SAYS)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [name]


@pytest.mark.parametrize(("name", "writer"), [("a.png", (Image.Image, "save")), ("a.tif", (tifffile, "imwrite"))])
def test_a_full_disk_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch, name, writer):
    def fail(*args, **kwargs):
        next(arg for arg in args if hasattr(arg, "write_bytes")).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / name).write_bytes(b"old")
    monkeypatch.setattr(*writer, fail)
    with pytest.raises(Refusal, match="the disk is full: free some space"):
        write_image(tmp_path / name, volume([[[0, 9]]], "uint8"), SAYS)
    assert (tmp_path / name).read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("sub-01_ses-2_T1w.nii.gz", "sub-01_ses-2_desc-synthetic_T2w.nii.gz"),
        ("lit_p01s1_T1.nii", "lit_p01s1_T1_synthetic-T2.nii"),
        ("orig.mgz", "orig_synthetic-T2.nii.gz"),
        ("Image #9.png", "Image #9.png"),
        ("Image #9.jpg", "Image #9.png"),
    ],
)
def test_no_synthetic_volume_has_the_name_of_a_real_t1(source, name):
    assert name_for(replace(volume([[[0, 9]]], "uint8"), path=Path(source)), "T2") == name


def test_a_dicom_series_becomes_a_folder(tmp_path):
    placed = replace(volume(np.arange(24).reshape(2, 3, 4), "int16"), affine=np.diag([-1.0, -1, 3, 1]))
    target = tmp_path / name_for(replace(placed, name="3 t1/se.tra", files=(Path("IM_1"),)), "T2")
    assert target.name == "3_t1_se_tra_synthetic-T2"
    written = write_image(target, placed, SAYS)
    assert [path.name for path in written] == ["IM_0001.dcm", "IM_0002.dcm"]
    np.testing.assert_array_equal(read_image(written[1]).data, placed.data[1:])


def test_a_volume_is_written_as_nifti_with_its_word_beside(tmp_path):
    placed = replace(volume(np.arange(24).reshape(2, 3, 4), "int16"), affine=np.diag([-1.0, -1, 3, 1]))
    written = write_image(tmp_path / "a.nii.gz", placed, SAYS)
    assert [path.name for path in written] == ["a.nii.gz", "a.json"]
    assert json.loads(written[1].read_text())["SyntheticImage"] is True
