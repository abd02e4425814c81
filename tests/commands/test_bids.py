"""translate --bids: a derivative data set of the subjects who lack a contrast."""

import json
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest

from napari_t1t2.__main__ import main
from napari_t1t2.commands.bids import plan_of
from napari_t1t2.errors import Refusal
from napari_t1t2.images.read import read_image

VALIDATOR = shutil.which("bids-validator-deno")


@pytest.fixture
def raw(tmp_path, head):
    """A raw BIDS data set; `put` adds a scan."""
    root = tmp_path / "raw"
    root.mkdir()
    (root / "dataset_description.json").write_text('{"Name": "Eggs", "BIDSVersion": "1.10.0", "DatasetDOI": "10.1/2"}')
    (root / "README").write_text("Heads like eggs.")
    put(root, head, "sub-01/anat/sub-01_T1w.nii.gz")
    put(root, head, "sub-01/anat/sub-01_T2w.nii.gz")
    put(root, head, "sub-02/anat/sub-02_T1w.nii.gz")
    put(root, head, "sub-03/ses-a/anat/sub-03_ses-a_acq-mprage_run-1_T1w.nii")
    put(root, head, "sub-03/ses-b/anat/sub-03_ses-b_run-1_T1w.nii.gz")
    put(root, head, "sub-03/ses-b/anat/sub-03_ses-b_run-2_T1w.nii.gz")
    put(root, head, "sub-04/anat/sub-04_T1w.nii.gz").write_bytes(b"cut off")
    put(root, head, "sub-05/anat/sub-05_ce-gd_T1w.nii.gz")
    put(root, head, "sub-06/anat/sub-06_part-phase_T2w.nii.gz")
    put(root, head, "sub-06/anat/sub-06_T1w.nii.gz")
    put(root, head, "sub-07/func/sub-07_task-rest_bold.nii.gz")
    return root


def put(root: Path, head, name: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    contrast, seed = ("T2" if "T2w" in name else "T1"), sum(map(ord, name))
    stack = np.stack([head(seed % 7 + k, contrast) for k in range(4)]).astype(np.int16)
    nibabel.Nifti1Image(4 * stack[:, ::-1, ::-1].T, np.diag([-1.1, -1.1, 3, 1])).to_filename(path)
    return path


@pytest.fixture
def translate(trained, raw, tmp_path, capsys):
    """Runs the command on the data set, with its one broken scan; gives what it said, and the derivative data set."""

    def run(*flags: str, code: int = 1, out: Path = tmp_path / "made", to: str = "T2") -> tuple[str, Path]:
        words = ["translate", raw, "--model", trained, "--to", to, "--bids", out, *flags]
        assert main([str(word) for word in words]) == code
        said = capsys.readouterr()
        return said.err + said.out, out

    return run


def images(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*.nii*"))


MADE = [
    "sub-02/anat/sub-02_desc-synthetic_T2w.nii.gz",
    "sub-03/ses-a/anat/sub-03_ses-a_acq-mprage_run-1_desc-synthetic_T2w.nii",
    "sub-06/anat/sub-06_desc-synthetic_T2w.nii.gz",
]


def test_those_who_lack_a_t2_get_one_and_the_others_are_named_with_the_reason(translate, raw):
    said, out = translate()
    assert images(out) == MADE
    for why in (
        "passed over, has a T2w already: sub-01",
        "passed over, has several T1w images (runs): translate the one to use with --out: sub-03 ses-b",
        "passed over, has no T1w but sub-05_ce-gd_T1w.nii.gz, which is T1 with contrast agent: sub-05",
        "passed over, has no T1w: sub-07",
    ):
        assert why in said
    assert said.count("sub-04_T1w.nii.gz") == 1 and "1 failed:" in said  # the broken one is told once
    assert not list(raw.rglob("*synthetic*"))


def test_each_image_says_its_source_as_bids_does_and_lies_where_it_lies(translate, raw):
    _, out = translate()
    path = out / MADE[1]
    sidecar = json.loads(path.with_suffix(".json").read_text())
    scan = "sub-03/ses-a/anat/sub-03_ses-a_acq-mprage_run-1_T1w.nii"
    assert sidecar["Sources"] == [f"bids:raw:{scan}"]
    assert sidecar["SyntheticImage"] is True and sidecar["SkullStripped"] is False
    assert sidecar["Description"] == "SYNTHETIC T2 - not for diagnosis"
    np.testing.assert_array_equal(nibabel.load(path).affine, nibabel.load(raw / scan).affine)
    about = json.loads((out / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative" and about["GeneratedBy"][0]["Name"] == "napari-t1t2"
    assert (out / about["DatasetLinks"]["raw"]).resolve() == raw
    assert about["SourceDatasets"] == [{"DOI": "10.1/2"}]
    assert "Not for diagnosis" in (out / "README.md").read_text()
    assert read_image(path).provenance.source == f"bids:raw:{scan}"


def test_an_image_that_was_stopped_after_its_uncertainty_map_is_made_again(translate):
    _, out = translate("--uncertainty")
    for name in (MADE[0], MADE[0].replace(".nii.gz", ".json")):
        (out / name).unlink()
    said, _ = translate("--uncertainty")
    assert (out / MADE[0]).is_file() and "1 of 2" in said  # and the broken one


def test_an_image_whose_uncertainty_map_is_missing_cut_off_or_another_models_gets_one(translate):
    _, out = translate("--uncertainty")
    map_of = [out / name.replace("synthetic", "expectedError") for name in MADE]
    map_of[0].unlink()
    map_of[1].with_suffix(".json").unlink()  # as if it had been killed while it was written
    said, _ = translate("--uncertainty")
    assert all(path.is_file() for path in map_of) and "2 of 3" in said
    assert "made before, by this model (--overwrite makes it again): sub-06" in said
    map_of[0].unlink()
    assert "is left to translate" in translate()[0]  # nobody asked for a map


@pytest.mark.skipif(not VALIDATOR, reason="bids-validator-deno (PyPI) is not installed")
@pytest.mark.parametrize("place", ["made", "raw/derivatives/napari-t1t2"])
def test_the_validator_accepts_the_data_set(translate, tmp_path, place):
    _, out = translate("--uncertainty", out=tmp_path / place)
    done = subprocess.run([VALIDATOR, "--format", "json", out], capture_output=True, text=True, cwd=tmp_path)
    found = json.loads(done.stdout)["issues"]["issues"]
    assert done.returncode == 0
    assert [issue for issue in found if issue["severity"] == "error"] == []
    assert {issue["code"] for issue in found} <= {"TOO_FEW_AUTHORS"}


def test_a_second_run_makes_what_is_missing_and_touches_nothing_else(translate, tmp_path, raw, head):
    _, out = translate()
    (out / MADE[0]).unlink()  # as if it had been stopped before
    (out / MADE[2]).with_name("sub-06_desc-synthetic_T2w.json").unlink()  # as if in the middle
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*mprage*")}
    put(raw, head, "sub-08/anat/sub-08_T1w.nii.gz")
    said, _ = translate()
    assert images(out) == [*MADE, "sub-08/anat/sub-08_desc-synthetic_T2w.nii.gz"]
    assert "passed over, was made before, by this model (--overwrite makes it again): sub-03 ses-a" in said
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*mprage*")} == before
    said, _ = translate()
    assert "is left to translate" in said
    translate("--overwrite")
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*mprage*")} != before


def test_the_other_way_makes_a_t1(translate, raw, tmp_path, head):
    put(raw, head, "sub-09/anat/sub-09_T2w.nii.gz")
    said, out = translate(to="T1", out=tmp_path / "t1", code=0)
    assert images(out) == ["sub-09/anat/sub-09_desc-synthetic_T1w.nii.gz"]
    assert "has a T1w already: sub-01, sub-02, sub-03 ses-a, sub-03 ses-b, sub-04, sub-06" in said


def test_content_that_was_not_fetched_is_told_and_counts_as_there(translate, raw):
    for name in ("sub-02/anat/sub-02_T2w.nii.gz", "sub-10/anat/sub-10_T1w.nii.gz"):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).symlink_to(raw / ".git/annex/gone")
    said, out = translate()
    assert images(out) == MADE[1:]
    assert "has a T2w already: sub-01, sub-02" in said
    assert "sub-10_T1w.nii.gz: a link to a file that is not there; with DataLad or git-annex, fetch" in said


def test_a_scan_whose_header_contradicts_its_name_is_passed_over(translate, raw):
    (raw / "sub-02/anat/sub-02_T1w.json").write_text('{"EchoTime": 0.1, "RepetitionTime": 5}')
    said, out = translate()
    assert images(out) == MADE[1:]
    assert "its T1w looks like T1, but a TE of 100 ms, which no T1 has: sub-02" in said


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        (".", "lies among the scans: give --bids"),
        ("sub-01", "lies among the scans: give --bids"),
        ("../other", "holds something that napari-t1t2 did not make: give a new folder for --bids"),
    ],
)
def test_a_place_that_is_not_ours_is_refused_and_stays_as_it_is(translate, raw, inside, words):
    (raw / "../other").mkdir()
    (raw / "../other/dataset_description.json").write_text('{"GeneratedBy": [{"Name": "fMRIPrep"}]}')
    before = {p: p.stat().st_mtime_ns for p in raw.parent.rglob("*")}
    said, _ = translate(code=2, out=raw / inside)
    assert words in said
    assert {p: p.stat().st_mtime_ns for p in raw.parent.rglob("*")} == before


def test_a_folder_that_is_no_bids_data_set_is_refused(tmp_path):
    (tmp_path / "T1").mkdir()
    with pytest.raises(Refusal, match=r"holds no folders called sub-\.\.\.: give the root of a BIDS data set"):
        plan_of(tmp_path / "T1", tmp_path / "out", "T1", "T2")
    with pytest.raises(Refusal, match="BIDS has no name for CT: use --out"):
        plan_of(tmp_path / "T1", tmp_path / "out", "T1", "CT")


def test_anonymous_names_no_source(translate):
    _, out = translate("--anonymous")
    assert json.loads((out / MADE[1]).with_suffix(".json").read_text())["Sources"] == []
    assert read_image(out / MADE[1]).provenance.source is None
