import json
import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from napari_t1t2.__main__ import main
from napari_t1t2.images.intensity import Intensity
from napari_t1t2.images.read import read_image
from napari_t1t2.images.volume import Volume
from napari_t1t2.images.write import write_image
from napari_t1t2.model.about import SAMPLE, read_about
from napari_t1t2.model.saved import load_model
from napari_t1t2.provenance import Provenance
from napari_t1t2.synthesis.calibration import _refuse_wrong_pairs, calibrate, store
from napari_t1t2.synthesis.translation import stream, translate
from napari_t1t2.synthesis.uncertainty import Calibration, UncertaintyMap, maps_of


@pytest.fixture(scope="module")
def model(trained):
    return load_model(trained)


def volume(head, contrast):
    return Volume(data=np.stack([head(i, contrast) for i in range(6)]).astype(np.float32), name=contrast)


def uncertainty(data, found):
    out = np.zeros(data.shape, np.float32)
    translate(data, found.model, to="t2", maps=[(found, out)])
    return out


def test_a_foreign_structure_raises_the_uncertainty_where_it_is(model, head):
    clean = head(1, "T1").astype(np.float32)
    foreign = clean.copy()
    foreign[20:26, 14:20] = np.where(np.indices((6, 6)).sum(0) % 2, 255, 0)
    before, after = (uncertainty(a, UncertaintyMap(model, "t2")) for a in (clean, foreign))
    assert after[18:28, 12:22].mean() > before[18:28, 12:22].mean()


@pytest.mark.parametrize("planes", ["one", "three"])
def test_the_map_has_the_shape_of_the_image_and_leaves_the_image_as_it_was(model, head, planes):
    data = volume(head, "T1").data
    plain, out, doubts = translate(data, model, to="t2", planes=planes), np.zeros_like(data), np.zeros_like(data)
    list(stream(data, model, to="t2", planes=planes, out=out, maps=[(UncertaintyMap(model, "t2"), doubts)]))
    np.testing.assert_array_equal(out, plain)
    assert (doubts >= 0).all() and doubts.any(axis=(1, 2)).all()


def test_an_ensemble_of_equal_models_adds_nothing(model, head):
    data = head(1, "T1").astype(np.float32)
    twins = [replace(model, sha256=name) for name in ("a", "b")]  # equal weights in two files
    np.testing.assert_allclose(
        uncertainty(data, UncertaintyMap(model, "t2", twins)),
        uncertainty(data, UncertaintyMap(model, "t2")),
        rtol=0.01,
        atol=1e-4,
    )


def test_one_model_twice_is_no_ensemble(model):
    with pytest.raises(ValueError, match="one model twice"):
        UncertaintyMap(model, "t2", [model])


def test_members_that_see_images_otherwise_are_refused(model):
    foreign = replace(model, about=replace(model.about, config=replace(model.config, size=64)))
    with pytest.raises(ValueError, match="do not see images alike"):
        UncertaintyMap(model, "t2", [foreign])


def test_a_calibrated_model_expects_the_mean_error_that_was_met(model, head):
    t1, t2 = volume(head, "T1"), volume(head, "T2")
    calibrations = calibrate(model, [(t1, t2)])
    about = replace(model.about, calibration={"t2": [json.loads(json.dumps(vars_of(calibrations["t2"])))]})
    expected = uncertainty(t1.data, UncertaintyMap(replace(model, about=about), "t2"))
    met = np.abs(translate(t1.data, model, to="t2") - t2.data)
    inside = t1.data > 0
    assert expected[inside].mean() == pytest.approx(met[inside].mean(), rel=0.15)


def vars_of(calibration):
    return {name: getattr(calibration, name) for name in calibration.__slots__}


def test_a_calibration_is_kept_in_the_model_file(trained, tmp_path, head):
    shutil.copytree(trained, tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert model.about.calibration == {}
    about = store(model, [calibrate(model, [(volume(head, "T1"), volume(head, "T2"))])])
    again = load_model(tmp_path / "run")
    assert again.about.calibration == about.calibration and set(about.calibration) == {"t1", "t2"}
    data = head(1, "T1").astype(np.float32)
    np.testing.assert_array_equal(translate(data, again, to="t2"), translate(data, model, to="t2"))


@pytest.fixture
def family(trained, tmp_path):
    """Three models that see images alike and have different weights, with the files that hold them."""
    made = []
    for name in "abc":
        shutil.copytree(trained, tmp_path / name)
        path = tmp_path / name / "model.safetensors"
        with safe_open(path, framework="np") as file:
            words = file.metadata()
        weights = {key: value * (1 + 0.1 * len(made)) for key, value in load_file(path).items()}
        save_file(weights, path, metadata=words)
        made.append(tmp_path / name)
    return made


def test_an_ensemble_is_known_by_its_weights_and_another_one_gives_way_to_the_model_alone(family, head):
    model, second, third = (load_model(path) for path in family)
    pairs = [(volume(head, "T1"), volume(head, "T2"))]
    store(model, [calibrate(model, pairs), calibrate(model, pairs, [second])])
    store(second, [calibrate(second, pairs)])  # its file changes, its weights do not
    model, second = (load_model(path) for path in family[:2])
    alone, same, other = (UncertaintyMap(model, "t2", members) for members in ([], [second], [third]))
    assert alone.remark is same.remark is None
    assert len(same.calibration.ensemble) == 1 and same.members == (second,)
    assert "was not calibrated with this ensemble" in other.remark and "the model alone" in other.remark
    assert other.calibration == alone.calibration and other.members == ()
    data = head(1, "T1").astype(np.float32)
    np.testing.assert_array_equal(uncertainty(data, other), uncertainty(data, alone))


def holding(model, *forms):
    """The model with calibrations for T2 in its file."""
    return replace(model, about=replace(model.about, calibration={"t2": list(forms)}))


def test_a_calibration_of_an_older_form_counts_as_none(model):
    older = {"t2": {"weights": [1.0], "scores": [0.0], "errors": [0.1], "members": 1, "slices": 8}}
    found = UncertaintyMap(replace(model, about=replace(model.about, calibration=older)), "t2")
    assert found.calibration is None and found.remark.startswith("Not calibrated: the map shows where")


FORM = {"weights": [0.1] * 10, "scores": [0.0, 1.0], "errors": [0.1, 0.2], "ensemble": [], "slices": 8, "seen": 0}


def test_what_a_newer_version_adds_to_a_calibration_is_left_aside(model, head):
    found = UncertaintyMap(holding(model, FORM | {"smoothing": 3.0}), "t2")
    assert found.calibration == Calibration(**FORM) and found.remark is None
    assert uncertainty(head(1, "T1").astype(np.float32), found).any()


@pytest.mark.parametrize("newer", [{"weights": [0.1] * 12}, {"slices": ...}, "another form", {"weights": "in a file"}])
def test_a_calibration_that_cannot_be_used_is_said_to_be_none(model, head, newer):
    form = {k: v for k, v in (FORM | newer).items() if v is not ...} if isinstance(newer, dict) else newer
    found = UncertaintyMap(holding(model, form), "t2")
    assert found.calibration is None and found.remark.startswith("Not calibrated")
    assert uncertainty(head(1, "T1").astype(np.float32), found).any()


def test_the_signs_are_computed_in_the_precision_of_the_translation(trained, head):
    """Else the rounding of one of the two would be taken for an error."""
    model, twin = (load_model(trained, precision="bfloat16") for _ in range(2))
    used = []
    for generator in (*model.generators.values(), *twin.generators.values()):
        generator.register_forward_pre_hook(lambda *_: used.append(torch.is_autocast_enabled("cpu")))
    data = np.stack([head(i, "T1") for i in range(2)]).astype(np.float32)
    assert uncertainty(data, UncertaintyMap(model, "t2", [replace(twin, sha256="b")])).any()
    assert len(used) == 8 and all(used)  # both ways, four variants, the way back, the other model


def test_a_map_is_what_stream_asks_for_and_says_what_it_is(model, head):
    found = UncertaintyMap(holding(model, FORM), "t2").describe()
    assert found["calibrated"] is True and "8 slices" in found["meaning"] and found["ensemble"] == []
    assert UncertaintyMap(model, "t2").describe()["meaning"].startswith("Not calibrated: the map shows where")


def test_the_colours_of_an_expected_error_end_at_the_largest_that_was_met(model, head):
    calibrations = calibrate(model, [(volume(head, "T1"), volume(head, "T2"))])
    about = replace(model.about, calibration={"t2": [vars_of(calibrations["t2"])]})
    assert UncertaintyMap(model, "t2").most == 0.5
    assert UncertaintyMap(replace(model, about=about), "t2").most == max(calibrations["t2"].errors)


def test_swapped_contrasts_are_refused_by_what_they_say(model, head):
    t1, t2 = volume(head, "T1"), volume(head, "T2")
    with pytest.raises(ValueError, match="T2 looks like T2 and T1 like T1: give T1 first"):
        calibrate(model, [(replace(t2, looks="T2"), replace(t1, looks="T1"))])


def test_calibrating_rescales_only_the_slices_that_are_looked_at(model, head, monkeypatch):
    sizes = []
    to_unit = Intensity.to_unit
    monkeypatch.setattr(Intensity, "to_unit", lambda self, data: sizes.append(data.ndim) or to_unit(self, data))
    _refuse_wrong_pairs([(volume(head, "T1"), volume(head, "T2"))])
    assert sizes and set(sizes) == {2}


def test_the_two_contrasts_of_a_bids_folder_pair_up_for_calibrating(trained, tmp_path, head, capsys):
    shutil.copytree(trained, tmp_path / "model")
    for subject in ("sub-01", "sub-02"):
        folder = tmp_path / "bids" / subject / "anat"
        folder.mkdir(parents=True)
        for contrast in ("T1", "T2"):
            image = nibabel.Nifti1Image(volume(head, contrast).data.T, np.eye(4))
            image.to_filename(folder / f"{subject}_{contrast}w.nii.gz")
    assert main([str(a) for a in ("calibrate", tmp_path / "model", tmp_path / "bids", tmp_path / "bids")]) == 0
    assert "T2: calibrated on 12 slices" in capsys.readouterr().out


def test_images_on_two_grids_calibrate_nothing(model, head):
    t1 = volume(head, "T1")
    with pytest.raises(ValueError, match="do not lie on one grid"):
        calibrate(model, [(t1, replace(t1, data=t1.data[:2]))])


def test_the_command_line_calibrates_and_writes_both_files(trained, tmp_path, t1_folder, t2_folder, head, capsys):
    shutil.copytree(trained, tmp_path / "model")
    assert main([str(a) for a in ("calibrate", tmp_path / "model", t1_folder, t2_folder)]) == 0
    assert set(read_about(tmp_path / "model").calibration) == {"t1", "t2"}
    source = tmp_path / "sub-01_T1w.nii.gz"
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    nibabel.Nifti1Image(volume(head, "T1").data.T, affine).to_filename(source)
    args = ["translate", source, "--model", tmp_path / "model", "--to", "T2", "--out", tmp_path / "out", "--trust"]
    assert main([str(a) for a in args]) == 0
    made, doubts = (
        nibabel.load(tmp_path / "out" / f"sub-01_desc-{what}_T2w.nii.gz") for what in ("synthetic", "expectedError")
    )
    assert made.shape == doubts.shape
    np.testing.assert_array_equal(made.affine, doubts.affine)
    says = read_image(tmp_path / "out" / "sub-01_desc-expectedError_T2w.nii.gz").provenance.to_dict()
    assert says["contrast"] == "expected error of T2" and says["synthetic"] is True
    assert says["calibrated"] is True and "calibrated on 8 slices" in says["meaning"]
    assert main([str(a) for a in args]) == 0
    assert "1 had been made before" in capsys.readouterr().out


def new_pair(head, subject="a"):
    """A head of two contrasts that the model has not seen, value for value."""
    both = (volume(head, contrast) for contrast in ("T1", "T2"))
    return tuple(replace(v, data=v.data * np.float32(1.01), subject=subject) for v in both)


def with_calibration(model, calibration):
    return replace(model, about=replace(model.about, calibration=calibration))


def test_an_interval_holds_nine_tenths_of_the_voxels_it_was_calibrated_on(model, head):
    t1, t2 = new_pair(head)
    calibrated = with_calibration(model, {"t2": [vars_of(calibrate(model, [(t1, t2)])["t2"])]})
    half = uncertainty(t1.data, UncertaintyMap(calibrated, "t2", interval=True))
    met = np.abs(translate(t1.data, model, to="t2") - t2.data)
    assert np.mean((met <= half)[t1.data > 0]) == pytest.approx(0.9, abs=0.03)
    assert (half >= uncertainty(t1.data, UncertaintyMap(calibrated, "t2"))).mean() > 0.9  # a mean is less than most


def test_an_interval_of_too_few_heads_says_so(model, head):
    pairs = [new_pair(head, subject) for subject in "abc"]
    for heads, remark in ((1, "on 1 of the 3 heads needed"), (3, None)):
        known = {side: [vars_of(one)] for side, one in calibrate(model, pairs[:heads]).items()}
        said = UncertaintyMap(with_calibration(model, known), "t2", interval=True).remark
        assert remark in said if remark else said is None


def test_a_model_that_is_not_calibrated_promises_no_interval(model, head):
    whole = vars_of(calibrate(model, [new_pair(head)])["t2"])
    older = {name: value for name, value in whole.items() if name not in ("within", "heads")}
    for known in ({}, {"t2": [older]}):
        with pytest.raises(ValueError, match="not calibrated for intervals: run `napari-t1t2 calibrate`"):
            UncertaintyMap(with_calibration(model, known), "t2", interval=True)


def test_expected_error_and_interval_made_together_are_those_made_alone_and_take_the_signs_once(
    model, head, monkeypatch
):
    data = new_pair(head)[0].data
    known = {side: [vars_of(one)] for side, one in calibrate(model, [new_pair(head)]).items()}
    calibrated = with_calibration(model, known)
    alone = [uncertainty(data, UncertaintyMap(calibrated, "t2", interval=i)) for i in (False, True)]
    looked, signs = [], UncertaintyMap.signs
    monkeypatch.setattr(UncertaintyMap, "signs", lambda self, x, y: looked.append(len(x)) or signs(self, x, y))
    maps = maps_of(calibrated, "t2", ["expected error", "interval"])
    made = [(one, np.zeros_like(data)) for one in maps]
    list(stream(data, calibrated, to="t2", maps=made))
    for (_, together), by_itself in zip(made, alone, strict=True):
        np.testing.assert_array_equal(together, by_itself)
    assert sum(looked) == len(data)


def test_the_command_line_writes_both_maps_and_makes_again_what_lacks_one(trained, tmp_path, t1_folder, t2_folder):
    shutil.copytree(trained, tmp_path / "model")
    out = tmp_path / "out"
    assert main([str(a) for a in ("calibrate", tmp_path / "model", t1_folder, t2_folder)]) == 0
    args = [str(a) for a in ("translate", t1_folder, "--model", tmp_path / "model", "--to", "T2", "--out", out)]
    assert main([*args, "--interval"]) == 0
    assert len(list(out.iterdir())) == 16
    assert main([*args, "--interval", "--uncertainty"]) == 0
    kinds = [read_image(out / f"Image #5_{end}.png").provenance.kind for end in ("expected-error", "interval")]
    assert kinds == ["expected error", "interval"] and len(list(out.iterdir())) == 24


def test_the_command_line_writes_half_the_width_of_intervals_as_no_image(
    trained, tmp_path, t1_folder, t2_folder, capsys
):
    shutil.copytree(trained, tmp_path / "model")
    args = [
        "translate",
        t1_folder,
        "--model",
        tmp_path / "model",
        "--to",
        "T2",
        "--out",
        tmp_path / "out",
        "--interval",
    ]
    assert main([str(a) for a in args]) == 2
    assert "not calibrated for intervals" in capsys.readouterr().err
    assert main([str(a) for a in ("calibrate", tmp_path / "model", t1_folder, t2_folder)]) == 0
    assert main([str(a) for a in args]) == 0
    with Pillow.open(tmp_path / "out" / "Image #5_interval.png") as picture:
        says = json.loads(picture.info["Description"])
    assert says["kind"] == "interval" and says["meaning"].startswith("Half the width of the interval about each")
    again = [
        "translate",
        tmp_path / "out" / "Image #5_interval.png",
        "--model",
        trained,
        "--to",
        "T2",
        "--out",
        tmp_path,
    ]
    assert main([str(a) for a in again]) == 2


def test_a_picture_gets_its_uncertainty_map_beside_it(trained, tmp_path, t1_folder):
    args = ("translate", t1_folder, "--model", trained, "--to", "T2", "--out", tmp_path / "out", "--trust")
    assert main([str(a) for a in args]) == 0
    with Pillow.open(tmp_path / "out" / "Image #5_expected-error.png") as picture:
        assert json.loads(picture.info["Description"])["calibrated"] is False
    assert len(list((tmp_path / "out").iterdir())) == 16


def test_calibrating_refuses_what_does_not_pair(model, head):
    t1, t2 = volume(head, "T1"), volume(head, "T2")
    with pytest.raises(ValueError, match="one image"):
        calibrate(model, [(t1, t1)])
    with pytest.raises(ValueError, match="too few"):
        calibrate(model, [(replace(t1, data=t1.data[:2]), replace(t2, data=t2.data[:2]))])
    with pytest.raises(ValueError, match="do not show the same places"):
        calibrate(model, [(t1, replace(t2, data=np.roll(t2.data, 1, axis=0)))])


def test_a_synthetic_image_teaches_no_error(model, head):
    t1, t2 = volume(head, "T1"), replace(volume(head, "T2"), provenance=Provenance())
    with pytest.raises(ValueError, match="T2 is synthetic, so no error can be learned from it"):
        calibrate(model, [(t1, t2)])


def test_an_ensemble_without_trust_is_refused(trained, t1_folder, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["translate", t1_folder, "--model", trained, "--to", "T2", "--out", out, "--ensemble", trained]
    assert main([str(part) for part in command]) == 2
    assert "give --uncertainty as well" in capsys.readouterr().err
    assert not out.exists()


def test_a_calibration_says_how_much_of_it_was_trained_on(trained, model, head):
    folders = [sorted((trained.parent / contrast).iterdir())[:6] for contrast in ("T1", "T2")]
    pairs = [(read_image(one), read_image(other)) for one, other in zip(*folders, strict=True)]
    assert calibrate(model, pairs)["t2"].seen > 0
    assert calibrate(model, [(volume(head, "T1"), volume(head, "T2"))])["t2"].seen > 0  # slices of these, as a stack
    louder = [replace(v, data=v.data * np.float32(1.01)) for v in (volume(head, "T1"), volume(head, "T2"))]
    assert calibrate(model, [(louder[0], louder[1])])["t2"].seen == 0


@pytest.mark.parametrize("end", ["expected-error", "interval"])
@pytest.mark.parametrize("command", ["translate", "evaluate"])
def test_a_file_that_only_its_name_calls_a_map_is_refused_with_the_way_out(
    trained, tmp_path, head, capsys, end, command
):
    Pillow.fromarray(head(0, "T1")).save(tmp_path / f"a_{end}.png")
    Pillow.fromarray(head(0, "T2")).save(tmp_path / "a.png")
    model = ["--model", trained, "--to", "T2", "--out", tmp_path / "b.png"]
    rest = [tmp_path / "a.png"] if command == "evaluate" else model
    assert main([str(word) for word in (command, tmp_path / f"a_{end}.png", *rest)]) == 2
    said = capsys.readouterr().err
    assert f"a_{end}.png is called like a map" in said and "If this is one, rename it." in said
    (tmp_path / f"a_{end}.png").rename(tmp_path / "scan.png")
    assert main([str(word) for word in (command, tmp_path / "scan.png", *rest)]) == 0


def test_what_a_header_says_beats_a_name_that_calls_it_a_map(trained, tmp_path, head, capsys):
    image = replace(volume(head, "T2"), provenance=Provenance(contrast="T2"))
    (path,) = write_image(tmp_path / "visit_interval.nii", image)[:1]
    real = write_image(tmp_path / "real.nii", volume(head, "T2"))[0]
    assert main(["evaluate", str(path), str(real)]) == 0
    write_image(path, replace(image, provenance=Provenance(kind="interval", contrast="interval of T2")))
    capsys.readouterr()
    assert main(["evaluate", str(path), str(real)]) == 2
    assert "holds half the width of the intervals about an image: give the image itself." in capsys.readouterr().err


def test_a_folder_to_score_says_which_file_it_leaves_out_for_its_name(tmp_path, head, capsys):
    for name in ("made", "real"):
        for n in (1, 2):
            write_image(tmp_path / name / f"{n}.nii", volume(head, "T2"))
    write_image(tmp_path / "made" / "2_interval.nii", volume(head, "T2"))
    write_image(
        tmp_path / "made" / "1_interval.nii", replace(volume(head, "T2"), provenance=Provenance(kind="interval"))
    )
    assert main(["evaluate", str(tmp_path / "made"), str(tmp_path / "real")]) == 0
    said = capsys.readouterr().err
    assert "2_interval.nii (is called like a map" in said and "1_interval.nii" not in said


def test_the_general_model_has_no_intervals_and_says_what_to_do():
    model = load_model(SAMPLE)
    with pytest.raises(ValueError, match=r"general model has no intervals.* calibrate the copy"):
        UncertaintyMap(model, "T2", interval=True)
