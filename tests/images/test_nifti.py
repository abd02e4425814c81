import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from napari_t1t2.errors import Refusal, UnusableError
from napari_t1t2.images.names import is_nifti, stem
from napari_t1t2.images.nifti import read_nifti
from napari_t1t2.images.nifti_write import write_nifti
from napari_t1t2.images.read import read_all
from napari_t1t2.images.volume import Volume
from napari_t1t2.provenance import Provenance

OBLIQUE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.1, -0.2, 0.3) @ np.diag([-0.9, 0.9, 3.0]), [80.5, -60.25, 12.125]
)
AFFINES = {
    "plain": np.diag([1.0, 1, 1, 1]),
    "oblique": OBLIQUE,
    "flipped": OBLIQUE @ np.diag([1, -1, 1, 1]),
    "permuted": OBLIQUE[:, [2, 0, 1, 3]],
    "sheared": OBLIQUE @ (np.eye(4) + np.eye(4, k=1) * [1, 0.2, 0, 0]),
}
SAYS = Provenance(
    contrast="T2",
    model="ü.safetensors",
    model_sha256="abc",
    step=7,
    source="é.nii.gz",
    version="0.1",
)
STORED = {  # in odd/nifti: shape, spacing in mm and type that a file must be read as
    "anatomical.nii": ((25, 41, 33), (2, 2, 2), "int16"),
    "lit_2d.nii.gz": ((1, 128, 128), (3, 1.82, 1.82), "int16"),
    "lit_4d_3vol.nii.gz": ((28, 128, 128), (3, 1.82, 1.82), "int16"),
    "lit_4d_singleton.nii.gz": ((28, 128, 128), (3, 1.82, 1.82), "int16"),
    "lit_axes_permuted_ZXY.nii.gz": ((128, 128, 28), (1.82, 1.82, 3), "int16"),
    "lit_flipped_noheaderfix.nii.gz": ((28, 128, 128), (3, 1.82, 1.82), "int16"),
    "lit_float64_1e8range.nii.gz": ((28, 128, 128), (3, 1.82, 1.82), "float32"),
    "lit_hot_voxel_int32.nii.gz": ((28, 128, 128), (3, 1.82, 1.82), "int32"),
    "lit_nan_inf_float32.nii.gz": ((28, 128, 128), (3, 1.82, 1.82), "float32"),
    "lit_no_affine_codes.nii.gz": ((28, 128, 128), (1, 1, 1), "int16"),
    "lit_oblique_int16.nii.gz": ((28, 128, 128), (3, 1.82, 1.82), "int16"),
    "lit_rgb24.nii.gz": ((28, 128, 128), (3, 1.82, 1.82), "uint8"),
    "lit_scl_slope0.25_inter-100.nii": ((28, 128, 128), (3, 1.82, 1.82), "float32"),
    "lit_single_slice_3d.nii.gz": ((1, 128, 128), (3, 1.82, 1.82), "int16"),
}
REFUSED = {
    "nifti/all_zero.nii.gz": "every pixel is 0; there is no image in it",
    "nifti/lit_binary_mask_uint8.nii.gz": "holds only the values 0 and 1: a mask, not an image",
    "broken/header_only.nii": "it is truncated, 0 of 28 slices are there; copy it again",
    "broken/header_only_nifti1.hdr": r"header_only_nifti1\.img, its other half, is not beside it",
    "broken/nii_named_gz_but_not_gzipped.nii.gz": "it is truncated, 3 of 28 slices",
    "broken/truncated.nii.gz": "its compressed data end early",
    "broken/zero_bytes.nii": "the file is empty",
}


@pytest.fixture
def stack(head) -> np.ndarray:
    """(Z, Y, X), int16."""
    return np.stack([head(i, "T1") for i in range(5)]).astype(np.int16)


@pytest.fixture
def saved(tmp_path, stack):
    """Saves a volume, given as (Z, Y, X), and returns its path: `saved("a.nii", data, sform_code=0)`."""

    def save(name="a.nii.gz", data=stack, affine=OBLIQUE, kind=nibabel.Nifti1Image, slope=None, **header) -> Path:
        image = kind(data.T, affine)
        if slope:
            image.header.set_slope_inter(*slope)
        if hasattr(image, "set_qform"):
            image.set_qform(affine)
        for field, value in header.items():
            image.header[field] = value
        image._affine = None  # else nibabel makes the header agree with it again
        image.to_filename(tmp_path / name)
        return tmp_path / name

    return save


def corners(affine, shape) -> np.ndarray:
    """(8, 3) RAS+ mm of the corners of (X, Y, Z) voxels."""
    index = np.array(np.meshgrid(*((0, side - 1) for side in shape[:3]), indexing="ij")).reshape(3, -1)
    return (affine @ np.vstack([index, np.ones(8)]))[:3].T


@pytest.mark.parametrize(
    ("name", "bare"),
    [("a.nii", "a"), ("a.b.NII.GZ", "a.b"), ("a.hdr", "a"), ("a.img.gz", "a"), ("a.mgz", "a"), ("a.MGH", "a")],
)
def test_a_double_ending_is_one(name, bare):
    assert is_nifti(Path(name))
    assert stem(Path(name)) == bare


@pytest.mark.parametrize("name", ["a.gz", "a.png", "nii", "a.nii.txt", "a.gii"])
def test_other_names_are_not_taken(name):
    assert not is_nifti(Path(name))


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image, nibabel.Nifti1Pair, nibabel.MGHImage])
def test_a_volume_comes_in_its_own_order_with_its_affine(saved, stack, kind):
    name = {nibabel.Nifti1Pair: "a.img", nibabel.MGHImage: "a.mgz"}.get(kind, "a.nii.gz")
    volume = read_nifti(saved(name, kind=kind), "T1")
    np.testing.assert_array_equal(volume.data, stack)
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-4)
    np.testing.assert_allclose(volume.spacing, (3, 0.9, 0.9), rtol=1e-5)
    assert (volume.data.dtype, volume.affine.dtype) == (np.float32, np.float64)
    assert (volume.name, volume.series, volume.contrast, volume.dtype) == ("a", name, "T1", "int16")
    assert volume.notes == ()


def test_either_half_of_a_pair_is_the_volume(saved, stack):
    path = saved("a.img", kind=nibabel.Nifti1Pair)
    np.testing.assert_array_equal(read_nifti(path.with_suffix(".hdr")).data, stack)
    path.unlink()
    with pytest.raises(UnusableError, match=r"^a\.hdr: a\.img, its other half, is not beside it; copy both"):
        read_nifti(path.with_suffix(".hdr"))


def test_a_compressed_pair_is_one_volume(tmp_path, saved, stack):
    (tmp_path / "z").mkdir()
    for half in (saved("a.img", kind=nibabel.Nifti1Pair), tmp_path / "a.hdr"):
        (tmp_path / "z" / f"{half.name}.gz").write_bytes(gzip.compress(half.read_bytes()))
    (volume,) = read_all(tmp_path / "z").volumes
    np.testing.assert_array_equal(volume.data, stack)
    assert volume.series == "a.img.gz"


def test_values_on_a_surface_are_refused(saved):
    path = saved("a.dscalar.nii", kind=nibabel.Nifti2Image, intent_code=3006)
    with pytest.raises(UnusableError, match=r"^a\.dscalar\.nii: holds values on a surface \(CIFTI\), not a volume"):
        read_nifti(path)


def test_an_analyze_file_says_that_its_orientation_was_assumed(saved):
    volume = read_nifti(saved("a.img", kind=nibabel.AnalyzeImage, affine=np.diag([-2.0, 2, 3, 1])))
    assert volume.notes == ("its header holds no orientation: its axes were taken to run left-anterior-superior",)
    assert volume.spacing == (3, 2, 2)


def test_the_name_and_else_the_folder_say_the_contrast_and_the_head(tmp_path, saved):
    file = saved().read_bytes()
    for name, looks, subject in [
        ("sub-07_ses-1_T2w.nii.gz", "T2", "sub-07"),
        ("p3_T1.nii.gz", "T1", "p3"),
        ("T2/p4.nii.gz", "T2", "p4"),
    ]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(file)
        volume = read_nifti(tmp_path / name)
        assert (volume.looks, volume.subject) == (looks, subject)


def test_a_file_without_codes_says_that_its_orientation_was_assumed(saved):
    volume = read_nifti(saved(sform_code=0, qform_code=0))
    np.testing.assert_allclose(np.diag(volume.affine), (-0.9, 0.9, 3, 1), rtol=1e-6)
    assert volume.notes == ("its header holds no orientation: its axes were taken to run left-anterior-superior",)


@pytest.mark.parametrize(("code", "factor", "unit"), [(1, 1000, "metres"), (3, 0.001, "micrometres")])
def test_a_file_in_metres_comes_in_millimetres(saved, code, factor, unit):
    volume = read_nifti(saved(affine=np.diag([2 / factor, 2 / factor, 3 / factor, 1]), xyzt_units=code))
    np.testing.assert_allclose(volume.spacing, (3, 2, 2), rtol=1e-6)
    np.testing.assert_allclose(np.diag(volume.affine), (2, 2, 3, 1), rtol=1e-6)
    assert volume.notes == (f"its header is in {unit}; turned to mm",)


@pytest.mark.parametrize("row", [(0, 0, 0, 0), (np.nan, 0, 0, 0)])
def test_a_useless_sform_gives_way_to_the_qform_and_then_to_the_size_of_a_voxel(saved, row):
    volume = read_nifti(saved(srow_x=row, sform_code=1, qform_code=1))
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-4)
    assert volume.notes == ("its sform is singular or not finite: the qform was used",)
    volume = read_nifti(saved(srow_x=row, sform_code=1, qform_code=0))
    np.testing.assert_allclose(volume.spacing, (3, 0.9, 0.9), rtol=1e-5)
    assert "the orientation assumed" in volume.notes[0]


def test_a_2d_file_is_one_slice(saved, stack):
    volume = read_nifti(saved(data=stack[0]))
    np.testing.assert_array_equal(volume.data, stack[:1])


def test_of_a_4d_file_one_volume_is_taken_and_that_is_said(saved, stack):
    for name in ("a.nii", "a.nii.gz"):
        path = saved(name, data=np.stack([stack, stack + 1, stack + 2]))
        assert read_nifti(path).notes == ("4D with 3 volumes: number 0 was taken; the volume number chooses",)
        np.testing.assert_array_equal(read_nifti(path, frame=2).data, stack + 2)
        for frame in (3, -1):
            with pytest.raises(UnusableError, match=rf"holds 3 volumes, 0 to 2; there is no number {frame}:"):
                read_nifti(path, frame=frame)


def test_single_axes_are_dropped_without_a_word(saved, stack):
    path = saved(data=stack[None, None])
    assert (read_nifti(path).data.shape, read_nifti(path).notes) == (stack.shape, ())
    np.testing.assert_array_equal(read_nifti(path, frame=1).data, read_nifti(path).data)  # numbers are for 4D files


def test_colour_becomes_luminance(saved, stack):
    colour = np.zeros(stack.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour["R"] = stack
    volume = read_nifti(saved(data=colour))
    np.testing.assert_array_equal(volume.data, np.rint(0.299 * stack))
    assert (volume.dtype, volume.notes) == ("uint8", ("colour was turned to grey",))


def test_complex_values_become_their_magnitude(saved, stack):
    volume = read_nifti(saved(data=(stack * (0.6 + 0.8j)).astype(np.complex64)))
    np.testing.assert_allclose(volume.data, stack, rtol=1e-6)
    assert volume.notes == ("complex values: their magnitude was taken",)


def test_holes_become_the_lowest_value_and_are_counted(saved, stack):
    data = stack.astype(np.float32) - 20
    data[0, :2, 0], data[1, 0, 0] = np.nan, np.inf
    volume = read_nifti(saved(data=data))
    assert volume.data[0, 0, 0] == volume.data[1, 0, 0] == -20
    assert volume.notes == ("3 pixels are NaN or infinite and were set to the lowest value",)


@pytest.mark.parametrize(
    ("slope", "dtype"), [((2, 0), "int16"), ((1, -1024), "int16"), ((0.25, -100), "float32"), ((1000, 0), "float32")]
)
def test_stored_values_are_scaled_and_keep_their_type_while_they_fit(saved, stack, slope, dtype):
    path = saved(data=stack, slope=slope)
    volume = read_nifti(path)
    np.testing.assert_array_equal(volume.data, nibabel.load(path).get_fdata().T)
    assert volume.data.max() > stack.max() or slope[1]
    assert volume.dtype == dtype


@pytest.mark.parametrize("dtype", [">i2", ">f4", "<f8", "i8", "u4", "i1"])
def test_any_type_of_number_is_read(saved, stack, dtype):
    data = (stack // 3 - 7 * (dtype != "u4")).astype(dtype)
    header = nibabel.Nifti1Header(endianness=dtype[0] if dtype[0] in "<>" else "<")
    header.set_data_dtype(data.dtype)
    path = saved()
    nibabel.Nifti1Image(data.T, OBLIQUE, header).to_filename(path)
    volume = read_nifti(path)
    np.testing.assert_array_equal(volume.data, data)
    assert volume.data.dtype.isnative
    assert volume.dtype == ("float32" if data.dtype.kind == "f" else data.dtype.name)


def test_masks_and_flat_images_are_refused(saved, stack):
    with pytest.raises(UnusableError, match=r"^a\.nii\.gz: holds only the values 0 and 3: a mask, not an image"):
        read_nifti(saved(data=np.where(stack > 90, 3, 0).astype(np.uint8)))
    path = saved(data=stack * 0 + 4)
    with pytest.raises(UnusableError, match=r"^a\.nii\.gz: every pixel is 4; there is no image in it"):
        read_nifti(path)
    assert read_nifti(path, flat=True).data.max() == 4


@pytest.mark.parametrize(
    ("name", "kind"), [("a.nii", None), ("a.nii", nibabel.Nifti2Image), ("a.mgh", nibabel.MGHImage)]
)
def test_a_name_that_is_wrong_about_compression_does_no_harm(tmp_path, saved, stack, name, kind):
    plain = saved(name, kind=kind or nibabel.Nifti1Image)
    zipped = gzip.compress(plain.read_bytes())
    misnamed = tmp_path / ("b.mgz" if name == "a.mgh" else "b.nii.gz")
    misnamed.write_bytes(plain.read_bytes())
    plain.write_bytes(zipped)
    for path, note in [(misnamed, "it is not compressed, against its name"), (plain, "it is compressed, against")]:
        volume = read_nifti(path)
        np.testing.assert_array_equal(volume.data, stack)
        assert volume.notes[0].startswith(note)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.img", "a.hdr", "a.mgz", "a.mgh"])
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path, saved, name, capfd):
    kind = nibabel.MGHImage if ".mg" in name else nibabel.Nifti1Image if "nii" in name else nibabel.Nifti1Pair
    whole = saved(name, kind=kind).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    damages = [b"", b"hello", whole[:30], whole[: len(whole) // 2]]
    damages += [b"hello" * 9999] if name != "a.img" else []  # which has no header
    damages += [bytes(flipped)] if name.endswith("z") else []  # which has a checksum
    for damaged in damages:
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(UnusableError, match=rf"^{name}: .*[.?]$"):
            read_nifti(tmp_path / name)
    (tmp_path / name).unlink()
    with pytest.raises(UnusableError, match=rf"{name} does not exist: check the name\."):
        read_nifti(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_a_dubious_header_is_read_in_silence(saved, capfd, recwarn):
    read_nifti(saved(pixdim=[0, -1, 0, 3, 1, 1, 1, 1], sform_code=77, bitpix=9))
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize("codes", [(0, 2), (1, 1), (1, 4), (1, 0)])
@pytest.mark.parametrize("name", AFFINES)
def test_every_voxel_stays_where_it_was(tmp_path, saved, stack, name, codes):
    path = saved(affine=AFFINES[name], qform_code=codes[0], sform_code=codes[1])
    source, volume = nibabel.load(path), read_nifti(path)
    for source_of in (path, None):
        write_nifti(tmp_path / "b.nii.gz", replace(replace(volume, path=source_of), provenance=SAYS))
        written = nibabel.load(tmp_path / "b.nii.gz")
        np.testing.assert_array_equal(written.dataobj, source.dataobj)
        np.testing.assert_allclose(
            corners(written.affine, source.shape), corners(source.affine, source.shape), atol=1e-4
        )
        if source_of:  # the fields themselves, of another space too
            assert (written.header["qform_code"], written.header["sform_code"]) == codes
            for field in ("quatern_b", "qoffset_x", "srow_x", "srow_z", "pixdim"):
                np.testing.assert_array_equal(*(np.ravel(i.header[field])[:4] for i in (written, source)))
        elif codes != (1, 0):  # what a quaternion cannot say is left to the sform
            assert written.header["sform_code"] == 1
            assert written.header["qform_code"] == (name != "sheared")


def test_a_crop_keeps_the_code_and_moves(tmp_path, saved, stack):
    volume = read_nifti(saved(sform_code=4, qform_code=1))
    moved = volume.affine.copy()
    moved[:3, 3] = (moved @ (2, 3, 1, 1))[:3]
    write_nifti(tmp_path / "b.nii", replace(volume, data=volume.data[1:, 3:, 2:], affine=moved))
    written = nibabel.load(tmp_path / "b.nii")
    np.testing.assert_allclose(written.affine, moved, atol=1e-5)
    assert (written.header["qform_code"], written.header["sform_code"]) == (4, 4)
    np.testing.assert_allclose(written.header.get_qform(), moved, atol=1e-3)


def test_a_file_in_metres_is_written_in_millimetres(tmp_path, saved):
    volume = read_nifti(saved(affine=np.diag([0.002, 0.002, 0.003, 1]), xyzt_units=1))
    write_nifti(tmp_path / "b.nii", volume)
    written = nibabel.load(tmp_path / "b.nii")
    assert written.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(written.affine, volume.affine, rtol=1e-6)
    assert read_nifti(tmp_path / "b.nii").notes == ()


def test_what_has_no_orientation_gets_none(tmp_path, saved, stack):
    for source in (
        read_nifti(saved(sform_code=0, qform_code=0)),
        read_nifti(saved("a.img", kind=nibabel.AnalyzeImage, affine=np.diag([-2.0, 2, 3, 1]))),
        Volume(data=stack.astype(np.float32), name="a", spacing=(3, 2, 1)),
    ):
        write_nifti(tmp_path / "b.nii", replace(source, provenance=SAYS))
        written = nibabel.load(tmp_path / "b.nii")
        assert (written.header["qform_code"], written.header["sform_code"]) == (0, 0)
        np.testing.assert_allclose(written.header.get_zooms(), source.spacing[::-1], rtol=1e-6)
        if source.affine is not None:
            np.testing.assert_array_equal(written.affine, source.affine)


@pytest.mark.parametrize("name", ["a.mgz", "2d.nii.gz", "a.nii"])
def test_mgh_2d_and_nifti_2_come_back_in_their_place(tmp_path, saved, stack, name):
    kind = {"a.mgz": nibabel.MGHImage, "a.nii": nibabel.Nifti2Image}.get(name, nibabel.Nifti1Image)
    volume = read_nifti(saved(name, kind=kind, data=stack[0] if "2d" in name else stack))
    write_nifti(tmp_path / "b.nii.gz", replace(volume, provenance=SAYS))
    again = read_nifti(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(again.data, volume.data)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "stored", "values"),
    [
        ("uint8", "uint8", [0, 1, 255, 0]),
        ("int16", "int16", [0, 1, 300, -3]),
        ("int64", "int32", [0, 1, 300, -3]),
        ("uint64", "int32", [0, 1, 300, -3]),
        ("float32", "float32", [0.4, 0.6, 300, -3]),
        ("float64", "float32", [0.4, 0.6, 300, -3]),
    ],
)
def test_integers_are_rounded_and_clipped_and_rare_types_avoided(tmp_path, dtype, stored, values):
    data = np.array([[[0.4, 0.6, 300, -3]]], np.float32)
    write_nifti(tmp_path / "a.nii", Volume(data=data, name="a", dtype=dtype))
    written = nibabel.load(tmp_path / "a.nii")
    np.testing.assert_array_equal(np.ravel(written.dataobj), np.array(values, stored))
    assert written.get_data_dtype() == stored


def test_integers_too_wide_for_32_bits_become_float(tmp_path):
    volume = Volume(data=np.array([[[0, 3e9]]], np.float32), name="a", dtype="int64")
    write_nifti(tmp_path / "a.nii", volume)
    assert nibabel.load(tmp_path / "a.nii").get_fdata().max() == 3e9


def test_a_synthetic_file_says_so_wherever_one_may_look(tmp_path, saved):
    path, sidecar = write_nifti(tmp_path / "new" / "x_T2w.nii.gz", replace(read_nifti(saved()), provenance=SAYS))
    assert (path.name, sidecar.name) == ("x_T2w.nii.gz", "x_T2w.json")
    assert read_nifti(path).provenance == SAYS
    assert nibabel.load(path).header["descrip"].item() == b"SYNTHETIC T2 - not for diagnosis"
    said = json.loads(sidecar.read_text(encoding="utf-8"))
    assert (said["SyntheticImage"], said["Contrast"], said["Sources"]) == (True, "T2", ["é.nii.gz"])
    made_by = said["GeneratedBy"][0]
    assert (made_by["Name"], made_by["Model"], made_by["Step"]) == ("napari-t1t2", "ü.safetensors", 7)
    assert made_by["Version"]


def test_a_real_image_carries_no_mark(tmp_path, saved):
    assert write_nifti(tmp_path / "b.nii", read_nifti(saved())) == [tmp_path / "b.nii"]
    assert read_nifti(tmp_path / "b.nii").provenance is None
    assert not nibabel.load(tmp_path / "b.nii").header["descrip"].item()
    assert not (tmp_path / "b.json").exists()


def test_another_s_comment_is_no_provenance(tmp_path, stack):
    image = nibabel.Nifti1Image(stack.T, OBLIQUE)
    for comment in (b"hello", b"[1]", b'{"a": 1}', b"\xff"):
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", comment))
    image.to_filename(tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii").provenance is None


def test_no_name_of_a_patient_is_handed_on(tmp_path, saved):
    path = saved(descrip=b"Doe^Jane", db_name=b"Doe^Jane", aux_file=b"Doe^Jane", intent_name=b"Doe^Jane")
    for file in write_nifti(tmp_path / "b.nii", replace(read_nifti(path), provenance=SAYS)):
        assert b"Doe" not in file.read_bytes()


def test_a_long_label_does_not_push_the_warning_out(tmp_path, saved):
    write_nifti(tmp_path / "b.nii", replace(read_nifti(saved()), provenance=replace(SAYS, contrast="é" * 90)))
    descrip = nibabel.load(tmp_path / "b.nii").header["descrip"].item()
    assert len(descrip) <= 79
    assert descrip.endswith(b"not for diagnosis")


def test_a_sidecar_of_another_image_is_left_alone(tmp_path, saved):
    (tmp_path / "b.json").write_text('{"EchoTime": 0.1}')
    with pytest.raises(ValueError, match=r"b\.json beside it belongs to another image; choose another name"):
        write_nifti(tmp_path / "b.nii", replace(read_nifti(saved()), provenance=SAYS))
    assert not (tmp_path / "b.nii").exists()
    (tmp_path / "b.json").unlink()
    for _ in range(2):  # one of ours is replaced
        write_nifti(tmp_path / "b.nii", replace(read_nifti(saved()), provenance=SAYS))


def test_only_nifti_is_written(tmp_path, saved):
    for name in ("b.img", "b.mgz", "b.png"):
        with pytest.raises(ValueError, match=rf"{name}: .* written as \.nii or \.nii\.gz; change the ending"):
            write_nifti(tmp_path / name, read_nifti(saved()))


def test_the_same_image_makes_the_same_file_whatever_its_name(tmp_path, saved):
    volume = read_nifti(saved())
    first, second = (write_nifti(tmp_path / name, volume)[0].read_bytes() for name in ("b.nii.gz", "c.NII.GZ"))
    assert first == second
    assert first[:2] == b"\x1f\x8b"


def test_an_axis_too_long_for_nifti_1_makes_nifti_2(tmp_path):
    data = np.arange(40000, dtype=np.float32).reshape(1, 1, -1)
    write_nifti(tmp_path / "a.nii", replace(Volume(data=data, name="a", affine=np.eye(4)), provenance=SAYS))
    assert isinstance(nibabel.load(tmp_path / "a.nii"), nibabel.Nifti2Image)
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii").data, data)
    assert read_nifti(tmp_path / "a.nii").provenance == SAYS


def test_a_full_disk_leaves_the_old_file_and_no_half_one(tmp_path, saved, monkeypatch):
    def fail(self, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    volume = read_nifti(saved("a.nii"))
    (tmp_path / "b.nii.gz").write_bytes(b"old")
    monkeypatch.setattr(nibabel.Nifti1Image, "to_stream", fail)
    with pytest.raises(Refusal, match="the disk is full: free some space"):
        write_nifti(tmp_path / "b.nii.gz", replace(volume, provenance=SAYS))
    assert (tmp_path / "b.nii.gz").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii", "b.nii.gz"]


def test_a_viewer_is_told_a_window(tmp_path, saved):
    write_nifti(tmp_path / "b.nii", read_nifti(saved()))
    header = nibabel.load(tmp_path / "b.nii").header
    assert 0 <= header["cal_min"] < 100 < header["cal_max"] <= 255


def test_nibabel_is_loaded_only_when_a_file_is():
    code = "import sys, napari_t1t2.images.nifti; sys.exit('nibabel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", STORED)
def test_an_odd_file_is_read_and_comes_back(real_data, tmp_path, name):
    path = real_data / "odd" / "nifti" / name
    volume, source = read_nifti(path), nibabel.load(path)
    shape, spacing, dtype = STORED[name]
    assert (volume.data.shape, volume.dtype) == (shape, dtype)
    np.testing.assert_allclose(volume.spacing, spacing, rtol=1e-3)
    np.testing.assert_array_equal(volume.affine, source.affine)
    write_nifti(tmp_path / "b.nii.gz", replace(volume, provenance=SAYS))
    np.testing.assert_array_equal(nibabel.load(tmp_path / "b.nii.gz").affine, source.affine)
    np.testing.assert_array_equal(read_nifti(tmp_path / "b.nii.gz").data, volume.data)


@pytest.mark.parametrize("name", REFUSED)
def test_a_useless_file_is_refused_by_name_with_the_reason(real_data, name):
    with pytest.raises(UnusableError, match=f"^{Path(name).name}: .*{REFUSED[name]}"):
        read_nifti(real_data / "odd" / name)


@pytest.mark.parametrize(("name", "looks"), [("volumes/T1/lit_p01s1_T1", "T1"), ("eval/lit_p04/T2", "T2")])
def test_a_real_head_comes_back_to_the_bit(real_data, tmp_path, name, looks):
    path = real_data / f"{name}.nii.gz"
    volume = read_nifti(path)
    assert (volume.looks, volume.dtype, volume.notes) == (looks, "int16", ())
    assert volume.subject.startswith("lit_p0")
    write_nifti(tmp_path / "b.nii", volume)
    source, written = nibabel.load(path), nibabel.load(tmp_path / "b.nii")
    np.testing.assert_array_equal(written.dataobj, source.dataobj)
    for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_z", "sform_code", "qform_code"):
        np.testing.assert_array_equal(written.header[field], source.header[field])
    moved = replace(volume, path=None)  # made anew, the quaternion agrees with the affine as well
    write_nifti(tmp_path / "c.nii", moved)
    header = nibabel.load(tmp_path / "c.nii").header
    assert header["qform_code"] == header["sform_code"] == 1
    assert np.abs(corners(header.get_qform() - volume.affine, source.shape)).max() < 0.01


def test_a_real_image_does_not_inherit_the_word_of_a_synthetic_one(tmp_path):
    image = Volume(data=np.arange(24, dtype=np.float32).reshape(2, 3, 4), name="a", dtype="int16", affine=np.eye(4))
    write_nifti(tmp_path / "a.nii", replace(image, provenance=SAYS))
    assert read_nifti(tmp_path / "a.nii").synthetic
    write_nifti(tmp_path / "a.nii", image)
    assert not (tmp_path / "a.json").exists()
    assert not read_nifti(tmp_path / "a.nii").synthetic


@pytest.mark.parametrize(("qform_code", "took", "side"), [(1, "qform", 2.2), (0, "sform", 1.0)])
def test_a_header_that_disagrees_with_itself_is_said(tmp_path, qform_code, took, side):
    image = nibabel.Nifti1Image(np.random.default_rng(0).integers(0, 99, (6, 7, 8)).astype(np.int16), None)
    image.set_qform(np.diag([2.2, 2.2, 6, 1]), qform_code)
    image.set_sform(np.eye(4), 2)
    image.header["pixdim"][1:4] = 2.2, 2.2, 6
    nibabel.save(image, tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    assert f"its sform says voxels of 1x1x1, its pixdim 2.2x2.2x6: the {took} was taken" in volume.notes
    assert volume.spacing[2] == pytest.approx(side)


VOXELS = np.random.default_rng(0).integers(0, 900, (6, 5, 4)).astype(np.int16)
PIXDIM, QFORM, SFORM = 76, 252, 254  # where a NIfTI-1 header keeps them


def patched(path: Path, *at: tuple[int, bytes], voxels=VOXELS, shift: float = 0) -> Path:
    """A file of 1x1x3 mm with both forms, some bytes of its header replaced."""
    affine = np.diag([1.0, 1, 3, 1])
    image = nibabel.Nifti1Image(voxels, affine)
    affine[0, 3] = shift
    image.set_qform(affine, 1)
    image.to_filename(path)
    raw = bytearray(path.read_bytes())
    for offset, value in at:
        raw[offset : offset + len(value)] = value
    path.write_bytes(raw)
    return path


def test_a_stack_that_was_counted_as_times_is_a_stack(tmp_path):
    image = nibabel.Nifti1Image(VOXELS[:, :, None, :], np.diag([1.0, 1, 3, 1]))
    image.to_filename(tmp_path / "P1_T1.nii")
    for number in (0, 3):
        volume = read_nifti(tmp_path / "P1_T1.nii", frame=number)
        np.testing.assert_array_equal(volume.data, VOXELS.T)
        assert volume.notes == ("its 4 volumes of one slice were taken for a stack",)


def test_a_side_of_0_mm_is_no_side_of_1_mm(tmp_path):
    zero, none = (PIXDIM + 12, bytes(4)), (SFORM, bytes(2))
    volume = read_nifti(patched(tmp_path / "a.nii", zero, none))
    assert (volume.spacing, volume.affine) == (None, None)
    assert volume.notes == ("its header gives its voxels a side of 0 mm: their size was taken for unknown",)
    volume = read_nifti(patched(tmp_path / "b.nii", zero))
    assert volume.spacing == (3, 1, 1)
    assert volume.notes == ("its pixdim gives its voxels a side of 0 mm: the sform was taken",)


def test_forms_that_contradict_each_other_are_said(tmp_path):
    mirrored = read_nifti(patched(tmp_path / "a.nii", (PIXDIM, np.float32(-1).tobytes())))
    assert "take left for right of each other" in mirrored.notes[0]
    assert read_nifti(patched(tmp_path / "b.nii", shift=9)).notes == (
        "its sform and qform lie apart: the sform was taken",
    )
    assert read_nifti(patched(tmp_path / "c.nii", shift=0.2)).notes == ()


def test_voxels_within_the_header_are_refused(tmp_path):
    with pytest.raises(UnusableError, match=r"its voxels would begin within its header \(vox_offset 0\)"):
        read_nifti(patched(tmp_path / "a.nii", (108, bytes(4))))


@pytest.mark.parametrize(("frame", "looks"), [(0, "PD"), (1, "T2")])
def test_of_a_bids_file_of_both_echoes_the_second_is_the_t2(tmp_path, frame, looks):
    path = tmp_path / "sub-01_PDT2.nii"
    nibabel.Nifti1Image(np.stack([VOXELS] * 2, axis=-1), np.eye(4)).to_filename(path)
    assert read_nifti(path, frame=frame).looks == looks


def test_many_volumes_without_a_word_and_those_with_directions_are_no_contrast(tmp_path):
    for name, count in (("few", 4), ("many", 25), ("directions", 4)):
        nibabel.Nifti1Image(np.stack([VOXELS] * count, axis=-1), np.eye(4)).to_filename(tmp_path / f"{name}.nii")
    (tmp_path / "directions.bval").write_text("0 0 1000 1000")
    nibabel.Nifti1Image(np.stack([VOXELS] * 3, axis=-1)[:, :, :, None], np.eye(4)).to_filename(tmp_path / "warp.nii")
    looks = {name: read_nifti(tmp_path / f"{name}.nii").looks for name in ("few", "many", "directions", "warp")}
    expected = {"few": "", "many": "series of 25 images", "directions": "diffusion", "warp": "vector field"}
    assert looks == expected


@pytest.mark.parametrize(
    ("sidecar", "looks"),
    [
        ({"EchoTime": 98, "RepetitionTime": 5000}, "T2"),  # in ms, against BIDS
        ({"SeriesDescription": "T1", "EchoTime": 4.6, "RepetitionTime": 9.6, "InversionTime": 900}, "T1"),
        ({"SeriesDescription": "T1", "ImageTypeText": ["ORIGINAL", "PRIMARY", "P"]}, "phase"),
        ({"SeriesDescription": "T1", "ComplexImageComponent": "PHASE"}, "phase"),
        ({"SeriesDescription": "T1", "Modality": "CT"}, "CT"),
        ({"EchoTime": "0.098", "RepetitionTime": [5]}, "T2"),
        ({"SeriesDescription": "T2", "EchoTime": [0.003]}, "T2, but a TE of 3 ms, which no T2 has"),
        ({"SeriesDescription": "T2", "EchoTime": [0.003, 0.09]}, "T2"),
        ({"SeriesDescription": "T2", "EchoTime": "short", "RepetitionTime": float("nan")}, "T2"),
    ],
)
def test_a_sidecar_is_read_as_it_was_meant(tmp_path, sidecar, looks):
    nibabel.Nifti1Image(VOXELS, np.eye(4)).to_filename(tmp_path / "scan.nii")
    (tmp_path / "scan.json").write_text(json.dumps(sidecar))
    assert read_nifti(tmp_path / "scan.nii").looks == looks


def test_a_freesurfer_file_without_a_place_says_what_was_assumed(tmp_path, stack):
    nibabel.MGHImage(stack.T.astype(np.float32), OBLIQUE).to_filename(tmp_path / "a.mgh")
    whole = bytearray((tmp_path / "a.mgh").read_bytes())
    whole[28:30] = b"\0\0"  # goodRASFlag
    (tmp_path / "a.mgh").write_bytes(whole)
    volume = read_nifti(tmp_path / "a.mgh")
    assert volume.spacing == (1, 1, 1)
    assert volume.notes == ("its header holds no place: coronal slices of 1 mm were assumed, as FreeSurfer does",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_a_sidecar_counts_in_every_encoding_that_json_has(tmp_path, stack, encoding):
    nibabel.Nifti1Image(stack.T, np.eye(4)).to_filename(tmp_path / "a_T2.nii")
    (tmp_path / "a_T2.json").write_bytes(json.dumps({"EchoTime": 0.003, "RepetitionTime": 2}).encode(encoding))
    volume = read_nifti(tmp_path / "a_T2.nii")
    assert volume.looks == "T2, but a TE of 3 ms, which no T2 has"
    assert volume.notes == ()


@pytest.mark.parametrize("content", [b'{"EchoTime": 0.003,}', b'{"Site": "Z\xfcrich"}', b"[1]", b""])
def test_a_sidecar_that_cannot_be_read_is_said(tmp_path, stack, content):
    nibabel.Nifti1Image(stack.T, np.eye(4)).to_filename(tmp_path / "a_T2.nii")
    (tmp_path / "a_T2.json").write_bytes(content)
    assert (
        "the JSON beside it cannot be read: what it says of the image is not known"
        in read_nifti(tmp_path / "a_T2.nii").notes
    )


def test_neuronames_are_labels(tmp_path, stack):
    image = nibabel.Nifti1Image(stack.T, np.eye(4))
    image.header.set_intent(1003)
    image.to_filename(tmp_path / "a_T1.nii")
    assert read_nifti(tmp_path / "a_T1.nii").looks == "label map"
