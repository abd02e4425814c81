"""Traits of scanners and archives: each is read as dcm2niix reads it, or said."""

import struct

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, generate_uid
from test_dicom import COLUMNS, ROWS, header, item, one, pixels, save, series, why

from napari_t1t2.images.dicom import read_dicoms
from napari_t1t2.images.dicom_mosaic import unfold
from napari_t1t2.images.read import read_all, read_files

TILES = 5  # in a mosaic of 3 x 3


def csa(**tags: str | list[str]) -> bytes:
    """A CSA header (version 2) as Siemens writes it into (0029,1010); each value is text."""
    parts = [b"SV10\4\3\2\1", struct.pack("<2I", len(tags), 77)]
    for name, said in tags.items():
        values = [said] if isinstance(said, str) else said
        kind = b"FD" if "." in values[0] else b"IS"
        parts.append(struct.pack("<64si4s3i", name.encode(), len(values), kind, 6, 6, 77))
        for k in range(6):
            text = values[k].encode() if k < len(values) else b""
            parts.append(struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4))
    return b"".join(parts)


def mosaic(path, normal="1.0", private=True, side=3, **fields):
    """TILES axial slices, 3 mm apart, tiled; the normal of the CSA header points up or down."""
    tiles = np.zeros((side * side, ROWS, COLUMNS), np.uint16)
    tiles[:TILES] = pixels(shape=(TILES, ROWS, COLUMNS))
    image = np.block([[tiles[side * r + c] for c in range(side)] for r in range(side)])
    corner = [-10 - 0.75 * COLUMNS * (side - 1) / 2, -20 - 0.5 * ROWS * (side - 1) / 2, 30]  # as if it were one slice
    said = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], "ImagePositionPatient": corner}
    ds = header(image, **(said | {"SpacingBetweenSlices": 3} | fields))
    if private:
        tags = {"NumberOfImagesInMosaic": str(TILES), "SliceNormalVector": ["0.0", "0.0", normal]}
        ds.private_block(0x29, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", csa(**tags))
    return save(path, ds)


@pytest.mark.parametrize(("normal", "first"), [("1.0", 30), ("-1.0", 18)])
def test_a_siemens_mosaic_is_unfolded_to_where_its_slices_lie(tmp_path, normal, first):
    volume = one(mosaic(tmp_path / "a", normal))
    tiles = pixels(shape=(TILES, ROWS, COLUMNS))
    np.testing.assert_array_equal(volume.data, tiles if normal == "1.0" else tiles[::-1])
    expected = [[-0.75, 0, 0, 10], [0, -0.5, 0, 20], [0, 0, 3, first], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, expected, atol=1e-6)
    assert volume.notes == ("a mosaic, unfolded into 5 slices",)


def test_a_mosaic_that_cannot_be_unfolded_is_refused_by_name(tmp_path):
    assert "a Siemens mosaic, all slices tiled into one image, without" in why(mosaic(tmp_path / "a", private=False))
    without = mosaic(tmp_path / "b", ImagePositionPatient=None)
    assert "a Siemens mosaic that does not say where its slices lie" in why(without)
    with pytest.raises(ValueError, match="a mosaic of 10x9 pixels, which 3x3 slices do not fill"):
        unfold(np.zeros((10, 9)), TILES)


def test_frames_that_are_called_a_mosaic_are_no_mosaic(tmp_path):
    image = pixels(shape=(4, ROWS, COLUMNS))
    path = save(tmp_path / "a", header(image, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]))
    np.testing.assert_array_equal(one(path).data, image)


def test_the_grid_of_united_imaging_is_unfolded_too(tmp_path):
    tiles = pixels(shape=(4, ROWS, COLUMNS))
    ds = header(np.block([[tiles[0], tiles[1]], [tiles[2], tiles[3]]]))
    block = ds.private_block(0x65, "Image Private Header", create=True)
    block.add_new(0x50, "DS", 4)
    block.add_new(0x51, "SQ", [item(ImagePositionPatient=[-10, -20, 30 + 4 * k]) for k in range(4)])
    volume = one(save(tmp_path / "a", ds))
    np.testing.assert_array_equal(volume.data, tiles)
    np.testing.assert_allclose(volume.affine[:3, 2:], [[0, 10], [0, 20], [4, 30]])


def test_a_tilted_gantry_is_said_and_each_slice_lies_where_its_header_says(tmp_path):
    paths = [
        save(tmp_path / f"{k}", header(pixels(k), ImagePositionPatient=[-10, -20 + 0.8 * k, 3 * k])) for k in range(5)
    ]
    volume = one(*paths)
    np.testing.assert_allclose(volume.affine @ [0, 0, 4, 1], [10, 20 - 3.2, 12, 1], atol=1e-6)
    assert volume.notes == (
        "each slice lies aside of the one before: a gantry tilted by 14.9 degrees, as the affine is",
    )


def test_slices_that_have_a_series_each_are_one_volume(tmp_path):
    for k in range(4):
        series(tmp_path, (3 * k,), SeriesInstanceUID=generate_uid())
    read = read_all(tmp_path)
    assert [len(v.data) for v in read.volumes] == [4] and not read.skipped
    assert read.volumes[0].uid == ""
    series(tmp_path, (90,), SeriesInstanceUID=generate_uid(), SeriesDescription="another")
    assert sorted(len(v.data) for v in read_all(tmp_path).volumes) == [1, 4]


def test_philips_own_scale_is_applied_and_said(tmp_path):
    for k in range(3):
        ds = header(pixels(k), ImagePositionPatient=[0, 0, k], RescaleSlope=2, RescaleIntercept=-6)
        ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 0.5 + 0.25 * k)
        save(tmp_path / f"{k}", ds)
    volume = one(*tmp_path.iterdir())
    for k, plane in enumerate(volume.data):
        scale = 0.5 + 0.25 * k
        np.testing.assert_allclose(plane, pixels(k) / scale - 6 / (2 * scale), rtol=1e-6)
    assert volume.notes == ("values are in the floating point units of Philips (2005,100E), which viewers do not show",)


def test_bits_beside_those_stored_are_no_part_of_the_image(tmp_path):
    image = pixels()
    overlay = image | np.uint16(0x8000)  # in a bit above
    np.testing.assert_array_equal(one(save(tmp_path / "a", header(overlay, BitsStored=12, HighBit=11))).data[0], image)
    high = (image << 4) | np.uint16(9)  # stored in the upper bits, with others below
    np.testing.assert_array_equal(one(save(tmp_path / "b", header(high, BitsStored=12, HighBit=15))).data[0], image)
    signed = ((image.astype(np.int16) - 500) & 0x0FFF).astype(np.int16)
    path = save(tmp_path / "c", header(signed, BitsStored=12, HighBit=11))
    np.testing.assert_array_equal(one(path).data[0], image.astype(int) - 500)


def test_parts_of_complex_images_that_only_ge_tells_apart_are_volumes_by_name(tmp_path):
    for part in range(4):
        for k in range(3):
            ds = header(pixels(k), ImagePositionPatient=[0, 0, k], SeriesDescription="Ax T1", EchoTime=9)
            ds.private_block(0x43, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", part)
            ds.PixelData = (pixels(k) + part).tobytes()
            save(tmp_path / f"{part}{k}", ds)
    volumes, skipped = read_dicoms(list(tmp_path.iterdir()))
    assert not skipped
    assert [v.looks for v in volumes] == ["T1", "phase", *["half of a complex image"] * 2]


def test_magnitude_and_phase_of_one_multi_frame_file_are_told_apart(tmp_path):
    image = pixels(shape=(6, ROWS, COLUMNS))
    ds = header(
        image, SOPClassUID=EnhancedMRImageStorage, ImagePositionPatient=None, EchoTime=9, SeriesDescription="T1"
    )
    ds.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, k % 3])],
            MRImageFrameTypeSequence=[item(ComplexImageComponent="MAGNITUDE" if k < 3 else "PHASE")],
        )
        for k in range(6)
    ]
    volumes, skipped = read_dicoms([save(tmp_path / "a", ds)])
    assert not skipped
    assert [v.looks for v in volumes] == ["T1", "phase"]


def test_two_files_of_frames_without_a_place_are_two_volumes(tmp_path):
    for k in range(2):
        image = pixels(k, shape=(3, ROWS, COLUMNS))
        save(tmp_path / f"{k}", header(image, ImagePositionPatient=None, ImageOrientationPatient=None))
    assert [v.data.shape for v in read_all(tmp_path).volumes] == [(3, ROWS, COLUMNS)] * 2


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"AngioFlag": "Y"}, "angiography"),
        ({"ContrastBolusVolume": 7.5, "SeriesDescription": "t1_se", "EchoTime": 9}, "T1 with contrast agent"),
        ({"ContrastBolusAgent": "NONE", "SeriesDescription": "t1_se", "EchoTime": 9}, "T1"),
        ({"BodyPartExamined": "KNEE"}, "another part of the body"),
        ({"ScanningSequence": "EP"}, "echo planar"),
        ({"ImageType": ["DERIVED", "PRIMARY", "R2_STAR", "MIXED"]}, "T2map"),
        ({"ImageType": ["DERIVED", "PRIMARY", "RHO", "SE"]}, "computed map"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "DIXON", "FAT_FRACTION"]}, "Dixon"),
        ({"ImageType": ["DERIVED", "PRIMARY", "WASHIN", "FFE"]}, "perfusion"),
    ],
)
def test_attributes_of_a_header_tell_what_an_image_is(tmp_path, fields, kind):
    assert one(save(tmp_path / "a", header(pixels(), **fields))).looks == kind


@pytest.mark.parametrize(
    ("group", "creator", "element"), [(0x19, "SIEMENS MR HEADER", 0x0C), (0x2001, "Philips Imaging DD 001", 0x03)]
)
def test_a_b_value_in_a_private_element_counts(tmp_path, group, creator, element):
    ds = header(pixels())
    vr = "IS" if group == 0x19 else "FL"
    ds.private_block(group, creator, create=True).add_new(element, vr, 1000)
    assert one(save(tmp_path / "a", ds)).looks == "diffusion"


def test_reports_and_indices_beside_images_are_passed_over_in_silence(tmp_path):
    kinds = {"SR": "88.11", "PR": "11.1", "PDF": "104.1", "RAW": "66", "MRS": "4.2"}
    for name, uid in kinds.items():
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = f"1.2.840.10008.5.1.4.1.1.{uid}", generate_uid()
        ds.SeriesInstanceUID, ds.Modality = generate_uid(), name
        save(tmp_path / name, ds)
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.4")
    alone = read_all(tmp_path)
    assert len(alone.skipped) == len(kinds)  # where there is nothing else, each is named
    series(tmp_path)
    read = read_all(tmp_path)
    assert [len(v.data) for v in read.volumes] == [4]
    assert read.skipped == []
    assert "holds no image" in read_files([tmp_path / "SR"])[1][0].why


def test_text_that_is_burned_in_is_said(tmp_path):
    volume = one(save(tmp_path / "a", header(pixels(), BurnedInAnnotation="YES")))
    assert "the header says that text is burned into its pixels" in volume.notes
