"""How much of a batch is computed at once, so that a step fits into the memory there is."""

from __future__ import annotations

import ctypes
import gc
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import psutil

from ..images.limits import left_in_cgroup

if TYPE_CHECKING:  # torch takes seconds to import, and `session` asks only `ran_out`
    import torch
    from torch import Tensor, nn

ResultT = TypeVar("ResultT")

PEAK = 1.6  # of what a forward keeps for its backward; gradients and scratch come on top
SPARE = 0.9  # of the free memory is counted on
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's names for `mallopt`
NO_MEMORY = (  # in lower case
    "out of memory",  # CUDA, HIP, MPS
    "can't allocate memory",  # a CPU
    "not enough memory",  # a CPU, Windows
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "hipblas_status_alloc_failed",
    "unable to find an engine to execute this computation",  # cuDNN, where no workspace is left
)


class Footprint:
    """How many slices of a batch a step computes at once, and whether it keeps their activations for the backward.

    Gradients of the parts are added up, and InstanceNorm sees each slice by itself: the step's result is the same
    within rounding. Activations that are not kept are computed again, a third more work (Chen et al., 2016).
    """

    def __init__(self, batch: int) -> None:
        self.at_once = batch
        self.recomputes = False
        self.change = ""  # a sentence about the last change, until somebody takes it

    def parts(self, batch: int) -> Iterator[tuple[slice, float]]:
        """Slices of the batch, and the part of it that each is."""
        for start in range(0, batch, self.at_once):
            part = slice(start, min(start + self.at_once, batch))
            yield part, (part.stop - part.start) / batch

    def run(self, network: nn.Module, x: Tensor) -> Tensor:
        """What the network makes of a batch."""
        from torch.utils.checkpoint import checkpoint

        made: Tensor = checkpoint(network, x, use_reentrant=False) if self.recomputes else network(x)
        return made

    def retry_smaller(self, phase: Callable[[], ResultT]) -> ResultT:
        """The result of `phase`; where the memory runs out in it, begin it again with less at once."""
        while True:
            try:
                return phase()
            except (RuntimeError, MemoryError) as error:
                if not ran_out(error) or not self._shrink():
                    raise
            _give_back()  # not in the handler: until it ends, the error keeps every tensor of the phase

    def fit(self, batch: int, needed: int, room: int) -> None:
        """Choose for a batch of which each slice has to keep `needed` bytes, in a `room` of so many."""
        affordable = int(room / (PEAK * needed))
        if affordable >= batch:
            self.at_once = batch
        else:
            rounds = math.ceil(batch / max(1, affordable))
            self.at_once = math.ceil(batch / rounds)
            self.recomputes = affordable < 1
            free = f"Only {max(0, room) / 2**30:.1f} GiB of memory are free"
            short = "" if affordable > 0 else " That is too little: more will be taken than was to be used."
            self.change = f"{free}: {self._describe()}. Slower, same result.{short}"

    def take_change(self) -> str:
        """The sentence about the last change, once; empty if there was none."""
        change, self.change = self.change, ""
        return change

    def _shrink(self) -> bool:
        """Ask for less; False where nothing is left to save."""
        if self.at_once > 1:
            self.at_once = math.ceil(self.at_once / 2)
        elif not self.recomputes:
            self.recomputes = True
        else:
            return False
        self.change = f"The memory ran out: from now on {self._describe()}. The step was made again, nothing is lost."
        return True

    def _describe(self) -> str:
        groups = f"the batch is split into groups of {self.at_once} slice{'s' * (self.at_once != 1)}"
        return groups + (" with gradient checkpointing" if self.recomputes else "")


def ran_out(error: Exception) -> bool:
    """Whether memory was asked for in vain: each device and library says it in a `RuntimeError` of its own."""
    text = str(error).casefold() if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or any(words in text for words in NO_MEMORY)


def free_memory(device: torch.device, limit: float = 0.0) -> int:
    """Bytes that may still be taken on a device: what is free, or what is left of `limit` GiB if that is less."""
    import torch

    if device.type == "cuda":
        taken = torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - taken
    elif device.type == "mps":
        taken = torch.mps.driver_allocated_memory()
        free = torch.mps.recommended_max_memory() - taken
    else:
        taken = psutil.Process().memory_info().rss
        free = min(psutil.virtual_memory().available, left_in_cgroup())
    return int(min(SPARE * free, limit * 2**30 - taken if limit else math.inf))


def kept_for_backward(forward: Callable[[], Tensor]) -> int:
    """Bytes that a forward keeps for its backward, parameters not counted."""
    import torch

    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not (tensor.is_leaf and tensor.requires_grad):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # itself, it would hold the graph that holds it, which Python cannot collect

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = forward()
    del loss
    return sum(kept.values())


@contextmanager
def pages_kept() -> Iterator[None]:
    """Within it, glibc keeps freed memory for the next step, and gives it back to the system at the end.

    It would return large blocks after each use and have the kernel clear new pages for the next: up to a third of the
    time of a step on a CPU (benchmarks/RESULTS.md). Elsewhere than with glibc, nothing happens.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(MMAP_THRESHOLD, 2**30)
    libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(MMAP_THRESHOLD, 2**25)  # what glibc's own rule ends at
        libc.mallopt(TRIM_THRESHOLD, 2**26)
        libc.malloc_trim(0)


def _give_back() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
