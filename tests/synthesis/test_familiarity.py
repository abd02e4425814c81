import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy.ndimage import gaussian_filter
from skimage import data as pictures

from napari_t1t2.__main__ import main
from napari_t1t2.config import ModelConfig, other
from napari_t1t2.data.features import describe
from napari_t1t2.data.slices import prepare
from napari_t1t2.images.intensity import Intensity, range_for
from napari_t1t2.images.read import read_folder, read_image
from napari_t1t2.images.volume import Volume
from napari_t1t2.model.about import About, read_about
from napari_t1t2.model.known import from_json, learn, to_json
from napari_t1t2.model.saved import load_model
from napari_t1t2.synthesis.calibration import calibrate
from napari_t1t2.synthesis.familiarity import unfamiliar
from napari_t1t2.widgets.translate import TranslateWidget

RANGE = Intensity(0.0, 255.0)


def scan(contrast: str, index: int, *, side: int = 96, rim: bool = True) -> np.ndarray:
    """A simulated axial slice, 0 to 255: fat and skull, which are the `rim`; folded brain, fluid, ventricles."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    out = np.hypot(y / (0.9 + 0.002 * index), x / (0.72 + 0.002 * index))
    folds = gaussian_filter(np.random.default_rng(index).normal(size=(side, side)), 1.5)
    fat, bone, fluid, brain = (0.9, 0.1, 0.2, 0.6) if contrast == "T1" else (0.7, 0.1, 0.95, 0.5)
    image = np.where(out < 1, fat, 0.0)
    image = np.where(out < 0.9, bone, image)
    image = np.where(out < 0.8, np.where(folds > 0.12, fluid, brain), image)
    image = np.where(np.hypot((y - 0.05) / 0.22, x / (0.12 + 0.003 * index)) < 1, fluid, image)
    image = np.where(out < 0.8, image, image if rim else 0.0)
    return np.rint(255 * np.clip(gaussian_filter(image, 0.7), 0, 1)).astype(np.float32)


def scans(contrast: str, numbers, **how) -> np.ndarray:
    return np.stack([scan(contrast, i, **how) for i in numbers])


@pytest.fixture(scope="module")
def about(tmp_path_factory) -> About:
    units = [RANGE.to_unit(scans(contrast, range(0, 40, 2))) for contrast in ("T1", "T2")]
    known = learn(units[0], np.arange(20), units[1], np.arange(20))
    return About(
        tmp_path_factory.mktemp("m") / "model.safetensors",
        ModelConfig(),
        {"t1": RANGE, "t2": RANGE},
        0,
        familiar=known,
    )


def said(about: About, data: np.ndarray, to="t2", **geometry) -> str | None:
    return unfamiliar(data, about.familiar, about.config, to, RANGE, **geometry)


@pytest.mark.parametrize(("contrast", "to"), [("T1", "t2"), ("T2", "t1")])
def test_a_head_like_those_of_training_is_familiar_as_a_stack_and_mostly_by_the_slice(about, contrast, to):
    stack = scans(contrast, range(1, 41, 2))
    assert said(about, stack, to) == ""
    assert sum(bool(said(about, image, to)) for image in stack) <= 1


@pytest.mark.parametrize(("contrast", "to"), [("T2", "t2"), ("T1", "t1")])
def test_the_other_contrast_is_named(about, contrast, to):
    own = about.config.label(other(to))
    sentence = said(about, scans(contrast, range(1, 21, 2)), to)
    assert f"looks like the {contrast} images of the training set, not the {own} ones (10 of 10 slices)" in sentence


def test_a_bare_brain_is_told_from_a_whole_head(about):
    sentence = said(about, scans("T2", range(1, 21, 2), rim=False), "t1")
    assert sentence.startswith("This image does not look like the T2 images that the model was trained on (")
    assert "of 10 slices; most unusual: no scalp and no skull" in sentence
    assert sentence.endswith("The result is not to be trusted.")


def test_contrasts_swapped_for_calibrating_are_refused_by_how_they_look(about, trained):
    model = load_model(trained)
    knows = replace(model, about=replace(model.about, familiar=about.familiar, ranges=about.ranges))
    t1, t2 = (Volume(data=scans(name, range(1, 13, 2)), name=f"head of {name}") for name in ("T1", "T2"))
    assert calibrate(knows, [(t1, t2)]).keys() == {"t1", "t2"}
    with pytest.raises(ValueError, match="head of T2 looks like T2 and head of T1 like T1: give T1 first"):
        calibrate(knows, [(t2, t1)])


def test_a_head_that_the_field_of_view_cuts_off_straight_is_unusual(about):
    below = scans("T1", range(1, 21, 2))
    below[:, 70:] = 0  # cut off straight by the edge of the field of view, as below the chin
    assert said(about, below)


def test_a_photograph_and_noise_are_unfamiliar(about):
    assert "as of another plane, a cropped head or a photograph" in said(about, pictures.brick().astype(np.float32))
    assert said(about, pictures.camera().astype(np.float32))
    assert said(about, np.random.default_rng(0).uniform(0, 255, (96, 96)).astype(np.float32))


@pytest.mark.parametrize("factor", [2, 3])
def test_larger_pixels_make_a_head_no_stranger(about, factor):
    assert said(about, np.kron(scans("T1", range(1, 11, 2)), np.ones((1, factor, factor), np.float32))) == ""


def test_the_slices_are_judged_in_the_plane_of_the_model(about):
    stack = scans("T1", range(1, 61))
    turned = np.ascontiguousarray(stack.transpose(2, 0, 1))  # (x, slice, y), as another program may store it
    affine = np.zeros((4, 4))
    affine[1, 0], affine[2, 1], affine[0, 2], affine[3, 3] = -1, 1, -1, 1
    assert said(about, turned, affine=affine) == ""
    assert said(about, turned)


def test_nothing_is_said_of_air_and_by_a_model_that_does_not_tell(about):
    assert said(about, np.zeros((3, 96, 96), np.float32)) == ""
    assert said(replace(about, familiar={}), pictures.camera().astype(np.float32)) is None
    assert describe(np.full((96, 96), -1, np.float32)) is None


def test_too_few_slices_stand_for_nothing():
    few = RANGE.to_unit(scans("T1", range(3)))
    assert learn(few, np.arange(3), few, np.arange(3)) == {}


def test_what_is_known_survives_the_header_and_is_small(about):
    header = about.to_header()["familiar"]
    assert len(header) < 16_000
    back = from_json(json.loads(header))
    assert to_json(back) == to_json(about.familiar)
    assert said(replace(about, familiar=back), scans("T2", range(3))) == said(about, scans("T2", range(3)))


def test_numbers_of_another_version_are_left_alone(about):
    assert from_json(to_json(about.familiar) | {"version": 3, "skull": "a new meaning"}) == {}
    before = {"rows": [[1] * 34], "limit": 2.6, "answers": [[0, 1], [0, 1]], "towards": [0.0] * 12, "beyond": 0.0}
    assert from_json({"t1": before, "t2": before}) == {}


def test_a_model_of_the_version_before_is_read_and_holds_no_description(trained, tmp_path):
    before = {"rows": [[1] * 34], "limit": 2.6, "answers": [[0, 1], [0, 1]], "towards": [0.0] * 12, "beyond": 0.0}
    with safe_open(trained / "model.safetensors", framework="np") as file:
        words = file.metadata() | {"familiar": json.dumps({"t1": before, "t2": before})}
    save_file(load_file(trained / "model.safetensors"), tmp_path / "model.safetensors", metadata=words)
    assert read_about(tmp_path).familiar == {}


def test_a_new_patient_is_familiar_and_another_contrast_a_bare_brain_and_another_plane_are_not(real_data):
    """On real heads: taught by two patients, asked about a third and a fourth."""
    lit = {side: read_folder(real_data / "lit" / side.upper(), side.upper()) for side in ("t1", "t2")}
    prepared = {side: prepare(folder, ModelConfig()) for side, folder in lit.items()}
    one, two = prepared["t1"], prepared["t2"]
    known = learn(one.images, np.arange(len(one.images))[::3], two.images, np.arange(len(two.images))[::3])

    def asked(data, side):
        intensity, _ = range_for(data, len(data), prepared[side].intensity)
        return unfamiliar(data, known, ModelConfig(), other(side), intensity)

    def stack(patient, side):
        paths = sorted((real_data / "eval_png" / patient / side.upper()).glob("*.png"))
        return np.concatenate([read_image(path).data for path in paths])

    for side in ("t1", "t2"):
        assert asked(stack("lit_p04", side), side) == ""
        assert "training set, not the" in asked(stack("lit_p04", other(side)), side)
        assert "no scalp and no skull" in asked(stack("lit_p07_brain", side), side)
        assert "another plane" in asked(stack("lit_p04", side).transpose(0, 2, 1).copy(), side)  # turned by 90 degrees


@pytest.fixture
def older(trained, tmp_path):
    """The trained model as a version before this one wrote it."""
    with safe_open(trained / "model.safetensors", framework="np") as file:
        words = {k: v for k, v in file.metadata().items() if k != "familiar"}
    save_file(load_file(trained / "model.safetensors"), tmp_path / "older.safetensors", metadata=words)
    return tmp_path / "older.safetensors"


@pytest.fixture
def knowing(trained, about, tmp_path):
    """The trained model with the simulated heads as its training set."""
    with safe_open(trained / "model.safetensors", framework="np") as file:
        words = file.metadata() | {"familiar": about.to_header()["familiar"]}
    save_file(load_file(trained / "model.safetensors"), tmp_path / "knowing.safetensors", metadata=words)
    return tmp_path / "knowing.safetensors"


def test_training_stores_what_its_slices_look_like(trained):
    assert read_about(trained).familiar.keys() == {"t1", "t2"}


def test_an_older_model_is_read_and_says_nothing(older, tmp_path, capsys):
    assert read_about(older).familiar == {}
    path = tmp_path / "moon.png"
    Image.fromarray(pictures.moon()[:96, :96]).save(path)
    assert main(["translate", str(path), "--model", str(older), "--to", "T2", "--out", str(tmp_path / "out")]) == 0
    assert "trusted" not in capsys.readouterr().err
    with Image.open(tmp_path / "out" / "moon.png") as made:
        assert "unfamiliar" not in json.loads(made.info["Description"])


@pytest.mark.parametrize(("contrast", "odd"), [("T1", False), ("T2", True)])
def test_the_command_line_says_it_and_marks_the_file(knowing, tmp_path, capsys, contrast, odd):
    Image.fromarray(scan(contrast, 7).astype(np.uint8)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    assert main(["translate", str(tmp_path / "a.png"), "--model", str(knowing), "--to", "T2", "--out", str(out)]) == 0
    assert ("The result is not to be trusted." in capsys.readouterr().err) == odd
    with Image.open(out / "a.png") as made:
        assert json.loads(made.info["Description"])["unfamiliar"] is odd


def test_the_window_says_it_before_the_result_and_marks_the_layer(knowing, qtbot, monkeypatch):
    from napari.components import ViewerModel

    viewer, told = ViewerModel(), []

    def tell(_: TranslateWidget, sentence: str) -> None:
        told.append((sentence, viewer.layers[-1].metadata["complete"]))

    monkeypatch.setattr(TranslateWidget, "tell", tell)
    widget = TranslateWidget(viewer)
    qtbot.addWidget(widget)
    widget.form["model"].value = knowing
    viewer.layers.selection.active = viewer.add_image(scans("T2", range(1, 5)), metadata={"contrast": "T1"})
    widget.go.click()
    widget.wait(60)
    assert any("looks like the T2 images" in sentence and not complete for sentence, complete in told)
    assert viewer.layers[-1].metadata["unfamiliar"] is True
