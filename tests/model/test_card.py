import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_t1t2.__main__ import main
from napari_t1t2.config import preset
from napari_t1t2.errors import Refusal
from napari_t1t2.images.volume import Volume
from napari_t1t2.model.about import SAMPLE, read_about
from napari_t1t2.model.card import card_of, preset_of
from napari_t1t2.model.saved import describe_anew, load_model
from napari_t1t2.synthesis.calibration import calibrate, scores_of, store
from napari_t1t2.synthesis.prepare import GENERAL, prepare

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def test_a_trained_model_says_in_one_line_on_what_and_for_how_long(trained):
    card = card_of(replace(read_about(trained), step=3000, card=read_about(trained).card | {"minutes": 1.2}))
    assert card.slices and card.version
    assert card.summary() == f"Trained 1 min on {card.slices[0]} T1 and {card.slices[1]} T2 slices, axial"


def test_a_hardly_trained_model_says_so(trained):
    assert card_of(read_about(trained)).summary().startswith("Hardly trained, 4 steps on ")


@pytest.mark.parametrize("name", ["paper", "depth", "gate"])
def test_an_old_model_has_a_card_with_what_is_known(name):
    card = card_of(read_about(GOLDEN / name))
    assert card.minutes is None and card.slices is None
    assert dict(card.rows())["Training"] == f"{card.step} steps"


def test_a_card_names_neither_patients_nor_folders(trained):
    said = json.dumps(read_about(trained).card) + card_of(read_about(trained)).markdown("m")
    assert str(trained.parent) not in said and "sub-" not in said


def test_info_prints_the_card_and_writes_it_as_a_readme(trained, tmp_path, capsys):
    assert main(["info", str(trained)]) == 0
    assert "Not for diagnosis" in capsys.readouterr().out
    assert main(["info", str(trained), "--markdown", str(tmp_path / "README.md")]) == 0
    assert (tmp_path / "README.md").read_text().startswith("# model.safetensors: synthetic T1 and T2 MRI")
    assert main(["info", str(trained), "--markdown", str(tmp_path / "README.md")]) == 2  # somebody may have edited it


def test_what_a_person_writes_into_the_card_stays_and_the_weights_too(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    assert main(["info", str(tmp_path / "run"), "--licence", "CC-BY 4.0", "--data", "12 healthy adults, 3 T"]) == 0
    card = card_of(read_about(tmp_path / "run"))
    assert (card.licence, card.data, card.citation) == ("CC-BY 4.0", "12 healthy adults, 3 T", "")
    old, new = (load_model(run).generators["t2"].state_dict() for run in (trained, tmp_path / "run"))
    assert all((old[name] == new[name]).all() for name in old)


def test_scores_and_calibration_come_into_the_card_beside_doing_nothing(trained, tmp_path, head):
    shutil.copytree(trained, tmp_path / "run")
    model = load_model(tmp_path / "run")
    t1, t2 = (
        Volume(data=np.stack([head(i, c) for i in range(6)]).astype(np.float32), name=c, dtype="uint8")
        for c in ("T1", "T2")
    )
    store(model, [calibrate(model, [(t1, t2)])], scores_of(model, [(t1, t2)]))
    card = card_of(read_about(tmp_path / "run"))
    assert card.calibrated == ("T1", "T2") or card.calibrated == ("T2", "T1")
    assert card.intervals == card.calibrated
    assert set(card.scores) == {"T1 to T2", "T2 to T1"}
    assert "the source as it is" in dict(card.rows())["Score, T1 to T2"]


def test_the_general_model_lies_in_the_package_and_says_what_it_is():
    assert read_about(Path("sample")).path == SAMPLE
    assert SAMPLE.stat().st_size <= 3_000_000
    card = card_of(read_about(SAMPLE))
    assert card.general and card.summary().startswith("General model of T1 and T2, not trained on your images")
    assert "CC-BY" in card.licence + card.data and "Lesjak" in card.citation


def test_what_the_general_model_makes_says_so(head):
    model = load_model(Path("sample"))
    looked = prepare(Volume(data=head(1, "T1").astype(np.float32), name="mine"), model, "t2")
    assert GENERAL in looked.remarks and looked.provenance.general_model is True


def test_another_models_image_does_not(trained, head):
    looked = prepare(Volume(data=head(1, "T1").astype(np.float32), name="mine"), load_model(trained), "t2")
    assert GENERAL not in looked.remarks and looked.provenance.general_model is None


def test_the_general_model_reads_an_image_of_any_units_alike(head):
    model, image = load_model(Path("sample")), head(1, "T1").astype(np.float32)
    one, same = (prepare(Volume(data=image * gain, name="mine"), model, "t2").intensity for gain in (1, 0.2))
    np.testing.assert_allclose(one.to_unit(image), same.to_unit(image * np.float32(0.2)), atol=1e-3)


def test_the_general_model_cannot_be_described_anew():
    model = load_model(Path("sample"))
    with pytest.raises(Refusal, match=r"belongs to the program: copy it to a folder of yours"):
        describe_anew(model, model.about)


def test_a_folder_of_images_called_sample_does_not_hide_the_general_model(tmp_path, monkeypatch):
    (tmp_path / "sample").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_about(Path("sample")).path == SAMPLE


@pytest.mark.parametrize("name", ["laptop", "notebook", "gpu"])
def test_a_preset_is_known_by_its_networks(name):
    assert preset_of(replace(preset(name), minutes=1, seed=3)) == name
    assert preset_of(replace(preset(name), learning_rate=0.1)) == ""
