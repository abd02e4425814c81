from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_t1t2.model.cyclegan import CycleGAN
from napari_t1t2.model.device import computes_in_bfloat16, describe

CPU = torch.device("cpu")


@pytest.mark.parametrize("found", [{"amx_bf16": True}, {"amx_bf16": False, "avx512_bf16": True}, {}])
def test_only_matrix_units_make_a_cpu_compute_in_bfloat16_by_itself(found, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert computes_in_bfloat16(CPU, "auto") == bool(found.get("amx_bf16"))
    assert computes_in_bfloat16(CPU, "bfloat16")
    assert not computes_in_bfloat16(CPU, "float32")


def test_a_torch_that_does_not_tell_what_the_cpu_can_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not computes_in_bfloat16(CPU, "auto")


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_computes_in_bfloat16_from_ampere_on(capability, fast, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert computes_in_bfloat16(torch.device("cuda"), "auto") == fast


def test_in_bfloat16_losses_are_nearly_the_same_and_weights_and_fakes_keep_all_digits(config):
    made = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        t1, t2 = torch.rand(2, 2, 1, 32, 32) * 2 - 1
        gan = CycleGAN(replace(config, batch=2, precision=precision))
        made[precision] = gan.step(t1, t2, np.random.default_rng(0))
        assert {p.dtype for p in gan.parameters()} == {gan.pool_t1.images.dtype} == {torch.float32}
    assert not all(torch.equal(made["float32"][name], made["bfloat16"][name]) for name in made["float32"])
    for name, loss in made["float32"].items():
        assert made["bfloat16"][name].item() == pytest.approx(loss.item(), rel=0.05)


def test_a_gpu_is_described_by_its_name_and_memory(monkeypatch):
    about = SimpleNamespace(name="NVIDIA H200", total_memory=140 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: about)
    assert describe(torch.device("cuda")) == "cuda (NVIDIA H200, 140 GiB)"
