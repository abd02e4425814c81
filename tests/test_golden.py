"""Models, checkpoints and configs that an earlier version wrote: they must load, translate and resume, always.

`tests/data/golden` holds runs of six steps, saved at step 4, on the heads of the fixtures: `depth` and `paper` of
commit e3cafe9, `gate` of 2026-11-27, with pairs and the running mean.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

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
