import copy
import logging
import random
import warnings
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders import JPEGLSLosslessDecoder
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

from napari_t1t2.errors import Refusal
from napari_t1t2.images.dicom import read_dicoms
from napari_t1t2.images.dicom_slices import is_dicom
from napari_t1t2.images.dicom_write import write_dicom
from napari_t1t2.images.read import read_all
from napari_t1t2.images.volume import Volume
from napari_t1t2.provenance import Provenance

ROWS, COLUMNS = 6, 5
STUDY, SERIES = generate_uid(), generate_uid()
SLANTED = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]  # three directions, none along an axis
SAYS = Provenance(
    contrast="T2",
    model="heads",
    model_sha256="ab" * 32,
    step=100,
    source="3 t1",
    version="1.0",
)


def pixels(seed: int = 0, shape: tuple[int, ...] = (ROWS, COLUMNS)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1000, shape, np.uint16)


def header(image: np.ndarray, **fields) -> Dataset:
    """A small MR slice; a field given as None is left out."""
    frames = {"NumberOfFrames": len(image)} if image.ndim == 3 else {}
    said = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES,
        "SeriesNumber": 4,
        "SeriesDescription": "t2_tse_tra",
        "Modality": "MR",
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "StudyDate": "20200102",
        "EchoTime": 90,
        "RepetitionTime": 6000,
        "ImagePositionPatient": [-10, -20, 30],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 0.75],
        "SliceThickness": 3,
        "Rows": image.shape[-2],
        "Columns": image.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": image.itemsize * 8,
        "BitsStored": image.itemsize * 8,
        "HighBit": image.itemsize * 8 - 1,
        "PixelRepresentation": int(image.dtype.kind == "i"),
        "PixelData": image.tobytes(),
        **frames,
        **fields,
    }
    ds = Dataset()
    for keyword, value in said.items():
        if value is not None:
            setattr(ds, keyword, value)
    return ds


def save(path: Path, ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, np.uint16).byteswap().tobytes()
    if syntax == RLELossless:
        ds.compress(RLELossless)
    ds.save_as(path, enforce_file_format=True)
    return path


def series(folder: Path, heights=(0, 3, 6, 9), **fields) -> list[Path]:
    """One file a slice; its pixels differ from those of others by the seed, its place."""
    folder.mkdir(exist_ok=True, parents=True)
    first = len(list(folder.iterdir()))
    return [
        save(
            folder / f"IM{first + k}",
            header(pixels(k), **{"ImagePositionPatient": [-10, -20, z], "InstanceNumber": first + k + 1, **fields}),
        )
        for k, z in enumerate(heights)
    ]


def item(**fields) -> Dataset:
    ds = Dataset()
    for keyword, value in fields.items():
        setattr(ds, keyword, value)
    return ds


def one(*paths: Path) -> Volume:
    volumes, skipped = read_dicoms(paths)
    assert not skipped
    assert len(volumes) == 1
    return volumes[0]


def why(*paths: Path) -> str:
    volumes, skipped = read_dicoms(paths)
    assert not volumes
    assert {s.path for s in skipped} == set(paths)
    assert len({s.why for s in skipped}) == 1
    return skipped[0].why


def test_a_shuffled_series_is_sorted_by_position(tmp_path):
    paths = series(tmp_path)
    shuffled = random.Random(1).sample(paths, len(paths))
    volume = one(*shuffled)
    np.testing.assert_array_equal(volume.data, [pixels(k) for k in range(4)])
    assert volume.data.dtype == np.float32
    assert volume.files == tuple(paths)
    assert volume.path == paths[0]


def test_the_affine_leads_from_column_row_and_slice_to_millimetres_right_anterior_and_up(tmp_path):
    volume = one(*series(tmp_path))
    expected = [[-0.75, 0, 0, 10], [0, -0.5, 0, 20], [0, 0, 3, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, expected, atol=1e-12)
    assert volume.spacing == (3, 0.5, 0.75)


def test_an_oblique_series_lies_where_its_headers_say(tmp_path):
    row, column, normal = SLANTED
    normal = np.cross(row, column)
    origin = np.array([12.3, -45.6, 78.9])
    paths = [
        save(
            tmp_path / f"{k}",
            header(
                pixels(k),
                ImagePositionPatient=list(np.round(origin + 2.5 * k * normal, 6)),
                ImageOrientationPatient=list(np.round([*row, *column], 9)),
            ),
        )
        for k in (2, 0, 1)
    ]
    volume = one(*paths)
    for x, y, z in [(0, 0, 0), (4, 5, 2), (1, 3, 1)]:
        lps = origin + row * 0.75 * x + column * 0.5 * y + normal * 2.5 * z
        np.testing.assert_allclose((volume.affine @ (x, y, z, 1))[:3], lps * (-1, -1, 1), atol=1e-5)


def test_each_slice_has_its_own_slope_and_intercept(tmp_path):
    for k, slope in enumerate((0.5, 0.25)):
        fields = {"RescaleSlope": slope, "RescaleIntercept": k - 1}
        save(tmp_path / f"{k}", header(pixels(k), ImagePositionPatient=[0, 0, k], **fields))
    volume = one(*tmp_path.iterdir())
    np.testing.assert_array_equal(volume.data, [pixels(0) * 0.5 - 1, pixels(1) * 0.25])
    assert volume.dtype == "float32"


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"), [(1, 0, "uint16"), (1, -24, "int16"), (100, 0, "int32"), (0.5, 0, "float32")]
)
def test_the_type_is_one_that_holds_the_rescaled_values(tmp_path, slope, intercept, dtype):
    image = pixels()
    image[0, :2] = 0, 999
    path = save(tmp_path / "a", header(image, RescaleSlope=slope, RescaleIntercept=intercept))
    assert one(path).dtype == dtype


def test_two_series_in_a_folder_become_two_volumes_that_a_person_can_tell_apart(tmp_path):
    series(tmp_path)
    fields = {"SeriesNumber": 3, "SeriesDescription": "t1_se_tra", "EchoTime": 12, "RepetitionTime": 550}
    series(tmp_path, (0, 2), SeriesInstanceUID=generate_uid(), **fields)
    (t1, t2), skipped = read_dicoms(list(tmp_path.iterdir()))
    assert not skipped
    assert (t1.name, t1.looks, t1.series) == ("3 t1_se_tra", "T1", "3: t1_se_tra, TE 12 ms, TR 550 ms, 2 axial slices")
    assert (t2.name, t2.looks, t2.series) == (
        "4 t2_tse_tra",
        "T2",
        "4: t2_tse_tra, TE 90 ms, TR 6000 ms, 4 axial slices",
    )
    assert t1.subject == t2.subject == "P1"


def test_nobody_s_name_or_date_is_in_what_is_shown(tmp_path):
    series(tmp_path, (0, 3, 6, 9.3), PhotometricInterpretation="MONOCHROME1", Modality="OT")
    volume = one(*tmp_path.iterdir())
    shown = " ".join([volume.name, volume.series, *volume.notes])
    assert len(volume.notes) == 3
    assert not any(secret in shown for secret in ("Doe", "Jane", "P1", "20200102"))


def test_without_a_description_the_file_names_the_volume_and_the_times_tell_the_contrast(tmp_path):
    volume = one(save(tmp_path / "scan.dcm", header(pixels(), SeriesDescription=None, SeriesNumber=None)))
    assert (volume.name, volume.looks) == ("scan", "T2")
    folder = tmp_path / "T1"
    folder.mkdir()
    mute = {"SeriesDescription": None, "EchoTime": None, "RepetitionTime": None}
    assert one(save(folder / "a", header(pixels(), **mute))).looks == "T1"


def test_echoes_of_one_series_become_volumes(tmp_path):
    series(tmp_path, EchoTime=20)
    series(tmp_path, EchoTime=100)
    volumes, _ = read_dicoms(list(tmp_path.iterdir()))
    assert [v.series.split(", ")[1] for v in volumes] == ["TE 20 ms", "TE 100 ms"]
    assert [len(v.data) for v in volumes] == [4, 4]
    assert len({v.name for v in volumes}) == 2


@pytest.mark.parametrize("keyword", ["TemporalPositionIdentifier", "AcquisitionNumber"])
def test_times_of_one_series_become_volumes(tmp_path, keyword):
    for time in (1, 2, 3):
        series(tmp_path, **{keyword: time})
    volumes, skipped = read_dicoms(list(tmp_path.iterdir()))
    assert not skipped
    assert [v.data.shape for v in volumes] == [(4, ROWS, COLUMNS)] * 3
    assert len({v.series for v in volumes}) == len({v.name for v in volumes}) == 3
    assert {v.spacing for v in volumes} == {(3, 0.5, 0.75)}


def test_an_acquisition_number_that_counts_slices_splits_nothing(tmp_path):
    for k, path in enumerate(series(tmp_path)):
        ds = dcmread(path)
        ds.AcquisitionNumber = k
        ds.save_as(path)
    assert len(one(*tmp_path.iterdir()).data) == 4


def brighter(path: Path, k: int) -> None:
    ds = dcmread(path)
    ds.PixelData = (pixels(k) + 100).astype(pixels(k).dtype).tobytes()
    ds.save_as(path)


def test_slices_that_nothing_tells_apart_are_refused_and_never_alternate(tmp_path):
    series(tmp_path)
    for k, path in enumerate(series(tmp_path, (0, 3))):
        brighter(path, k)
    assert "has 6 slices of 4 places, and no tag tells" in why(*tmp_path.iterdir())


def test_two_runs_through_all_places_are_two_volumes_though_no_tag_tells_them_apart(tmp_path):
    series(tmp_path)
    for k, path in enumerate(series(tmp_path)):
        brighter(path, k)
    first, second = read_dicoms(list(tmp_path.iterdir()))[0]
    np.testing.assert_array_equal(second.data, first.data + 100)


def test_copies_of_slices_under_other_uids_are_left_out_and_counted(tmp_path):
    series(tmp_path)
    series(tmp_path, (0, 3))
    volume = one(*tmp_path.iterdir())
    assert len(volume.data) == 4
    assert volume.notes == ("copies of other slices left out: 2",)


def test_patients_whose_series_uid_was_deleted_stay_apart(tmp_path):
    for patient in ("ANON1", "ANON2"):
        for path in series(tmp_path, PatientID=patient, StudyInstanceUID=generate_uid()):
            ds = dcmread(path)
            del ds.SeriesInstanceUID
            ds.save_as(path)
    volumes, skipped = read_dicoms(list(tmp_path.iterdir()))
    assert [(v.subject, len(v.data)) for v in volumes] == [("ANON1", 4), ("ANON2", 4)] and not skipped


def test_a_scout_in_several_planes_is_told_by_its_planes_alone(tmp_path):
    for axes in ([1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]):
        series(tmp_path, (0, 10), ImageOrientationPatient=axes, SeriesInstanceUID="1.2.3", SeriesDescription="head")
    assert {v.looks for v in read_dicoms(list(tmp_path.iterdir()))[0]} == {"localizer"}


def test_a_localiser_of_three_directions_becomes_three_volumes(tmp_path):
    for axes in ([1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]):
        series(tmp_path, (0,), ImageOrientationPatient=axes, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    volumes, _ = read_dicoms(list(tmp_path.iterdir()))
    assert [v.series.split(", ")[-1] for v in volumes] == ["1 axial slice", "1 sagittal slice", "1 coronal slice"]


def test_sizes_of_one_series_become_volumes_and_noise_in_directions_does_not_matter(tmp_path):
    save(tmp_path / "a", header(pixels(1)))
    save(
        tmp_path / "b",
        header(pixels(2), ImagePositionPatient=[-10, -20, 33], ImageOrientationPatient=[1, 1e-5, 0, 0, 1, 0]),
    )
    save(tmp_path / "c", header(pixels(3, (4, 4)), ImagePositionPatient=[-10, -20, 36]))
    volumes, _ = read_dicoms(list(tmp_path.iterdir()))
    assert [v.data.shape for v in volumes] == [(2, ROWS, COLUMNS), (1, 4, 4)]


def test_a_missing_slice_is_refused_with_its_place(tmp_path):
    sentence = why(*series(tmp_path, (0, 3, 6, 12, 15)))
    assert sentence.startswith("series 4 has a gap: from slice 3 to 4 of 5 the step is 6 mm, elsewhere 3 mm;")


def test_uneven_steps_are_noted(tmp_path):
    assert one(*series(tmp_path / "a", (0, 3, 6.1, 9))).notes == ()
    (note,) = one(*series(tmp_path / "b", (0, 3, 6.3, 9.3))).notes
    assert (
        note
        == "slices are unevenly spaced: from slice 2 to 3 of 4 the step is 3.3 mm, elsewhere 3 mm; their mean is used"
    )


def test_the_same_image_twice_counts_once(tmp_path):
    paths = series(tmp_path)
    copy = tmp_path / "copy"
    copy.write_bytes(paths[0].read_bytes())
    volumes, skipped = read_dicoms([*paths, *paths, copy])
    assert [len(v.data) for v in volumes] == [4]
    assert [s.why for s in skipped] == ["another file here holds the same image; one is enough."]


def test_different_images_under_one_identifier_are_both_kept(tmp_path):
    assert len(one(*series(tmp_path, SOPInstanceUID=generate_uid(), ImagePositionPatient=None)).data) == 4


def enhanced(path: Path, heights, echoes=None) -> Path:
    """A multi-frame file: place, echo time and slope of each frame in its functional groups."""
    image = pixels(shape=(len(heights), ROWS, COLUMNS))
    mute = dict.fromkeys(
        ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "EchoTime")
    )
    ds = header(image, SOPClassUID=EnhancedMRImageStorage, **mute)
    ds.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.75], SliceThickness=2)],
        )
    ]
    ds.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[-10, -20, z])],
            MREchoSequence=[item(EffectiveEchoTime=echo)],
            PixelValueTransformationSequence=[item(RescaleSlope=k + 1, RescaleIntercept=-1)],
        )
        for k, (z, echo) in enumerate(zip(heights, echoes or [90] * len(heights), strict=True))
    ]
    return save(path, ds)


def test_frames_are_placed_and_rescaled_by_their_functional_groups(tmp_path):
    volume = one(enhanced(tmp_path / "a.dcm", (6, 2, 4)))
    image = pixels(shape=(3, ROWS, COLUMNS)).astype(np.float32)
    np.testing.assert_array_equal(volume.data, [image[1] * 2 - 1, image[2] * 3 - 1, image[0] - 1])
    np.testing.assert_allclose(volume.affine[:3, 2:], [[0, 10], [0, 20], [2, 2]])
    assert volume.files == (tmp_path / "a.dcm",)
    assert volume.spacing == (2, 0.5, 0.75)


def test_echoes_of_one_multi_frame_file_become_volumes(tmp_path):
    volumes, _ = read_dicoms([enhanced(tmp_path / "a.dcm", (0, 2, 0, 2), (20, 20, 80, 80))])
    assert [v.series.split(", ")[1] for v in volumes] == ["TE 20 ms", "TE 80 ms"]


def test_frames_without_a_place_are_a_stack_without_an_affine(tmp_path):
    volume = one(save(tmp_path / "a", header(pixels(shape=(3, ROWS, COLUMNS)))))
    assert volume.affine is None
    assert volume.spacing == (3, 0.5, 0.75)
    assert volume.notes == ("the headers give no positions; the slices are in the order of their numbers",)
    nowhere = dict.fromkeys(("ImagePositionPatient", "PixelSpacing"))
    assert one(save(tmp_path / "b", header(pixels(), **nowhere))).spacing is None


def test_slices_without_a_place_are_ordered_by_their_numbers(tmp_path):
    for k in (9, 10, 1):
        save(tmp_path / f"{k}", header(pixels(k), ImagePositionPatient=None, InstanceNumber=k))
    np.testing.assert_array_equal(one(*tmp_path.iterdir()).data, [pixels(1), pixels(9), pixels(10)])


def test_white_air_becomes_black_and_that_is_said(tmp_path):
    volume = one(save(tmp_path / "a", header(pixels(), PhotometricInterpretation="MONOCHROME1")))
    image = pixels().astype(np.float32)
    np.testing.assert_array_equal(volume.data[0], image.min() + image.max() - image)
    assert volume.notes == ("low values were white (MONOCHROME1) and were inverted",)


def test_colour_becomes_grey_and_that_is_said(tmp_path):
    image = np.linspace(20, 255, ROWS * COLUMNS * 3).reshape(ROWS, COLUMNS, 3).astype(np.uint8)  # hardly tinted
    fields = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    ds = header(image, Rows=ROWS, Columns=COLUMNS, NumberOfFrames=None, **fields)
    volume = one(save(tmp_path / "a", ds))
    np.testing.assert_allclose(volume.data[0], image @ [0.299, 0.587, 0.114], atol=0.51)
    assert volume.notes == ("colour was turned to grey",)


def test_padding_becomes_the_lowest_value_and_that_is_said(tmp_path):
    image = pixels().astype(np.int16)
    image[0] = -2000
    volume = one(save(tmp_path / "a", header(image, PixelPaddingValue=-2000)))
    assert volume.data[0, 0].tolist() == [0] * COLUMNS
    np.testing.assert_array_equal(volume.data[0, 1:], image[1:])
    assert volume.notes == ("padding around the image was set to the lowest value",)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_encodings_are_read_alike(tmp_path, syntax):
    volume = one(save(tmp_path / "a", header(pixels()), syntax))
    np.testing.assert_array_equal(volume.data[0], pixels())
    assert volume.dtype == "uint16"


def test_a_file_without_preamble_or_transfer_syntax_is_read(tmp_path):
    path = save(tmp_path / "a", header(pixels()))
    dataset = path.read_bytes()[132:]
    path.write_bytes(dataset)
    assert is_dicom(path)
    assert one(path).notes == ()
    path.write_bytes(dataset[dataset.index(b"\x08\0\x16\0") :])
    volume = one(path)
    np.testing.assert_array_equal(volume.data[0], pixels())
    assert volume.notes == ("no transfer syntax is stated; the pixels were read as uncompressed",)


def encapsulated(path: Path, ds: Dataset, frames: list[bytes], syntax: str) -> Path:
    ds.PixelData = encapsulate(frames)
    ds["PixelData"].is_undefined_length = True
    return save(path, ds, syntax)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (JPEGLSLossless, imagecodecs.jpegls_encode),
        (JPEGLosslessSV1, lambda image: imagecodecs.jpeg8_encode(image, lossless=True, bitspersample=16)),
    ],
)
@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_lossless_jpeg_of_either_kind_is_read_exactly(tmp_path, syntax, encode, dtype):
    image = (pixels(shape=(2, ROWS, COLUMNS)).astype(dtype) - np.array(500 * (dtype == "int16"))).astype(dtype)
    path = encapsulated(tmp_path / "a", header(image), [encode(frame.view(np.uint16)) for frame in image], syntax)
    volume = one(path)
    np.testing.assert_array_equal(volume.data, image)
    assert volume.dtype == dtype


def test_a_missing_decoder_is_named_with_its_remedy(tmp_path, monkeypatch):
    def absent(frame):
        raise ImportError

    path = encapsulated(tmp_path / "a", header(pixels()), [b"abcd"], JPEGLSLossless)
    assert "have no beginning; it is damaged" in why(path)
    whole = imagecodecs.jpegls_encode(pixels())
    path = encapsulated(tmp_path / "a", header(pixels()), [whole[: len(whole) // 2]], JPEGLSLossless)
    assert why(path).startswith("cannot be decoded (")
    monkeypatch.setattr(imagecodecs, "jpegls_decode", absent)
    monkeypatch.setattr(JPEGLSLosslessDecoder, "_available", {})
    assert "compressed by JPEG-LS Lossless Image Compression, for which no decoder is installed" in why(path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"PixelData": bytes(40)}, "only 40 of 60 bytes of its pixels are there; it is truncated"),
        ({"PixelData": None}, "has no pixel data"),
        ({"Rows": None}, "holds no image (MR Image Storage)"),
        ({"Rows": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "holds no image (Basic Text SR Storage)"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "a mask (Segmentation Storage), not an image"),
        ({"SOPClassUID": "1.2.840.10008.1.3.10"}, "the index of a disc (DICOMDIR)"),
        ({"PixelData": np.full(30, 7, np.uint16).tobytes()}, "every pixel is 7;"),
        ({"PixelData": np.arange(30, dtype=np.uint16) // 15 * 3}, "holds only the values 0 and 3: a mask"),
        ({"BitsAllocated": 13}, "cannot be decoded ("),
    ],
)
def test_what_is_no_image_is_skipped_with_the_reason(tmp_path, fields, words):
    data = fields.get("PixelData")
    fields = fields if not isinstance(data, np.ndarray) else {"PixelData": data.astype(np.uint16).tobytes()}
    assert words in why(save(tmp_path / "a", header(pixels(), **fields)))


def test_three_slices_tell_the_gap_by_the_smaller_step(tmp_path):
    assert "from slice 2 to 3 of 3 the step is 9 mm, elsewhere 3 mm" in why(*series(tmp_path, (0, 3, 12)))


def test_loss_is_noted(tmp_path):
    volume = one(save(tmp_path / "a", header(pixels(), LossyImageCompression="01")))
    assert volume.notes == ("the image was once compressed with loss",)


def test_a_broken_slice_is_named_beside_the_gap_that_it_leaves(tmp_path):
    paths = series(tmp_path, (0, 3, 6, 9, 12))
    paths[2].write_bytes(paths[2].read_bytes()[:-20])
    volumes, skipped = read_dicoms(paths)
    assert not volumes
    assert "truncated" in skipped[0].why
    assert {s.path for s in skipped} == set(paths)
    assert "has a gap" in skipped[1].why


def test_values_that_make_no_sense_are_taken_for_missing(tmp_path):
    path = save(
        tmp_path / "a", header(pixels(), EchoTime=None, ImageOrientationPatient=[0, 0, 0, 0, 0, 0], RescaleSlope=0)
    )
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"0.5\\0.75", b"0.5\\oops"))
    volume = one(path)
    assert (volume.affine, volume.spacing) == (None, None)
    np.testing.assert_array_equal(volume.data[0], pixels())


def test_no_bytes_raise_anything(tmp_path):
    whole = save(tmp_path / "a", header(pixels())).read_bytes()
    random_bytes = random.Random(0)
    for cut in range(0, len(whole), 23):
        broken = bytearray(whole[: cut or None])
        for _ in range(cut % 5):
            broken[random_bytes.randrange(len(broken))] = random_bytes.randrange(256)
        path = tmp_path / "broken"
        path.write_bytes(broken)
        volumes, skipped = read_dicoms([path, tmp_path / "gone"])
        assert len(volumes) + len(skipped) == 2


def test_nothing_is_said_to_the_terminal(tmp_path, caplog):
    path = save(tmp_path / "a", header(pixels(), PatientAge="012Y", EchoTime="90.123456"))
    path.write_bytes(path.read_bytes().replace(b"012Y", b"0dd!").replace(b"90.123456", b"9x.123456"))
    caplog.clear()
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG):
        warnings.simplefilter("error")
        one(path)
    assert not caplog.records
    assert not logging.getLogger("pydicom").disabled


def test_other_kinds_of_file_are_not_taken_for_dicom(tmp_path, head):
    for ending in ("png", "jpg", "tif", "bmp"):
        Image.fromarray(head(0, "T1")).save(tmp_path / f"a.{ending}")
    for name, content in [("a.txt", b"hello " * 40), ("a.json", b"{}"), ("empty", b""), ("a.gz", b"\x1f\x8b" * 99)]:
        (tmp_path / name).write_bytes(content)
    (tmp_path / "a.nii").write_bytes((348).to_bytes(4, "little") + bytes(400))
    (tmp_path / "short").write_bytes(b"\x08\0\x16")
    assert [p.name for p in tmp_path.iterdir() if is_dicom(p)] == []
    assert not is_dicom(tmp_path)
    assert "not an image that can be read here" in why(tmp_path / "a.png")


# Writing


def synthetic(affine=None, dtype: str = "float32", **fields) -> Volume:
    data = np.random.default_rng(2).normal(300, 100, (4, ROWS, COLUMNS)).astype(np.float32)
    return Volume(
        data=data, name="a", dtype=dtype, affine=np.diag([-1.0, -1, 2, 1]) if affine is None else affine, **fields
    )


def world(volume: Volume) -> np.ndarray:
    """(n, 4): the place of each voxel and its value, in an order that knows no indices."""
    z, y, x = np.indices(volume.data.shape).reshape(3, -1)
    places = (volume.affine @ np.stack([x, y, z, np.ones_like(x)]))[:3].T
    rows = np.c_[places, volume.data.ravel()]
    return rows[np.lexsort(np.round(places, 3).T)]


@pytest.mark.parametrize(
    "turn",
    [
        np.eye(3),
        np.diag([-1, 1, -1]),  # slices run against the normal
        np.eye(3)[[2, 0, 1]],  # sagittal slices
        SLANTED,
        SLANTED @ [[1, 0, 0.2], [0, 1, -0.1], [0, 0, 1]],  # slices pushed sideways, as by a tilted gantry
    ],
)
def test_every_voxel_comes_back_to_its_place(tmp_path, turn):
    tilted = int(np.abs(np.transpose(turn) @ turn - np.eye(3)).max() > 0.01)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.712345678, 1.23456789, 3.3])
    affine[:3, 3] = 123.456789, -98.7654321, 55.5
    volume = synthetic(affine)
    back = one(*write_dicom(tmp_path / "out", replace(volume, provenance=SAYS)))
    there, here = world(volume), world(back)
    np.testing.assert_allclose(here[:, :3], there[:, :3], atol=1e-4)
    half = np.ptp(volume.data) / 65535 / 2
    np.testing.assert_allclose(here[:, 3], there[:, 3], atol=half * 1.01 + 1e-4)
    assert back.looks == "T2"
    assert back.synthetic
    assert [note.partition(":")[0] for note in back.notes] == ["each slice lies aside of the one before"] * tilted


@pytest.mark.parametrize(("dtype", "shift"), [("uint8", 0), ("uint16", 0), ("int16", -400)])
def test_integers_are_written_as_they_are(tmp_path, dtype, shift):
    volume = synthetic(dtype=dtype)
    volume = replace(volume, data=np.rint(volume.data.clip(0, 255)) + np.float32(shift))
    paths = write_dicom(tmp_path / "out", replace(volume, provenance=SAYS))
    np.testing.assert_array_equal(one(*paths).data, volume.data)
    assert "RescaleSlope" not in dcmread(paths[0])


def test_the_header_says_what_it_is_and_by_whom(tmp_path):
    paths = write_dicom(tmp_path / "out", replace(synthetic(), provenance=SAYS))
    assert [p.name for p in paths] == [f"IM_{k}.dcm" for k in ("0001", "0002", "0003", "0004")]
    headers = [dcmread(p) for p in paths]
    ds = headers[0]
    assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == MRImageStorage
    assert list(ds.ImageType) == ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC"]
    assert ds.SeriesDescription == "SYNTHETIC T2 - not for diagnosis"
    assert "ab" * 32 in ds.DerivationDescription
    assert ds.DerivationDescription.startswith("Synthetic image. Not for diagnosis.")
    assert (ds.BurnedInAnnotation, ds.ContentQualification, ds.Modality) == ("NO", "RESEARCH", "MR")
    assert (ds.Manufacturer, ds.SoftwareVersions) == ("napari-t1t2", "1.0")
    assert (ds.PatientName, ds.PatientID) == ("ANONYMOUS", "ANONYMOUS")
    assert ds.EchoTime is None
    assert ds.RepetitionTime is None
    assert len({d.SOPInstanceUID for d in headers}) == 4
    assert len({d.SeriesInstanceUID for d in headers}) == 1
    assert [d.InstanceNumber for d in headers] == [1, 2, 3, 4]
    assert all(len(str(v)) <= 16 for v in [*ds.ImageOrientationPatient, *ds.ImagePositionPatient, *ds.PixelSpacing])


def test_a_dicom_source_lends_patient_study_and_frame_and_nothing_of_its_scan(tmp_path):
    room = generate_uid()
    paths = series(
        tmp_path / "in",
        SpecificCharacterSet="ISO_IR 100",
        PatientName="Müller^Jörg",
        FrameOfReferenceUID=room,
        ContrastBolusAgent="Gd",
        WindowCenter=1,
        StudyDescription="Schädel",
        ProtocolName="secret",
    )
    source = one(*paths)
    made = replace(source, data=source.data + np.float32(0.5), dtype="float32")
    headers = [dcmread(p) for p in write_dicom(tmp_path / "out", replace(made, provenance=SAYS))]
    ds = headers[0]
    assert (ds.PatientName, ds.PatientID, ds.StudyDescription) == ("Müller^Jörg", "P1", "Schädel")
    assert (ds.StudyInstanceUID, ds.StudyDate, ds.FrameOfReferenceUID) == (STUDY, "20200102", room)
    assert ds.SeriesInstanceUID != SERIES
    assert ds.SeriesNumber == 1004
    assert "ContrastBolusAgent" not in ds
    assert "ProtocolName" not in ds
    assert ds.WindowCenter > 100
    for made_slice, path in zip(headers, paths, strict=True):
        (image,) = made_slice.SourceImageSequence
        assert image.ReferencedSOPInstanceUID == dcmread(path).SOPInstanceUID
        assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"


def test_a_multi_frame_source_lends_its_study_too(tmp_path):
    source = one(enhanced(tmp_path / "a.dcm", (6, 2, 4)))
    headers = [dcmread(p) for p in write_dicom(tmp_path / "out", replace(source, provenance=SAYS))]
    assert {h.StudyInstanceUID for h in headers} == {STUDY}
    assert [len(h.SourceImageSequence) for h in headers] == [1, 1, 1]
    np.testing.assert_allclose(world(one(*(tmp_path / "out").iterdir())), world(source), atol=1e-2)


def test_a_source_with_a_poor_header_is_enough(tmp_path):
    mute = dict.fromkeys(("StudyInstanceUID", "SeriesNumber", "PatientName", "PatientID"))
    source = one(save(tmp_path / "a.dcm", header(pixels(), **mute)))
    (path,) = write_dicom(tmp_path / "out", replace(source, provenance=SAYS))
    assert dcmread(path).StudyInstanceUID
    assert dcmread(path).PatientID == "ANONYMOUS"
    assert dcmread(path).SeriesNumber == 1000


def test_a_long_label_stays_within_64_characters(tmp_path):
    (path, *_) = write_dicom(tmp_path / "out", replace(synthetic(), provenance=replace(SAYS, contrast="T2" * 40)))
    description = dcmread(path).SeriesDescription
    assert len(description) <= 64
    assert description.endswith("not for diagnosis")


SHEARED = np.array([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (replace(synthetic(), affine=None), "no place in space, which DICOM needs; write a TIFF or NIfTI instead"),
        (synthetic(SHEARED), "the pixels are sheared, which DICOM cannot say; write NIfTI instead"),
        (synthetic(np.diag([1.0, 1, 0, 1])), "singular"),
        (synthetic(files=(Path("gone.dcm"),)), r"gone\.dcm is needed for patient and study, but cannot be read"),
    ],
)
def test_what_dicom_cannot_hold_is_refused_and_nothing_is_written(tmp_path, volume, words):
    with pytest.raises(ValueError, match=words):
        write_dicom(tmp_path / "out", replace(volume, provenance=SAYS))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused_and_an_empty_one_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    assert len(write_dicom(tmp_path / "out", replace(synthetic(), provenance=SAYS))) == 4
    with pytest.raises(ValueError, match="out already holds something: give a new or empty folder"):
        write_dicom(tmp_path / "out", replace(synthetic(), provenance=SAYS))


def test_a_full_disk_leaves_no_half_series(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Dataset, "save_as", fail)
    with pytest.raises(Refusal, match="the disk is full: free some space"):
        write_dicom(tmp_path / "out", replace(synthetic(), provenance=SAYS))
    assert list(tmp_path.iterdir()) == []


# Real files

SIMPLE = ("", "_RLE", "_bigendian", "_implicit", "_jp2klossless", "_jpeg_ls_lossless", "_padded")


@pytest.mark.parametrize("name", SIMPLE)
def test_a_real_slice_is_read_whatever_its_encoding(real_data, name):
    folder = real_data / "odd" / "dicom"
    volume = one(folder / f"MR_small{name}.dcm")
    np.testing.assert_array_equal(volume.data[0], dcmread(folder / "MR_small.dcm").pixel_array)
    assert (volume.dtype, volume.spacing, volume.looks) == ("int16", (0.8, 0.3125, 0.3125), "T2")


@pytest.mark.parametrize("name", ["emri_small", "emri_small_RLE", "emri_small_jpeg_2k_lossless"])
def test_a_real_multi_frame_file_without_positions_is_a_stack(real_data, name):
    volume = one(real_data / "odd" / "dicom" / f"{name}.dcm")
    assert (volume.data.shape, volume.affine, volume.spacing, volume.dtype) == ((10, 64, 64), None, None, "uint16")


def test_a_real_folder_of_t1_and_t2_is_told_apart_and_overlaps_in_space(real_data):
    (t1, t2), skipped = read_dicoms(list((real_data / "odd/dicom/lit_p04_T1_T2_mixed_folder").iterdir()))
    assert not skipped
    assert (t1.looks, t1.data.shape, t1.dtype) == ("T1", (48, 128, 128), "uint16")
    assert (t2.looks, t2.data.shape, t2.dtype) == ("T2", (44, 192, 174), "float32")
    for volume in (t1, t2):  # each slice lies where its own header says
        for k, path in enumerate(volume.files):
            position = np.array(dcmread(path).ImagePositionPatient, float) * (-1, -1, 1)
            np.testing.assert_allclose((volume.affine @ (0, 0, k, 1))[:3], position, atol=1e-4)
    bounds = [v.affine[:3] @ [*(np.array(v.data.shape[::-1]) / 2), 1] for v in (t1, t2)]
    assert np.linalg.norm(bounds[0] - bounds[1]) < 10  # mm between the middles


def test_real_directions_mixed_in_one_series_are_told_apart(real_data):
    volumes, skipped = read_dicoms(list((real_data / "odd/dicom/d2n_failing_sliceorientation_001").iterdir()))
    assert not skipped
    assert [round(v.spacing[0], 3) for v in volumes] == [3.3, 4.4]
    assert ["sagittal" in v.series for v in volumes] == [True, False]


BROKEN = {
    "MR_truncated.dcm": "only 8130 of 8192 bytes of its pixels are there",
    "truncated_half.dcm": "only 3415 of 8192 bytes of its pixels are there",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "the file ends before its pixels do",
    "meta_missing_tsyntax.dcm": "holds no image",
    "no_extension_dicom": "",
    "no_preamble.dcm": "",
}


def test_broken_real_files_are_read_or_refused_by_name_with_the_reason(real_data):
    paths = sorted((real_data / "odd/broken").iterdir())
    assert {p.name for p in paths if is_dicom(p)} == set(BROKEN)
    for name, words in BROKEN.items():
        path = real_data / "odd/broken" / name
        assert words in why(path) if words else one(path).data.shape == (1, 64, 64)


def test_a_series_is_not_written_for_a_patient_who_was_not_read(tmp_path):
    source = replace(synthetic(np.diag([-1.0, -1, 3, 1])), files=())
    written = write_dicom(tmp_path / "a", replace(source, provenance=SAYS))
    read = one(*written)
    other = write_dicom(tmp_path / "b", replace(source, provenance=SAYS))
    for old, new in zip(written, other, strict=True):
        new.replace(old)  # an export folder is used again
    with pytest.raises(ValueError, match="of another series than when it was read"):
        write_dicom(tmp_path / "c", replace(replace(source, files=read.files, uid=read.uid), provenance=SAYS))
    assert not (tmp_path / "c").exists()


def test_slices_without_a_patient_are_of_one_study(tmp_path):
    volumes, _ = read_dicoms(
        write_dicom(tmp_path / "a", replace(synthetic(np.diag([-1.0, -1, 3, 1])), provenance=SAYS))
    )
    assert volumes[0].subject


@pytest.mark.parametrize("keyword", ["InversionTime", "FlipAngle"])
def test_what_differs_between_slices_of_one_place_tells_them_apart(tmp_path, keyword):
    for value in (10, 20):
        series(tmp_path, **{keyword: value, "InstanceNumber": 1})
    volumes, skipped = read_dicoms(sorted(tmp_path.iterdir()))
    assert [len(v.data) for v in volumes] == [4, 4] and not skipped


@pytest.mark.parametrize(("keyword", "values"), [("StudyDate", ["20200102", "20210102"]), ("SeriesDescription", "ab")])
def test_visits_and_series_that_an_anonymiser_made_one_are_never_interleaved(tmp_path, keyword, values):
    for shift, value in enumerate(values):
        series(tmp_path, heights=np.array([0, 3, 6, 9]) + 1.5 * shift, **{keyword: value})
    volumes, skipped = read_dicoms(sorted(tmp_path.iterdir()))
    assert [len(v.data) for v in volumes] == [4, 4] and not skipped


def test_what_an_enhanced_header_says_of_contrast_region_and_calculation_counts(tmp_path):
    region = [item(CodeValue="T-12710", CodeMeaning="Knee")]
    said = {"AcquisitionContrast": "DIFFUSION", "VolumeBasedCalculationTechnique": "MAX_IP"}
    fields = [{key: value} for key, value in said.items()] + [{"AnatomicRegionSequence": region}]
    looks = [one(*series(tmp_path / str(k), **more)).looks for k, more in enumerate(fields)]
    assert looks == ["diffusion", "projection", "another part of the body"]


@pytest.mark.parametrize(
    ("stored", "said"),
    [(b"DS", b"0,50\\0,75 "), (b"DS", b"0.50,0.75 "), (b"UT", b"0.50\\0.75 "), (b"LO", b"0.50\\0.75 ")],
)
def test_numbers_with_commas_or_of_a_type_for_text_are_numbers(tmp_path, stored, said):
    plain = b"(\0000\0DS\x0a\x000.50\\0.75 "
    for path in series(tmp_path, PixelSpacing=["0.50", "0.75"]):
        whole = path.read_bytes()
        assert plain in whole
        length = b"\0\0\x0a\0\0\0" if stored == b"UT" else b"\x0a\0"
        path.write_bytes(whole.replace(plain, b"(\x000\0" + stored + length + said))
    assert one(*tmp_path.iterdir()).spacing == (3, 0.5, 0.75)


def test_positions_with_decimal_commas_are_places(tmp_path):
    paths = [
        series(tmp_path, heights=[k], ImagePositionPatient=["-10", "-20", str(k)], InstanceNumber=k + 1)[0]
        for k in range(4)
    ]
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"-10\\-20\\", b"-1,5\\-2\\"))
    np.testing.assert_array_equal(one(*paths).affine[:3, 3], [1.5, 2, 0])


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("EchoTime", [101.94, 101.98, 102.06, 101.9]),
        ("EffectiveEchoTime", [12.04, 12.06, 12.05, 12.1]),
        ("PixelSpacing", [[0.93749, 0.9375], [0.9375, 0.93751], [0.93751, 0.93749], [0.9375, 0.9375]]),
    ],
)
def test_values_that_differ_by_rounding_do_not_divide_a_series(tmp_path, keyword, values):
    for k, value in enumerate(values):
        series(tmp_path, heights=[3 * k], **{keyword: value, "InstanceNumber": k + 1})
    assert len(one(*tmp_path.iterdir()).data) == 4


def test_echoes_that_are_close_are_told_apart_where_they_show_the_same_places(tmp_path):
    for echo in (100.0, 101.0):
        series(tmp_path, EchoTime=echo)
    volumes, skipped = read_dicoms(list(tmp_path.iterdir()))
    assert [len(v.data) for v in volumes] == [4, 4]
    assert not skipped


def test_slices_further_apart_than_the_header_says_are_said(tmp_path):
    note = "its slices lie 6 mm apart, and its header says 3 mm: are 1 of 2 files missing? Their places were taken"
    assert note in one(*series(tmp_path, heights=[0, 6, 12, 18], SpacingBetweenSlices=3)).notes
    assert one(*series(tmp_path / "b", heights=[0, 6, 12, 18], SpacingBetweenSlices=6)).notes == ()


@pytest.mark.parametrize("ending", [".img", ".IMG"])
def test_dicom_that_is_called_img_is_read(tmp_path, ending):
    for path in series(tmp_path):
        path.rename(path.with_name(f"{path.name}{ending}"))
    (volume,) = read_all(tmp_path).volumes
    assert len(volume.data) == 4


def test_one_position_for_all_is_not_believed_where_the_locations_differ(tmp_path):
    for k in range(4):
        series(tmp_path, heights=[0], SliceLocation=3.0 * k, InstanceNumber=k + 1, AcquisitionTime=f"12000{k}")
    volume = one(*tmp_path.iterdir())
    assert len(volume.data) == 4
    assert volume.affine is None
    assert "all its slices claim one position, which their SliceLocation denies" in volume.notes


FIELDS = [{"PatientName": "Doe^J"}, {"StudyInstanceUID": "1.2.3"}, {"SeriesInstanceUID": "1.2"}]


@pytest.mark.parametrize("fields", FIELDS)
def test_two_parts_of_one_scan_are_said(tmp_path, fields):
    below, above = series(tmp_path / "a", (0, 3, 6)), series(tmp_path / "b", (9, 12, 15), **fields)
    volumes, _ = read_dicoms([*below, *above])
    note = "another volume of its name goes on where it ends: one scan in two parts? Export it as one series"
    assert [note in v.notes for v in volumes] == [True, True]
    far = series(tmp_path / "c", (30, 33, 36), **fields)
    assert not any(note in v.notes for v in read_dicoms([*below, *far])[0])


@pytest.mark.parametrize("spacing", [None, [0, 0], [0.5]])
def test_a_pixel_of_no_size_is_said(tmp_path, spacing):
    volume = one(*series(tmp_path, PixelSpacing=spacing))
    assert volume.spacing is None
    assert "the header does not say how large a pixel is: the spacing is not known" in volume.notes


def test_slices_that_lie_aside_by_turns_are_no_tilted_gantry(tmp_path):
    for k in range(5):
        series(tmp_path, heights=[0], ImagePositionPatient=[-10 + 0.3 * (k % 2), -20, 6 * k], InstanceNumber=k + 1)
    assert not any("gantry" in note for note in one(*tmp_path.iterdir()).notes)


def test_one_image_in_either_byte_order_counts_once(tmp_path):
    same = header(pixels())
    paths = [save(tmp_path / "a", copy.deepcopy(same)), save(tmp_path / "b", same, ExplicitVRBigEndian)]
    volumes, skipped = read_dicoms(paths)
    assert [len(v.data) for v in volumes] == [1]
    assert [s.why for s in skipped] == ["another file here holds the same image; one is enough."]


def test_a_jpeg_2000_stream_of_more_pixels_than_the_header_says_is_refused_before_it_is_decoded(tmp_path):
    edges = b"".join(side.to_bytes(4) for side in (COLUMNS, 60_000, 0, 0))
    stream = b"\xff\x4f\xff\x51" + (41).to_bytes(2) + bytes(2) + edges + bytes(22)
    path = encapsulated(tmp_path / "a", header(pixels()), [stream], JPEG2000Lossless)
    assert why(path) == f"its pixels are 60000x{COLUMNS}, not as its header says; it is damaged."


def test_a_tag_of_no_known_type_hinders_no_other_file(tmp_path):
    path = tmp_path / "a"
    content = save(path, header(pixels(), SeriesNumber=3), ExplicitVRLittleEndian).read_bytes()
    at = content.index(b"\x20\x00\x0d\x00UI")
    path.write_bytes(content[: at + 4] + b"UE" + content[at + 6 :])
    np.testing.assert_array_equal(one(path).data[0], pixels())


def test_a_compression_without_a_decoder_is_named_not_called_damaged(tmp_path):
    htj2k = "1.2.840.10008.1.2.4.201"
    path = encapsulated(tmp_path / "a", header(pixels()), [b"\xff\x0a" + bytes(30)], htj2k)
    assert "for which no decoder is installed; convert it first" in why(path)
