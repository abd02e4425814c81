import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from napari_t1t2.config import ModelConfig, TrainConfig, preset
from napari_t1t2.runs.folder import load_config, save_config


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"batch": 0}, "Batch size is 0, but must be at least 1"),
        ({"beta1": 1.5}, "Adam's beta 1 is 1.5, but must be at most 0.999"),
        ({"device": "tpu"}, "Device is 'tpu': take one of auto, cpu, cuda, mps"),
        ({"crop": 33}, "Crop is 33, but must be a multiple of 16 .*: take 32 or 48"),
        ({"minutes": 0.0, "steps": 0}, "Minutes and steps are both 0"),
        ({"minutes": float("nan")}, "Minutes"),
        ({"minutes": float("inf")}, "Minutes"),
        ({"learning_rate": float("nan")}, "Learning rate"),
    ],
)
def test_a_wrong_value_is_refused_when_the_config_is_made(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        TrainConfig(**wrong)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"size": 40, "levels": 4}, "Slice size is 40, .* multiple of 16 .*: take 32 or 48"),
        ({"size": 8, "levels": 4}, "take 16 or 32"),
        ({"levels": 9}, "U-Net levels is 9, but must be at most 8"),
        ({"t1_label": "T1", "t2_label": "t1"}, "give two names"),
        ({"t1_label": " "}, "give two names"),
        ({"t2_label": " "}, "give two names"),
    ],
)
def test_a_model_that_cannot_be_is_refused_when_it_is_described(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        ModelConfig(**wrong)


def test_a_contrast_is_found_by_its_label_in_any_case():
    model = ModelConfig(t1_label="FLAIR", t2_label="PD")
    assert (model.side("flair"), model.side("Pd"), model.side("T1")) == ("t1", "t2", "t1")
    with pytest.raises(ValueError, match="makes FLAIR and PD, not 'T3'"):
        model.side("T3")


def test_a_label_goes_before_the_side_of_that_name():
    model = ModelConfig(t1_label="T2", t2_label="T1")
    assert (model.side("T1"), model.side("T2")) == ("t2", "t1")


def test_a_config_survives_the_way_through_its_file(config, tmp_path):
    save_config(tmp_path / "config.json", config)
    assert load_config(tmp_path) == config


@pytest.mark.parametrize("content", ["{", "[]", '{"warp": 9}', '{"batch": "two", "model": {}}'])
def test_a_changed_config_file_is_refused_by_name(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json cannot be read"):
        load_config(tmp_path)


def test_a_config_file_of_today_lists_every_setting(config, tmp_path):
    save_config(tmp_path / "config.json", config)
    assert json.loads((tmp_path / "config.json").read_text()).keys() == asdict(config).keys()


def test_the_notebook_preset_has_the_notebooks_settings():
    notebook = preset("notebook")
    assert (notebook.model.size, notebook.model.channels, notebook.batch) == (64, 64, 32)
    assert (notebook.adversarial, notebook.cycle_weight, notebook.pool) == ("bce", 10, 50)
    assert (notebook.learning_rate, notebook.beta1) == (2e-4, 0.5)


def test_a_preset_can_be_edited():
    assert replace(preset("gpu"), t1_folder=Path("a")).model == preset("gpu").model
