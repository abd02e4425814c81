import io
import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from napari_t1t2.errors import Refusal
from napari_t1t2.events import Started
from napari_t1t2.model.about import read_about
from napari_t1t2.model.saved import describe_anew, load_model
from napari_t1t2.runs.folder import load_config
from napari_t1t2.runs.training import train
from napari_t1t2.synthesis.uncertainty import weights_sha256


@pytest.fixture
def rewritten(trained, tmp_path):
    """Writes the trained model anew, with other words or weights in it."""

    def rewrite(weights=None, **header):
        source, path = trained / "model.safetensors", tmp_path / "model.safetensors"
        with safe_open(source, framework="np") as file:
            words = file.metadata() | header
        save_file(load_file(source) if weights is None else weights, path, metadata=words)
        return path

    return rewrite


def test_a_run_folder_and_its_model_file_are_one_model(trained):
    assert load_model(trained).sha256 == load_model(trained / "model.safetensors").sha256


def test_the_description_is_read_without_the_weights(trained):
    about = read_about(trained)
    assert about.step == 4
    assert (about.config.channels, about.config.levels) == (4, 2)
    assert about.ranges.keys() == {"t1", "t2"}


def test_the_generators_are_ready_to_use_and_not_to_train(trained):
    generators = load_model(trained).generators
    assert generators.keys() == {"t1", "t2"}
    assert not any(g.training or any(p.requires_grad for p in g.parameters()) for g in generators.values())


def test_a_model_file_says_that_it_makes_synthetic_images(trained):
    with safe_open(trained / "model.safetensors", framework="np") as file:
        assert "Not for diagnosis" in file.metadata()["notice"]


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.safetensors does not exist: give a run folder"):
        load_model(tmp_path / "gone.safetensors")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"model\.safetensors does not exist: give a run folder"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"just text, renamed", b"\x89PNG\r\n\x1a\n" + bytes(64)], ids=len)
def test_another_file_renamed_is_refused(content, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is no model file, or is damaged .*: give a model"):
        load_model(path)


@pytest.mark.parametrize("part", [0.05, 0.5, 0.99])
def test_a_truncated_model_is_refused(trained, tmp_path, part):
    whole = (trained / "model.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ValueError, match=r"cut\.safetensors is no model file, or is damaged"):
        load_model(path)


def test_a_model_of_another_format_is_refused_with_both_versions(rewritten):
    path = rewritten(format="napari-t1t2 model 99")
    with pytest.raises(ValueError, match=r"format 99, and this version reads format \d\..* a newer version: update"):
        load_model(path)


def test_the_weights_of_another_program_are_refused(tmp_path):
    path = tmp_path / "stable.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(ValueError, match=r"stable\.safetensors was not written by napari-t1t2"):
        load_model(path)


@pytest.mark.parametrize(
    "header",
    [
        {"config": "{"},
        {"config": json.dumps({"warp": 9})},
        {"config": json.dumps({"levels": 99})},
        {"config": "[]"},
        {"ranges": "{}"},
        {"ranges": "[]"},
        {"ranges": json.dumps({"t1": {"low": 0, "high": 1}})},
        {"step": "many"},
    ],
    ids=str,
)
def test_a_description_that_makes_no_sense_is_refused(rewritten, header):
    path = rewritten(**header)
    with pytest.raises(ValueError, match=r"model\.safetensors describes itself in a way this version cannot read"):
        load_model(path)


def test_weights_that_do_not_fit_the_description_are_refused(rewritten):
    path = rewritten(weights={"t1_to_t2.head.weight": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match=r"model\.safetensors: the weights do not fit"):
        load_model(path)


def test_a_header_that_promises_huge_networks_takes_no_memory(rewritten):
    resource = pytest.importorskip("resource", reason="Windows has none")
    path = rewritten(config=json.dumps({"channels": 12_000, "levels": 2}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load_model(path)
    most = 2**28 if sys.platform == "darwin" else 2**18  # bytes there, else kB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < most  # 3 GB were taken once


def test_what_describes_a_model_anew_keeps_its_weights(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    model = load_model(run)
    describe_anew(model, replace(model.about, calibration={"t1": []}))
    again = load_model(run)
    assert again.about.calibration == {"t1": []}
    assert weights_sha256(again) == weights_sha256(model)


def test_a_model_that_was_trained_on_meanwhile_is_not_described_anew(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    model = load_model(run)
    config = replace(load_config(trained), run_folder=run, steps=6)
    training = train(config, resume=True)
    next(event for event in training if isinstance(event, Started))
    with pytest.raises(Refusal, match="is being trained in: wait"):
        describe_anew(model, model.about)
    list(training)
    with pytest.raises(Refusal, match="another model than when it was read"):
        describe_anew(model, model.about)


def test_a_model_is_read_once(trained, monkeypatch):
    opened = []
    real = io.open
    monkeypatch.setattr(io, "open", lambda file, *args, **kw: opened.append(str(file)) or real(file, *args, **kw))
    load_model(trained)
    assert sum(name.endswith("model.safetensors") for name in opened) == 1
