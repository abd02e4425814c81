"""What an image is: by the words of its names, by its headers, and where both contradict each other."""

import json
import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from napari_t1t2.images.contrast import Said, contrast_of, judged, reason
from napari_t1t2.images.folder import choose
from napari_t1t2.images.nifti import INTENTS
from napari_t1t2.images.pictures import FEW
from napari_t1t2.images.read import read_all, read_image
from napari_t1t2.images.vocabulary import AGENT, BOTH, CONTRASTS, KINDS, STATED


@pytest.mark.parametrize(
    ("text", "contrast"),
    [
        ("sub-01_ses-2_T1w.nii.gz", "T1"),
        ("sub-01_T2w", "T2"),
        ("t1_se_tra", "T1"),
        ("AxT2TSE", "T2"),
        ("t2_tse_tra", "T2"),
        ("MPRAGE sag iso", "T1"),
        ("Ax T2 FLAIR", "FLAIR"),
        ("t2_tirm_dark-fluid", "FLAIR"),
        ("t2star_map", "T2map"),
        ("pd_tse", "PD"),
        ("T1 and T2 of a head", ""),
        ("Image #10", ""),
        ("patient t1000", ""),
        ("", ""),
        ("T2/post", "T2"),
        ("pd+t2_tse_tra", ""),
        ("UNIT1", "T1"),
        ("BraTS-GLI-00002-000-t1n", "T1"),
        ("BraTS-GLI-00002-000-t1c", AGENT),
        ("BraTS-GLI-00002-000-t2w", "T2"),
        ("BraTS-GLI-00002-000-t2f", "FLAIR"),
        ("BraTS20_Training_001_t1ce", AGENT),
        ("sT1W_3D_TFE", "T1"),
        ("headT1_brain", "T1"),
        ("patient1_scan", ""),
        ("patient1_T2", "T2"),
        ("magician", ""),
        ("Ax T1 FLAIR", "T1"),
        ("FLAIR_to_T1", "FLAIR"),
        ("3DT1", "T1"),
        ("T13D", "T1"),
        ("DP axial", "PD"),
        ("Ax SWAN", "T2*"),
        ("T1 FAT SAT", "T1"),
        ("T2 sat graisse", "T2"),
    ],
)
def test_a_description_tells_its_contrast_or_nothing(text, contrast):
    assert contrast_of([text]) == contrast


@pytest.mark.parametrize(
    ("suffix", "contrast"),
    [
        *(("T1w", "T1"), ("UNIT1", "T1"), ("inplaneT1", "T1"), ("T2w", "T2"), ("inplaneT2", "T2")),
        *(("FLAIR", "FLAIR"), ("PDw", "PD"), ("T2starw", "T2*")),
        *((s, s) for s in ("bold", "boldref", "dseg", "probseg", "mask", "T1map", "T2map", "T1rho", "dwi", "PDT2")),
    ],
)
@pytest.mark.parametrize("name", ["sub-01_", "sub-01_ses-2_space-T1w_", "sub-03-A_acq-T2w_desc-brain_", "ses-1_run-2_"])
def test_the_suffix_of_a_bids_name_alone_decides(name, suffix, contrast):
    assert contrast_of([name + suffix, "T1"]) == contrast_of([f"{name}{suffix}.nii.gz", "T2"]) == contrast


@pytest.mark.parametrize("name", ["sub-01_scan", "sub-01_z052", "sub-01_space-T1w_z052", "sub-01"])
def test_a_suffix_that_bids_does_not_know_says_nothing(name):
    assert contrast_of([name]) == ""
    assert contrast_of([name, "T2"]) == "T2"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("T1map", "T1map"),
        ("t1_mapping_native", "T1map"),
        ("mp2rage T1 map", "T1map"),
        ("T2 map", "T2map"),
        ("qT2map", "T2map"),
        ("T1rho_knee", "T1rho"),
    ],
)
def test_a_map_is_no_weighted_image(text, kind):
    assert contrast_of([text]) == kind


def test_the_first_text_that_says_something_decides():
    assert contrast_of(["series 4", "t2_tse", "t1_se"]) == "T2"


@pytest.mark.parametrize(
    ("te", "tr", "ti", "contrast"),
    [
        (12, 550, None, "T1"),
        (3.7, 7.5, None, ""),  # a scout, an angiography or a spoiled gradient echo
        (90, 6000, None, "T2"),
        (3.1, 8.9, 900, "T1"),
        (90, 9000, 2500, "FLAIR"),
        (15, 3000, None, "PD"),
        (None, 550, None, ""),
        (0, 0, None, ""),
    ],
)
def test_times_tell_the_contrast_where_no_name_does(te, tr, ti, contrast):
    assert judged(Said(("series 3",), te=te, tr=tr, ti=ti)) == contrast


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((t, "localizer") for t in ("localizer", "3-plane loc", "AAHead_Scout", "SURVEY", "Lokalisierer", "Repérage")),
        *((t, "localizer") for t in ("localizador", "Topogramm", "Reference scan: ref scan", "calibration")),
        *((t, "phase") for t in ("t1_mprage_ph", "swi pha", "sub1_T2_ph.nii.gz", "gre phase images")),
        *((t, "half of a complex image") for t in ("T1_real.nii.gz", "scan_T2_imaginary", "scan_T2_imaginarya")),
        *((t, "field map") for t in ("gre_field_mapping", "B0 map", "fieldmap", "B1map_T1")),
        *((t, "diffusion") for t in ("ep2d_diff_b1000_ADC", "DTI 30 dir", "t2 dwi tra", "TRACEW", "*ep_b1000")),
        *((t, "function") for t in ("ep2d_bold_rest", "fMRI task", "rs-fmri")),
        *((t, "perfusion") for t in ("pCASL", "perf", "DCE t1 vibe", "CBF")),
        *((t, "angiography") for t in ("TOF 3D multi-slab", "MRA head", "Angiographie t1", "MRV", "pca venous")),
        *((t, "projection") for t in ("TOF_MIP", "SWI mIP")),
        *((t, "spine") for t in ("t2_tse_sag_LWS", "T2 C-spine", "lumbar T1", "HWS t2", "rachis T2", "columna T1")),
        *(
            (t, "label map")
            for t in ("P1_T1_seg", "sub1_T1_aparc+aseg", "T1_brain_mask", "T2_labels", "T1_lesion_mask")
        ),
        *((t, "tissue map") for t in ("P1_T1_pve_1", "T1_gm_prob", "c1T1_head")),
        *((t, "Dixon") for t in ("t1_vibe_dixon_W", "T1 in phase", "t1_opp-phase", "T1 fat")),
        *((t, "inversion image") for t in ("mp2rage_INV1", "MP2RAGE inv-2")),
        *((t, "T1map") for t in ("mp2rage_1mm_T1_Images", "MP2RAGE T1 map")),
        *((t, "T1") for t in ("mp2rage_1mm_UNI_Images", "mp2rage UNI-DEN", "Proband_03_T1", "perfect_T1", "local_T1")),
        *((t, "T2") for t in ("realign_T2", "T2 phased array coil", "phantom T2", "Asher_T2")),
        *((t, "localizer") for t in ("AAHScout_MPR_sag", "Planung", "T1w_vNav_setter", "Schnittplanung")),
        *((t, "Dixon") for t in ("T1 Wasser", "T1 water", "T2 eau")),
        *((t, "subtraction") for t in ("T1 subtraction", "T1 Soustraction")),
        *((t, "angiography") for t in ("Phasenkontrast", "t1_twist")),
        *((t, "perfusion") for t in ("DSC", "T1 dynamic", "dyn T1", "M0")),
        *((t, "diffusion") for t in ("FA", "dMRI_dir98_AP", "IVIM T2", "mean_diffusivity")),
        *((t, "spine") for t in ("Moelle T2", "T1 Rückenmark")),
        *((t, "another part of the body") for t in ("Knie T1", "T2 abdomen")),
        *((t, "synthetic MR") for t in ("SyMRI T2W", "T1 MAGiC", "synth T1")),
        *((t, "screen capture") for t in ("Screen Save", "Phoenix ZIP Report")),
        ("SpinEchoFieldMap_AP", "field map"),
        ("T2 DIR sag", "double inversion"),
        ("R2star", "T2map"),
        ("MT T1", "magnetisation transfer"),
        ("stir_tra_t2", "STIR"),
        ("DSC_0001", ""),
    ],
)
def test_a_word_for_what_is_no_weighted_image_comes_first(text, kind):
    found = contrast_of([text])
    assert found == kind or (kind == "projection" and found == "angiography")


@pytest.mark.parametrize(
    ("text", "contrast"),
    [
        *(
            (t, AGENT)
            for t in ("T1 post Gd", "t1_se_tra_KM", "T1 nach KM", "T1 apres gado", "T1 + C", "T1 con contraste")
        ),
        *((t, AGENT) for t in ("T1 mdc", "T1Gad", "T1 injecté", "AXT1POST")),
        *((t, "T1") for t in ("T1 KM-frei", "T1 non contrast", "T1 unenhanced", "T1_postop")),
        *((t, AGENT) for t in ("t1ce", "sub-01_ce-gadolinium_T1w", "T1_Gd", "T1 with contrast")),
        *((t, "T1") for t in ("T1 native", "T1 nativ", "T1 ohne KM", "T1 sans contraste", "T1 pre contrast", "t1n")),
    ],
)
def test_a_t1_with_contrast_agent_is_another_than_a_native_one(text, contrast):
    assert contrast_of([text]) == contrast


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sub-01_part-phase_T1w", "phase"),
        ("sub-01_part-real_T2w", "half of a complex image"),
        ("sub-01_part-mag_T1w", "T1"),
        ("sub-01_desc-aseg_T1w", "label map"),
        ("sub-01_label-GM_T1w", "label map"),
        ("sub-01_echo-1_T2starw", "T2*"),
        ("sub-01_inv-1_MP2RAGE", "MP2RAGE"),
    ],
)
def test_the_entities_of_a_bids_name_count(name, kind):
    assert contrast_of([name]) == kind


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (Said(("t1_fl2d",), ("ORIGINAL", "PRIMARY", "P", "ND")), "phase"),
        (Said(("t1_fl2d",), ("ORIGINAL", "PRIMARY", "M", "ND")), "T1"),
        (Said(("t2",), ("DERIVED", "PRIMARY", "DIFFUSION", "ADC")), "diffusion"),
        (Said(("head",), ("ORIGINAL", "PRIMARY", "LOCALIZER")), "localizer"),
        (Said(("t1 mp2rage",), ("DERIVED", "PRIMARY", "T1 MAP", "ND")), "T1map"),
        (Said(("tof",), ("DERIVED", "PRIMARY", "PROJECTION IMAGE", "MIP")), "projection"),
        (Said(("t2_tse",), b_value=1000.0), "diffusion"),
        (Said(("t2_tse",), body="LSPINE"), "spine"),
        (Said(("ax",), te=90, tr=4000, sequence="EP SK"), "echo planar"),
        (Said(("T2_GENFI_3D",), te=2.9, tr=2200, ti=900), "T2, but a TE of 2.9 ms, which no T2 has"),
        (Said(("t1_tse",), te=98, tr=5000), "T1, but a TE of 98 ms, which no T1 has"),
        (Said(("t1_se",), te=12, tr=550, agent="Dotarem"), AGENT),
        (Said(("t1_se native",), te=12, tr=550, agent="Dotarem"), "T1"),
        (Said(("t1_se",), te=12, tr=550, agent="NONE"), "T1"),
        (Said(("t1_se",), te=12, tr=550, agent="kein KM"), "T1"),
        (Said(("t1_vibe",), ("DERIVED", "PRIMARY", "DIXON", "WATER")), "Dixon"),
        (Said(("t1_vibe",), ("ORIGINAL", "PRIMARY", "M", "SUB")), "subtraction"),
        (Said(("t2_ax",), te=90, tr=4000, sequence="EP"), "echo planar"),
        (Said(("t1_se",), body="KNEE"), "another part of the body"),
        (Said(("t1_se",), body="HEAD"), "T1"),
        (Said(("t2",), kind="screen capture"), "screen capture"),
    ],
)
def test_a_header_is_believed_before_a_word(said, kind):
    assert judged(said) == kind


def test_what_a_sidecar_says_of_a_volume_counts(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 900, (8, 8, 4)).astype(np.int16)
    for name in ("scan1", "scan2", "scan3_T2"):
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / f"{name}.nii.gz")
    (tmp_path / "scan1.json").write_text(json.dumps({"EchoTime": 0.098, "RepetitionTime": 5.2}))
    (tmp_path / "scan2.json").write_text(json.dumps({"ImageType": ["ORIGINAL", "PRIMARY", "P"]}))
    (tmp_path / "scan3_T2.json").write_text(json.dumps({"EchoTime": 0.003, "RepetitionTime": 2.2}))
    looks = [read_image(tmp_path / f"{name}.nii.gz").looks for name in ("scan1", "scan2", "scan3_T2")]
    assert looks == ["T2", "phase", "T2, but a TE of 3 ms, which no T2 has"]


def test_a_label_map_beside_bare_names_does_not_leave_these_out(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 900, (8, 8, 4)).astype(np.int16)
    for name in ("P1", "P2", "P1_seg"):
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / f"{name}.nii.gz")
    chosen = choose(read_all(tmp_path), "T1")
    assert [v.name for v in chosen.volumes] == ["P1", "P2"]
    assert "its name or header says label map" in chosen.skipped[0].why


def test_the_page_of_rules_names_what_the_code_knows():
    page = (Path(__file__).parents[2] / "docs/formats.md").read_text(encoding="utf-8")
    rules = page.partition("## What an image is taken for")[2].partition("## How slices")[0]
    kinds = set(re.findall("`([^`]+)`", rules.partition("weighted image is called:")[2].partition(", or what")[0]))
    assert kinds == {*KINDS, *STATED, *INTENTS.values(), "colour map"}
    assert all(contrast in rules.replace("\\", "") for contrast in CONTRASTS)
    assert f'a "T2" of {3} ms' in rules and judged(Said(("T2",), te=3)) == "T2, but a TE of 3 ms, which no T2 has"
    assert FEW == 10 and "up to ten channels" in page


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("T1_fast_bias", "computed map"),
        ("T1_biascorr_brain", "T1"),
        ("sub-01_T1w_bias-corrected", "T1"),
        ("T1_to_MNI_nonlin_field", "computed map"),
        ("T1_to_MNI_lin", "T1"),
        ("T1_1InverseWarp", "computed map"),
        ("T1_Warped", "T1"),
        ("T1_SubjectToTemplateLogJacobian", "computed map"),
        ("T1_CorticalThickness", "computed map"),
        ("T1wDividedByT2w", "computed map"),
        ("T1_BrainSegmentation", "label map"),
        ("T1_BrainSegmentation0N4", "T1"),
        ("T1_BrainSegmentationPosteriors2", "tissue map"),
        ("lh.hippoAmygLabels-T1.v22", "label map"),
        ("mwp1sub-01_T1w", "tissue map"),
        ("c2patient_T1", "tissue map"),
        ("rc1T1", "tissue map"),
        ("wmsub-01_T1w", "T1"),
        ("p01_T1", "T1"),
        ("T2_to_T1", "T2"),
        ("T1_in_T2", "T1"),
        ("ADNI_002_S_0295_MR_MP-RAGE__br_raw", "T1"),
        ("T2W_FFE", "T2*"),
        ("EG T2 axial", "T2*"),
        ("T2 FLASH", "T2*"),
        ("SE-EPI T2", "echo planar"),
        ("T1W_SE_C+", AGENT),
        ("T1 W CONTRAST", AGENT),
        ("T1 WO CONTRAST", "T1"),
        ("dADC", "diffusion"),
        ("Übersicht T2", "localizer"),
    ],
)
def test_what_programs_and_scanners_call_their_images_is_known(name, kind):
    assert contrast_of([name]) == kind


def test_a_gradient_echo_with_a_long_echo_is_no_t1_by_its_times():
    said = Said(("",), te=20, tr=700, sequence="GR ")
    assert judged(said) == "" and judged(replace(said, te=4)) == judged(replace(said, sequence="SE ")) == "T1"


def head_file(path: Path, seed=0, **fields) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 900, (6, 6, 4)).astype(np.int16)
    image = nib.Nifti1Image(values, np.eye(4))
    for key, value in fields.items():
        image.header[key] = value
    nib.save(image, path)
    return path


def taken(folder: Path, contrast: str) -> list[str]:
    return [v.name for v in choose(read_all(folder), contrast).volumes]


def test_a_volume_that_nothing_tells_of_is_left_out_beside_those_that_say_their_contrast(tmp_path):
    for name in ("T1", "norm", "wm", "brain"):  # as FreeSurfer names them
        head_file(tmp_path / f"bert/{name}.nii")
    assert taken(tmp_path, "T1") == ["T1"]
    (tmp_path / "bert/T1.nii").unlink()
    assert taken(tmp_path, "T1") == ["brain", "norm", "wm"]


def test_the_channels_of_nnunet_are_what_its_description_calls_them(tmp_path):
    for case in "ab":
        for channel in (0, 1):
            head_file(tmp_path / f"imagesTr/{case}_000{channel}.nii.gz", ord(case) + channel)
    with pytest.raises(ValueError, match="unnamed channel"):
        choose(read_all(tmp_path), "T1")
    (tmp_path / "dataset.json").write_text("[1]")
    assert not {v.looks for v in read_all(tmp_path).volumes} & {"T1", "T2"}
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "T1", "1": "T2w"}}')
    assert taken(tmp_path, "T1") == ["a_0000", "b_0000"] and taken(tmp_path, "T2") == ["a_0001", "b_0001"]
    assert [v.subject for v in read_all(tmp_path).volumes] == ["a", "a", "b", "b"]


@pytest.mark.parametrize(("code", "kind"), [(1002, "label map"), (1007, "vector field"), (3, "statistical map")])
def test_the_intent_code_of_a_volume_counts(tmp_path, code, kind):
    volume = read_image(head_file(tmp_path / "a_T1.nii", intent_code=code))
    assert (volume.looks, volume.why) == (kind, "its header")


def test_colours_are_those_of_a_map_or_of_a_tinted_image(tmp_path):
    grey = np.random.default_rng(0).integers(0, 250, (20, 20)).astype(np.uint8)
    for name, colour in (("map", [grey, 255 - grey, grey // 3]), ("film", [grey, grey, grey // 5 * 4])):
        Image.fromarray(np.stack(colour, axis=-1)).save(tmp_path / f"{name}_T1.png")
    looks = {v.name: v.looks for v in read_all(tmp_path).volumes}
    assert looks == {"map_T1": "colour map", "film_T1": "T1"}


def test_a_mask_among_pictures_is_a_label_map(tmp_path):
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 255
    Image.fromarray(mask).save(tmp_path / "a_T1.png")
    assert read_image(tmp_path / "a_T1.png").looks == "label map"


def test_names_of_spm_keep_the_subject(tmp_path):
    names = ("sub-01_T1w", "msub-01_T1w", "wmsub-01_T1w", "mwp1sub-01_T1w")
    for name in names:
        head_file(tmp_path / f"{name}.nii")
    assert {v.subject for v in read_all(tmp_path).volumes} == {"sub-01"}


def test_a_picture_that_is_bright_around_says_so(tmp_path):
    grey = np.zeros((20, 20), np.uint8)
    grey[4:16, 4:16] = np.random.default_rng(0).integers(60, 250, (12, 12))
    for name, values in (("air_T1", grey), ("inverted_T1", 255 - grey)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    notes = {v.name: v.notes for v in read_all(tmp_path).volumes}
    assert notes["air_T1"] == () and "is it inverted" in notes["inverted_T1"][0]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"agent": "Gadovist"}, "contrast agent Gadovist"),
        ({"body": "LSPINE"}, "BodyPartExamined LSPINE"),
        ({"b_value": 1000.0}, "b-value 1000"),
        ({}, "named 'T1 axial'"),
    ],
)
def test_the_reason_is_what_decided(fields, why):
    assert reason(Said(("T1 axial",), **fields)) == why


@pytest.mark.parametrize(
    "text",
    [
        *(
            "T1 pre and post",
            "T1 PRE/POST",
            "T1 pre-post contrast",
            "t1_prepost",
            "T1 pre & post",
            "t1_mpr_pre_post_gd",
        ),
        *("T1 w/wo", "T1 W WO", "AX T1 w/ and w/o contrast", "T1 W/O & W", "T1 wwo", "BRAIN W/WO T1", "T1 W/W/O"),
        *("T1 +/- Gd", "T1 -/+ C", "T1 \u00b1 KM", "T1 with and without contrast", "T1 before and after Gd"),
        *("T1 mit und ohne KM", "T1 vor und nach KM", "t1_nativ_km", "T1 nativ + KM", "T1 avant et apr\u00e8s gado"),
        *("T1 sans puis avec injection", "T1 sin y con contraste", "T1 s/c y c/c contraste", "T1 sem e com contraste"),
        *("T1 senza e con mdc", "T1 antes y despues de gadolinio", "T1 native/enhanced", "sub-01_acq-prepost_T1w"),
    ],
)
def test_a_name_that_says_both_native_and_post_contrast_is_neither(text):
    assert contrast_of([text]) == BOTH and BOTH not in CONTRASTS


@pytest.mark.parametrize(
    ("text", "contrast"),
    [
        *((t, "T1") for t in ("T1 post-op", "T1 POST SURGERY", "T1 post op nativ", "T1 o. KM", "T1 W/O", "T1 S/C")),
        *((t, AGENT) for t in ("T1 post non fs", "T1 KM ohne FS", "T1 mit KM und FS", "T1 gado sin FATSAT")),
        *((t, AGENT) for t in ("T1 pre-op Gd", "T1 POSTCON", "T1 Kontrast", "T1 com contraste", "T1 post FS")),
        *((f"sub-01_acq-{acq}_T1w", AGENT) for acq in ("postGd", "post", "MPRAGEpostGd")),
        *((f"sub-01_{e}_T1w", "T1") for e in ("ce-none", "acq-pre", "acq-postop", "mt-off")),
        *((t, "T2") for t in ("T2 w/wo", "T2 pre and post")),
    ],
)
def test_only_what_is_said_of_the_agent_tells_of_it(text, contrast):
    assert contrast_of([text]) == contrast


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((t, "localizer") for t in ("3-pl T2* FGRE S", "topo", "centrage", "localisation T1", "AutoAlign T1")),
        *((t, "screen capture") for t in ("PosDisp: [3] t1", "Patient Protocol T1")),
        *((t, "projection") for t in ("T1 VRT", "T1 MPR thick range", "T1 shaded surface", "T1 curved")),
        *((t, "subtraction") for t in ("T1_SUB", "T1 Substraktion", "T1 minus T2", "T1 difference")),
        *((t, "perfusion") for t in ("T1 Ktrans", "T1 dinamico", "T1 wash-out", "T1 GRASP", "T1 iAUC")),
        *((t, "another part of the body") for t in ("T1 neck", "T2 Hals", "T2 hip", "T1 coude", "T2 MRCP", "T1 hand")),
        *((t, "spine") for t in ("T2 L/S", "C/S T1 sag", "T2 HWK", "sub-01_acq-cspine_T2w")),
        *((t, "T1map") for t in ("T1 MOLLI", "MOLLI_T1_native", "VFA T1", "DESPOT1")),
        *((t, "T2map") for t in ("qT2", "T2 MSME", "T2 prep map", "MWF")),
        *((t, "steady state") for t in ("T2 CISS", "T2 FIESTA-C", "T2 TrueFISP", "T2 bFFE", "T2 b-TFE")),
        *((t, "diffusion") for t in ("b1000", "RESOLVE b1000", "T2 diff", "isoADC", "B=1000")),
        *((t, "magnetisation transfer") for t in ("MTsat T1", "sub-01_mt-on_T1w", "sub-01_acq-MT_T1w")),
        *((t, "T2*") for t in ("T2s", "ESWAN T2", "T2 Gradient", "Gradient Echo T2", "T2 VenoBOLD")),
        *((t, "another modality") for t in ("P1_CT", "sub1 pet", "FDG brain")),
        ("T1 for PET", "T1"),
        ("T1 head neck", "T1"),
        ("T1 surface coil", "T1"),
        ("P01_T1_AD", "T1"),
        ("B1001_T1", "T1"),
        ("FLUID_ATTENUATED", "FLAIR"),
    ],
)
def test_what_scanners_and_post_processing_call_their_series_is_known(text, kind):
    assert contrast_of([text]) == kind


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (Said(("T2 tra",), te=90, tr=9000, ti=2500), "T2, but a TI of 2500 ms, as FLAIR has"),
        (Said(("T2 cor",), te=70, tr=4000, ti=160), "T2, but a TI of 160 ms, as STIR has"),
        (Said(("ax",), te=70, tr=4000, ti=160), "STIR"),
        (Said(("T2 axial",), te=40, tr=700, sequence="GR SP"), "T2*"),
        (Said(("T1 axial",), te=12, tr=550, sequence="SE SK MTC"), "magnetisation transfer"),
        (Said(("ax",), ("ORIGINAL", "PRIMARY", "M", "DIFFUSION"), te=90, tr=4000), "diffusion"),
        (Said(("T1 ax",), ("DERIVED", "PRIMARY", "VOLUME", "CURVED_MPR")), "projection"),
        (Said(("PD/T2 tra",), places=("P1.nii", "T2")), "PD and T2"),
        (Said(("DUAL ECHO T2",), places=("P1.nii", "T2")), "PD and T2"),
        (Said(("PD/T2 tra",), te=90, tr=4000), "T2"),
        (Said(("ax", "T1 brain"), te=12, tr=550, agent="Gadovist"), AGENT),
        (Said(("ax T1", "BRAIN with and without"), te=12, tr=550, agent="Gadovist"), AGENT),
        (Said(("sub-01_T2w",), described="t2_space_dark-fluid"), "T2, but described as 't2_space_dark-fluid'"),
        (Said(("sub-01_T1w",), described="AAHead_Scout"), "T1, but described as 'AAHead_Scout'"),
        (Said(("sub-01_T1w",), described="t1_mprage_post_GD"), AGENT),
        (Said(("sub-01_T1w",), described="t1 pre/post"), BOTH),
        (Said(("P1_T1", "t2_tse_tra")), "T1, but also named T2"),
        (Said(("P1_T1", "t2_tse_tra"), te=3, tr=2000, ti=900), "T1"),
    ],
)
def test_what_contradicts_a_name_is_said(said, kind):
    assert judged(said) == kind and reason(said)


def test_a_sidecar_tells_of_magnetisation_transfer_phase_agent_and_body_part(tmp_path):
    beside = {
        "a": ({"MTState": True}, "magnetisation transfer"),
        "b": ({"Units": "rad"}, "phase"),
        "c": ({"ContrastBolusAgent": "Gadovist"}, AGENT),
        "d": ({"BodyPart": "CSPINE"}, "spine"),
        "e": ({"BodyPart": "BRAIN", "MTState": False, "Units": "arbitrary"}, "T1"),
    }
    for name, (said, _) in beside.items():
        head_file(tmp_path / f"{name}_T1.nii")
        (tmp_path / f"{name}_T1.json").write_text(json.dumps(said))
    assert {v.name[0]: v.looks for v in read_all(tmp_path).volumes} == {
        name: kind for name, (_, kind) in beside.items()
    }
