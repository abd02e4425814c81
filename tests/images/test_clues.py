import unicodedata
from pathlib import Path

import pytest

from napari_t1t2.images.clues import bare_name, bids_label, folder_of_head, paired, subject_of


@pytest.mark.parametrize(
    ("path", "stack", "subject"),
    [
        ("bids/sub-01/anat/sub-01_ses-1_T1w.nii.gz", True, "sub-01"),
        ("bids/sub-07/anat/scan.nii", True, "sub-07"),
        ("T1/sub-02_T1_z052.png", False, "sub-02"),
        ("T1/lit_p01s1_T1.nii.gz", True, "lit_p01s1"),
        ("eval/lit_p04/T1.nii.gz", True, "lit_p04"),
        ("T1/Image #9.png", False, ""),
        ("sub-03-A_ses-1_T1w.nii.gz", True, "sub-03-A"),
        ("sub-03-B/ses-1/scan.nii.gz", True, "sub-03-B"),
        ("sub-é+1.nii", True, "sub-é+1"),
        ("sub-01-T1.nii.gz", True, "sub-01"),
        ("sub-01 T2.nii.gz", True, "sub-01"),
        ("brats/BraTS-00002-t1n.nii.gz", True, "BraTS-00002"),
        ("brats/BraTS-00002-t2f.nii.gz", True, "BraTS-00002"),
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
        ("BraTS-00002-t1n.nii.gz", "BraTS-00002-t2w.nii.gz"),
        ("BraTS-00002-t1c.nii.gz", "BraTS-00002-t2f.nii.gz"),
        ("BraTS20_001_t1ce.nii", "BraTS20_001_flair.nii"),
        ("p1_t1gd.nii", "p1_T1_synthetic-T2.nii"),
    ],
)
def test_what_pairs_up_has_one_bare_name(one, other):
    assert bare_name(Path(one)) == bare_name(Path(other)) != ""


@pytest.mark.parametrize(
    ("path", "head"),
    [
        ("P0/T1.nii.gz", "P0"),
        ("T1/P0/scan.nii", "P0"),
        ("train/P0/T1.nii", "P0"),
        ("P0_T2/scan.nii", "P0"),
        ("P1/ses1/mri/orig.mgz", "P1"),
        ("T1/lit_p01s1_T1.nii.gz", ""),
        ("TrainT1/Image #9.png", ""),
        ("T2_images/9.png", ""),
        ("T1.nii", ""),
    ],
)
def test_a_folder_may_stand_for_a_head_but_not_one_for_a_contrast(path, head):
    assert folder_of_head(Path(path)) == head


def test_a_synthetic_file_meets_the_real_one_of_its_contrast():
    fakes = [Path(n) for n in ("sub-1_desc-synthetic_T2w.nii.gz", "p2_T1_synthetic-T2.nii", "Image #9.png", "lone.png")]
    reals = [
        Path(f"real/{n}") for n in ("sub-1_T1w.nii", "sub-1_T2w.nii", "p2_T2.nii.gz", "p2_T1.nii.gz", "Image #9.png")
    ]
    met = {fake.name: real.name for fake, real in paired(fakes, reals)[0].values()}
    assert met == {
        "sub-1_desc-synthetic_T2w.nii.gz": "sub-1_T2w.nii",
        "p2_T1_synthetic-T2.nii": "p2_T2.nii.gz",
        "Image #9.png": "Image #9.png",
    }


def pairs_of(fakes: list[str], reals: list[str]) -> dict[str, tuple[str, str]]:
    met, _ = paired(map(Path, fakes), map(Path, reals))
    return {name: (fake.as_posix(), real.as_posix()) for name, (fake, real) in met.items()}


def test_files_that_only_their_folders_tell_apart_all_meet():
    fakes = [f"P{i}/T1_synthetic-T2.nii.gz" for i in range(3)]
    reals = [f"P{i}/{contrast}.nii.gz" for i in range(3) for contrast in ("T1", "T2")]
    assert pairs_of(fakes, reals) == {f"P{i}": (fakes[i], f"P{i}/T2.nii.gz") for i in range(3)}


def test_a_file_meets_one_of_its_name_in_another_folder_where_there_is_only_one():
    assert pairs_of(["out/p1_synthetic-T2.nii"], ["T1/p1.nii", "T2/p1.nii"]) == {
        "out/p1": ("out/p1_synthetic-T2.nii", "T2/p1.nii")
    }
    assert pairs_of(["T1/p1_synthetic-T2.nii"], ["T1/p1.nii", "T2/p1.nii"])["T1/p1"][1] == "T2/p1.nii"
    assert pairs_of(["p1_synthetic-T2.nii"], ["a/p1_T2.nii", "b/p1_T2.nii"]) == {}
    assert pairs_of(["T1_synthetic-T2.nii"], ["P0/T2.nii"]) == {}  # no name to go by


def test_a_folder_comes_before_a_name():
    fakes, reals = ["a/p1_synthetic-T2.nii", "b/p1_synthetic-T2.nii"], ["b/p1_T2.nii", "a/p1_T2.nii"]
    assert pairs_of(fakes, reals) == {"a/p1": (fakes[0], reals[1]), "b/p1": (fakes[1], reals[0])}


def test_no_pair_takes_the_place_of_another():
    fakes = ["p1_T1_synthetic-T2.nii", "p1_T2_synthetic-T1.nii", "p2_T1_synthetic-T2.nii"]
    assert pairs_of(fakes, ["p1_T1.nii", "p1_T2.nii", "p2_T2.nii"]) == {
        fakes[0]: (fakes[0], "p1_T2.nii"),
        fakes[1]: (fakes[1], "p1_T1.nii"),
        "p2": (fakes[2], "p2_T2.nii"),
    }


def test_two_real_files_for_one_synthetic_one_are_refused_by_name():
    with pytest.raises(ValueError, match=r"a/p1_T2\.nii and a/p1_T2\.nii\.gz could both belong to a/p1_syn"):
        pairs_of(["a/p1_synthetic-T2.nii"], ["a/p1_T2.nii", "a/p1_T2.nii.gz"])
    brats = ["b-1-t1n.nii", "b-1-t1c.nii", "b-1-t2w.nii", "b-1-t2f.nii"]  # two T1s, of which none is asked for
    assert pairs_of(["b-1-t1n_synthetic-T2.nii"], brats) == {"b-1": ("b-1-t1n_synthetic-T2.nii", "b-1-t2w.nii")}


def test_a_header_and_its_image_are_one_real_file():
    assert pairs_of(["p1_synthetic-T2.nii"], ["p1_T2.hdr", "p1_T2.img"])["p1"][1] == "p1_T2.img"


def test_a_file_of_another_kind_or_contrast_is_no_partner():
    assert pairs_of(["sub-1_desc-synthetic_T2w.nii"], ["sub-1_T1w.nii", "sub-1_mask.nii"]) == {}
    assert pairs_of(["p1.nii"], ["p1_T1.nii"]) == {"p1": ("p1.nii", "p1_T1.nii")}
    assert pairs_of(["p1.nii"], ["p1_T1.nii", "p1_T2.nii"]) == {}  # it may be either


def test_a_file_whose_name_two_have_is_told_with_both():
    pairs, unclear = paired([Path("p1_synthetic-T2.nii")], [Path("a/p1_T2.nii"), Path("b/p1_T2.nii")])
    assert not pairs
    assert unclear == {Path("p1_synthetic-T2.nii"): "a/p1_T2.nii and b/p1_T2.nii both have its name"}


@pytest.mark.parametrize("name", ["P7_T1_3", "P7_T1_3a", "P7_T1_3_e2", "P7_T1_3_Eq_1", "P7_T1_3_Tilt_1", "P7_T1_3_ph"])
def test_what_dcm2niix_adds_to_a_name_is_no_other_subject(name):
    assert subject_of(Path(f"{name}.nii.gz"), stack=True) == "P7_3"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_the_same_head_however_its_accents_are_stored(form):
    """Files from macOS may store them beside their letters: T1 and T2 of one head would be of two."""
    name = unicodedata.normalize(form, "Müßig_T1.nii")
    assert subject_of(Path(name), stack=True) == unicodedata.normalize("NFC", "Müßig")
    assert bids_label(Path(unicodedata.normalize(form, "sub-é1_T1w.nii"))) == unicodedata.normalize("NFC", "sub-é1")
    assert folder_of_head(Path(unicodedata.normalize(form, "Jürg/T1.nii"))) == unicodedata.normalize("NFC", "Jürg")
