"""Reading both folders: in memory or to a bank on disk, which is found again as long as the images are the same."""

import json
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import takewhile

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from napari_t1t2.data import bank, sources, stored
from napari_t1t2.data import reading as module
from napari_t1t2.data.batches import Bank
from napari_t1t2.data.reading import read_both, reading
from napari_t1t2.data.stored import StoredSlices, coded
from napari_t1t2.errors import Refusal
from napari_t1t2.events import Finished, Reading, Started
from napari_t1t2.runs.training import train

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where banks go."""
    monkeypatch.setenv("NAPARI_T1T2_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "slices"


@pytest.fixture
def little_memory(monkeypatch):
    """Too little for any voxels or slices."""
    monkeypatch.setattr(module, "MEMORY", 1000)


@pytest.fixture
def heads(config, head, tmp_path):
    """A config of folders with two stacks of different pixels, and a picture that is empty at the bottom."""
    for contrast, folder in (("T1", config.t1_folder), ("T2", config.t2_folder)):
        for path in folder.iterdir():
            path.unlink()
        for index, side in enumerate((1.0, 1.5)):
            slices = [head(index * 9 + z, contrast).astype(np.int16) * 3 for z in range(6)]
            data = np.stack([*slices, np.zeros_like(slices[0])])
            affine = np.diag([-side, -side, 2, 1])
            nibabel.Nifti1Image(data.T, affine).to_filename(folder / f"sub-{index}_{contrast}w.nii.gz")
    return replace(config, model=replace(config.model, depth=True))


def built(cache):
    return sorted(path for path in cache.iterdir() if path.suffix != ".lock") if cache.is_dir() else []


def same(one, other):
    """All but the images."""
    for name in ("owners", "places"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("names", "subjects", "fingerprints", "intensity", "keys"):
        assert getattr(one, name) == getattr(other, name)
    for a, b in zip(one.affines, other.affines, strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.notes == other.notes[: len(one.notes)]


@pytest.mark.parametrize("plane", ["axial", "coronal"])
def test_a_bank_holds_what_memory_would_hold(heads, monkeypatch, plane):
    config = replace(heads, model=replace(heads.model, plane=plane))
    *held, pixel = read_both(config)
    monkeypatch.setattr(module, "MEMORY", 1000)
    *stored_slices, pixel_stored = read_both(config)
    assert pixel_stored == pixel
    for one, other in zip(held, stored_slices, strict=True):
        same(one, other)
        assert isinstance(other.images, StoredSlices)
        assert other.images.shape == one.images.shape
        images = np.stack([other.images[i] for i in range(len(other.images))])
        np.testing.assert_allclose(images, one.images, atol=2**-15)
        assert (images[one.images == -1] == -1).all()  # air stays air


def test_single_pictures_in_a_bank_are_those_of_memory(config, monkeypatch):
    held = read_both(config)
    monkeypatch.setattr(module, "MEMORY", 1000)
    kept = read_both(config)
    for one, other in zip(held[:2], kept[:2], strict=True):
        assert one.names == other.names
        assert one.keys == other.keys
        assert other.intensity.high == pytest.approx(one.intensity.high, rel=0.1)  # of fewer pixels


def test_batches_of_a_bank_are_those_of_memory(heads, monkeypatch):
    t1 = read_both(heads)[0]
    monkeypatch.setattr(module, "MEMORY", 1000)
    kept = read_both(heads)[0]
    chosen = np.arange(1, len(t1.images), 2)
    config = replace(heads, batch=3, crop=16)
    one, other = (Bank(s.images, config, CPU, 0, chosen) for s in (t1, kept))
    for step in range(5):
        torch.testing.assert_close(one.batch(step), other.batch(step), rtol=0, atol=2**-14)


def test_a_run_beyond_memory_trains_to_the_same_model_but_for_rounding(heads, tmp_path, monkeypatch):
    list(train(heads))
    monkeypatch.setattr(module, "MEMORY", 1000)
    events = list(train(replace(heads, run_folder=tmp_path / "stored")))
    assert isinstance(events[-1], Finished)
    losses = [
        np.loadtxt(folder / "losses.csv", delimiter=",", skiprows=1)[:, 3:]
        for folder in (heads.run_folder, tmp_path / "stored")
    ]
    np.testing.assert_allclose(*losses, rtol=0.02)


def test_numbers_are_stored_to_a_part_in_thirty_thousand():
    values = np.random.default_rng(0).uniform(-1, 1.8, 10_000).astype(np.float32)
    assert np.abs(coded(values) * stored.STEP - values).max() <= 2**-15
    assert (coded(np.array([-1, 0, 1], np.float32)) * stored.STEP).tolist() == [-1, 0, 1]


# Found again


@pytest.fixture
def reads(monkeypatch):
    """The sources that are read, each time."""
    read: list[str] = []
    before = module.read_source
    monkeypatch.setattr(module, "read_source", lambda s, **k: read.append(s[0].name) or before(s, **k))
    return read


def test_small_sets_leave_nothing_on_the_disk(config, cache):
    read_both(config)
    assert not cache.exists()


def test_a_second_run_reads_no_image(config, cache, little_memory, reads):
    first = read_both(config)
    assert len(reads) == 32  # each file twice
    again = read_both(config)
    assert len(reads) == 32
    for one, other in zip(first[:2], again[:2], strict=True):
        same(one, other)
        np.testing.assert_array_equal(one.images[3], other.images[3])
    assert str(built(cache)[0]) in again[1].notes[-1]


def test_a_bank_serves_a_run_that_is_resumed_at_its_pixels(heads, little_memory, reads):
    *_, pixel = read_both(heads)
    reads.clear()
    assert read_both(heads, pixel)[2] == pixel
    assert not reads
    assert read_both(heads, 2.0)[2] == 2.0
    assert reads
    assert read_both(heads)[2] == pixel


@pytest.mark.parametrize(
    "other", [{"pixel": 2.0}, {"plane": "coronal"}, {"size": 64}, {"depth": False}, {"levels": 3}], ids=str
)
def test_other_slices_make_another_bank(heads, cache, little_memory, other):
    read_both(heads)
    read_both(replace(heads, model=replace(heads.model, **other)))
    assert len(built(cache)) == 2


def test_files_with_a_new_date_and_the_same_content_are_no_news(config, little_memory, reads):
    read_both(config)
    reads.clear()
    os.utime(next(config.t1_folder.iterdir()), (1, 1))
    read_both(config)
    assert not reads


def test_a_moved_data_set_is_known_again(config, tmp_path, little_memory, reads):
    read_both(config)
    reads.clear()
    (tmp_path / "moved").mkdir()
    config.t1_folder.rename(tmp_path / "moved" / "T1")
    read_both(replace(config, t1_folder=tmp_path / "moved" / "T1"))
    assert not reads


def test_files_of_another_folder_are_compared_even_if_name_size_and_date_are_the_same(heads, tmp_path, little_memory):
    def project(name, shift):
        folders = [tmp_path / name / contrast for contrast in ("T1", "T2")]
        for folder, source in zip(folders, (heads.t1_folder, heads.t2_folder), strict=True):
            folder.mkdir(parents=True)
            for path in source.iterdir():
                data = np.asarray(nibabel.load(path).dataobj)
                copy = folder / path.name.replace(".gz", "")
                nibabel.Nifti1Image(np.roll(data, shift, axis=0), np.diag([-1, -1, 2, 1])).to_filename(copy)
                os.utime(copy, (1e9, 1e9))
        return replace(heads, t1_folder=folders[0], t2_folder=folders[1])

    one, other = (read_both(project(name, shift))[0] for name, shift in (("a", 0), ("b", 3)))
    assert isinstance(one.images, StoredSlices)
    assert one.fingerprints != other.fingerprints


@pytest.mark.parametrize("record", ['{"a": 1}', "[1]", "3", "{"])
def test_a_record_that_is_none_is_written_anew(config, cache, little_memory, record):
    before = read_both(config)
    next(cache.glob("*/bank.json")).write_text(record)
    same(before[0], read_both(config)[0])


def test_a_bank_that_cannot_be_written_to_serves_all_the_same(config, little_memory, reads, monkeypatch):
    read_both(config)
    reads.clear()
    for path in config.t1_folder.iterdir():
        os.utime(path)

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(module, "write_record", refuse)
    read_both(config)
    assert reads == []


def test_a_cache_that_cannot_be_made_is_named_with_what_sets_it(config, tmp_path, little_memory, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAPARI_T1T2_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match="NAPARI_T1T2_CACHE"):
        read_both(config)


def test_changed_content_of_equal_size_is_read_again(config, cache, little_memory):
    before = read_both(config)[0]
    path = sorted(config.t1_folder.iterdir())[0]
    content = path.read_bytes()
    pixels = 255 - np.asarray(Image.open(path))
    Image.fromarray(pixels).save(path)
    with path.open("ab") as file:
        file.write(b"\0" * max(0, len(content) - path.stat().st_size))
    os.truncate(path, max(len(content), path.stat().st_size))
    after = read_both(config)[0]
    assert before.fingerprints != after.fingerprints
    assert after.fingerprints == read_both(config)[0].fingerprints


def test_an_added_file_is_read(config, head, little_memory):
    n = len(read_both(config)[0].images)
    Image.fromarray(head(3, "T1")).save(config.t1_folder / "more.png")
    assert len(read_both(config)[0].images) == n + 1


def test_what_is_only_half_written_is_neither_taken_nor_left(config, cache, little_memory, monkeypatch):
    def broken(images):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(module, "coded", broken)
        with pytest.raises(Refusal, match=r"cannot be written \(no space left\)"):
            read_both(config)
    assert built(cache) == []
    read_both(config)
    assert len(built(cache)) == 1


def test_a_volume_without_any_anatomy_takes_no_place(heads, little_memory):
    empty = np.zeros((36, 44, 5), np.int16)
    empty[3:5, 3:5, 2] = np.arange(900, 904).reshape(2, 2)
    nibabel.Nifti1Image(empty, np.diag([-1, -1, 2, 1])).to_filename(heads.t1_folder / "sub-9_T1w.nii")
    t1 = read_both(heads)[0]
    assert len(t1.names) == 3
    assert set(t1.owners.tolist()) == {0, 1}


def test_a_bank_that_lost_a_file_is_built_again(config, cache, little_memory):
    read_both(config)
    (built(cache)[0] / "t2.int16").unlink()
    assert len(read_both(config)[1].images) == 8


def test_what_a_crash_left_is_removed_and_nothing_else(config, cache, little_memory):
    for name in (".old.partial", ".new.partial", ".mine"):
        (cache / name).mkdir(parents=True)
        (cache / name / "t1.int16").write_bytes(b"half")
    for name in (".old.partial", ".mine"):
        for path in (cache / name / "t1.int16", cache / name):
            os.utime(path, (1, 1))
    read_both(config)
    assert not (cache / ".old.partial").exists()
    assert (cache / ".new.partial").exists()
    assert (cache / ".mine").exists()


def test_a_disk_that_is_too_small_is_named_before_anything_is_written(config, cache, little_memory, monkeypatch):
    monkeypatch.setattr(bank.shutil, "disk_usage", lambda path: type("", (), {"free": 10})())
    with pytest.raises(ValueError, match="set NAPARI_T1T2_CACHE to a folder on a larger disk"):
        read_both(config)
    assert built(cache) == []


def test_banks_are_for_their_owner_alone(config, cache, little_memory):
    read_both(config)
    assert [folder.stat().st_mode & 0o077 for folder in (cache, *built(cache))] == [0, 0]


def test_an_image_that_changes_while_it_is_read_is_refused(config, little_memory, monkeypatch):
    before, times = module.read_source, []

    def changing(source, **settings):
        times.append(source)
        part = before(source, **settings)
        if len(times) > 16:
            part = replace(part, volumes=[replace(v, data=v.data[:, ::-1]) for v in part.volumes])
        return part

    monkeypatch.setattr(module, "read_source", changing)
    with pytest.raises(ValueError, match=r"#\d+\.png changed while it was read"):
        read_both(config)


# What it says, and stop


def test_slow_reading_says_how_far_it_is(config, monkeypatch):
    monkeypatch.setattr(sources, "EVERY", 0.0)
    events = []
    steps = reading(replace(config, threads=1))
    with pytest.raises(StopIteration):
        while True:
            events.append(next(steps))
    assert {e.doing for e in events} == {"reading", "preparing"}
    assert all(e.total == 16 for e in events)
    done = [e.done for e in events if e.doing == "reading"]
    assert done == sorted(done)
    assert done[-1] == 16


def test_all_that_comes_before_training_says_how_far_it_is(config, monkeypatch):
    monkeypatch.setattr(sources, "EVERY", 0.0)
    told = [
        e
        for e in takewhile(lambda e: not isinstance(e, Started), train(replace(config, pairs="auto")))
        if isinstance(e, Reading)
    ]
    assert list(dict.fromkeys(e.doing for e in told)) == ["reading", "preparing", "pairing", "describing"]
    assert (told[-1].done, told[-1].total) == (7, 7)  # one of 8 slices is held out
    assert told[-1].text() == "describing 7 of 7 slices"


@pytest.mark.parametrize("doing", ["reading", "preparing", "pairing", "describing"])
def test_a_stop_before_training_ends_the_run_and_leaves_nothing(config, doing, monkeypatch):
    monkeypatch.setattr(sources, "EVERY", 0.0)
    events: list[Reading] = []
    run = train(replace(config, pairs="auto"), stop=lambda: bool(events) and events[-1].doing == doing)
    with pytest.raises(ValueError, match=r"Stopped while the images were read: there is nothing to save\."):
        while True:
            events.append(next(run))
    assert not (config.run_folder / "model.safetensors").exists()


def test_a_stop_while_reading_ends_the_run_and_leaves_nothing(config, cache, little_memory, monkeypatch):
    monkeypatch.setattr(sources, "EVERY", 0.0)
    events: list[Reading] = []
    run = train(config, stop=lambda: bool(events) and events[-1].doing == "preparing")
    with pytest.raises(ValueError, match=r"Stopped while the images were read: there is nothing to save\."):
        while True:
            events.append(next(run))
    assert {type(e) for e in events} == {Reading}
    assert built(cache) == []
    assert not config.run_folder.exists()


def test_reading_keeps_the_warning_filters_and_loggers_as_they_were(heads):
    before = list(warnings.filters)
    read_both(replace(heads, threads=4))
    assert warnings.filters == before


def test_a_script_without_a_guard_can_train_beyond_memory(config, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys\n"
        "from napari_t1t2.data import reading\n"
        "from napari_t1t2.config import TrainConfig\n"
        "from napari_t1t2.runs.training import train\n"
        "reading.MEMORY = 1000\n"
        "print('begin', [type(e).__name__ for e in train(TrainConfig.from_dict(json.loads(sys.argv[1])))][-1])\n"
    )
    out = subprocess.run(
        [sys.executable, script, json.dumps(config.to_dict())], capture_output=True, text=True, check=True
    ).stdout
    assert out == "begin Finished\n"


def test_many_that_build_one_cache_at_once_share_it(config, cache, little_memory):
    with ThreadPoolExecutor(6) as pool:
        both = list(pool.map(lambda _: read_both(config), range(6)))
    assert len(built(cache)) == 1
    for t1, t2, _ in both:
        assert (len(t1.images), len(t2.images)) == (8, 8)
        np.testing.assert_array_equal(t1.images[0], both[0][0].images[0])


def test_processes_that_build_one_cache_at_once_share_it(config, cache, tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from napari_t1t2.config import ModelConfig, TrainConfig\n"
        "from napari_t1t2.data import reading\n"
        "reading.MEMORY = 1000\n"
        "t1, t2, _ = reading.read_both(TrainConfig(t1_folder=Path(sys.argv[1]), t2_folder=Path(sys.argv[2])))\n"
        "print(len(t1.images), len(t2.images), t1.images[0].sum() != 0)"
    )
    command = [sys.executable, "-c", code, str(config.t1_folder), str(config.t2_folder)]
    environment = os.environ | {"NAPARI_T1T2_CACHE": str(cache.parent)}
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(4)
    ]
    said = [process.communicate() for process in started]
    assert [out.split() for out, _ in said] == [["8", "8", "True"]] * 4, said
    assert len(built(cache)) == 1


def test_the_files_of_a_cache_are_for_the_user_alone(config, cache, little_memory):
    read_both(config)
    (folder,) = built(cache)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_cache_that_is_found_again_counts_as_used_now(config, cache, little_memory):
    read_both(config)
    for path in built(cache)[0].iterdir():
        os.utime(path, (1e9, 1e9))
    assert bank.find_caches()[0].used == 1e9
    read_both(config)
    assert bank.find_caches()[0].used > 1e9 + 1e8


def test_each_contrast_takes_its_own_volume_of_4d_files_and_3d_ones_as_they_are(config, tmp_path, head):
    """FLAIR, T1, T1 with agent and T2 in one file, as in the Medical Segmentation Decathlon."""
    heads = np.stack([head(3, "T1").T + np.uint8(n) for n in range(4)], axis=-1)[:, :, None]
    stack = np.repeat(heads, 6, axis=2).astype(np.int16)
    for name in ("BRATS_001", "BRATS_002"):
        nibabel.save(nibabel.Nifti1Image(stack, np.eye(4)), tmp_path / f"{name}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(stack[..., 0], np.eye(4)), tmp_path / "flat.nii.gz")
    both = replace(config, t1_folder=tmp_path, t2_folder=tmp_path, t1_volume=1, t2_volume=3, t1_series="BRATS_001")
    t1, t2, _ = read_both(replace(both, t2_series="BRATS_002, flat"))
    assert t1.intensity.high + 2 == pytest.approx(t2.intensity.high, abs=1.5)
    assert any("number 1 was taken" in note for note in t1.notes) and any("number 3" in note for note in t2.notes)
    assert len(t2.names) == 2
