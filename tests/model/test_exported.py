import copy
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_t1t2.__main__ import main
from napari_t1t2.errors import Refusal
from napari_t1t2.images.volume import Volume
from napari_t1t2.model.exported import plain
from napari_t1t2.model.saved import load_model
from napari_t1t2.synthesis.translation import translate

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
MODELS = [GOLDEN / "paper", GOLDEN / "depth", Path("sample")]


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    pytest.importorskip("onnx", reason="the extra `export` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    out = tmp_path_factory.mktemp("exported")
    assert main(["export", str(trained), "--to", "T2", "--out", str(out / "t2.onnx")]) == 0
    return out / "t2.onnx"


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)
def test_onnxruntime_agrees_to_1e_5_for_any_batch_and_size(exported, tmp_path, model, head):
    onnxruntime = pytest.importorskip("onnxruntime")
    assert main(["export", str(model), "--to", "T1", "--out", str(tmp_path / "it.onnx")]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "it.onnx", providers=["CPUExecutionProvider"])
    loaded = load_model(model)
    network = plain(loaded.generators["t1"])
    for batch, rows, columns in ((1, 64, 64), (3, 96, 160)):
        x = torch.from_numpy(np.random.default_rng(0).normal(-0.5, 0.2, (batch, 1, rows, columns)).astype(np.float32))
        x = torch.cat([x] * (1 + loaded.config.depth), dim=1).clamp(-1, 1)
        with torch.inference_mode():
            expected = network(x).numpy()
        (found,) = session.run(None, {"source": x.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_copy_that_is_exported_gives_what_the_model_gives(trained):
    network = load_model(trained).generators["t2"]
    x = torch.rand(2, 1, 64, 64) * 2 - 1
    before = copy.deepcopy(network.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(plain(network)(x), network(x), atol=1e-4, rtol=0)
    assert all((before[name] == value).all() for name, value in network.state_dict().items())


def test_an_exported_generator_translates_as_its_model_does(exported, trained, head):
    image = Volume(data=head(1, "T1").astype(np.float32)[None], name="mine", dtype="uint8")
    own, foreign = (translate(image, load_model(path), to="t2") for path in (trained, exported))
    np.testing.assert_allclose(foreign.data, own.data, atol=0.02)
    assert foreign.provenance.contrast == "T2" and foreign.provenance.model.endswith("t2.onnx")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # MONAI 1.6 knows nothing newer
@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)
def test_torchscript_agrees_for_any_batch_and_size_and_monai_reads_what_it_is(tmp_path, model):
    assert main(["export", str(model), "--to", "T1", "--out", str(tmp_path / "it.ts")]) == 0
    loaded = load_model(model)
    network, script = plain(loaded.generators["t1"]), torch.jit.load(tmp_path / "it.ts")
    for batch, rows, columns in ((1, 64, 64), (3, 96, 160)):
        x = torch.rand(batch, 1 + loaded.config.depth, rows, columns) * 2 - 1
        with torch.inference_mode():
            torch.testing.assert_close(script(x), network(x), atol=1e-5, rtol=0)
    monai = pytest.importorskip("monai.data", reason="MONAI is not installed")
    again, said, _ = monai.load_net_with_metadata(str(tmp_path / "it.ts"))
    assert said["task"] == "Synthetic T1 MRI from T2" and "Not for diagnosis" in said["description"]
    with torch.inference_mode():
        torch.testing.assert_close(again(x), network(x), atol=1e-5, rtol=0)


def test_an_exported_generator_does_not_make_the_other_contrast(exported, head):
    with pytest.raises(Refusal, match=r"t2\.onnx makes T2 only: give the model that it was exported from\."):
        translate(head(1, "T2").astype(np.float32), load_model(exported), to="t1")


def test_a_foreign_onnx_file_is_refused(exported, tmp_path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(str(exported))
    del graph.metadata_props[:]
    onnx.save(graph, str(tmp_path / "foreign.onnx"))
    with pytest.raises(Refusal, match=r"foreign\.onnx was not exported by napari-t1t2"):
        load_model(tmp_path / "foreign.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(Refusal, match=r"broken\.onnx is no ONNX model, or is damaged"):
        load_model(tmp_path / "broken.onnx")


def test_export_replaces_nothing_unasked_and_knows_three_endings(exported, trained, capsys):
    assert main(["export", str(trained), "--to", "T2", "--out", str(exported)]) == 2
    assert "exists: give --overwrite" in capsys.readouterr().err
    assert main(["export", str(trained), "--to", "T2", "--out", "it.pt"]) == 2
    assert "ends in .onnx, in .ts (TorchScript), or in .zip" in capsys.readouterr().err


def test_bioimage_io_runs_the_package_as_it_says(exported, trained, tmp_path):
    path = tmp_path / "t2.zip"
    assert main(["export", str(trained), "--to", "T2", "--out", str(path)]) == 0
    core = pytest.importorskip("bioimageio.core", reason="bioimageio.core is not installed")
    assert core.test_model(str(path)).status == "passed"


def test_a_package_holds_its_card(exported, trained, tmp_path):
    from zipfile import ZipFile

    assert main(["export", str(trained), "--to", "T2", "--out", str(tmp_path / "t2.zip")]) == 0
    with ZipFile(tmp_path / "t2.zip") as package:
        assert {"rdf.yaml", "weights.onnx", "source.npy", "synthetic.npy", "README.md"} == set(package.namelist())
        assert b"Not for diagnosis" in package.read("README.md")


def test_a_package_that_cannot_be_written_leaves_nothing(trained, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnx", reason="the extra `export` is not installed")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("napari_t1t2.model.exported.ZipFile.write", full)
    assert main(["export", str(trained), "--to", "T2", "--out", str(tmp_path / "t2.zip")]) == 2
    assert f"{tmp_path / 't2.zip'}: the disk is full" in capsys.readouterr().err and not list(tmp_path.iterdir())
