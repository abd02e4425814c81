import shutil
from dataclasses import replace

import pytest

from napari_t1t2.__main__ import _parser
from napari_t1t2.commands.train import with_flags
from napari_t1t2.config import ModelConfig, TrainConfig, preset
from napari_t1t2.errors import Refusal
from napari_t1t2.runs.folder import claimed
from napari_t1t2.runs.listing import delete_run, losses_of, previews_in, read_run, rename_run, runs_in
from napari_t1t2.runs.script import as_command, as_python


def test_a_run_says_how_long_it_was_trained_and_on_what(trained):
    run = read_run(trained)
    assert (run.steps, run.picture) == (4, previews_in(trained)[-1])
    assert (
        "(4 steps): hardly trained; T1 and T2 from the folders T1 and T2; axial" in run.summary()
        and "cpu" in run.device
    )


def test_a_folder_that_is_no_run_is_not_listed(tmp_path, trained):
    (tmp_path / "other").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/model.safetensors").touch()
    (tmp_path / "file").touch()
    assert runs_in(tmp_path) == [] and runs_in(tmp_path / "nowhere") == []
    assert [run.folder for run in runs_in(tmp_path, [trained, trained])] == [trained]


def test_losses_without_a_file_are_none(tmp_path):
    assert losses_of(tmp_path) == losses_of(tmp_path, only_last=True) == []


@pytest.mark.parametrize(
    "damaged", ["a,b\n1,2\n", "step,images,seconds\n5,5,0.9\n10", "step,images,seconds\n5,5,0.9\nnan,1,1\n"]
)
def test_a_run_with_damaged_losses_or_notes_is_listed_as_its_model_says(tmp_path, trained, damaged):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "losses.csv").write_text(damaged)
    (run / "notes.txt").write_bytes(b"\xff on \xfe\n")
    [listed] = runs_in(tmp_path)
    assert listed.steps == 4
    assert all({"step", "seconds"} <= row.keys() for row in losses_of(run))
    assert [row["step"] for row in losses_of(run, only_last=True)] == ([5] if damaged.startswith("step") else [])


def test_a_run_says_the_step_that_it_ended_at(tmp_path, config):
    list(training_of(replace(config, report_every=2), steps=3))  # at step 3 no losses are noted
    assert read_run(config.run_folder).steps == 3


def test_a_run_that_is_being_trained_is_neither_renamed_nor_deleted(tmp_path, config):
    list(training_of(config))
    with claimed(config.run_folder):
        for act in (lambda: delete_run(config.run_folder), lambda: rename_run(config.run_folder, "x")):
            with pytest.raises(Refusal, match="being trained in right now"):
                act()
    with pytest.raises(Refusal, match="exists already"):
        rename_run(config.run_folder, "T1")
    assert rename_run(config.run_folder, "x") == tmp_path / "x"
    delete_run(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def training_of(config, steps=1):
    from napari_t1t2.runs.training import train

    return train(replace(config, steps=steps))


ODD = TrainConfig(
    t1_folder="/data/T1 of all",
    t2_folder="/data/T2",
    run_folder="/runs/it's here",
    minutes=0,
    steps=70,
    flip=False,
    crop=64,
    t1_volume=2,
    adversarial="bce",
    model=ModelConfig(t2_label="T2 FLAIR", depth=True, channels=8),
)


@pytest.mark.parametrize(
    "config",
    [
        ODD,
        replace(ODD, steps=0, minutes=2.5),
        replace(ODD, minutes=3.0),
        replace(ODD, t1_series="-a", model=ModelConfig(t1_label="-T1w")),
    ],
)
@pytest.mark.parametrize("name", ["laptop", "notebook"])
def test_the_command_trains_with_the_same_config(config, name):
    import shlex

    _, *words = shlex.split(as_command(config, name))
    args = _parser().parse_args(words)
    assert with_flags(preset(args.preset or "laptop"), args) == config


def test_the_command_of_an_earlier_training_names_no_setting_that_may_not_change():
    line = as_command(ODD, "notebook", resume=True)
    assert "--resume" in line and "--steps 70" in line and "--preset" not in line and "--crop" not in line


def test_the_command_of_an_earlier_training_names_what_may_change():
    line = as_command(replace(ODD, threads=1, memory=2.5, precision="float32"), resume=True)
    assert all(words in line for words in ("--threads 1", "--memory 2.5", "--precision float32"))


def test_the_script_trains_with_the_same_config(monkeypatch):
    made = []
    monkeypatch.setattr("napari_t1t2.runs.training.train", lambda config, **how: made.append((config, how)) or [])
    exec(as_python(ODD, resume=True), {})
    assert made == [(ODD, {"resume": True})]
