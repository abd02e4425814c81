from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from heads import write_data_set
from PIL import Image

from napari_t1t2.config import ModelConfig, TrainConfig
from napari_t1t2.runs.training import train

ROWS, COLUMNS, SLICES = 44, 36, 8
REAL_DATA = Path(__file__).resolve().parents[2] / "shared/data"

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests last: whoever waits for the others sees them fail first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alignments and slice caches of tests go nowhere else."""
    monkeypatch.setenv("NAPARI_T1T2_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def make_head(index: int, contrast: str, shape: tuple[int, int] = (ROWS, COLUMNS)) -> np.ndarray:
    """A slice of an egg, uint8: black air, tissue with folds, T2 bright where T1 is dark."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    tissue = 0.6 + 0.3 * np.sin(7 * x + index) * np.cos(5 * y - index)
    inside = np.hypot(y / 0.9, x / (0.6 + 0.03 * index)) < 1
    return np.rint(255 * np.where(inside, tissue if contrast == "T1" else 1.2 - tissue, 0)).astype(np.uint8)


def write_folder(folder: Path, contrast: str) -> Path:
    folder.mkdir(parents=True)
    for index in range(SLICES):
        Image.fromarray(make_head(index, contrast)).save(folder / f"Image #{index + 5}.png")
    return folder


def tiny_config(t1_folder: Path, t2_folder: Path, run_folder: Path) -> TrainConfig:
    return TrainConfig(
        t1_folder=t1_folder,
        t2_folder=t2_folder,
        run_folder=run_folder,
        minutes=0,
        steps=4,
        crop=32,
        device="cpu",
        precision="float32",  # the same on every machine
        disc_channels=4,
        identity_weight=5.0,
        pool=2,
        pairs="off",
        report_every=2,
        preview_every=4,
        save_every=4,
        model=ModelConfig(channels=4, levels=2, depth=False),
    )


@pytest.fixture(scope="session")
def head():
    """Makes one slice: `head(index, "T1")`."""
    return make_head


@pytest.fixture
def t1_folder(tmp_path) -> Path:
    return write_folder(tmp_path / "T1", "T1")


@pytest.fixture
def t2_folder(tmp_path) -> Path:
    return write_folder(tmp_path / "T2", "T2")


@pytest.fixture
def config(tmp_path, t1_folder, t2_folder) -> TrainConfig:
    """A run of four steps with tiny networks; nothing is written yet."""
    return tiny_config(t1_folder, t2_folder, tmp_path / "run")


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A finished run's folder; read it, never write to it."""
    home = tmp_path_factory.mktemp("trained")
    folders = [write_folder(home / contrast, contrast) for contrast in ("T1", "T2")]
    list(train(tiny_config(*folders, home / "run")))
    return home / "run"


@pytest.fixture(scope="session")
def made_data(tmp_path_factory) -> SimpleNamespace:
    """Two patients of ellipsoids as NIfTI, DICOM, PNG and 4D files (tests/heads.py); read it, never write to it.

    It stands in for real data in a clone without them: each kind is a pair of folders, T1 and T2.
    """
    return write_data_set(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip("the real data are not beside this checkout, in ../shared/data")
    return REAL_DATA
