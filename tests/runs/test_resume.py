import csv
import pickle
import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from napari_t1t2.events import Finished, Preview, Progress, Saved, Started
from napari_t1t2.model.about import read_about
from napari_t1t2.model.cyclegan import CycleGAN
from napari_t1t2.model.saved import load_model
from napari_t1t2.runs import training
from napari_t1t2.runs.training import train


@pytest.fixture
def config(config, tmp_path):
    return replace(config, steps=7, report_every=2, save_every=2, preview_every=7, run_folder=tmp_path / "whole")


def sitting(config, *, until: int, resume: bool = False) -> list:
    """Train up to a step, then stop as the button does."""
    asked = count(1)
    started = train(config, stop=lambda: next(asked) > until, resume=resume)
    return list(started)


def state(run: Path) -> dict:
    """Everything in the checkpoint that decides how the run goes on."""
    kept = torch.load(run / "checkpoint.pt", weights_only=True)
    names = ("networks", "pool_t1", "pool_t2")
    adams = {name: kept[name]["state"] for name in ("generator_adam", "discriminator_adam")}
    return {name: kept[name] for name in names} | adams | {"step": kept["step"]}


def losses(run: Path) -> list[dict[str, str]]:
    with (run / "losses.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_equal_runs(one: Path, two: Path) -> None:
    exactly = {"rtol": 0, "atol": 0}
    torch.testing.assert_close(load_file(one / "model.safetensors"), load_file(two / "model.safetensors"), **exactly)
    torch.testing.assert_close(state(one), state(two), **exactly)
    assert losses(one) == losses(two)


@pytest.mark.parametrize("at", [[4], [2, 4]], ids=str)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(config, tmp_path, at):
    parts = replace(config, run_folder=tmp_path / "parts")
    list(train(config))
    reached = 0
    for step in at:
        sitting(parts, until=step - reached, resume=reached > 0)
        reached = step
    list(train(parts, resume=True))
    assert_equal_runs(config.run_folder, parts.run_folder)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_run_stopped_between_two_reports_resumes_bit_for_bit(config, tmp_path, at):
    parts = replace(config, run_folder=tmp_path / "parts")
    list(train(config))
    sitting(parts, until=at)
    list(train(parts, resume=True))
    assert_equal_runs(config.run_folder, parts.run_folder)


def test_a_killed_run_resumes_from_its_last_checkpoint_bit_for_bit(config, tmp_path):
    config = replace(config, report_every=1)
    parts = replace(config, run_folder=tmp_path / "parts")
    list(train(config))
    killed = train(parts)
    assert any(event.step == 5 for event in killed if isinstance(event, Progress))
    left = replace(parts, run_folder=tmp_path / "left")  # a process that is killed writes nothing more
    shutil.copytree(parts.run_folder, left.run_folder)
    killed.close()
    assert state(left.run_folder)["step"] == 4
    list(train(left, resume=True))
    assert_equal_runs(config.run_folder, left.run_folder)


@pytest.mark.parametrize("way", ["break", "interrupt"])
def test_who_leaves_the_loop_loses_nothing(config, tmp_path, way, monkeypatch):
    config = replace(config, report_every=1, save_every=500)
    parts = replace(config, run_folder=tmp_path / "parts")
    list(train(config))
    if way == "break":
        for event in train(parts):
            if isinstance(event, Progress) and event.step == 3:
                break
    else:

        def interrupted(*_):
            raise KeyboardInterrupt

        run = train(parts)
        assert any(event.step == 3 for event in run if isinstance(event, Progress))
        monkeypatch.setattr(CycleGAN, "set_learning_rate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(run)
        monkeypatch.undo()
    assert state(parts.run_folder)["step"] == load_model(parts.run_folder).about.step == 3
    list(train(parts, resume=True))
    assert_equal_runs(config.run_folder, parts.run_folder)


def test_a_run_is_saved_after_minutes_as_well_as_steps(config, monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    events = list(train(replace(config, save_every=500)))
    assert [e.step for e in events if isinstance(e, Saved)] == list(range(1, 8))


@pytest.mark.parametrize("left", ["without its model", "with the model before"])
def test_a_run_killed_between_its_two_files_goes_on(config, tmp_path, left):
    parts = replace(config, run_folder=tmp_path / "parts")
    list(train(config))
    sitting(parts, until=2)
    model = parts.run_folder / "model.safetensors"
    before = model.read_bytes()
    model.unlink()
    if left == "with the model before":
        sitting(replace(parts, run_folder=tmp_path / "other"), until=1)
        model.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    list(train(parts, resume=True))
    assert model.read_bytes() != before
    assert_equal_runs(config.run_folder, parts.run_folder)


def test_a_larger_budget_never_raises_a_weight_again_and_says_what_the_rate_does(config, monkeypatch):
    config = replace(config, steps=40, decay_from=0.5, cycle_warmup=0.9, report_every=100, preview_every=100)
    rates, weights = [], []

    def note(gan, rate):
        rates.append(rate)

    monkeypatch.setattr(CycleGAN, "set_learning_rate", note)
    monkeypatch.setattr(
        CycleGAN, "step", lambda gan, *_: weights.append(gan.cycle_weight) or {"cycle": torch.zeros(())}
    )
    sitting(config, until=24)  # still above half of the rate
    longer = replace(config, steps=80)
    started = next(e for e in sitting(longer, until=30, resume=True) if isinstance(e, Started))
    assert any("the budget is new: the learning rate goes on from" in note for note in started.notes)
    again = next(e for e in train(longer, resume=True) if isinstance(e, Started))
    assert not any("the budget is new" in note for note in again.notes)
    list(train(longer, resume=True))
    assert len(rates) == 80
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.03 * rates[0]
    assert weights == sorted(weights) and weights[-1] == config.cycle_weight
    list(train(replace(config, steps=100), resume=True))  # of a run that is done, the rate begins again at half
    assert rates[80] == pytest.approx(rates[0] / 2)
    assert rates[80:] == sorted(rates[80:], reverse=True)


def test_a_resumed_run_begins_where_it_stopped(config):
    sitting(config, until=3)
    events = list(train(config, resume=True))
    assert isinstance(events[0], Started)
    assert events[0].step == 3
    assert [e.step for e in events if isinstance(e, Preview)] == [7]
    assert events[-1] == Finished(7, config.run_folder / "model.safetensors", "completed")


def test_the_time_of_earlier_sittings_counts(config):
    before = [e for e in sitting(config, until=4) if isinstance(e, Progress)][-1].seconds
    after = next(e for e in train(config, resume=True) if isinstance(e, Progress)).seconds
    assert after > before


def test_a_resumed_run_may_be_given_a_larger_budget(config):
    list(train(config))
    assert list(train(replace(config, steps=9), resume=True))[-1].step == 9
    assert list(train(replace(config, steps=0, minutes=60), stop=lambda: True, resume=True))[-1].step == 9


def test_resuming_a_run_that_is_done_asks_for_a_larger_budget_and_changes_nothing(config):
    list(train(config))
    before = state(config.run_folder)
    with pytest.raises(ValueError, match=r"This training is finished \(7 steps.*give more minutes or steps"):
        list(train(config, resume=True))
    torch.testing.assert_close(state(config.run_folder), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"learning_rate": 0.1}, "learning_rate was 0.0005 .* is 0.1 now"), ({"batch": 2}, "batch was 1 .* is 2 now")],
)
def test_what_would_make_another_run_is_refused(config, change, words):
    sitting(config, until=2)
    before = (config.run_folder / "config.json").read_text()
    with pytest.raises(ValueError, match=f"{words}.*cannot change in a resumed run"):
        next(train(replace(config, **change), resume=True))
    assert (config.run_folder / "config.json").read_text() == before


def test_other_networks_are_refused(config):
    sitting(config, until=2)
    with pytest.raises(ValueError, match=r"(model|channels) was .* cannot change in a resumed run"):
        next(train(replace(config, model=replace(config.model, channels=8)), resume=True))


def test_a_folder_without_a_run_cannot_be_resumed(config):
    with pytest.raises(ValueError, match="no run to resume: train without resume"):
        next(train(config, resume=True))
    assert not config.run_folder.exists()


def test_a_run_without_checkpoint_cannot_be_resumed(config):
    sitting(config, until=2)
    (config.run_folder / "checkpoint.pt").unlink()
    with pytest.raises(ValueError, match=r"without its checkpoint\.pt, so it cannot go on: take a new run folder"):
        next(train(config, resume=True))


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"text", lambda data: b""])
def test_a_damaged_checkpoint_is_refused(config, damage):
    sitting(config, until=2)
    path = config.run_folder / "checkpoint.pt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        ValueError, match=r"checkpoint\.pt is no checkpoint of this run, or is damaged: start a new run"
    ):
        next(train(config, resume=True))


def test_a_checkpoint_of_another_format_is_refused(config):
    sitting(config, until=2)
    torch.save({"format": "99"}, config.run_folder / "checkpoint.pt")
    with pytest.raises(ValueError, match="has format 99, and this version reads format"):
        next(train(config, resume=True))


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_pickle_in_a_checkpoint_is_executed(config, tmp_path):
    sitting(config, until=2)
    torch.save({"format": "1", "networks": Trap(tmp_path / "sprung")}, config.run_folder / "checkpoint.pt")
    with pytest.raises(ValueError, match="is no checkpoint"):
        next(train(config, resume=True))
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()  # the trap works


def test_a_run_resumed_on_other_images_remembers_all_it_has_seen_and_keeps_its_units(config):
    sitting(config, until=3)
    before = read_about(config.run_folder)
    for path in list(config.t1_folder.iterdir())[:4]:
        pixels = np.asarray(Image.open(path))
        path.unlink()
        Image.fromarray(pixels // 2).save(path.with_name(f"new {path.name}"))
    events = list(train(config, resume=True))
    after = read_about(config.run_folder)
    assert after.seen > before.seen
    assert after.ranges == before.ranges
    assert any("are new to this run" in note for note in events[0].notes)


def test_a_colleague_can_read_the_model(config):
    list(train(config))
    modes = {path.name: path.stat().st_mode & 0o777 for path in config.run_folder.iterdir() if path.is_file()}
    assert modes["model.safetensors"] == modes["config.json"]
