"""Files to layers and back, as napari does it: by path, through the manifest."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dask.array as da
import nibabel
import numpy as np
import pydicom
import pytest
from napari.layers import Image, Layer
from npe2 import PluginManager
from PIL import Image as Pillow

from napari_t1t2.images.dicom_write import write_dicom
from napari_t1t2.images.read import read_files, read_image
from napari_t1t2.images.volume import Volume, spacing_of
from napari_t1t2.provenance import MAPS, Provenance
from napari_t1t2.widgets import files
from napari_t1t2.widgets.files import get_reader, read_layers

PLUGIN = "napari-t1t2"
OBLIQUE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.2, -0.1, 0.07) @ np.diag([-0.7, 0.9, 3.0]), [80.5, -60.25, 12.125]
)
AFFINES = {
    "plain": np.diag([0.7, 0.9, 3.0, 1]),
    "oblique": OBLIQUE,
    "flipped": OBLIQUE @ np.diag([1, -1, 1, 1]),
    "permuted": OBLIQUE[:, [2, 0, 1, 3]],
    "sheared": OBLIQUE @ (np.eye(4) + np.eye(4, k=1) * [0.3, 0.1, 0, 0]),
}
SYNTHETIC = Provenance(
    contrast="T2",
    model="model.safetensors",
    model_sha256="abc",
    step=7,
    source="sub-01_T1w",
    version="0.1",
)


@pytest.fixture(autouse=True)
def plugins():
    """What napari's window does when it starts."""
    PluginManager.instance().discover()


@pytest.fixture
def said(monkeypatch):
    """What was shown to the user."""
    sentences = []
    for name in ("show_info", "show_warning"):
        monkeypatch.setattr(files, name, sentences.append)
    return sentences


def voxels(shape=(6, 5, 4), dtype=np.int16) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(dtype)


def nifti(path: Path, affine=OBLIQUE, data=None) -> Path:
    nibabel.Nifti1Image(voxels() if data is None else data, affine).to_filename(path)
    return path


def volume(affine=OBLIQUE, shape=(4, 5, 6), **fields) -> Volume:
    return Volume(data=voxels(shape, np.float32), name="it", affine=affine, spacing=spacing_of(affine), **fields)


def save(viewer, path: Path, layer=None) -> list[Path]:
    before = set(path.parent.rglob("*"))
    viewer.layers.selection = {layer or viewer.layers[-1]}
    told = [Path(file) for file in viewer.layers.save(str(path), selected=True, plugin=PLUGIN)]
    made = {made for made in set(path.parent.rglob("*")) - before if made.is_file()}
    return told + sorted(made - set(told))  # of several, napari before 0.9 tells the first


@pytest.mark.parametrize("kind", AFFINES)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_volume_opened_and_saved_again_is_the_same_volume(viewer, tmp_path, kind, ending):
    source = nibabel.load(nifti(tmp_path / f"source{ending}", AFFINES[kind]))
    viewer.open(tmp_path / f"source{ending}", plugin=PLUGIN)
    assert save(viewer, tmp_path / f"saved{ending}") == [tmp_path / f"saved{ending}"]
    saved = nibabel.load(tmp_path / f"saved{ending}")
    np.testing.assert_allclose(saved.affine, source.affine, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(saved.dataobj), np.asarray(source.dataobj))
    assert saved.get_data_dtype() == source.get_data_dtype() == np.int16
    assert saved.header["sform_code"] == source.header["sform_code"]
    assert not saved.header.extensions and b"SYNTHETIC" not in bytes(saved.header["descrip"])


REAL = [
    *("anatomical.nii", "lit_axes_permuted_ZXY.nii.gz", "lit_flipped_noheaderfix.nii.gz", "lit_hot_voxel_int32.nii.gz"),
    *("lit_no_affine_codes.nii.gz", "lit_oblique_int16.nii.gz", "lit_single_slice_3d.nii.gz"),
    *("lit_scl_slope0.25_inter-100.nii", "lit_2d.nii.gz"),
]


@pytest.mark.parametrize("name", REAL)
def test_real_files_opened_and_saved_again_hold_the_same_voxels_in_the_same_places(viewer, real_data, tmp_path, name):
    path = real_data / "odd/nifti" / name
    viewer.open(path, plugin=PLUGIN)
    save(viewer, tmp_path / "saved.nii.gz")
    source, saved = nibabel.load(path), nibabel.load(tmp_path / "saved.nii.gz")
    corners = np.argwhere(np.ones((2, 2, 2))) * [n - 1 for n in (*source.shape, 1)[:3]]
    apart = nibabel.affines.apply_affine(saved.affine, corners) - nibabel.affines.apply_affine(source.affine, corners)
    assert np.abs(apart).max() < 1e-4
    np.testing.assert_allclose(saved.get_fdata().squeeze(), source.get_fdata().squeeze(), rtol=1e-6)


def test_an_unmoved_plain_file_keeps_values_it_cannot_hold_as_integers(viewer, tmp_path):
    viewer.open(nifti(tmp_path / "a.nii"), plugin=PLUGIN)
    viewer.layers[0].data = viewer.layers[0].data / 7
    save(viewer, tmp_path / "b.nii")
    assert nibabel.load(tmp_path / "b.nii").get_data_dtype() == np.float32


def test_a_layer_that_was_moved_is_saved_where_it_is(viewer, tmp_path):
    viewer.open(nifti(tmp_path / "a.nii"), plugin=PLUGIN)
    layer = viewer.layers[0]
    layer.affine = np.array([[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1.0]])  # superior, posterior, left
    save(viewer, tmp_path / "b.nii")
    moved = nibabel.load(tmp_path / "b.nii").affine - nibabel.load(tmp_path / "a.nii").affine
    np.testing.assert_allclose(moved[:3, 3], (-7, -6, 5), atol=1e-5)


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1), ("um", 0.001), ("cm", 10)])
def test_the_world_of_a_foreign_layer_with_lengths_is_that_of_itk(viewer, tmp_path, unit, mm):
    data = voxels((3, 4, 5))
    layer = Image(data, scale=(3, 2, 1), translate=(7, 8, 9), rotate=(3, 4, 5), units=(unit,) * 3, name="it")
    save(viewer, tmp_path / "it.nii", viewer.add_layer(layer))
    saved = nibabel.load(tmp_path / "it.nii")
    for index in np.argwhere(data >= 0)[::5]:
        superior, posterior, left = np.multiply(layer.data_to_world(index), mm)
        place = nibabel.affines.apply_affine(saved.affine, index[::-1])
        np.testing.assert_allclose(place, (-left, -posterior, superior), atol=1e-4)
        assert np.asarray(saved.dataobj)[tuple(index[::-1])] == data[tuple(index)]


def test_a_foreign_layer_without_lengths_keeps_the_size_of_its_voxels_and_claims_no_place(viewer, tmp_path):
    save(viewer, tmp_path / "it.nii", viewer.add_image(voxels(), scale=(3, 2, 1), translate=(7, 8, 9), name="it"))
    header = nibabel.load(tmp_path / "it.nii").header
    assert header.get_zooms() == (1, 2, 3) and header["qform_code"] == header["sform_code"] == 0


@pytest.mark.parametrize("kind", ["numpy", "dask", "multiscale"])
def test_arrays_of_each_kind_are_saved_in_full_resolution(viewer, tmp_path, kind):
    data = voxels((4, 8, 6), np.uint16)
    given = {"numpy": data, "dask": da.from_array(data), "multiscale": [data, data[:, ::2, ::2]]}[kind]
    layer = viewer.add_image(given, multiscale=kind == "multiscale", contrast_limits=(0, 200), units=("mm",) * 3)
    save(viewer, tmp_path / "it.nii", layer)
    saved = nibabel.load(tmp_path / "it.nii")
    np.testing.assert_array_equal(np.asarray(saved.dataobj).T, data)
    assert saved.get_data_dtype() == np.uint16


def test_a_slice_is_saved_as_one_and_a_colour_image_as_its_brightness(viewer, tmp_path, said):
    save(viewer, tmp_path / "flat.nii", viewer.add_image(voxels((7, 5)), scale=(2, 3), units=("mm", "mm")))
    flat = nibabel.load(tmp_path / "flat.nii")
    assert flat.shape == (5, 7, 1) and flat.header.get_zooms() == (3, 2, 1)
    save(viewer, tmp_path / "colour.nii", viewer.add_image(voxels((7, 5, 3), np.uint8), rgb=True, name="photo"))
    assert nibabel.load(tmp_path / "colour.nii").shape == (5, 7, 1) and "'photo' is in colour" in said[0]


def test_times_become_a_file_each(viewer, tmp_path):
    data = voxels((3, 4, 5, 6))
    written = save(viewer, tmp_path / "it.nii.gz", viewer.add_image(data, contrast_limits=(0, 300)))
    assert [path.name for path in written] == ["it_000.nii.gz", "it_001.nii.gz", "it_002.nii.gz"]
    np.testing.assert_array_equal(np.asarray(nibabel.load(written[2]).dataobj).T, data[2])


def test_without_an_ending_it_is_a_compressed_nifti(viewer, tmp_path):
    layer = viewer.add_image(voxels())
    (written,) = files.save_nifti(str(tmp_path / "T2 of 1.5 T"), *layer.as_layer_data_tuple()[:2])
    assert Path(written).name == "T2 of 1.5 T.nii.gz" and nibabel.load(written).shape == (4, 5, 6)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_a_synthetic_layer_says_so_in_its_file_and_is_read_back_as_synthetic(viewer, tmp_path, dtype):
    viewer.open(nifti(tmp_path / "sub-01_T1w.nii"), plugin=PLUGIN)
    source = viewer.layers[0]
    made = viewer.add_image(
        source.data + np.float32(0.25),
        name="T2 (synthetic) from sub-01",
        metadata=source.metadata | SYNTHETIC.to_dict() | {"dtype": dtype},
        **{key: getattr(source, key) for key in ("scale", "translate", "rotate", "shear", "affine", "units")},
    )
    written = save(viewer, tmp_path / "made.nii.gz", made)
    assert [path.name for path in written] == ["made.nii.gz", "made.json"]
    assert read_image(written[0]).provenance == SYNTHETIC
    assert json.loads(written[1].read_text())["SyntheticImage"] is True
    saved, original = nibabel.load(written[0]), nibabel.load(tmp_path / "sub-01_T1w.nii")
    np.testing.assert_allclose(saved.affine, original.affine, atol=1e-6)
    assert saved.shape == original.shape and saved.get_data_dtype() == dtype

    (again,) = viewer.open(written[0], plugin=PLUGIN)
    assert Provenance.from_dict(again.metadata) == SYNTHETIC and again.name == "made (synthetic)"
    np.testing.assert_allclose(again.extent.world, made.extent.world, atol=1e-4)


@pytest.mark.parametrize("kind", MAPS)
def test_a_map_that_is_read_back_looks_like_a_map_and_no_image(viewer, tmp_path, kind):
    viewer.open(nifti(tmp_path / "sub-01_T1w.nii"), plugin=PLUGIN)
    says = replace(SYNTHETIC, kind=kind, contrast=f"{kind} of T2")
    made = viewer.add_image(viewer.layers[0].data, metadata=viewer.layers[0].metadata | says.to_dict())
    (again,) = viewer.open(save(viewer, tmp_path / "made.nii.gz", made)[0], plugin=PLUGIN)
    assert (again.colormap.name, again.blending, again.metadata["kind"]) == ("inferno", "additive", kind)


@pytest.fixture
def t1_series(tmp_path) -> Path:
    """A folder of a small DICOM series; it is marked as synthetic, as all that is written here is."""
    folder = tmp_path / "t1 series"
    write_dicom(folder, replace(volume(dtype="int16"), provenance=replace(SYNTHETIC, contrast="T1")))
    return folder


def test_a_synthetic_layer_becomes_a_dicom_series_in_the_study_of_its_source(viewer, t1_series, tmp_path):
    viewer.open(t1_series, plugin=PLUGIN)
    layer = viewer.layers[0]
    assert layer.metadata["synthetic"] is True and "synthetic" in layer.name.casefold()
    layer.metadata.update(SYNTHETIC.to_dict())
    written = save(viewer, tmp_path / "made.dcm")
    assert {path.parent for path in written} == {tmp_path / "made"} and len(written) == 4
    source, made = (read_files(sorted(folder.iterdir()))[0][0] for folder in (t1_series, tmp_path / "made"))
    np.testing.assert_allclose(made.affine, source.affine, atol=1e-4)
    np.testing.assert_array_equal(made.data, source.data)
    headers = ([pydicom.dcmread(path) for path in v.files] for v in (source, made))
    for before, after in zip(*headers, strict=True):
        np.testing.assert_allclose(after.ImagePositionPatient, before.ImagePositionPatient, atol=1e-4)
        assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
        assert after.StudyInstanceUID == before.StudyInstanceUID and after.SeriesInstanceUID != before.SeriesInstanceUID


def test_a_real_layer_is_not_written_as_dicom_and_the_reason_reaches_the_user(viewer, tmp_path):
    layer = viewer.add_image(voxels(), name="mine", units=("mm",) * 3)
    with pytest.raises(OSError, match=r"'mine' is not synthetic.*save it as NIfTI"):
        save(viewer, tmp_path / "mine.dcm", layer)
    assert not list(tmp_path.iterdir())


def test_a_dicom_folder_opens_as_a_layer_for_each_series_and_ignores_what_else_lies_there(viewer, t1_series, said):
    write_dicom(t1_series / "other", replace(volume(AFFINES["flipped"]), provenance=SYNTHETIC))
    Pillow.new("L", (8, 8)).save(t1_series / "screenshot.png")
    (t1_series / "notes.txt").write_text("hello")
    layers = viewer.open(t1_series, plugin=PLUGIN)
    assert len(layers) == 2 and {layer.metadata["contrast"] for layer in layers} == {"T1", "T2"}
    assert not any("png" in sentence or "txt" in sentence for sentence in said)


def test_files_that_cannot_be_read_are_named_together_and_the_others_open(viewer, tmp_path, said):
    nifti(tmp_path / "good.nii")
    for name in ("a.nii", "b.nii"):
        (tmp_path / name).touch()
    assert [layer.name for layer in viewer.open(tmp_path, plugin=PLUGIN)] == ["good"]
    assert said == ["a.nii and 1 more: the file is empty (0 bytes); copy it again."]


def test_what_was_done_to_a_file_is_told(viewer, tmp_path, said):
    viewer.open(nifti(tmp_path / "times.nii", data=voxels((5, 4, 3, 2))), plugin=PLUGIN)
    assert said == ["times: 4D with 2 volumes: number 0 was taken; the volume number chooses"]


@pytest.mark.parametrize(("name", "content"), [("cut.nii.gz", b"\x1f\x8bcut"), ("no.dcm", b"hello"), ("a.mgz", b"")])
def test_a_file_that_cannot_be_read_is_named_in_a_sentence(viewer, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        viewer.open(tmp_path / name, plugin=PLUGIN)
    assert not viewer.layers


def test_pictures_are_left_to_napari(viewer, tmp_path):
    for name in ("a.png", "b.png"):
        Pillow.new("L", (8, 8)).save(tmp_path / name)
    assert get_reader(str(tmp_path / "a.png")) is None
    (layer,) = viewer.open(tmp_path, plugin=PLUGIN)  # napari offers our reader first, and it must not fail
    assert layer.data.shape == (2, 8, 8)
    nifti(tmp_path / "b.nii")
    assert get_reader(str(tmp_path)) and get_reader([str(tmp_path / "b.nii")])


def test_dicom_is_known_by_its_content_where_it_has_no_ending(t1_series):
    bare = t1_series / "IM_0001"
    shutil.move(sorted(t1_series.iterdir())[0], bare)
    assert get_reader(str(bare))
    assert [len(layer) for layer in read_layers([str(p) for p in t1_series.iterdir()])] == [3]  # data, about, kind
    (t1_series / "README").write_text("hello")
    assert get_reader(str(t1_series / "README")) is None


def test_a_header_opens_with_its_voxels(viewer, tmp_path):
    nibabel.Nifti1Pair(voxels(), OBLIQUE).to_filename(tmp_path / "pair.hdr")
    (layer,) = viewer.open(tmp_path / "pair.hdr", plugin=PLUGIN)
    assert sorted(layer.data.shape) == [4, 5, 6]


def test_looking_for_a_reader_brings_no_torch():
    code = "import sys, napari_t1t2.widgets.files as f; f.get_reader('a.nii'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_real_head_opens_saves_and_opens_in_one_place(viewer, real_data, tmp_path):
    for contrast in ("T1", "T2"):
        viewer.open(real_data / f"eval/lit_p04/{contrast}.nii.gz", plugin=PLUGIN)
    t1, t2 = viewer.layers
    np.testing.assert_allclose(t1.extent.world, t2.extent.world, atol=1e-4)
    save(viewer, tmp_path / "t1.nii.gz", t1)
    again = Layer.create(*read_layers(str(tmp_path / "t1.nii.gz"))[0])
    np.testing.assert_allclose(again.extent.world, t1.extent.world, atol=1e-4)
    np.testing.assert_array_equal(again.data, t1.data)
    assert read_image(tmp_path / "t1.nii.gz").dtype == read_image(real_data / "eval/lit_p04/T1.nii.gz").dtype
