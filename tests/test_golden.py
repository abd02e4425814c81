"""Models, checkpoints and configs that an earlier version wrote: they must load, translate and resume, always.

`tests/data/golden` holds runs of six steps, saved at step 4, on the heads of the fixtures: `depth` and `paper` of
commit e3cafe9, `gate` of 2026-11-27, with pairs and the running mean.
"""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_t1t2.__main__ import main
from napari_t1t2.errors import Refusal
from napari_t1t2.model.about import header_of
from napari_t1t2.model.saved import load_model
from napari_t1t2.runs.folder import load_config
from napari_t1t2.runs.training import train
from napari_t1t2.synthesis.translation import translate

GOLDEN = Path(__file__).parent / "data" / "golden"
CLOSE = {"rtol": 1e-3, "atol": 0.05}  # of grey values up to 255: other processors round otherwise


@pytest.fixture(params=["depth", "paper", "gate"])
def golden(request) -> Path:
    return GOLDEN / request.param


@pytest.fixture
def numbers(golden):
    with np.load(golden / "numbers.npz") as stored:
        return dict(stored)


def test_an_old_model_translates_to_the_stored_numbers(golden, numbers, head):
    model = load_model(golden)
    for side, contrast in (("T2", "T1"), ("T1", "T2")):
        made = translate(head(3, contrast).astype(np.float32), model, to=side)
        np.testing.assert_allclose(made, numbers[f"to_{side.lower()}"], **CLOSE)


def test_an_old_config_says_its_own_settings_whatever_the_defaults_are_now(golden):
    config = load_config(golden)
    assert config.model.depth is (golden.name == "depth")
    assert config.model.gate is (golden.name == "gate")
    assert (config.pairs == "auto") is (golden.name == "gate")
    assert (config.steps, config.save_every, config.model.channels) == (6, 4, 4)
    assert config == type(config).from_dict(config.to_dict())


def test_an_old_checkpoint_resumes_to_the_stored_losses_and_images(
    golden, numbers, tmp_path, t1_folder, t2_folder, head
):
    run = shutil.copytree(golden, tmp_path / "run")
    folders = {"t1_folder": t1_folder, "t2_folder": t2_folder}
    list(train(replace(load_config(run), run_folder=run, **folders), resume=True))
    losses = np.genfromtxt(run / "losses.csv", delimiter=",", names=True)
    kept = [name for name in losses.dtype.names if name != "seconds"]
    stored = numbers["losses"][:, [losses.dtype.names.index(name) for name in kept]]
    np.testing.assert_allclose(np.array([list(row) for row in losses[kept]]), stored, rtol=2e-3)
    made = translate(head(3, "T1").astype(np.float32), load_model(run), to="T2")
    np.testing.assert_allclose(made, numbers["resumed_to_t2"], **CLOSE)


# Files of a newer version: each kind is refused with a sentence that names it and what to do


@pytest.fixture
def run(tmp_path, t1_folder, t2_folder) -> Path:
    """A copy of a golden run whose images lie beside it."""
    run = shutil.copytree(GOLDEN / "gate", tmp_path / "run")
    values = json.loads((run / "config.json").read_text())
    folders = {"t1_folder": "../T1", "t2_folder": "../T2", "run_folder": "."}
    (run / "config.json").write_text(json.dumps(values | folders))
    return run


def newer_model(run: Path) -> Path:
    path = run / "model.safetensors"
    with path.open("rb") as file:
        header = header_of(path, file)
    save_file(load_file(path), path, metadata=header | {"format": "napari-t1t2 model 3"})
    return path


def newer_config(run: Path) -> Path:
    values = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(values | {"diffusion": True}))
    return run / "config.json"


def newer_checkpoint(run: Path) -> Path:
    path = run / "checkpoint.pt"
    torch.save(torch.load(path, weights_only=True) | {"format": "3"}, path)
    return path


def newer_data(run: Path) -> Path:
    (run / "data.json").write_text('{"version": 2, "runs": []}')
    return run / "data.json"


@pytest.mark.parametrize("newer", [newer_config, newer_checkpoint, newer_data])
def test_a_run_of_a_newer_version_is_not_gone_on_with_and_not_changed(newer, run, tmp_path, capsys):
    path = newer(run)
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}
    given = ["train", tmp_path / "T1", tmp_path / "T2", "--run", run, "--resume"]
    assert main([*map(str, given)]) == 2
    (sentence,) = [line for line in capsys.readouterr().err.splitlines() if path.name in line]
    assert str(path) in sentence and ("update napari-t1t2" in sentence or "move it out of the run" in sentence)
    kept = {name: (run / name).read_bytes() for name in before if name not in ("notes.txt", "config.json")}
    assert kept.items() <= before.items()


@pytest.mark.parametrize(
    "command",
    [
        ("translate", "PNG", "--model", "RUN", "--to", "T2", "--out", "OUT"),
        ("translate", "PNG", "--model", "OLD", "--to", "T2", "--out", "OUT", "--uncertainty", "--ensemble", "RUN"),
        ("calibrate", "RUN", "T1", "T2"),
        ("info", "RUN"),
        ("export", "RUN", "--to", "T2", "--out", "OUT/t2.onnx"),
        ("train", "T1", "T2", "--run", "OUT/new", "--start", "RUN/model.safetensors"),
    ],
    ids=lambda command: " ".join(command[:1] + command[3:4]),
)
def test_a_model_of_a_newer_version_is_refused_by_every_command(command, run, tmp_path, capsys):
    path = newer_model(run)
    places = {"PNG": tmp_path / "T1" / "Image #5.png", "RUN": run, "OLD": GOLDEN / "gate", "OUT": tmp_path / "out"}
    places |= {side: tmp_path / side for side in ("T1", "T2")}
    parts = [part.partition("/") for part in command]
    assert main([f"{places.get(first, first)}{slash}{rest}" for first, slash, rest in parts]) == 2
    said = capsys.readouterr().err
    assert f"{path} has format 3, and this version reads format 2" in said
    assert "It was written by a newer version: update napari-t1t2 to use it." in said


def test_an_exported_model_of_a_newer_version_is_refused(run, tmp_path, head):
    onnx = pytest.importorskip("onnx", reason="the extra export")
    path = tmp_path / "t2.onnx"
    assert main(["export", str(run), "--to", "T2", "--out", str(path)]) == 0
    graph = onnx.load(str(path))
    graph.metadata_props[[p.key for p in graph.metadata_props].index("format")].value = "napari-t1t2 model 12"
    onnx.save(graph, str(path))
    with pytest.raises(Refusal, match=r"t2\.onnx has format 12, .* a newer version: update napari-t1t2"):
        load_model(path)


def test_a_report_with_other_columns_is_not_replaced(run, tmp_path, capsys):
    path = tmp_path / "report.csv"
    path.write_text("input,verdict\n")
    given = ["evaluate", str(tmp_path / "T1"), str(tmp_path / "T2"), "--report", str(path)]
    assert main(given) == 2
    assert f"{path} exists and is no report: give another name." in capsys.readouterr().err
    assert path.read_text() == "input,verdict\n"


def test_losses_with_columns_of_a_newer_version_are_gone_on_with(run):
    path = run / "losses.csv"
    rows = list(csv.reader(path.read_text().splitlines()))
    path.write_text("\n".join(",".join([*row, "new" if i == 0 else "1"]) for i, row in enumerate(rows)) + "\n")
    list(train(load_config(run), resume=True))
    assert path.read_text().splitlines()[0].endswith(",new")
