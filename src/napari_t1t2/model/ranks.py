"""Processes that train one model together, as torchrun starts them on one machine or several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import Refusal
from .device import describe, pick_device

LARGE = 2**18  # numbers of a tensor that is exchanged by itself
GONE = (
    "Another process of this run has ended, so the others end, too: if no reason stands above, it was killed or its "
    "machine was lost. What was saved is kept: --resume goes on from there."
)


@dataclass(frozen=True)
class Ranks:
    """How many processes there are, which of them this one is, and what they tell each other.

    All of them call the same methods in the same order. Alone, each method gives back what it was given.
    A process whose partner has ended raises `Refusal` with a sentence.
    """

    number: int = 1
    own: int = 0  # counted from 0; the first one writes and prints
    beside: int = 1  # how many are on this machine
    place: int = 0  # of this one among those on this machine
    count_failure: Callable[[], int] = field(default=lambda: 1, repr=False)  # how many have failed, this one included

    @property
    def first(self) -> bool:
        """Whether this one writes and prints."""
        return self.own == 0

    def device(self, wish: str) -> torch.device:
        """A GPU for each process of a machine, or the CPU for all. Raises `Refusal` where that cannot be."""
        device = pick_device(wish)
        if self.number == 1:
            return device
        if device.type == "mps":
            raise Refusal("Several processes cannot share Apple's GPU: take --device cpu, or leave out torchrun.")
        if device.type == "cuda":
            if (there := torch.cuda.device_count()) < self.beside:
                raise Refusal(
                    f"{self.beside} processes were started on a machine of {there} GPUs, and each needs one: "
                    f"give torchrun --nproc-per-node={there}."
                )
            device = torch.device("cuda", self.place)
            torch.cuda.set_device(device)  # NCCL's own memory goes there, too
        return device

    def describe(self, device: torch.device) -> str:
        """For a person: "4 x cuda (NVIDIA H100)", "2 x cpu (1 thread)"."""
        return f"{self.number} x {describe(device)}" if self.number > 1 else describe(device)

    def memory(self, device: torch.device, free: int) -> int:
        """Of so many free bytes on the device, those that are for this process."""
        return free if device.type == "cuda" else free // self.beside

    def part(self, batch: int) -> slice:
        """Which slices of each batch are for this process. Raises `Refusal` where they cannot all get as many."""
        if batch % self.number:
            less = batch // self.number * self.number
            near = f"{less} or {less + self.number}" if less else f"{self.number}"
            raise Refusal(
                f"batch is {batch}, but {self.number} processes share it, and each needs as many slices: "
                f"take a batch of {near}, or another number of processes."
            )
        share = batch // self.number
        return slice(self.own * share, (self.own + 1) * share)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes its mean over the processes: gradients and losses of parts those of the batch."""

        def mean(flat: Tensor) -> None:
            dist.all_reduce(flat)
            flat /= self.number

        self._exchange(tensors, mean)

    def agree(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes that of the first process."""
        self._exchange(tensors, lambda flat: dist.broadcast(flat, 0))

    def gather(self, share: Tensor) -> Tensor:
        """The batch (B, ...) of which each process has its share."""
        if self.number == 1:
            return share
        shares = [torch.empty_like(share, memory_format=torch.contiguous_format) for _ in range(self.number)]
        with _together():
            dist.all_gather(shares, share.contiguous())
        return torch.cat(shares)

    def largest(self, *values: float) -> list[float]:
        """Of each value the largest that a process has given. Never waits for a GPU."""
        if self.number == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64)
        with _together():
            dist.all_reduce(shared, dist.ReduceOp.MAX)
        found: list[float] = shared.tolist()
        return found

    def meet(self) -> None:
        """Wait for the others."""
        self.largest(0.0)

    def restarted(self) -> bool:
        """Whether torchrun has started the processes anew after a failure.

        Each machine counts for itself and a new one begins at 0, so it takes the word of all.
        """
        return self.largest(_restarts())[0] > 0

    def fails_first(self) -> bool:
        """Whether no other process has asked this before: the first failure is the reason of the others."""
        try:
            return self.count_failure() == 1
        except RuntimeError:  # the machine that counts is gone
            return True

    def _exchange(self, tensors: Sequence[Tensor], exchange: Callable[[Tensor], None]) -> None:
        """One exchange for all small tensors, each of which would wait for its own; large ones are not copied."""
        if self.number == 1:
            return
        large: list[Tensor] = []
        small: list[Tensor] = []
        for tensor in tensors:
            (large if tensor.numel() >= LARGE and tensor.is_contiguous() else small).append(tensor)
        with torch.no_grad():
            flat = torch.cat([tensor.reshape(-1) for tensor in small])
            with _together():
                for whole in (*large, flat):
                    exchange(whole)
            for tensor, exchanged in zip(small, torch.split(flat, [t.numel() for t in small]), strict=True):
                tensor.copy_(exchanged.view(tensor.shape))


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """The processes that torchrun has started, this one among them; alone where it was started otherwise.

    Of several that fail, the first raises its error and the others end with exit code 2 and no word: theirs would be
    the same, or that the first is gone.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1):
        yield ALONE
        return
    from torch.distributed.rendezvous import rendezvous  # not in every build of PyTorch

    store, own, number = next(iter(rendezvous("env://")))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # it outlives the processes, with their addresses
        store = dist.PrefixStore(f"start {_restarts()}", store)  # type: ignore[attr-defined]
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    try:
        # so long the others may have to wait while the first one reads; whoever is killed is noticed at once
        dist.init_process_group(backend, store=store, rank=own, world_size=number, timeout=timedelta(hours=2))
    except RuntimeError as error:
        raise Refusal(
            f"The {number} processes do not find each other ({error}): the machines must be allowed to connect to each "
            "other; where they have several networks, name one in GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME."
        ) from error
    beside, place = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    ranks = Ranks(number, own, beside, place, lambda: store.add("failures", 1))
    try:
        yield ranks
    except Exception as error:  # the group is not closed: that would wait for those who are gone
        if ranks.fails_first():
            raise
        raise SystemExit(2) from error
    dist.destroy_process_group()


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise Refusal(GONE) from error
