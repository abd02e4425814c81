"""The examples in docs/ run as they stand."""

import runpy
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from napari_t1t2.images.read import read_image

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def example(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


@pytest.fixture
def bids(tmp_path):
    """Two subjects with a T1w, the first with a T2w as well."""
    random = np.random.default_rng(0)
    for subject, contrasts in (("01", ("T1w", "T2w")), ("02", ("T1w",))):
        for contrast in contrasts:
            path = tmp_path / "bids" / f"sub-{subject}" / "anat" / f"sub-{subject}_{contrast}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            y, x = np.mgrid[:48, :48]
            head = np.where((y - 24) ** 2 + (x - 24) ** 2 < 400, 100, 0)[..., None] + random.integers(
                0, 20, (48, 48, 5)
            )
            nibabel.save(nibabel.Nifti1Image(head.astype(np.int16), np.diag([2.0, 2, 3, 1])), path)
    return tmp_path / "bids"


def test_train_trains(config, capsys):
    assert example("train")(replace(config, steps=2, report_every=1)).is_file()
    assert "Hardly trained, 2 steps" in capsys.readouterr().out


def test_translate_folder_and_evaluate(trained, t1_folder, t2_folder, tmp_path):
    out = tmp_path / "synthetic"
    written = example("translate_folder")(trained, t1_folder, out)
    assert written and read_image(written[0]).provenance.contrast == "T2"
    for path in t2_folder.iterdir():
        path.rename(t2_folder / path.name.replace("T2", "T1"))
    assert 0 < example("evaluate")(out, t2_folder).head_psnr < 60


def test_bids_adds_what_is_missing(trained, bids, tmp_path):
    done = example("bids")(bids, trained, tmp_path / "derivatives")
    assert done == {"sub-01_T1w.nii.gz": "has a T2w", "sub-02_T1w.nii.gz": "sub-02_desc-synthetic_T2w.nii.gz"}
    made = read_image(tmp_path / "derivatives" / "sub-02" / "anat" / "sub-02_desc-synthetic_T2w.nii.gz")
    assert made.synthetic
