import csv
import json
import shutil
import threading
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from napari_t1t2.config import ModelConfig
from napari_t1t2.errors import Refusal
from napari_t1t2.events import Finished, Preview, Progress, Saved, Started
from napari_t1t2.model import start
from napari_t1t2.model.about import SAMPLE, read_about
from napari_t1t2.model.card import card_of
from napari_t1t2.model.cyclegan import CycleGAN
from napari_t1t2.model.saved import load_model
from napari_t1t2.runs import learned, training
from napari_t1t2.runs.folder import claimed, load_config, save_config
from napari_t1t2.runs.listing import read_run
from napari_t1t2.runs.training import train


def model_of(run) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def of(kind: type, events: list) -> list:
    return [event for event in events if isinstance(event, kind)]


def after(steps: int):
    """A `stop` that lets so many steps pass."""
    asked = count()
    return lambda: next(asked) >= steps


def replace_images(folder, images: list[np.ndarray]) -> None:
    for path in folder.iterdir():
        path.unlink()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}.png")


# What a run says and leaves behind


def test_the_events_come_in_order(config):
    events = list(train(config))
    kinds = [type(e).__name__ for e in events]
    assert kinds == ["Started", "Preview", "Progress", "Progress", "Preview", "Saved", "Finished"]
    assert [e.step for e in events] == [0, 0, 2, 4, 4, 4, 4]
    assert events[-1] == Finished(4, config.run_folder / "model.safetensors", "completed")


def test_the_start_says_what_is_trained_on_and_where(config):
    started = next(train(config))
    assert (started.slices, started.shape) == ((7, 7), (32, 32))
    assert started.device.startswith("cpu")


def test_progress_counts_images_and_the_budget(config):
    reports = of(Progress, list(train(replace(config, batch=3))))
    assert [p.images for p in reports] == [6, 12]
    assert [p.fraction for p in reports] == [0.5, 1]
    assert reports[0].seconds_left == pytest.approx(reports[0].seconds)
    assert reports[1].seconds_left == 0
    assert reports[0].losses.keys() == {"adversarial", "cycle", "structure", "identity", "discriminators"}


def test_a_preview_shows_one_held_out_slice_each_way_and_back(config):
    first, last = of(Preview, list(train(config)))
    for name in ("t1", "fake_t2", "back_t1", "t2", "fake_t1", "back_t2"):
        image = getattr(last, name)
        assert image.shape == (44, 36)
        assert -1 <= image.min() < image.max() <= 1
    assert np.array_equal(first.t1, last.t1)
    assert not np.array_equal(first.fake_t2, last.fake_t2)


def test_the_run_folder_holds_all_that_a_run_leaves(config):
    list(train(config))
    names = {path.name for path in config.run_folder.iterdir()}
    assert names == {
        "model.safetensors",
        "checkpoint.pt",
        "config.json",
        "losses.csv",
        "previews",
        "notes.txt",
        "data.json",
        ".lock",
    }
    assert [p.name for p in sorted((config.run_folder / "previews").iterdir())] == [
        "step-000000.png",
        "step-000004.png",
    ]
    assert load_config(config.run_folder) == replace(config, start="")  # what auto came to


def test_the_loss_table_has_one_row_a_report(config):
    reports = of(Progress, list(train(config)))
    with (config.run_folder / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [2, 4]
    assert [float(row["cycle"]) for row in rows] == pytest.approx([p.losses["cycle"] for p in reports], rel=1e-5)


def test_a_report_is_the_mean_of_its_steps(config, tmp_path):
    each = of(Progress, list(train(replace(config, report_every=1))))
    pairs = of(Progress, list(train(replace(config, run_folder=tmp_path / "other"))))
    for name, value in pairs[0].losses.items():
        assert value == pytest.approx((each[0].losses[name] + each[1].losses[name]) / 2, rel=1e-5)


def test_the_model_file_knows_its_step_contrasts_and_units(config):
    list(train(replace(config, model=replace(config.model, t1_label="FLAIR"))))
    about = read_about(config.run_folder)
    assert (about.step, about.config.label("t1")) == (4, "FLAIR")
    assert about.ranges["t1"].dtype == "uint8"
    assert about.ranges["t1"].low == 0
    assert 150 < about.ranges["t1"].high < 255


# What decides the weights


def test_the_same_seed_gives_the_same_weights(config, tmp_path):
    for name in ("one", "two"):
        list(train(replace(config, run_folder=tmp_path / name)))
    torch.testing.assert_close(model_of(tmp_path / "one"), model_of(tmp_path / "two"), rtol=0, atol=0)


def test_another_seed_gives_other_weights(config, tmp_path):
    for seed in (0, 1):
        list(train(replace(config, seed=seed, run_folder=tmp_path / str(seed))))
    one, two = model_of(tmp_path / "0"), model_of(tmp_path / "1")
    assert not any(torch.equal(one[key], two[key]) for key in one if key.endswith("weight"))


def test_reports_previews_and_checkpoints_do_not_change_the_weights(config, tmp_path):
    list(train(config))
    often = replace(config, run_folder=tmp_path / "often", report_every=1, preview_every=1, save_every=1)
    list(train(often))
    torch.testing.assert_close(model_of(config.run_folder), model_of(often.run_folder), rtol=0, atol=0)


def test_training_lowers_the_cycle_loss(config):
    plain = replace(config, cycle_warmup=0, model=replace(config.model, tone_curve=False))
    reports = of(Progress, list(train(replace(plain, steps=40, report_every=5, learning_rate=5e-3))))
    assert reports[-1].losses["cycle"] < 0.7 * reports[0].losses["cycle"]


def test_the_learning_rate_falls_linearly_to_zero_in_the_second_half(config, monkeypatch):
    rates = []
    monkeypatch.setattr(CycleGAN, "set_learning_rate", lambda self, rate: rates.append(rate))
    list(train(replace(config, steps=8, learning_rate=1e-3)))
    assert rates == pytest.approx(np.array([1, 1, 1, 1, 1, 0.75, 0.5, 0.25]) / 1000)


@pytest.mark.parametrize(
    "setting",
    [
        {"batch": 20},
        {"adversarial": "bce"},
        {"pool": 0},
        {"identity_weight": 0.0},
        {"flip": False},
        {"crop": 0},
        {"crop": 64},
        {"decay_from": 0.0},
        {"decay_from": 1.0},
        {"hold_out": 7},
        {"model": ModelConfig(channels=4, levels=5, size=32, upsample="transposed")},
    ],
    ids=str,
)
def test_every_setting_trains_to_a_finite_model(config, setting):
    events = list(train(replace(config, steps=2, **setting)))
    assert events[-1].reason == "completed"
    assert all(torch.isfinite(tensor).all() for tensor in model_of(config.run_folder).values())


# How a run ends


def test_a_stopped_run_saves_the_step_it_reached(config):
    events = list(train(replace(config, steps=1000), stop=after(3)))
    assert events[-2:] == [
        Saved(3, config.run_folder / "model.safetensors"),
        Finished(3, config.run_folder / "model.safetensors", "stopped"),
    ]
    assert read_about(config.run_folder).step == 3


def test_a_stop_during_a_step_ends_the_run_after_it(config):
    asked = threading.Event()
    run = train(replace(config, steps=1000, report_every=1), stop=asked.is_set)
    reached = next(e.step for e in run if isinstance(e, Progress))
    asked.set()
    assert of(Finished, list(run))[0].step == reached


def test_a_run_stopped_before_its_first_step_keeps_the_untrained_model(config):
    assert list(train(config, stop=lambda: True))[-1].step == 0
    assert read_about(config.run_folder).step == 0


def test_minutes_end_a_run(config):
    reports = of(Progress, events := list(train(replace(config, steps=0, minutes=0.3 / 60, report_every=1))))
    assert events[-1].reason == "completed"
    assert [p.seconds >= 0.3 for p in reports] == [False] * (len(reports) - 1) + [True]


def test_progress_never_passes_the_end_of_a_time_budget(config):
    reports = of(Progress, list(train(replace(config, steps=0, minutes=1e-9, report_every=1))))
    assert [p.fraction for p in reports] == [1]
    assert [p.seconds_left for p in reports] == [0]


def test_the_budget_that_is_used_up_first_ends_the_run(config):
    assert list(train(replace(config, steps=3, minutes=60)))[-1].step == 3


@pytest.mark.parametrize(
    "intervals", [{"report_every": 1}, {"report_every": 50, "save_every": 1}, {"report_every": 50}]
)
def test_a_diverged_run_says_so_and_saves_no_nan(config, intervals):
    with pytest.raises(ValueError, match=r"diverged.*Lower the learning_rate"):
        list(train(replace(config, steps=20, learning_rate=1e30, **intervals)))
    saved = config.run_folder / "model.safetensors"
    assert not saved.exists() or all(torch.isfinite(t).all() for t in load_file(saved).values())


# What cannot be trained on


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_without_a_folder_is_refused(config, resume):
    with pytest.raises(ValueError, match=r"No run folder was given: choose where the model goes\."):
        next(train(replace(config, run_folder=Path()), resume=resume))


def test_a_taken_run_folder_is_refused_and_not_touched(config):
    list(train(config))
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in config.run_folder.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="already holds a trained model: resume it, or give another run folder"):
        next(train(config))
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in config.run_folder.rglob("*") if p.is_file()} == before


def test_a_file_in_place_of_the_run_folder_is_refused(config):
    config.run_folder.write_text("mine")
    with pytest.raises(ValueError, match="is a file: give a folder"):
        next(train(config))
    assert config.run_folder.read_text() == "mine"


def test_one_folder_for_both_contrasts_is_refused(config):
    again = config.t1_folder / ".." / config.t1_folder.name
    with pytest.raises(ValueError, match=r"8 images are in both contrasts, .* name the T1 and the T2 series"):
        next(train(replace(config, t2_folder=again)))


def test_a_refused_run_leaves_no_folder(config):
    with pytest.raises(ValueError, match="nowhere does not exist"):
        next(train(replace(config, t2_folder=config.t2_folder / "nowhere")))
    assert not config.run_folder.exists()


def test_an_empty_folder_is_refused(config, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"none holds no images: it is empty\. Give"):
        next(train(replace(config, t1_folder=tmp_path / "none")))


def test_a_folder_of_one_image_is_refused(config, head):
    replace_images(config.t2_folder, [head(0, "T2")])
    with pytest.raises(ValueError, match=r"T2 has 1 usable slice, .* at least 2"):
        next(train(config))


def test_mixed_sizes_are_refused_by_name_at_their_own_size(config, head):
    Image.fromarray(head(1, "T1", (50, 40))).save(config.t1_folder / "other.png")
    with pytest.raises(ValueError, match=r"most slices are 44x36, but other\.png is 50x40\. Set size"):
        next(train(config))


def test_mixed_sizes_are_fitted_into_a_square_and_that_is_said(config, head):
    Image.fromarray(head(1, "T1", (50, 40))).save(config.t1_folder / "other.png")
    started = next(train(replace(config, model=replace(config.model, size=32))))
    assert started.slices == (8, 7)
    assert "T1: slices of 2 sizes were fitted into 32x32 without stretching" in started.notes


def test_a_constant_image_is_skipped_by_name(config):
    Image.fromarray(np.full((44, 36), 9, np.uint8)).save(config.t1_folder / "flat.png")
    started = next(train(config))
    assert started.slices == (7, 7)
    assert "T1: skipped flat.png: every pixel is 9; there is no image in it; leave it out." in started.notes


@pytest.mark.parametrize("crop", [0, 32])
@pytest.mark.parametrize("shape", [(60, 48), (28, 28)])
def test_the_contrasts_may_differ_in_size(config, head, shape, crop):
    replace_images(config.t2_folder, [head(i, "T2", shape) for i in range(4)])
    assert list(train(replace(config, crop=crop, steps=1)))[-1].step == 1


@pytest.mark.parametrize("side", [16, 20])
def test_slices_too_small_for_the_discriminators_are_refused_with_a_remedy(config, side):
    with pytest.raises(ValueError, match=r"(crop|slice).* 24"):
        list(train(replace(config, crop=side)))


def test_a_device_that_is_not_there_is_refused(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device is cuda, but PyTorch finds none here: take auto or cpu"):
        next(train(replace(config, device="cuda")))


def test_the_start_names_the_device_that_auto_took(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    started = next(train(replace(config, device="auto")))
    assert isinstance(started, Started)
    assert started.device == "cpu (1 thread)"


def test_a_run_folder_in_which_another_process_trains_is_refused(config):
    with claimed(config.run_folder), pytest.raises(ValueError, match="being trained in right now"):
        next(train(config))
    assert isinstance(list(train(config))[-1], Finished)


def test_what_killed_runs_left_half_written_is_removed(config):
    config.run_folder.mkdir()
    left = config.run_folder / ".checkpoint.0123abcd.partial.pt"
    left.write_bytes(b"half")
    list(train(config))
    assert not left.exists()


def test_a_refused_run_leaves_no_folder_behind(config):
    shutil.rmtree(config.t1_folder)
    with pytest.raises(Refusal, match="does not exist"):
        list(train(config))
    assert not config.run_folder.exists()


def test_who_removes_the_run_folder_gets_it_again(config):
    for event in train(replace(config, report_every=100)):
        if isinstance(event, Started):
            shutil.rmtree(config.run_folder)
    assert load_model(config.run_folder).about.step == 4


def test_a_link_in_place_of_the_losses_is_replaced_and_its_target_kept(config, tmp_path):
    (precious := tmp_path / "precious.csv").write_text("mine")
    config.run_folder.mkdir()
    save_config(config.run_folder / "config.json", config)
    (config.run_folder / "losses.csv").symlink_to(precious)
    list(train(config))
    assert precious.read_text() == "mine"


@pytest.mark.parametrize(
    "said", ["[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0", "basic_ios::clear: iostream error"]
)
def test_a_full_disk_is_a_sentence_and_the_last_checkpoint_is_kept(config, monkeypatch, said):
    list(train(config))
    before = (config.run_folder / "checkpoint.pt").read_bytes()

    def full(state, path):
        path.write_bytes(b"as much as fits")
        raise RuntimeError(said)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(Refusal, match=r"checkpoint\.pt: the disk is full: free some space"):
        list(train(replace(config, steps=6), resume=True))
    assert (config.run_folder / "checkpoint.pt").read_bytes() == before
    assert not list(config.run_folder.glob(".*partial*"))


def test_the_notes_of_each_sitting_are_kept_in_the_run_folder(config):
    config = replace(config, pairs="auto")
    (started,) = of(Started, list(train(config)))
    list(train(replace(config, steps=6), resume=True))
    lines = (config.run_folder / "notes.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split("from ")[1] for line in lines if "napari-t1t2" in line] == [
        "step 0 on cpu (1 thread)",
        "step 4 on cpu (1 thread)",
    ]
    assert started.notes and [f"- {note}" for note in started.notes] == lines[1 : 1 + len(started.notes)]


def test_the_run_folder_says_what_became_of_each_file(config):
    odd = config.t1_folder / "broken.png"
    odd.write_bytes(b"no picture")
    list(train(replace(config, hold_out=1)))
    (sitting,) = json.loads((config.run_folder / "data.json").read_text(encoding="utf-8"))["sittings"]
    t1 = sitting["T1"]
    assert sitting["from step"] == 0 and t1["folder"] == "../T1"  # they lie beside the run and may move with it
    used = {file.pop("file"): file for file in t1["files"]}
    assert "cannot be decoded" in used.pop("broken.png")["left out"]
    assert sorted(used) == sorted(path.name for path in config.t1_folder.glob("Image*"))
    assert sum("trained on" in file for file in used.values()) == len(used) - 1
    assert sum("held out" in file for file in used.values()) == 1


def test_what_a_run_is_trained_on_is_told_again_only_where_it_changes(config):
    def sittings():
        return json.loads((config.run_folder / "data.json").read_text(encoding="utf-8"))["sittings"]

    list(train(config))
    list(train(replace(config, steps=6), resume=True))
    assert len(sittings()) == 1
    next(config.t2_folder.iterdir()).unlink()
    list(train(replace(config, steps=8), resume=True))
    assert [sitting["from step"] for sitting in sittings()] == [0, 6]


def test_time_spent_in_stop_is_not_training_time(config, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def paused():
        now[0] += 100.0
        return False

    reports = of(Progress, list(train(config, stop=paused)))
    assert [report.seconds for report in reports] == [0.0, 0.0]


def test_a_run_that_starts_from_a_model_has_its_networks_and_begins_better(trained, tmp_path, config):
    started = replace(config, start=str(trained), run_folder=tmp_path / "warm", model=replace(config.model, channels=8))
    assert [e for e in train(replace(started, steps=1)) if isinstance(e, Finished)]
    old, new = load_model(trained), load_model(tmp_path / "warm")
    assert new.config.channels == old.config.channels != 8
    weights = [m.generators["t2"].state_dict() for m in (old, new)]
    apart = max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])
    assert apart < 0.01  # one step of Adam away
    assert read_about(tmp_path / "warm").card["began"] == "run"


@pytest.fixture
def like_the_sample(config, monkeypatch):
    """A config that may begin from the general model, whose heads that is said to know."""
    monkeypatch.setattr(start, "knows", lambda *_, falling: True)
    return replace(config, model=replace(ModelConfig(), size=config.model.size), steps=1)


def test_auto_begins_from_the_general_model_where_it_knows_the_heads(like_the_sample):
    begun = of(Started, list(train(like_the_sample)))[0]
    assert learned.FROM_SAMPLE in begun.notes
    stored, about = load_config(like_the_sample.run_folder), read_about(like_the_sample.run_folder)
    general = read_about(Path("sample"))
    assert (stored.start, stored.model.channels) == ("sample", general.config.channels)
    assert [r.headroom for r in about.ranges.values()] == [r.headroom for r in general.ranges.values()]
    assert general.seen < about.seen  # what that was trained on is not unseen now
    assert card_of(about).summary().endswith(", begun from the general model")
    assert "hardly" not in read_run(like_the_sample.run_folder).summary()  # though it is one step
    ours, its = (load_model(path).generators["t2"].state_dict() for path in (like_the_sample.run_folder, SAMPLE))
    assert max(float((ours[name] - its[name]).abs().max()) for name in its) < 1e-3


def test_a_run_begun_by_auto_goes_on_by_auto(like_the_sample):
    list(train(like_the_sample))
    assert of(Finished, list(train(replace(like_the_sample, steps=2), resume=True)))[0].step == 2
    assert load_config(like_the_sample.run_folder).start == "sample"


def test_auto_is_random_weights_where_the_general_model_does_not_know_the_heads(like_the_sample, monkeypatch):
    monkeypatch.setattr(start, "knows", lambda *_, falling: False)
    begun = of(Started, list(train(like_the_sample)))[0]
    assert learned.FROM_SAMPLE not in begun.notes
    stored = load_config(like_the_sample.run_folder)
    assert (stored.start, stored.model.channels) == ("", ModelConfig().channels)
    with pytest.raises(Refusal, match="channels was 32"):
        list(train(replace(like_the_sample, steps=2, model=replace(stored.model, channels=16)), resume=True))


GATE = Path(__file__).parents[1] / "data/golden/gate"


@pytest.mark.parametrize("how", ["auto", "sample"])
def test_a_folder_called_sample_where_training_is_started_is_not_the_general_model(
    like_the_sample, tmp_path, monkeypatch, how
):
    shutil.copytree(GATE, tmp_path / "here" / "sample")
    monkeypatch.chdir(tmp_path / "here")
    list(train(replace(like_the_sample, start=how)))
    about = read_about(like_the_sample.run_folder)
    assert about.config.levels == read_about(SAMPLE).config.levels != read_about(GATE).config.levels
    assert card_of(about).began == "the general model"
    own = replace(like_the_sample, start="./sample", run_folder=tmp_path / "own")  # which is how to name the folder
    list(train(own))
    assert read_about(own.run_folder).config.levels == read_about(GATE).config.levels
    assert card_of(read_about(own.run_folder)).began == "sample"


def test_a_card_keeps_data_licence_and_citation_of_what_was_begun_from(like_the_sample, tmp_path):
    list(train(like_the_sample))
    list(train(replace(like_the_sample, steps=2), resume=True))
    said = dict(card_of(read_about(like_the_sample.run_folder)).rows())
    assert said["Began from"].startswith("the general model, trained on: ") and "CC-BY" in said["Began from"]
    assert "Neuroinformatics" in said["Began from"] and said["Trained on"].startswith("not described")
    then = replace(like_the_sample, start=str(like_the_sample.run_folder), run_folder=tmp_path / "then")
    list(train(then))
    said = dict(card_of(read_about(then.run_folder)).rows())["Began from"]
    assert said.startswith("run, trained on: begun from the general model, trained on: ") and "CC-BY" in said


def test_what_was_begun_from_a_hardly_trained_model_is_hardly_trained(trained, tmp_path, config):
    list(train(replace(config, start=str(trained), run_folder=tmp_path / "more")))
    assert card_of(read_about(tmp_path / "more")).summary().startswith("Hardly trained")
    assert "hardly" in read_run(tmp_path / "more").summary()


def test_a_model_of_other_contrasts_to_begin_from_is_named_and_one_of_swapped_contrasts_refused(config, trained):
    flair = replace(config, start=str(trained), model=replace(config.model, t2_label="FLAIR"))
    begun = of(Started, list(train(flair)))[0]
    assert "training begins from a model of T1 and T2, not of T1 and FLAIR" in begun.notes
    swapped = replace(config, start=str(trained), model=replace(config.model, t1_label="T2", t2_label="T1"))
    with pytest.raises(Refusal, match="was trained with T1 as the first contrast and T2 as the second"):
        list(train(swapped))


def test_prepared_slices_on_disk_stay_what_they_were_when_training_begins_from_a_model(
    like_the_sample, tmp_path, monkeypatch
):
    monkeypatch.setattr("napari_t1t2.data.reading.MEMORY", 1000)
    for name in ("before", "auto", "after"):
        list(train(replace(like_the_sample, start="auto" * (name == "auto"), run_folder=tmp_path / name)))
    before, after = (read_about(tmp_path / name) for name in ("before", "after"))
    assert before.ranges == after.ranges != read_about(tmp_path / "auto").ranges
    assert all((model_of(tmp_path / "before")[n] == w).all() for n, w in model_of(tmp_path / "after").items())


def test_a_run_begun_from_a_model_that_has_vanished_goes_on_to_the_same_weights(like_the_sample, tmp_path):
    old = shutil.copytree(GATE, tmp_path / "old")
    whole, cut = (replace(like_the_sample, start=str(old), steps=3, run_folder=tmp_path / n) for n in ("whole", "cut"))
    list(train(whole))
    list(train(cut, stop=after(1)))
    shutil.rmtree(old)
    list(train(cut, resume=True))
    assert all((model_of(whole.run_folder)[n] == w).all() for n, w in model_of(cut.run_folder).items())
