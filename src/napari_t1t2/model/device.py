"""Where to compute, and how precisely."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from ..config import Precision
from ..errors import Refusal


def pick_device(wish: str = "auto") -> torch.device:
    """CUDA, else Apple's GPU, else the CPU; or the one wished for. Raises `Refusal` where it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wish == "auto":
        return torch.device(next(name for name, found in there.items() if found))
    if not there[wish]:
        raise Refusal(f"device is {wish}, but PyTorch finds none here: take auto or cpu.")
    return torch.device(wish)


def describe(device: torch.device) -> str:
    """For a person: "cuda (NVIDIA H200, 140 GiB)", "cpu (2 threads)"."""
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        return f"cuda ({about.name}, {about.total_memory / 2**30:.0f} GiB)"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' * (threads != 1)})" if device.type == "cpu" else device.type


def computes_in_bfloat16(device: torch.device, precision: Precision) -> bool:
    """Whether convolutions are to be computed in bfloat16; "auto" where the hardware is made for it.

    On a CPU only matrix units (Intel AMX) gain: with AVX512-BF16 alone a step takes longer than in float32, without
    any such instruction 2 to 7 times as long (benchmarks/RESULTS.md).
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # torch 2.9 and later know; older ones do not say, and compute in float32
    can: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(can.get("amx_bf16"))


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Within it, convolutions are computed in bfloat16 where `computes_in_bfloat16`; weights stay float32."""
    if not computes_in_bfloat16(device, precision):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
