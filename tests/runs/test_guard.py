"""A run folder is always resumable or startable, says what is wrong with it, and holds no ruined model."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from napari_t1t2.atomic import naming
from napari_t1t2.errors import Refusal
from napari_t1t2.events import Finished
from napari_t1t2.model.cyclegan import CycleGAN
from napari_t1t2.model.saved import describe_anew, load_model
from napari_t1t2.runs import guard
from napari_t1t2.runs.folder import load_config
from napari_t1t2.runs.training import train


def sitting(config, *, until: int, resume: bool = False) -> list:
    asked = count(1)
    return list(train(config, stop=lambda: next(asked) > until, resume=resume))


# Divergence


def test_losses_beyond_all_bounds_end_the_run_and_are_named(config):
    with pytest.raises(Refusal, match=r"diverged before step \d+ \(the \w+ loss is .*\): .*Lower the learning_rate"):
        list(train(replace(config, steps=40, learning_rate=10.0, report_every=2, save_every=100)))
    assert not (config.run_folder / "model.safetensors").exists()


def test_a_generator_that_draws_one_grey_ends_the_run_and_the_last_good_model_is_kept(config, monkeypatch):
    monkeypatch.setattr(guard, "SETTLED", 0)
    sitting(config, until=2)
    before = (config.run_folder / "model.safetensors").read_bytes()
    real = CycleGAN.step

    def ruin(gan, *args):
        losses = real(gan, *args)
        weights = list(gan.t1_to_t2.parameters())
        at = next(i for i, w in enumerate(weights) if w is gan.t1_to_t2.head[-1].bias)
        for bias in (gan.means[at], weights[at].detach()):
            bias.fill_(-50)
        return losses

    monkeypatch.setattr(CycleGAN, "step", ruin)
    with pytest.raises(Refusal, match=r"every pixel of the synthetic T\d is the same\): the model of step 2 is kept"):
        list(train(config, resume=True))
    assert (config.run_folder / "model.safetensors").read_bytes() == before


# Interrupts


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself Ctrl-C there")
def test_an_interrupt_within_a_step_waits_for_its_end(config, monkeypatch):
    whole, parts = replace(config, report_every=1), replace(config, report_every=1)
    whole = replace(whole, run_folder=config.run_folder.with_name("whole"))
    sitting(whole, until=2)
    real, steps = CycleGAN._descend, count(1)

    def pressed(gan, adam, losses):
        if next(steps) == 3:  # in the middle of the second step
            os.kill(os.getpid(), signal.SIGINT)
        real(gan, adam, losses)

    monkeypatch.setattr(CycleGAN, "_descend", pressed)
    with pytest.raises(KeyboardInterrupt):
        list(train(parts))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    kept = [torch.load(c.run_folder / "checkpoint.pt", weights_only=True) for c in (whole, parts)]
    assert kept[0]["step"] == kept[1]["step"] == 2
    for name in ("networks", "means", "pool_t1"):
        torch.testing.assert_close(kept[0][name], kept[1][name], rtol=0, atol=0)


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself Ctrl-C there")
def test_an_interrupt_while_the_program_is_imported_prints_no_traceback():
    code = (
        "import os, signal, sys\n"
        "class Press:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'napari_t1t2.commands.check': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Press())\n"
        "import napari_t1t2.__main__\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


# What a kill or a hand leaves


@pytest.mark.parametrize("left", ["no model", "the model before"])
def test_a_run_killed_between_its_last_two_files_is_given_its_model(config, left):
    whole = replace(config, run_folder=config.run_folder.with_name("whole"))
    for one in (whole, config):
        list(train(one))
    model = config.run_folder / "model.safetensors"
    model.unlink()
    if left == "the model before":
        sitting(replace(config, run_folder=config.run_folder.with_name("other")), until=2)
        shutil.copy(config.run_folder.with_name("other") / model.name, model)
    assert list(train(config, resume=True))[-1] == Finished(4, model, "completed")
    torch.testing.assert_close(load_file(model), load_file(whole.run_folder / model.name), rtol=0, atol=0)
    assert load_model(model).about.step == 4
    with pytest.raises(Refusal, match="This training is finished"):
        list(train(config, resume=True))


def test_a_model_without_its_checkpoint_is_told_the_same_both_ways(config):
    sitting(config, until=2)
    (config.run_folder / "checkpoint.pt").unlink()
    for resume in (False, True):
        with pytest.raises(Refusal, match=r"holds a trained model without its checkpoint\.pt.* take a new run folder"):
            next(train(config, resume=resume))


def test_a_checkpoint_without_its_config_is_told_the_way_out(config):
    sitting(config, until=2)
    (config.run_folder / "config.json").unlink()
    with pytest.raises(Refusal, match=r"without its config\.json.* take a new run folder"):
        next(train(config, resume=True))


@pytest.mark.parametrize("content", [b"step,\xff\xfe\n", b'step\n"' + b"x" * 200_000])
def test_damaged_losses_are_named(config, content):
    sitting(config, until=2)
    (config.run_folder / "losses.csv").write_bytes(content)
    with pytest.raises(Refusal, match=r"losses\.csv cannot be read .*: move it out of the run, then try again"):
        list(train(config, resume=True))


@pytest.mark.parametrize("content", [b"\n1\n2\n", b"\n\n", b""])
def test_losses_without_a_header_do_not_end_a_run(config, content):
    sitting(config, until=2)
    (config.run_folder / "losses.csv").write_bytes(content)
    list(train(config, resume=True))


def test_the_row_that_a_kill_has_cut_is_no_row_of_an_earlier_step(config):
    sitting(config, until=2)
    with (config.run_folder / "losses.csv").open("a") as file:
        file.write("1")  # of 12,12,...
    list(train(config, resume=True))
    lines = (config.run_folder / "losses.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "2", "4"]


@pytest.mark.parametrize("content", [b"\xff", b"[" * 100_000, b'{"model": {}, "steps": 1e999}', b'{"run_folder": "."}'])
def test_a_damaged_config_is_named(config, content):
    sitting(config, until=2)
    (config.run_folder / "config.json").write_bytes(content)
    with pytest.raises(Refusal, match=r"config\.json cannot be read"):
        load_config(config.run_folder)


def test_a_checkpoint_that_unpacks_to_more_than_its_size_is_refused(config):
    sitting(config, until=2)
    path = config.run_folder / "checkpoint.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(path.with_name("new"), "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            new.writestr(part.filename, bytes(10**7) if "/data/" in part.filename else old.read(part))
    path.with_name("new").replace(path)
    with pytest.raises(Refusal, match=r"checkpoint\.pt is no checkpoint of this run, or is damaged"):
        next(train(config, resume=True))


def test_a_run_moves_with_the_images_beside_it_and_names_no_folder_above(config, tmp_path):
    sitting(config, until=2)
    kept = torch.load(config.run_folder / "checkpoint.pt", weights_only=True)
    assert str(tmp_path) not in (config.run_folder / "config.json").read_text() + json.dumps(kept["config"])
    home = tmp_path / "elsewhere"
    home.mkdir()
    for path in (config.t1_folder, config.t2_folder, config.run_folder):
        shutil.move(path, home / path.name)
    moved = load_config(home / config.run_folder.name)
    assert (moved.t1_folder, moved.run_folder) == (home / "T1", home / config.run_folder.name)
    assert list(train(moved, resume=True))[-1].step == 4


def test_notes_that_are_a_link_are_replaced_and_their_target_kept(config, tmp_path):
    (precious := tmp_path / "precious.txt").write_text("mine\n")
    config.run_folder.mkdir()
    (config.run_folder / "notes.txt").symlink_to(precious)
    list(train(config))
    assert precious.read_text() == "mine\n"
    assert (config.run_folder / "notes.txt").read_text().startswith("mine\n")


# Disks


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", ["losses.csv", "step-000004", "notes", "config", "model", "data"])
def test_a_write_that_fails_is_a_sentence_with_the_path(config, monkeypatch, name, number):
    real = Path.open

    def fails(path, mode="r", *args, **options):
        if name in path.name and mode[0] in "wa" and "+" not in mode:
            raise OSError(number, os.strerror(number))
        return real(path, mode, *args, **options)

    def saves(picture, path, **_):
        raise OSError(number, os.strerror(number))

    if name.startswith("step"):
        monkeypatch.setattr("PIL.Image.Image.save", saves)
    monkeypatch.setattr(Path, "open", fails)
    words = "the disk is full: free some space" if number == errno.ENOSPC else r"cannot be written \(Input/output error"
    with pytest.raises(Refusal, match=rf"{config.run_folder.name}.*{words}.*is kept"):
        list(train(config))
    monkeypatch.undo()
    assert not list(config.run_folder.rglob("*partial*"))
    assert list(train(config, resume=(config.run_folder / "checkpoint.pt").exists()))[-1].step == 4
    assert load_model(config.run_folder).about.step == 4


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, r"cannot be written \(Input/output error\)")]
)
def test_an_error_of_the_disk_that_a_library_has_wrapped_is_told_in_the_same_words(number, said, tmp_path):
    with pytest.raises(Refusal, match=rf"^{re.escape(str(tmp_path))}/a\.dcm:? {said}"), naming(tmp_path / "a.dcm"):
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise OSError("With tag (7FE0,0010) got exception: ...\nTraceback ...") from error


def test_a_model_described_anew_leaves_no_lock_beside_it(config, tmp_path):
    list(train(config))
    shutil.copy(config.run_folder / "model.safetensors", tmp_path / "shared.safetensors")
    model = load_model(tmp_path / "shared.safetensors")
    describe_anew(model, model.about)
    assert not (tmp_path / ".lock").exists()
    describe_anew(load_model(config.run_folder), load_model(config.run_folder).about)
    assert (config.run_folder / ".lock").exists()


def test_the_running_mean_of_the_generators_is_counted_before_training(config, monkeypatch):
    rooms = []
    monkeypatch.setattr("napari_t1t2.model.memory.Footprint.fit", lambda self, batch, needed, room: rooms.append(room))
    monkeypatch.setattr("napari_t1t2.model.cyclegan.free_memory", lambda *_: 2**30)
    gan = CycleGAN(config)
    x = torch.zeros(1, 1, 32, 32)
    gan.fit(x, x)
    gan.means = [w.clone() for w in gan._generator_weights()]
    gan.fit(x, x)
    assert rooms[1] - rooms[0] == 4 * sum(w.numel() for w in gan.means)
