"""From two folders to a scored image, for each kind of file: on the command line and as a library."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from heads import BRIGHT, PATIENTS, SHAPE, head, oblique_affine, tissues

from napari_t1t2.__main__ import main
from napari_t1t2.config import ModelConfig, preset
from napari_t1t2.data.inputs import polarity
from napari_t1t2.data.pairs import find_pairs
from napari_t1t2.data.reading import read_both
from napari_t1t2.data.slices import prepare
from napari_t1t2.data.sources import finish
from napari_t1t2.data.split import split
from napari_t1t2.events import Finished
from napari_t1t2.images.read import read_folder, read_image
from napari_t1t2.images.volume import Volume
from napari_t1t2.images.write import write_image
from napari_t1t2.model.saved import load_model
from napari_t1t2.runs.training import train
from napari_t1t2.synthesis.evaluation import evaluate_volumes
from napari_t1t2.synthesis.prepare import provenance
from napari_t1t2.synthesis.translation import translate

TINY = shlex.split(
    "--steps 4 --channels 4 --levels 2 --disc-channels 4 --crop 32 --report-every 2 --device cpu --precision float32"
)
VOLUME_1 = ["--frame", "1"]  # the flag for the volume of a 4D file
KINDS = ("nifti", "dicom", "png", "volumes")
ONE = {  # of each kind one T1, the T2 of the same head, and where its synthetic T2 goes
    "nifti": ("nifti/sub-01/anat/sub-01_T1w.nii.gz", "nifti/sub-01/anat/sub-01_T2w.nii.gz", "made.nii.gz"),
    "dicom": ("dicom/T1-01", "dicom/T2-01", "."),
    "png": ("png/T1/patient01 #6.png", "png/T2/patient01 #6.png", "made.png"),
    "volumes": ("4d/T1/head01.nii", "4d/T2/head01.nii", "made.nii"),
}


def one_of(made_data, kind: str) -> tuple[Path, Path, Path]:
    home = made_data.png[0].parents[1]
    t1, t2, target = ONE[kind]
    return home / t1, home / t2, Path(target)


def only_one(path: Path) -> Volume:
    """The one image at a path, a file or a folder of slices."""
    (volume,) = read_folder(path).volumes if path.is_dir() else [read_image(path)]
    return volume


@pytest.fixture
def run(capsys):
    """Runs a command that must succeed; gives what it printed."""

    def command(*argv) -> str:
        assert main([str(a) for a in argv]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return command


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_file_goes_the_whole_way_on_the_command_line(made_data, run, tmp_path, kind):
    folders = getattr(made_data, kind)
    volume = VOLUME_1 if kind == "volumes" else []
    assert "A model can be trained on these folders" in run("check", *folders, *volume)
    run("train", *folders, "--run", tmp_path / "run", *TINY, *volume)
    for kept in ("config.json", "losses.csv", "checkpoint.pt", "model.safetensors"):
        assert (tmp_path / "run" / kept).stat().st_size > 0

    t1, t2, target = one_of(made_data, kind)
    out = tmp_path / "out" / target
    run("translate", t1, "--model", tmp_path / "run", "--to", "T2", "--out", out, *volume)
    made, real = only_one(out), only_one(t1)
    assert made.synthetic and not real.synthetic
    assert made.data.shape == real.data.shape
    if real.affine is not None:
        np.testing.assert_allclose(made.affine, real.affine, atol=1e-3)
    scores = json.loads(run("evaluate", out, t2, "--json"))
    assert 5 < scores["mean"]["psnr"] < 40 and 1 <= scores["mean"]["slices"] <= SHAPE[2]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_file_goes_the_whole_way_through_the_library(made_data, tmp_path, kind):
    t1_folder, t2_folder = getattr(made_data, kind)
    config = replace(
        preset("laptop"),
        t1_folder=t1_folder,
        t2_folder=t2_folder,
        run_folder=tmp_path / "run",
        minutes=0,
        steps=4,
        crop=32,
        disc_channels=4,
        device="cpu",
        precision="float32",
        model=ModelConfig(channels=4, depth=True),
    )
    *_, last = train(config)
    assert isinstance(last, Finished) and last.step == 4
    model = load_model(last.path)
    t1s, t2s = (read_folder(folder, name).volumes for folder, name in ((t1_folder, "T1"), (t2_folder, "T2")))
    assert len(t1s) == len(t2s) == (2 * SHAPE[2] if kind == "png" else 2)
    made = translate(t1s[0], model, to="T2")
    assert made.data.shape == t1s[0].data.shape and np.isfinite(made.data).all()
    path = tmp_path / {"nifti": "made.nii.gz", "dicom": "made", "png": "made.png", "volumes": "made.nii"}[kind]
    write_image(path, made, provenance(model, "t2", t1s[0].name))
    back = only_one(path)
    assert back.synthetic
    assert back.data.shape == made.data.shape
    assert evaluate_volumes(back, t2s[0], match_intensities=False).psnr > 5


def test_the_made_heads_show_the_contrasts_of_a_spin_echo():
    for patient in PATIENTS:
        t1, t2 = (
            {name: np.median(head(patient, contrast)[tissues(patient) == i]) for i, name in enumerate(BRIGHT)}
            for contrast in ("T1", "T2")
        )
        assert t1["scalp"] > t1["white"] > t1["grey"] > t1["fluid"] > t1["skull"] > t1["air"]
        assert t2["fluid"] > t2["scalp"] > t2["grey"] > t2["white"] > t2["skull"] > t2["air"]


def test_the_same_head_lies_in_one_place_whatever_the_file(made_data):
    nifti, dicom = (only_one(one_of(made_data, kind)[0]) for kind in ("nifti", "dicom"))
    np.testing.assert_array_equal(nifti.data, dicom.data)
    np.testing.assert_allclose(nifti.affine, dicom.affine, atol=1e-3)
    np.testing.assert_allclose(nifti.affine, oblique_affine("01"), atol=1e-3)
    assert np.count_nonzero(nifti.affine[:3, :3].round(2)) > 3  # oblique, or it would prove little


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")  # napari's, of the oblique head
@pytest.mark.parametrize("kind", ["nifti", "dicom", "volumes"])
def test_a_layer_in_napari_lies_where_its_file_says(made_data, kind):
    layers = pytest.importorskip("napari.layers", reason="napari makes the layers")
    from napari_t1t2.widgets._layers import layer_of

    t1, t2 = (layers.Layer.create(*layer_of(only_one(path))) for path in one_of(made_data, kind)[:2])
    np.testing.assert_allclose(t1.extent.world, t2.extent.world, atol=1e-3)
    for index in [(0, 0, 0), (5, 40, 3), tuple(np.array(SHAPE)[::-1] - 1)]:
        x, y, z = (oblique_affine("01") @ (*index[::-1], 1))[:3]
        there = np.rint(t1.world_to_data((z, -y, -x))).astype(int)
        stored = head("01", "T1") if kind != "volumes" else head("01", "T1")[::-1]  # volume 0 is the mirror image
        assert t1.data[tuple(there)] == stored[index[::-1]]


def test_both_contrasts_of_the_made_heads_are_told_by_their_fine_structure(made_data):
    """As they are of real ones: furrows are dark in T1 and bright in T2."""
    for folder, sign in zip(made_data.png, (-1, 1), strict=True):
        slices = prepare(read_folder(folder), ModelConfig())
        assert sign * polarity(slices.images, np.arange(len(slices.images))) > 0


def test_slices_of_the_made_heads_pair_up_by_name_only_where_they_show_one_place(made_data, tmp_path):
    config = replace(preset("laptop"), t1_folder=made_data.png[0], run_folder=tmp_path / "run")
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for path in made_data.png[1].iterdir():
        name, number = path.stem.split("#")
        if 2 <= int(number) <= 10:  # each T2 is called what the slice above it is called
            (wrong / f"{name}#{int(number) + 1}.png").write_bytes(path.read_bytes())

    def found(folder):
        asked = replace(config, t2_folder=folder, hold_out=0, pairs="names")
        t1, t2, _ = read_both(asked)
        return finish(find_pairs(t1, t2, split(t1, t2, asked), asked))

    assert found(made_data.png[1]).count > 0
    with pytest.raises(ValueError, match=r"no slice of .* has a partner"):
        found(wrong)
