from pathlib import Path

import pytest

from napari_t1t2.images.clues import bare_name, contrast_of, paired, subject_of


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
        ("t2star_map", "T2*"),
        ("pd_tse", "PD"),
        ("T1 and T2 of a head", ""),
        ("Image #10", ""),
        ("patient t1000", ""),
        ("", ""),
    ],
)
def test_a_description_tells_its_contrast_or_nothing(text, contrast):
    assert contrast_of([text]) == contrast


def test_the_first_text_that_says_something_decides():
    assert contrast_of(["localizer", "t2_tse", "t1_se"]) == "T2"


@pytest.mark.parametrize(
    ("te", "tr", "ti", "contrast"),
    [
        (12, 550, None, "T1"),
        (90, 6000, None, "T2"),
        (3.1, 8.9, 900, "T1"),
        (90, 9000, 2500, "FLAIR"),
        (15, 3000, None, "PD"),
        (None, 550, None, ""),
        (0, 0, None, ""),
    ],
)
def test_times_tell_the_contrast_where_no_name_does(te, tr, ti, contrast):
    assert contrast_of(["series 3"], te=te, tr=tr, ti=ti) == contrast


@pytest.mark.parametrize(
    ("path", "stack", "subject"),
    [
        ("bids/sub-01/anat/sub-01_ses-1_T1w.nii.gz", True, "sub-01"),
        ("bids/sub-07/anat/scan.nii", True, "sub-07"),
        ("T1/sub-02_T1_z052.png", False, "sub-02"),
        ("T1/lit_p01s1_T1.nii.gz", True, "lit_p01s1"),
        ("eval/lit_p04/T1.nii.gz", True, "lit_p04"),
        ("T1/Image #9.png", False, ""),
    ],
)
def test_a_name_tells_whose_head_it_is(path, stack, subject):
    assert subject_of(Path(path), stack) == subject


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sub-01_T1w.nii.gz", "sub-01_T2w.nii"),
        ("sub-01_desc-synthetic_T2w.nii.gz", "sub-01_T2w.nii.gz"),
        ("lit_p01s1_T1_synthetic-T2.nii.gz", "lit_p01s1_T2.nii.gz"),
        ("Image #9.png", "Image #9.tif"),
    ],
)
def test_what_pairs_up_has_one_bare_name(one, other):
    assert bare_name(Path(one)) == bare_name(Path(other)) != ""


def test_a_synthetic_file_meets_the_real_one_of_its_contrast():
    fakes = [Path(n) for n in ("sub-1_desc-synthetic_T2w.nii.gz", "p2_T1_synthetic-T2.nii", "Image #9.png", "lone.png")]
    reals = [
        Path(f"real/{n}") for n in ("sub-1_T1w.nii", "sub-1_T2w.nii", "p2_T2.nii.gz", "p2_T1.nii.gz", "Image #9.png")
    ]
    met = {fake.name: real.name for fake, real in paired(fakes, reals).values()}
    assert met == {
        "sub-1_desc-synthetic_T2w.nii.gz": "sub-1_T2w.nii",
        "p2_T1_synthetic-T2.nii": "p2_T2.nii.gz",
        "Image #9.png": "Image #9.png",
    }
