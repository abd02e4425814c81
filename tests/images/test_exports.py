"""Traits of hospitals' exports: by the header of one series, by its neighbours, by names and values."""

import json
import unicodedata

import numpy as np
import pytest
from nibabel import Nifti1Image
from nibabel import save as save_nifti
from pydicom.uid import EnhancedMRImageStorage, generate_uid
from test_dicom import COLUMNS, ROWS, header, item, one, pixels, save, series, why

from napari_t1t2.config import TrainConfig
from napari_t1t2.data.reading import read_both
from napari_t1t2.images.clues import origins, subject_of
from napari_t1t2.images.contrast import Said, contrast_of, judged
from napari_t1t2.images.dicom import read_dicoms
from napari_t1t2.images.folder import choose
from napari_t1t2.images.pixels import kind_of, make_finite
from napari_t1t2.images.read import read_all, read_image
from napari_t1t2.images.vocabulary import AGENT

T1 = {"SeriesDescription": "t1_se_tra", "EchoTime": 12, "RepetitionTime": 500}


def looks(folder, **fields) -> str:
    return one(*series(folder, **(T1 | fields))).looks


def unit(code: str) -> list:
    return [item(MeasurementUnitsCodeSequence=[item(CodeValue=code)])]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"StudyDescription": "MRI KNEE LEFT W/O"}, "another part of the body"),
        ({"PerformedProcedureStepDescription": "IRM rachis lombaire"}, "spine"),
        ({"StudyDescription": "MRI BRAIN AND C-SPINE"}, "T1"),
        ({"StudyDescription": "Schädel MRT + HWS"}, "T1"),
        ({"StudyDescription": "L-SPINE", "BodyPartExamined": "HEAD"}, "T1"),
        ({"ReceiveCoilName": "TxRx_15Ch_Knee"}, "another part of the body"),
        ({"ReceiveCoilName": "HeadNeck_64"}, "T1"),
        ({"BodyPartExamined": "UP_EXM"}, "another part of the body"),
        ({"BodyPartExamined": "WHOLEBODY"}, "another part of the body"),
        ({"BodyPartExamined": "PHANTOM"}, "phantom"),
        ({"PatientName": "PHANTOM^ACR"}, "phantom"),
        ({"ContrastBolusIngredient": "GADOLINIUM"}, AGENT),
        ({"ContrastBolusTotalDose": 7.5}, AGENT),
        ({"ContrastBolusAgentSequence": [item(CodeMeaning="Gadobutrol")]}, AGENT),
        ({"ProtocolName": "t1_se_tra_KM"}, AGENT),
        ({"ProtocolName": "BRAIN W/WO, MRA, DWI", "Manufacturer": "GE MEDICAL SYSTEMS"}, "T1"),
        ({"ProtocolName": "localizer"}, "T1, but also named localizer"),
        ({"DerivationDescription": "Subtraction post - pre"}, "T1, but also named subtraction"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.30"}, "computed map"),
        ({"RescaleType": "ms"}, "computed map"),
        ({"RealWorldValueMappingSequence": unit("ms")}, "computed map"),
        ({"RescaleType": "normalized", "RealWorldValueMappingSequence": unit("1")}, "T1"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M_PCA", "M", "PCA"]}, "angiography"),
        ({"ImageType": ["DERIVED", "PRIMARY", "T1", "DIVISION"]}, "computed map"),
        ({"ImagedNucleus": "23NA"}, "another nucleus"),
        ({"ImagedNucleus": "1H"}, "T1"),
        ({"SeriesDescription": "", "SequenceName": "*fm2d2r"}, "field map"),
        ({"TimeOfFlightContrast": "YES"}, "angiography"),
        ({"ArterialSpinLabelingContrast": "PSEUDOCONTINUOUS"}, "perfusion"),
        ({"PhaseContrast": "YES"}, "angiography"),
        ({"EchoPlanarPulseSequence": "YES"}, "echo planar"),
        ({"MagnetizationTransfer": "ON_RESONANCE"}, "magnetisation transfer"),
        ({"MagnetizationTransfer": "NONE"}, "T1"),
        ({"SeriesDescription": "T2", "EchoTime": 40, "EchoPulseSequence": "GRADIENT"}, "T2*"),
    ],
)
def test_what_a_header_says_elsewhere_counts_too(tmp_path, fields, kind):
    assert looks(tmp_path, **fields) == kind


@pytest.mark.parametrize(
    ("group", "creator", "element", "kind", "value"),
    [
        (0x43, "GEMS_PARM_01", 0x39, "IS", [1000000800, 8, 0, 0]),
        (0x43, "GEMS_PARM_01", 0x39, "UN", b"1000000800\\8\\0\\0 "),
        (0x65, "Image Private Header", 0x09, "FD", 800.0),
        (0x65, "Image Private Header", 0x09, "UN", np.float64(800).tobytes()),
    ],
)
def test_a_b_value_of_any_vendor_counts_whatever_its_type(tmp_path, group, creator, element, kind, value):
    ds = header(pixels())
    ds.private_block(group, creator, create=True).add_new(element, kind, value)
    assert one(save(tmp_path / "a", ds)).looks == "diffusion"


def test_an_image_without_diffusion_weighting_is_no_t2_where_its_series_has_others_with_it(tmp_path):
    for b in (0.0, 1000.0):
        series(tmp_path, DiffusionBValue=b)
    assert [v.looks for v in read_dicoms(list(tmp_path.iterdir()))[0]] == ["diffusion"] * 2


@pytest.mark.parametrize(
    ("keyword", "count", "kind"), [("AcquisitionNumber", 6, "series of 6 images"), ("AcquisitionNumber", 3, "T2")]
)
def test_many_images_of_one_place_in_a_series_are_times_and_no_contrast(tmp_path, keyword, count, kind):
    for n in range(count):
        series(tmp_path, **{keyword: n + 1})
    volumes, _ = read_dicoms(list(tmp_path.iterdir()))
    assert [v.looks for v in volumes] == [kind] * count


def test_the_echoes_of_a_map_are_a_series_of_images(tmp_path):
    for n in range(8):
        series(tmp_path, EchoTime=10 * n + 10, EchoNumbers=n + 1)
    assert {v.looks for v in read_dicoms(list(tmp_path.iterdir()))[0]} == {"series of 8 images"}


def test_gradient_echoes_of_two_times_are_no_t1_by_these(tmp_path):
    wiped = {"SeriesDescription": "", "RepetitionTime": 500, "ScanningSequence": "GR"}
    one_echo = one(*series(tmp_path / "a", EchoTime=4.92, **wiped))
    for n, te in enumerate((4.92, 7.38)):
        series(tmp_path / "b", EchoTime=te, EchoNumbers=n + 1, **wiped)
    both, _ = read_dicoms(list((tmp_path / "b").iterdir()))
    assert one_echo.looks == "T1" and [v.looks for v in both] == ["", ""]


def test_of_mp2rage_only_what_is_called_uni_is_a_t1(tmp_path):
    said = {"SeriesDescription": "t1_mp2rage_sag", "EchoTime": 2.98, "RepetitionTime": 5000}
    for number, (ti, *kind) in enumerate([(700, "M"), (2500, "M"), (None, "M", "UNI")]):
        series(
            tmp_path / str(number),
            **said | {"InversionTime": ti, "ImageType": ["DERIVED", "PRIMARY", *kind]},
            SeriesInstanceUID=generate_uid(),
            SeriesNumber=number,
        )
    assert [v.looks for v in read_all(tmp_path).volumes] == ["inversion image", "inversion image", "T1"]


def test_patients_that_were_all_called_anonymous_are_told_apart_by_their_studies(tmp_path):
    for name in "ab":
        fields = {"PatientID": "ANONYMOUS", "PatientName": "anonymized", "StudyInstanceUID": generate_uid()}
        series(tmp_path / name, **fields, SeriesInstanceUID=generate_uid())
    assert len({v.subject for v in read_all(tmp_path).volumes}) == 2
    assert one(*series(tmp_path / "c", PatientID="ANON1", SeriesInstanceUID=generate_uid())).subject == "ANON1"


def test_frames_that_only_their_time_offset_tells_apart_are_two_volumes(tmp_path):
    ds = header(pixels(shape=(6, ROWS, COLUMNS)), SOPClassUID=EnhancedMRImageStorage)
    ds.PerFrameFunctionalGroupsSequence = [
        item(
            FrameContentSequence=[item(TemporalPositionTimeOffset=float(t))],
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 3 * k])],
        )
        for k in range(3)
        for t in range(2)
    ]
    volumes, skipped = read_dicoms([save(tmp_path / "a", ds)])
    assert [len(v.data) for v in volumes] == [3, 3] and not skipped


def test_a_map_in_colours_is_a_colour_map_and_floats_are_named(tmp_path):
    hues = np.zeros((ROWS, COLUMNS, 3), np.uint8)
    hues[:2, :, 0] = hues[2:4, :, 1] = hues[4:, :, 2] = 200
    fields = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    ds = header(hues, Rows=ROWS, Columns=COLUMNS, NumberOfFrames=None, **fields)
    assert one(save(tmp_path / "a", ds)).looks == "colour map"
    ds = header(pixels(), PixelData=None, FloatPixelData=pixels().astype(np.float32).tobytes())
    assert "holds numbers that were computed" in why(save(tmp_path / "b", ds))


def test_a_table_for_the_values_is_applied_and_said(tmp_path):
    table = item(LUTDescriptor=[1000, 0, 16], ModalityLUTType="US")
    table["LUTDescriptor"].VR = "US"
    table.add_new(0x00283006, "OW", (np.arange(1000, dtype=np.uint16) * 3).tobytes())
    volume = one(save(tmp_path / "a", header(pixels(), ModalityLUTSequence=[table])))
    np.testing.assert_array_equal(volume.data[0], pixels() * 3.0)
    assert "Modality LUT" in volume.notes[0]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((t, "localizer") for t in ("Repérage T1", "T2 Übersicht", "定位像 T1")),
        *((t, "spine") for t in ("T1 Rückenmark", "T2 rachide", "颈椎 T2")),
        *((t, AGENT) for t in ("T1 après injection", "T1 增强", "T1 造影")),
        *(
            (t, "T1")
            for t in ("T1 平扫", "T1 非造影", "\uff34\uff11 SE", "t1_tirm_tra_dark-fluid", "T1 flow comp", "wmT1")
        ),
        *((t, "flow or motion") for t in ("T2 CSF flow", "Q-Flow T1", "cine T2", "venc 10 T1", "T2 MRE", "4D flow")),
        *((t, "magnetisation transfer") for t in ("CEST T2", "APTw T1", "ihMT T1")),
        *((t, "synthetic MR") for t in ("3D-QALAS T1", "MRF T1", "T1 MR fingerprinting", "T1_synthseg", "T1_synthsr")),
        *((t, "several echoes") for t in ("T2 mese 32", "T2_multiecho", "ME-GRE T1", "T2 multi echo")),
        *((t, "label map") for t in ("T1_lesions", "sub1_lesion_T1", "T1_WMH", "T1 GTV", "T1_fast_mixeltype")),
        *((t, "tissue map") for t in ("T1_gm", "gm_T1", "T1_wm", "T1_csf")),
        *(
            (t, "computed map")
            for t in ("T2 relaxometry", "T1 SNR", "T2 noise scan", "pseudoCT T1", "OEF T2", "T1 parametric")
        ),
        *(
            (t, "another part of the body")
            for t in ("T1 poignet", "T1 ginocchio", "T1 OSG", "T2 fetal", "T1 whole body")
        ),
        *(
            (t, "another part of the body")
            for t in ("T1 tobillo", "T1 joelho", "T1 Unterarm", "T2 enterography", "膝 T1")
        ),
        *(
            (t, "T2")
            for t in ("T2 FC", "T2 flow comp", "T2 SPACE", "T2 noise reduced", "T2 lesion filled", "T2 CSF drive")
        ),
        ("T1_multiecho_mprage_rms", "T1"),
        ("T1_synthstrip", "T1"),
        *((t, "diffusion") for t in ("ax b50 T2", "T2 b 0")),
        *(
            (t, "template")
            for t in ("MNI152_T1_1mm", "avg152T1", "single_subj_T1", "T1_template0", "colin27_t1_tal_lin")
        ),
        ("tpl-MNI152NLin6Asym_res-01_T1w", "template"),
        ("P1_T1_MNI152", "T1"),
        ("T1 TIRM", "T1"),
    ],
)
@pytest.mark.parametrize("coded", ["as typed", "NFD", "no character set"])
def test_words_count_however_their_accents_are_coded(text, kind, coded):
    if coded == "NFD":  # as macOS writes names
        text = unicodedata.normalize("NFD", text)
    if coded == "no character set":  # UTF-8 read as Latin-1
        text = text.encode().decode("latin-1")
    assert contrast_of([text]) == kind


@pytest.mark.parametrize(
    ("entity", "kind"),
    [
        *(("acq-subtraction", "subtraction"), ("rec-sub", "subtraction"), ("acq-DCE", "perfusion")),
        *(("acq-TOF", "angiography"), ("rec-MIP", "projection"), ("acq-SyMRI", "synthetic MR")),
        *(("acq-INV1", "inversion image"), ("rec-phase", "phase"), ("acq-T1map", "T1map")),
        *((t, "T1") for t in ("acq-mprage", "acq-highres", "rec-norm", "acq-space", "acq-sag", "acq-ND", "acq-seg")),
    ],
)
def test_what_bids_says_of_acquisition_and_reconstruction_counts(entity, kind):
    assert contrast_of([f"sub-01_{entity}_T1w"]) == kind


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (Said(("t1",), te=3, tr=5000, ti=2500), "T1, but a TI of 2500 ms, as FLAIR has"),
        (Said(("t2", "ep2d_diff_b1000"), te=90), "T2, but also named diffusion"),
        (Said(("t1", "C-spine and head"), te=12), "T1"),
        (Said(("t1",), exam="MR femur"), "another part of the body"),
        (Said(("t1",), exam="MR femur, head"), "T1"),
    ],
)
def test_what_speaks_against_a_name_is_said(said, kind):
    assert judged(said) == kind


def nifti(path, voxels=None, affine=None, **fields):
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(0).integers(0, 900, (8, 9, 5)).astype(np.int16) if voxels is None else voxels
    image = Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    for key, value in fields.items():
        image.header[key] = value
    save_nifti(image, path)
    return path


def test_copies_of_an_image_that_is_here_too_are_left_out_by_name(tmp_path):
    made = ("T1_brain", "T1_defaced", "T1_n4", "T1_biascorr_brain", "T1_to_MNI_lin", "T1 - Copy", "T1 (1)", "T1_1mm")
    for name in ("P1_T1", *(f"P1_{name}" for name in made), "rP1_T1", "wmP1_T1", "P2_T1_brain", "P3_T1"):
        nifti(tmp_path / f"{name}.nii")
    for name in ("T1w", "space-MNI152_T1w", "desc-preproc_T1w", "T1w__dup-01", "run-2_T1w"):
        nifti(tmp_path / f"sub-01_{name}.nii")
    chosen = choose(read_all(tmp_path), "T1")
    kept = {v.path.name for v in chosen.volumes if v.path}
    assert kept == {"P1_T1.nii", "P2_T1_brain.nii", "P3_T1.nii", "sub-01_T1w.nii", "sub-01_run-2_T1w.nii"}
    assert all("is a copy, or was made, of another image" in s.why for s in chosen.skipped)
    assert choose(read_all(tmp_path), "T1", "P1_T1_brain.nii").volumes[0].name == "P1_T1_brain"  # where it is asked for


def test_a_copy_shows_the_head_of_its_image(tmp_path):
    names = ("P1_T1", "P1_T1_brain", "P1_T1_to_T2", "P1_T2_bet", "P1_T1_skull_stripped")
    assert {subject_of(tmp_path / f"{name}.nii.gz", stack=True) for name in names} == {"P1"}
    assert subject_of(tmp_path / "fsl.anat" / "T1_biascorr.nii.gz", stack=True) == "fsl.anat"
    assert "P1_T1" in origins(tmp_path / "P1_T1_reg.nii")


def test_voxels_that_are_there_twice_are_taken_once_and_that_is_said(tmp_path):
    for k in range(2):  # a second export, under other identifiers
        uids = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
        series(tmp_path / "T1" / str(k), range(0, 24, 3), **T1 | uids)
    nifti(tmp_path / "T2" / "P1_T2.nii")
    t1, _, _ = read_both(TrainConfig(t1_folder=tmp_path / "T1", t2_folder=tmp_path / "T2"))
    assert len(t1.taken) == 1
    assert [why for _, why in t1.left_out] == ["another image here holds the same voxels; one is enough."]


@pytest.mark.parametrize(
    ("name", "descrip", "kind"),
    [
        ("P1_T2", b"TE=2.9;Time=101010.000", "T2, but a TE of 2.9 ms, which no T2 has"),
        ("P1_T2", b"3T 3D GR\\IR TR=2300ms/TE=2.98ms/FA=9deg", "T2, but a TE of 2.98 ms, which no T2 has"),
        ("scan", b"3T 2D SE TR=5000ms/TE=98ms/FA=90deg", "T2"),
        ("P1_T1", b"TE=2.9;Time=101010.000;phase=1", "phase"),
        ("P1_T1", b"FSL5.0", "T1"),
    ],
)
def test_what_spm_and_dcm2niix_note_in_a_header_counts(tmp_path, name, descrip, kind):
    assert read_image(nifti(tmp_path / f"{name}.nii.gz", descrip=descrip)).looks == kind


def test_a_quaternion_that_is_none_does_not_stop_a_good_sform(tmp_path):
    path = nifti(tmp_path / "T1.nii", quatern_b=1.0, quatern_c=1.0, quatern_d=1.0, qform_code=1, sform_code=1)
    np.testing.assert_allclose(read_image(path).affine, np.eye(4))


def test_axes_that_are_not_at_right_angles_are_said(tmp_path):
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    volume = read_image(nifti(tmp_path / "T1.nii", affine=sheared))
    assert volume.notes == (
        "its axes are not at right angles, as after an affine registration: slices are taken as stored",
    )
    np.testing.assert_allclose(volume.affine, sheared, atol=1e-6)


def test_a_file_of_many_times_is_no_contrast_though_its_name_says_one(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 900, (8, 9, 5, 30)).astype(np.int16)
    assert read_image(nifti(tmp_path / "P1_t1_vibe.nii", voxels)).looks == "series of 30 images"
    assert read_image(nifti(tmp_path / "P1_T1.nii", voxels[..., :4])).looks == "T1"
    assert read_image(nifti(tmp_path / "P1_t1_vibe.nii", voxels), frame=3).looks == "T1"  # which the user asked for


@pytest.mark.parametrize("padding", [-32768, -2000, -1024, -1000])
def test_padding_far_below_all_values_becomes_the_lowest_and_is_said(padding):
    values = np.random.default_rng(0).integers(0, 900, (4, 32, 32)).astype(np.float32)
    values[:, :2] = padding
    filled, notes = make_finite(values.copy(), "a")
    assert 0 <= filled.min() < 10 and f"({padding})" in notes[0]
    for dark in (-999, -300):  # as of a brain in MNI space
        values[:, :2] = dark
        assert make_finite(values.copy(), "a")[1] == ()
    wide = np.random.default_rng(0).integers(-1024, 3000, (4, 32, 32)).astype(np.float32)
    assert make_finite(wide.copy(), "a")[1] == ()


def test_labels_that_were_scaled_are_labels():
    labels = np.zeros((4, 40, 40), np.float32)
    labels[:, 5:20, 5:30], labels[:, 20:35, 5:30] = 0.25, 0.75
    assert kind_of(labels) == "label map"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"ProcedureStepDescription": "MRI KNEE"}, "another part of the body"),
        ({"ReceiveCoilName": "Knee_15"}, "another part of the body"),
        ({"ImagedNucleus": "23Na"}, "another nucleus"),
        ({"ContrastBolusTotalDose": 7.5}, AGENT),
        ({"SeriesDescription": "t1_mprage", "ProtocolName": "t1_mprage_KM"}, AGENT),
        ({"Manufacturer": "GE", "SeriesDescription": "Ax T1", "ProtocolName": "BRAIN W/WO, DWI"}, "T1"),
        ({"ReceiveCoilName": "HeadNeck_64", "ImagedNucleus": "1H", "ProcedureStepDescription": "MRI Brain"}, "T1"),
    ],
)
def test_what_a_sidecar_says_elsewhere_counts_too(tmp_path, said, kind):
    path = nifti(tmp_path / "a_T1.nii")
    path.with_suffix(".json").write_text(json.dumps(said))
    assert read_image(path).looks == kind
