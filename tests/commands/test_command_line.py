import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
import torch
from PIL import Image

from napari_t1t2.__main__ import main
from napari_t1t2.commands.translate import targets_for
from napari_t1t2.errors import Refusal
from napari_t1t2.images.volume import Volume
from napari_t1t2.model.about import read_about
from napari_t1t2.model.saved import load_model
from napari_t1t2.runs.folder import load_config
from napari_t1t2.runs.session import clock

TINY = shlex.split(
    "--steps 4 --channels 4 --levels 2 --disc-channels 4 --crop 32 --report-every 2 --device cpu --precision float32"
)
PROGRAM = [sys.executable, "-m", "napari_t1t2"]


@pytest.fixture
def done(capsys):
    """Runs a command that must succeed; gives what it printed."""

    def run(*argv) -> str:
        assert main([str(a) for a in argv]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused; gives the sentence."""

    def run(*argv) -> str:
        assert main([str(a) for a in argv]) == 2
        *notes, line = capsys.readouterr().err.splitlines()
        assert not any(note.startswith("napari-t1t2") for note in notes)
        assert line.startswith("napari-t1t2: ")
        assert line.endswith(".")
        return line.removeprefix("napari-t1t2: ")

    return run


@pytest.fixture
def misused(capsys):
    """Runs a command that the parser must refuse; gives the last line of stderr."""

    def run(*argv) -> str:
        with pytest.raises(SystemExit) as exited:
            main([str(a) for a in argv])
        assert exited.value.code == 2
        *usage, line = capsys.readouterr().err.splitlines()
        assert usage[0].startswith("usage: napari-t1t2")
        assert line.startswith("napari-t1t2")
        return line

    return run


@pytest.fixture
def data(tmp_path, t1_folder, t2_folder):
    return t1_folder, t2_folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# The program


def test_the_module_runs_as_a_program_and_lists_its_commands():
    helped = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, check=True)
    assert helped.stderr == ""
    for word in ("check", "train", "translate", "evaluate", "demo", "Exit codes", "not for diagnosis"):
        assert word in helped.stdout


def test_the_help_of_a_command_explains_every_flag(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    flags = re.findall(r"^  (--[\w-]+)(.*)", capsys.readouterr().out, flags=re.MULTILINE)
    assert {"--preset", "--size", "--batch", "--steps", "--minutes", "--seed", "--device", "--resume"} <= dict(
        flags
    ).keys()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "required: COMMAND"),
        (["dance"], "dance"),
        (["train", "a", "b"], "--run"),
        (["train", "a", "b", "--run", "r", "--batch", "two"], "--batch: invalid int value: 'two'"),
        (["train", "a", "b", "--run", "r", "--device", "tpu"], "--device: invalid choice: 'tpu'"),
        (["train", "a", "b", "--run", "r", "--preset", "huge"], "--preset: invalid choice"),
        (["translate", "a.png", "--to", "T2", "--out", "b.png"], "--model"),
    ],
    ids=str,
)
def test_a_command_that_cannot_be_parsed_is_refused(misused, argv, words):
    assert words in misused(*argv)


def test_an_unforeseen_error_is_a_sentence_too(refused, trained, head, t1_folder, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("napari_t1t2.synthesis.translation.translate_prepared", fail)
    one = t1_folder / "new.png"
    Image.fromarray(head(9, "T1")).save(one)
    assert "memory ran out" in refused("translate", one, "--model", trained, "--to", "T2", "--out", tmp_path / "a.png")


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.7, "1:00"), (245, "4:05"), (3723, "1:02:03")])
def test_a_clock_reads_like_one(seconds, text):
    assert clock(seconds) == text


# check


def test_check_says_what_the_folders_hold_and_what_the_networks_see(done, data):
    out = done("check", *data)
    assert f"{data[0]}: 8 images; slices: 8 of 44x36; uint8; values 0 to" in out
    assert "8 slices for training, 48x48" in out
    assert out.endswith("A model can be trained on these folders.\n")


def test_check_fits_slices_into_a_size(done, data):
    assert "8 slices for training, 64x64" in done("check", *data, "--size", 64)


def test_check_names_what_is_skipped(done, data):
    (data[1] / "notes.txt").write_text("hello")
    assert "T2: skipped notes.txt: not an image" in done("check", *data)


def test_check_names_every_problem(capsys, data, tmp_path):
    shutil.rmtree(data[0])
    for path in data[1].iterdir():
        path.unlink()
    assert main(["check", *map(str, data)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("napari-t1t2: ") for line in lines)
    assert "T1 does not exist" in lines[0]
    assert "T2 holds no images" in lines[1]


def test_check_names_the_bank_of_what_memory_does_not_hold(done, data, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_T1T2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("napari_t1t2.data.reading.MEMORY", 1000)
    out = done("check", *data)
    assert f"are kept in {tmp_path / 'cache' / 'slices'}" in out
    assert out.endswith("A model can be trained on these folders.\n")


def test_slow_reading_shows_how_far_it_is(done, data, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_t1t2.data.sources.EVERY", 0.0)
    assert re.search(r"^reading \d+ of 16 files$", done("check", *data), re.MULTILINE)
    out = done("train", *data, "--run", tmp_path / "run", *TINY)
    assert re.search(r"^reading \d+ of 16 files\n(.*\n)*?Training on cpu", out, re.MULTILINE)


def test_check_refuses_one_folder_twice(refused, data):
    assert "8 images are in both contrasts" in refused("check", data[0], data[0])


def test_check_says_once_that_a_size_cannot_be(refused, data):
    assert "Slice size is 33" in refused("check", *data, "--size", 33)


def test_the_folder_one_stands_in_may_be_given_as_a_dot(done, data, monkeypatch):
    monkeypatch.chdir(data[0])
    assert "can be trained" in done("check", ".", "../T2")


# train


def test_train_prints_its_progress_and_where_the_model_is(done, data, tmp_path):
    out = done("train", *data, "--run", tmp_path / "run", *TINY)
    assert "Training on cpu (1 thread): 7 T1 and 7 T2 slices, 32x32 at a time" in out
    assert re.search(r"step 4 \| (adversarial|paired) \d.* slices/s \| 0:00 left", out)
    assert out.endswith(f"Completed at step 4; the model is {tmp_path / 'run' / 'model.safetensors'}\n")


def test_every_flag_reaches_the_run(done, data, tmp_path):
    flags = shlex.split(
        "--preset notebook --batch 2 --seed 3 --no-flip --size 32 --learning-rate 0.001 --t2-label FLAIR"
    )
    done("train", *data, "--run", tmp_path / "run", *TINY, *flags)
    config = load_config(tmp_path / "run")
    assert (config.batch, config.seed, config.flip, config.learning_rate) == (2, 3, False, 0.001)
    assert (config.model.size, config.model.t2_label, config.adversarial) == (32, "FLAIR", "bce")


def test_a_budget_given_as_a_flag_stands_alone(done, data, tmp_path):
    done("train", *data, "--run", tmp_path / "run", *TINY)
    assert (load_config(tmp_path / "run").steps, load_config(tmp_path / "run").minutes) == (4, 0)


def test_train_resumes_with_the_settings_the_run_began_with(done, data, tmp_path):
    done("train", *data, "--run", tmp_path / "run", *TINY, "--seed", 3)
    out = done("train", *data, "--run", tmp_path / "run", "--resume", "--steps", 6)
    assert "Resuming at step 4 on cpu" in out
    assert "Completed at step 6" in out
    assert load_config(tmp_path / "run").seed == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batch", "0"], "Batch size is 0, but must be at least 1"),
        (["--crop", "33"], "Crop is 33, but must be a multiple of 4"),
        (["--size", "30"], "Slice size is 30"),
        (["--steps", "0"], "Minutes and steps are both 0"),
        (["--minutes", "nan", "--steps", "0"], "Minutes"),
        (["--t1-label", "T2"], "give two names"),
        (["--learning-rate", "1e30", "--report-every", "1", "--steps", "20"], "diverged"),
        (["--resume"], "no run to resume"),
        (["--resume", "--preset", "gpu"], "--preset does not go with --resume"),
    ],
    ids=str,
)
def test_train_refuses_what_cannot_be(refused, data, tmp_path, flags, words):
    assert words in refused("train", *data, "--run", tmp_path / "run", *TINY, *flags)
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_train_refuses_a_taken_run_folder(refused, data, trained):
    before = files(trained)
    assert "already holds a trained model" in refused("train", *data, "--run", trained, *TINY)
    assert files(trained) == before


def test_ctrl_c_saves_and_resume_goes_on_from_there(done, data, tmp_path):
    run = tmp_path / "run"
    command = [*PROGRAM, "train", *map(str, data), "--run", str(run), *TINY, "--steps", "100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert any(line.startswith("step ") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in err
    stopped = int(re.search(r"Stopped at step (\d+); the model is", out)[1])
    assert read_about(run).step == stopped
    out = done("train", *data, "--run", run, "--resume", "--steps", stopped + 2)
    assert f"Resuming at step {stopped}" in out
    assert f"Completed at step {stopped + 2}" in out


@pytest.mark.parametrize("ignored", [False, True], ids=["saves", "under nohup goes on"])
def test_a_lost_connection(data, tmp_path, ignored):
    run = tmp_path / "run"
    command = [*PROGRAM, "train", *map(str, data), "--run", str(run), *TINY, "--steps", "100000"]
    if ignored:
        command = ["nohup", *command]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert any(line.startswith("step ") for line in process.stdout)
        process.send_signal(signal.SIGHUP)
        if ignored:
            process.send_signal(signal.SIGINT)  # which nothing ignores: it goes on until then
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and "Stopped at step" in out
    assert err.count("Stopping; what was learned is saved") == 1


# translate


def test_a_file_becomes_a_file_that_says_it_is_synthetic(done, trained, data, tmp_path):
    out = tmp_path / "out.png"
    done("translate", data[0] / "Image #5.png", "--model", trained, "--to", "t2", "--out", out)
    with Image.open(out) as made:
        assert (made.size, made.mode) == ((36, 44), "L")
        said = json.loads(made.text["Description"])
    assert (said["synthetic"], said["contrast"], said["source"]) == (True, "T2", "Image #5.png")


def test_a_folder_becomes_a_folder_of_equal_names(done, trained, data, tmp_path):
    done("translate", data[0], "--model", trained / "model.safetensors", "--to", "T2", "--out", tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {p.name for p in data[0].iterdir()}


def test_several_files_become_a_folder(done, trained, data, tmp_path):
    Image.open(data[0] / "Image #5.png").save(tmp_path / "photo.jpg")
    inputs = [data[0] / "Image #6.png", tmp_path / "photo.jpg"]
    done("translate", *inputs, "--model", trained, "--to", "T2", "--out", tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"Image #6.png", "photo.png"}


def test_a_stack_becomes_a_stack(done, trained, head, tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", np.stack([head(i, "T1") for i in range(5)]))
    done("translate", tmp_path / "in.tif", "--model", trained, "--to", "T2", "--out", tmp_path / "out.tif")
    made = tifffile.imread(tmp_path / "out.tif")
    assert (made.shape, made.dtype) == ((5, 44, 36), np.uint8)


def test_both_directions_can_be_asked_for(done, trained, data, tmp_path):
    for to in ("T1", "T2"):
        done("translate", data[0] / "Image #5.png", "--model", trained, "--to", to, "--out", tmp_path / f"{to}.png")
    assert (tmp_path / "T1.png").read_bytes() != (tmp_path / "T2.png").read_bytes()


def test_other_units_give_a_notice_with_the_name(capsys, trained, head, tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", head(0, "T1").astype(np.float32) / 255)
    assert main(f"translate {tmp_path}/in.tif --model {trained} --to T2 --out {tmp_path}/out.png".split()) == 0
    assert "in.tif: The values go from 0 to 0.8" in capsys.readouterr().err


def test_existing_files_are_replaced_only_when_told_to(done, refused, trained, data, tmp_path):
    out = tmp_path / "out"
    command = ["translate", data[0], "--model", trained, "--to", "T2", "--out", out]
    out.mkdir()
    (out / "Image #12.png").write_text("mine")
    assert re.search(r"Image #12\.png exists: give --overwrite", refused(*command))
    assert files(out) == {"Image #12.png": b"mine"}
    done(*command, "--overwrite")
    assert len(files(out)) == 8
    assert files(out)["Image #12.png"] != b"mine"


def test_an_input_is_never_overwritten(refused, trained, data):
    before = files(data[0])
    one = data[0] / "Image #5.png"
    for inputs, out in [(data[0], data[0]), (one, one), (one, data[0])]:
        sentence = refused("translate", inputs, "--model", trained, "--to", "T2", "--out", out, "--overwrite")
        assert "is one of the inputs" in sentence
    assert files(data[0]) == before


def test_two_inputs_never_become_one_file(refused, trained, data, tmp_path):
    Image.open(data[0] / "Image #5.png").save(data[0] / "Image #5.jpg")
    sentence = refused("translate", data[0], "--model", trained, "--to", "T2", "--out", tmp_path / "out")
    assert "Two inputs would both become" in sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("inputs", "flags", "words"),
    [
        (["gone.png"], {}, "gone.png does not exist"),
        (["T1"], {"--model": "T1"}, "model.safetensors does not exist: give a run folder"),
        (["T1"], {"--model": "T1/Image #5.png"}, "Image #5.png is no model file"),
        (["T1"], {"--to": "PD"}, "This model makes T1 and T2, not 'PD'"),
        (["T1", "T2"], {}, "T1 is a folder: give one folder, or files"),
        (["T1"], {"--out": "T2/Image #5.png"}, "is a file name: give a folder"),
        (["stack.tif"], {"--out": "new.png"}, "a PNG holds one slice, the image has 9; write a .tif"),
        (["T1/Image #5.png"], {"--out": "new.jpg"}, "new.jpg: synthetic images are written as .png, .tif, .nii"),
        (["notes.txt"], {}, "notes.txt: not an image"),
    ],
    ids=str,
)
def test_translate_refuses_what_cannot_be_and_writes_nothing(refused, trained, data, tmp_path, inputs, flags, words):
    tifffile.imwrite(tmp_path / "stack.tif", np.random.default_rng(0).integers(0, 230, (9, 44, 36), np.uint8))
    (tmp_path / "notes.txt").write_text("hello")
    before = files(tmp_path)
    paths = {"--out": tmp_path / "new"} | {k: tmp_path / v for k, v in flags.items() if k != "--to"}
    given = {"--model": trained, "--to": flags.get("--to", "T2")} | paths
    sentence = refused("translate", *(tmp_path / i for i in inputs), *(word for pair in given.items() for word in pair))
    assert words in sentence
    assert files(tmp_path) == before


def test_a_folder_can_be_translated_whatever_units_the_target_has(done, data, tmp_path):
    """A model of float TIFF makes floats, which no PNG holds."""
    for path in list(data[1].iterdir()):
        tifffile.imwrite(path.with_suffix(".tif"), np.asarray(Image.open(path)).astype(np.float32) / 255)
        path.unlink()
    done("train", *data, "--run", tmp_path / "run", *TINY)
    done("translate", data[0], "--model", tmp_path / "run", "--to", "T2", "--out", tmp_path / "out")
    assert len(files(tmp_path / "out")) == 8


# evaluate


def test_equal_folders_score_best(done, data):
    out = done("evaluate", data[1], data[1])
    assert out.startswith("8 images, 8 slices")
    assert re.search(r"full frame +100\.00 +1\.000 +0\.0000", out)
    assert re.search(r"inside the head +100\.00 +1\.000 +0\.0000", out)


def test_two_files_are_scored_whatever_their_names(done, data):
    assert done("evaluate", data[0] / "Image #5.png", data[1] / "Image #6.png").startswith("1 images, 1 slices")


def test_json_holds_the_mean_and_every_image(done, data):
    report = json.loads(done("evaluate", data[0], data[1], "--json"))
    assert report["images"].keys() == {f"Image #{i}" for i in range(5, 13)}
    each = [score["psnr"] for score in report["images"].values()]
    assert report["mean"]["psnr"] == pytest.approx(np.mean(each))
    assert report["mean"]["slices"] == 8


def test_eight_bit_images_are_scored_over_their_whole_range(done, tmp_path):
    real = np.zeros((16, 16), np.uint8)
    real[4:12, 4:12] = 100
    for name, image in [("real.png", real), ("fake.png", real + np.uint8(51))]:
        Image.fromarray(image).save(tmp_path / name)
    report = json.loads(done("evaluate", tmp_path / "fake.png", tmp_path / "real.png", "--json"))
    assert report["mean"]["mae"] == pytest.approx(0.2)


def test_files_without_a_partner_are_left_out_by_name(capsys, data):
    (data[1] / "Image #5.png").unlink()
    (data[0] / "Image #12.png").unlink()
    assert main(["evaluate", *map(str, data)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("6 images")
    assert "left out: no partner: Image #5.png, Image #12.png\n" in printed.err


@pytest.mark.parametrize("flags", [["", "T2", "--run", "RUN"], ["T1", "T2", "--run", ""]])
def test_a_path_that_a_script_left_empty_is_not_the_folder_one_stands_in(capsys, data, tmp_path, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        main(["train", *flags, "--steps", "1"])
    assert "is empty: give a path" in capsys.readouterr().err and sorted(tmp_path.iterdir()) == before


def test_a_file_that_is_not_there_is_named_once(capsys, trained, tmp_path):
    missing = str(tmp_path / "nowhere.nii")
    assert main(["translate", missing, "--model", str(trained), "--to", "T2", "--out", str(tmp_path / "o.nii")]) == 2
    assert capsys.readouterr().err.endswith(f"napari-t1t2: {missing} does not exist: check the name.\n")


@pytest.mark.parametrize("told", [True, False])
def test_a_score_against_the_source_is_told_to_say_nothing_of_the_synthetic_images(
    capsys, trained, data, tmp_path, told
):
    made, t1, t2 = tmp_path / "made", *map(str, data)
    assert main(["translate", t1, "--model", str(trained), "--to", "T2", "--out", str(made)]) == 0
    assert main(["evaluate", str(made), t1 if told else t2]) == 0
    line = "Image #5.png and 7 more: shows T1, not T2: the score tells how unlike these are"
    assert (line in capsys.readouterr().err) == told


def test_a_file_whose_name_two_others_have_is_told_with_both(capsys, data):
    for folder in ("a", "b"):
        (data[1] / folder).mkdir()
        shutil.copy(data[1] / "Image #5.png", data[1] / folder)
    (data[1] / "Image #5.png").unlink()
    assert main(["evaluate", *map(str, data)]) == 0
    both = f"{Path('a/Image #5.png')} and {Path('b/Image #5.png')} both have its name"
    assert f"Image #5.png ({both})" in capsys.readouterr().err


def test_where_nothing_can_be_scored_the_reasons_are_told(capsys, trained, data, tmp_path):
    made = tmp_path / "made"
    main(["translate", str(data[0]), "--model", str(trained), "--to", "T2", "--out", str(made)])
    capsys.readouterr()
    assert main(["evaluate", str(data[0]), str(made)]) == 2
    assert "it is synthetic, so nothing can be scored against it" in capsys.readouterr().err


def test_of_several_processes_only_the_first_does_what_is_no_training(data, capsys, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    said = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert main(["check", str(data[0]), str(data[1])]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] and not said[1]


def test_folders_without_a_common_name_are_refused(refused, data, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copy(data[0] / "Image #5.png", tmp_path / "other" / "a.png")
    assert "has the name of one in" in refused("evaluate", tmp_path / "other", data[1])


def test_images_of_two_sizes_are_refused_by_name(refused, data, head, tmp_path):
    Image.fromarray(head(0, "T1", (50, 40))).save(tmp_path / "large.png")
    sentence = refused("evaluate", tmp_path / "large.png", data[1] / "Image #5.png")
    assert re.search(r"large\.png against .*Image #5\.png: .*\(1, 50, 40\).*\(1, 44, 36\)", sentence)


@pytest.mark.parametrize("gone", ["gone", "gone.png"])
def test_a_missing_partner_is_named(refused, data, gone):
    assert f"{gone} does not exist" in refused("evaluate", data[0] / gone, data[1])


def test_a_folder_against_a_file_is_refused(refused, data):
    assert "two files, or two folders" in refused("evaluate", data[0], data[1] / "Image #5.png")


def test_a_run_folder_with_somebody_elses_losses_is_refused_and_left_alone(refused, tmp_path, data):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "losses.csv").write_text("my own numbers")
    assert "holds a losses.csv that no run here has written" in refused("train", *data, "--run", mine, *TINY)
    assert files(mine) == {"losses.csv": b"my own numbers"}


def test_the_demo_leaves_a_folder_that_is_not_its_own_alone(refused, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "mymodel.txt").write_text("precious")
    assert str(run) in refused("demo", "--out", tmp_path, "--minutes", "0.01", "--no-window")
    assert files(run) == {"mymodel.txt": b"precious"}


def test_a_synthetic_image_that_shows_nothing_counts_in_the_score(done, tmp_path, head):
    for folder, black in (("fake", True), ("real", False)):
        (tmp_path / folder).mkdir()
        for i in range(2):
            image = head(i, "T1")
            Image.fromarray(image * (i == 0 or not black)).save(tmp_path / folder / f"{i}.png")
    scores = json.loads(done("evaluate", tmp_path / "fake", tmp_path / "real", "--json"))
    assert set(scores["images"]) == {"0", "1"} and scores["images"]["1"]["psnr"] < 20


# medical images


@pytest.fixture
def volumes(tmp_path, head) -> Path:
    """A BIDS-like folder: T1w and T2w of three subjects, oblique, stored right-anterior-superior."""
    turn = nibabel.eulerangles.euler2mat(0.05, -0.1, 0.02) @ np.diag([1.1, 1.1, 3])
    affine = nibabel.affines.from_matvec(turn, (-20, -25, 10))
    for subject in range(3):
        for contrast in ("T1", "T2"):
            stack = 4 * np.stack([head(subject + k, contrast) for k in range(4)]).astype(np.int16)
            path = tmp_path / "bids" / f"sub-{subject}" / "anat" / f"sub-{subject}_{contrast}w.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(stack[:, ::-1, ::-1].T, affine).to_filename(path)
    return tmp_path / "bids"


def test_volumes_are_trained_on_translated_in_place_and_scored(done, volumes, tmp_path):
    out = done("check", volumes, volumes)
    assert "12 slices of 3 patients for training" in out
    assert "at 1.1 mm a pixel" in out
    done("train", volumes, volumes, "--run", tmp_path / "run", *TINY)
    done(
        "translate",
        volumes,
        "--model",
        tmp_path / "run",
        "--to",
        "T2",
        "--out",
        tmp_path / "made",
        "--planes",
        "three",
    )
    made = tmp_path / "made" / "sub-1" / "anat" / "sub-1_desc-synthetic_T2w.nii.gz"
    real = volumes / "sub-1" / "anat" / "sub-1_T2w.nii.gz"
    images = nibabel.load(made), nibabel.load(real)
    np.testing.assert_array_equal(images[0].affine, images[1].affine)
    assert images[0].shape == images[1].shape
    assert json.loads(made.with_name("sub-1_desc-synthetic_T2w.json").read_text())["SyntheticImage"] is True
    assert done("evaluate", made, real).startswith("1 images, 4 slices")
    scores = json.loads(done("evaluate", tmp_path / "made", volumes, "--own-scale", "--json"))
    assert set(scores["images"]) == {f"sub-{i}/anat/sub-{i}" for i in range(3)}


def test_an_image_that_was_trained_on_is_pointed_out(capsys, trained, t1_folder, head, tmp_path):
    Image.fromarray(head(9, "T1")).save(tmp_path / "new.png")
    for path, seen in ((t1_folder / "Image #5.png", True), (tmp_path / "new.png", False)):
        assert (
            main(["translate", str(path), "--model", str(trained), "--to", "T2", "--out", str(tmp_path / "out")]) == 0
        )
        assert ("trained on this image" in capsys.readouterr().err) == seen


def test_a_dicom_series_is_chosen_translated_and_written_as_one(done, refused, trained, real_data, tmp_path):
    folder = real_data / "odd" / "dicom" / "lit_p04_T1_T2_mixed_folder"
    done("translate", folder, "--model", trained, "--to", "T2", "--out", tmp_path / "made")
    written = sorted((tmp_path / "made" / "3_t1_se_tra_synthetic-T2").iterdir())
    assert len(written) == 48
    assert "1 images, 47 slices" in done("evaluate", written[0].parent, real_data / "eval" / "lit_p04" / "T2.nii.gz")
    header = pydicom.dcmread(written[0], stop_before_pixels=True)
    assert header.SeriesDescription == "SYNTHETIC T2 - not for diagnosis"
    sentence = refused(
        "translate", folder, "--model", trained, "--to", "T2", "--series", "swi", "--out", tmp_path / "no"
    )
    assert "no series called 'swi': it has 3: t1_se_tra" in sentence


def test_the_targets_of_2000_files_are_found_at_once(trained, tmp_path):
    (tmp_path / "in").mkdir()
    data = np.zeros((1, 4, 4), np.float32)
    volumes = [Volume(data=data, name=f"{i}", path=tmp_path / "in" / f"{i}.png", dtype="uint8") for i in range(2000)]
    for volume in volumes:
        volume.path.touch()
    began = time.process_time()
    targets = targets_for(volumes, tmp_path / "in", tmp_path / "out", load_model(trained), "t2")
    assert time.process_time() - began < 1
    assert [path.name for path in targets] == [f"{i}.png" for i in range(2000)]
    with pytest.raises(Refusal, match="is one of the inputs"):
        targets_for(volumes, tmp_path / "in", tmp_path / "in", load_model(trained), "t2")
    with pytest.raises(Refusal, match="Two inputs would both become"):
        targets_for([volumes[0], volumes[0]], tmp_path / "in", tmp_path / "out", load_model(trained), "t2")


def test_slice_caches_are_listed_and_deleted(done, data, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_T1T2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("napari_t1t2.data.reading.MEMORY", 1000)
    assert "0 slice caches" in done("cache")
    done("check", *data)
    listed = done("cache")
    assert "1 slice cache," in listed and str(data[0]) in listed
    name = listed.splitlines()[1].split()[0]
    assert f"{name} (0.00 GiB)" in done("cache", "--delete", name)
    assert "0 slice caches" in done("cache")


def test_a_slice_cache_that_is_not_there_is_told(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_T1T2_CACHE", str(tmp_path / "cache"))
    assert "no slice cache called mine" in refused("cache", "--delete", "mine")


def test_check_takes_contrasts_of_other_names_as_train_does(tmp_path, done):
    for label, level in (("PD", 100), ("FLAIR", 60)):
        for subject in ("01", "02"):
            path = tmp_path / label / f"sub-{subject}_{label}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            disc = np.hypot(*(np.mgrid[:48, :48] - 24)) < 20
            data = np.where(disc, level, 0)[..., None] + np.random.default_rng(0).integers(0, 20, (48, 48, 5))
            nibabel.save(nibabel.Nifti1Image(data.astype(np.int16), np.diag([2.0, 2, 3, 1])), path)
    labels = ("--t1-label", "PD", "--t2-label", "FLAIR")
    assert "A model can be trained on these folders" in done("check", tmp_path / "PD", tmp_path / "FLAIR", *labels)
