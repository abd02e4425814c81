import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_t1t2.events import Finished, Noted, Progress, Started
from napari_t1t2.images import limits
from napari_t1t2.model.cyclegan import CycleGAN
from napari_t1t2.model.memory import Footprint, free_memory, kept_for_backward
from napari_t1t2.runs.training import train

BATCH = 5


def batch(config) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.rand(BATCH, 1, 32, 32) * 2 - 1 for _ in range(2)]


def made(config) -> CycleGAN:
    torch.manual_seed(0)
    return CycleGAN(replace(config, batch=BATCH, structure_weight=1.0))


def run(gan: CycleGAN, config) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    losses = gan.step(*batch(config), np.random.default_rng(0))
    return losses, [p.grad.clone() for p in gan.parameters()]


def assert_equal(gan: CycleGAN, config) -> None:
    """To one that computes the batch as a whole."""
    losses, gradients = run(gan, config)
    whole_losses, whole_gradients = run(made(config), config)
    torch.testing.assert_close(losses, whole_losses)
    torch.testing.assert_close(gradients, whole_gradients, rtol=1e-3, atol=1e-5)


def fails_above(gan: CycleGAN, most: int, error: Exception, *, recomputing: bool = True) -> list[int]:
    """Let the first generator run out of memory on more slices at once; returns what it was asked for."""
    asked: list[int] = []

    def check(_, inputs):
        asked.append(len(inputs[0]))
        # translating and leaving alone are one forward of twice as many
        if len(inputs[0]) > 2 * most or (recomputing and not gan.footprint.recomputes):
            raise error

    gan.t1_to_t2.register_forward_pre_hook(check)
    return asked


@pytest.mark.parametrize("at_once", [1, 2, 3])
@pytest.mark.parametrize("recomputes", [False, True])
def test_a_step_in_parts_is_the_step_of_the_whole(config, at_once, recomputes):
    gan = made(config)
    gan.footprint.at_once, gan.footprint.recomputes = at_once, recomputes
    assert_equal(gan, config)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA out of memory."), RuntimeError("can't allocate memory: 1 bytes"), MemoryError()]
)
def test_where_the_memory_runs_out_the_same_step_is_made_in_smaller_parts(config, error):
    gan = made(config)
    fails_above(gan, 2, error, recomputing=False)
    assert_equal(gan, config)
    assert gan.footprint.at_once == 2
    assert "ran out" in gan.footprint.take_change()
    assert gan.footprint.take_change() == ""


def test_a_judge_that_runs_out_of_memory_does_not_swap_the_pool_twice(config):
    gan, whole = made(config), made(config)
    before = gan.disc_t2.forward
    failed = []

    def once(x):
        if x.requires_grad or failed:
            return before(x)
        failed.append(True)
        raise RuntimeError("out of memory")

    gan.disc_t2.forward = once
    run(gan, config)
    run(whole, config)
    assert failed
    torch.testing.assert_close(gan.pool_t1.images, whole.pool_t1.images)


def test_activations_are_computed_twice_only_where_single_slices_do_not_fit(config):
    gan = made(config)
    asked = fails_above(gan, BATCH, RuntimeError("out of memory"))
    run(gan, config)
    assert (gan.footprint.at_once, gan.footprint.recomputes) == (1, True)
    assert asked[:4] == [10, 6, 4, 2]


def test_what_never_fits_is_raised(config):
    gan = made(config)
    fails_above(gan, 0, RuntimeError("out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        run(gan, config)


def test_other_errors_are_not_taken_for_a_lack_of_memory(config):
    gan = made(config)
    asked = fails_above(gan, 0, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        run(gan, config)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("room", "at_once", "recomputes"),
    [(10**6, 32, False), (3200, 16, False), (1000, 6, False), (160, 1, False), (100, 1, True), (-5, 1, True)],
)
def test_as_many_slices_are_computed_at_once_as_there_is_room_for(room, at_once, recomputes):
    footprint = Footprint(32)
    footprint.fit(32, 100, room)
    assert (footprint.at_once, footprint.recomputes) == (at_once, recomputes)
    assert bool(footprint.take_change()) == (room < 10**6)


def test_the_parts_cover_the_batch_and_weigh_one():
    footprint = Footprint(7)
    footprint.at_once = 3
    parts = list(footprint.parts(7))
    assert [p for p, _ in parts] == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert sum(share for _, share in parts) == pytest.approx(1)


def test_what_a_forward_keeps_is_counted_once_and_without_parameters():
    weight, x = torch.ones(1000, requires_grad=True), torch.ones(1000)

    def forward():
        y = weight * x  # keeps x, 4000 bytes
        return (y * y + y * x).sum()  # keeps y twice, and x again

    assert kept_for_backward(forward) == 8000


def test_counting_what_a_forward_keeps_leaves_nothing_behind():
    kept = []

    def forward():
        y = torch.ones(1000, requires_grad=True) * 2
        kept.append(weakref.ref(y))
        return (y * y).sum()

    kept_for_backward(forward)
    gc.collect()
    assert kept[0]() is None


def test_a_limit_is_what_training_may_take_in_all(monkeypatch):
    cpu = torch.device("cpu")
    free = free_memory(cpu)
    assert 0 < free_memory(cpu, 1e3) == pytest.approx(free, rel=0.1)
    assert free_memory(cpu, 0.001) < 0


def test_a_clusters_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "CGROUP", tmp_path)
    monkeypatch.setattr(limits, "OWN_CGROUP", tmp_path / "own")
    (tmp_path / "own").write_text("0::/slurm/job_1/step_0\n")
    job = tmp_path / "slurm" / "job_1"
    (job / "step_0").mkdir(parents=True)
    for folder, most in ((job, "1000"), (job / "step_0", "max")):
        (folder / "memory.current").write_text("400\n")
        (folder / "memory.max").write_text(f"{most}\n")
    assert free_memory(torch.device("cpu")) == 540
    (job / "memory.stat").write_text("anon 90\ninactive_file 300\nactive_file 10\n")  # images that were read
    assert free_memory(torch.device("cpu")) == 810
    (job / "memory.max").write_text("max\n")
    assert free_memory(torch.device("cpu")) > 540


def test_a_run_with_little_memory_says_so_and_learns_the_same(config, tmp_path):
    config = replace(config, batch=3, report_every=1, steps=2)
    tight = replace(config, memory=1e-3, run_folder=tmp_path / "tight")
    events, tight_events = list(train(config)), list(train(tight))
    started = next(e for e in tight_events if isinstance(e, Started))
    assert "groups of 1 slice with gradient checkpointing. Slower, same result. That is too little" in started.notes[-1]
    losses, tight_losses = ([e.losses for e in es if isinstance(e, Progress)] for es in (events, tight_events))
    for one, other in zip(losses, tight_losses, strict=True):
        assert one == pytest.approx(other, rel=1e-3)
    assert isinstance(tight_events[-1], Finished)


def test_a_run_that_meets_the_limit_of_its_memory_tells_and_goes_on(config, monkeypatch):
    step, failed = CycleGAN._learn_to_make, []

    def short_of_memory(self, *args):
        if self.footprint.at_once > 1:
            failed.append(self.footprint.at_once)
            raise RuntimeError("out of memory")
        return step(self, *args)

    monkeypatch.setattr(CycleGAN, "_learn_to_make", short_of_memory)
    events = list(train(replace(config, batch=4)))
    assert failed == [4, 2]
    assert [e.step for e in events if isinstance(e, Noted)] == [1]
    assert isinstance(events[-1], Finished) and events[-1].step == config.steps
