"""Many images: file by file, with a report; one that fails does not end a batch, and a stopped one goes on."""

import csv
import errno
import json
import os
import re
import shutil
import time
import weakref
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

import napari_t1t2.images.read as read
from napari_t1t2.__main__ import main
from napari_t1t2.commands import batch
from napari_t1t2.data.sources import finish
from napari_t1t2.errors import Refusal
from napari_t1t2.images.intensity import Intensity, ranges_for, shared_ranges
from napari_t1t2.images.read import load, look_over, read_all
from napari_t1t2.synthesis import evaluation, translation


@pytest.fixture
def heads(tmp_path, head) -> tuple[Path, Path]:
    """Eight NIfTI heads of four slices, of both contrasts."""
    affine = np.diag([-1.1, -1.1, 3, 1])
    for contrast in ("T1", "T2"):
        (tmp_path / "in" / contrast).mkdir(parents=True)
        for i in range(8):
            stack = 4 * np.stack([head(i + k, contrast) for k in range(4)]).astype(np.int16)
            path = tmp_path / "in" / contrast / f"sub-{i}_{contrast}w.nii.gz"
            nibabel.Nifti1Image(stack[:, ::-1, ::-1].T, affine).to_filename(path)
    return tmp_path / "in" / "T1", tmp_path / "in" / "T2"


@pytest.fixture
def made(heads) -> Path:
    """A folder of images named as the synthetic T2 of the heads."""
    folder = heads[0].with_name("made")
    folder.mkdir()
    for path in heads[0].iterdir():
        shutil.copy(path, folder / path.name.replace("_T1w", "_desc-synthetic_T2w"))
    return folder


@pytest.fixture
def translated(trained, tmp_path, capsys):
    """Translates a folder; gives the exit code, the lines of both streams, and the rows of the report."""

    def run(folder, *more, model=trained):
        report = tmp_path / "report.csv"
        given = [folder, "--model", model, "--to", "T2", "--out", tmp_path / "out", "--report", report, *more]
        code = main(["translate", *map(str, given)])
        printed = capsys.readouterr()
        rows = list(csv.DictReader(report.read_text(encoding="utf-8").splitlines())) if report.exists() else []
        return code, printed.out + printed.err, rows

    return run


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1500])


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_one_broken_file_does_not_end_a_batch_but_the_exit_code_and_the_report_tell(heads, translated, monkeypatch):
    monkeypatch.setattr(read, "HELD", 0)
    truncate(heads[0] / "sub-3_T1w.nii.gz")
    code, said, rows = translated(heads[0])
    assert code == 1
    assert "1 failed:" in said and "sub-3_T1w.nii.gz: " in said
    assert [row["outcome"] for row in rows] == ["done"] * 3 + ["failed"] + ["done"] * 4
    assert rows[3]["sentence"] and not rows[3]["target"] and float(rows[0]["seconds"]) > 0
    assert all(Path(row["target"]).is_file() for row in rows if row["outcome"] == "done")


def test_a_batch_goes_on_where_it_was_stopped(heads, translated, monkeypatch, tmp_path):
    made, real = [], translation.translate_prepared

    def stop_at_third(*args, **named):
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt
        return real(*args, **named)

    monkeypatch.setattr(translation, "translate_prepared", stop_at_third)
    code, said, _ = translated(heads[0])
    assert code == 130 and "Stopped, 6 of 8 are left: what is done is kept." in said
    before = contents(tmp_path / "out")
    assert len(before) == 4  # and their sidecars
    code, said, rows = translated(heads[0])
    assert code == 0 and "6 of 8; 2 had been made before" in said
    assert [row["outcome"] for row in rows] == ["passed over"] * 2 + ["done"] * 6
    assert contents(tmp_path / "out").items() >= before.items()
    assert len(made) == 3 + 6


def test_what_another_model_or_other_settings_made_is_refused_unless_told_to_overwrite(
    heads, translated, trained, tmp_path
):
    assert translated(heads[0])[0] == 0
    before = contents(tmp_path / "out")
    other = shutil.copytree(trained, tmp_path / "other")
    about = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(
        about.replace(b'"steps": 4', b'"steps": 5', 1) if b'"steps": 4' in about else about
    )
    for more in (["--planes", "three"], ["--volume-number", "0", "--planes", "three"]):
        code, said, _ = translated(heads[0], *more)
        assert code == 2 and "was made by another model, with other settings" in said
    assert contents(tmp_path / "out") == before
    code, said, rows = translated(heads[0], "--planes", "three", "--overwrite")
    assert code == 0 and {row["outcome"] for row in rows} == {"done"}


def test_a_result_older_than_its_input_is_not_passed_over(heads, translated):
    translated(heads[0])
    newer = heads[0] / "sub-1_T1w.nii.gz"
    os.utime(newer, (newer.stat().st_atime, newer.stat().st_mtime + 3600))
    code, said, _ = translated(heads[0])
    assert code == 2 and "sub-1_desc-synthetic_T2w.nii.gz exists" in said and "of an older input" in said


def test_what_tells_its_source_is_not_passed_over_for_an_anonymous_one(heads, translated):
    translated(heads[0])
    code, said, _ = translated(heads[0], "--anonymous")
    assert code == 2 and "sub-0_desc-synthetic_T2w.nii.gz exists" in said
    assert translated(heads[0], "--anonymous", "--overwrite")[0] == 0
    code, _, rows = translated(heads[0], "--anonymous")
    assert code == 0 and {row["outcome"] for row in rows} == {"passed over"}


def test_an_uncertainty_map_that_is_missing_is_made_and_a_whole_one_is_passed_over(heads, translated, tmp_path):
    translated(heads[0])
    code, _, rows = translated(heads[0], "--uncertainty")
    assert code == 0 and {row["outcome"] for row in rows} == {"done"}
    code, _, rows = translated(heads[0], "--uncertainty")
    assert code == 0 and {row["outcome"] for row in rows} == {"passed over"}


@pytest.fixture
def alive(monkeypatch):
    """The largest number of volumes whose voxels lived at once."""
    living: list[weakref.ref[np.ndarray]] = []
    most = [0]
    real = read.read_nifti

    def counted(*args, **named):
        volume = real(*args, **named)
        if named.get("voxels", True):
            living.append(weakref.ref(volume.data))
            most[0] = max(most[0], sum(data() is not None for data in living))
        return volume

    monkeypatch.setattr(read, "HELD", 0)
    monkeypatch.setattr(read, "read_nifti", counted)
    return most


def test_translating_holds_few_volumes_at_once_however_many_there_are(heads, translated, alive):
    assert translated(heads[0])[0] == 0
    assert 1 <= alive[0] <= 2


def test_evaluating_holds_few_volumes_at_once(heads, made, alive, capsys):
    assert main(["evaluate", str(made), str(heads[1])]) == 0
    assert capsys.readouterr().out.splitlines()[-5].startswith("8 images, 32 slices")
    assert 2 <= alive[0] <= 4


def test_calibrating_holds_few_volumes_at_once(heads, trained, alive, tmp_path, capsys):
    model = shutil.copytree(trained, tmp_path / "own")
    truncate(heads[0] / "sub-3_T1w.nii.gz")
    assert main(["calibrate", *map(str, (model, *heads)), "--report", str(tmp_path / "r.csv")]) == 1
    assert 2 <= alive[0] <= 6
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert sorted(row["outcome"] for row in rows) == ["done"] * 7 + ["failed"]


def test_one_broken_pair_does_not_end_evaluating(heads, made, capsys, tmp_path):
    truncate(heads[1] / "sub-3_T2w.nii.gz")
    assert main(["evaluate", str(made), str(heads[1]), "--json", "--report", str(tmp_path / "r.csv")]) == 1
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert len(found["images"]) == 7 and "sub-3_T2w.nii.gz" in found["left_out"][0]
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert [bool(row["psnr"]) for row in rows] == [True] * 3 + [False] + [True] * 4


@pytest.fixture
def evaluated(heads, made, tmp_path, capsys):
    """Evaluates with a report; gives the exit code, what was found, the other lines, and the rows of the report."""

    def run(*more):
        code = main(["evaluate", *map(str, (made, heads[1])), "--json", "--report", str(tmp_path / "r.csv"), *more])
        out, err = capsys.readouterr()
        with (tmp_path / "r.csv").open() as file:
            rows = list(csv.DictReader(file))
        return code, json.loads(out), err, rows

    return run


@pytest.fixture
def scored(monkeypatch):
    """The names of the synthetic images that were scored; at the fifth, Ctrl-C is pressed once."""
    names, real = [], evaluation.evaluate_volumes

    def score(fake, *args, **named):
        names.append(fake.name[:5])
        if len(names) == 5:
            raise KeyboardInterrupt
        return real(fake, *args, **named)

    monkeypatch.setattr(evaluation, "evaluate_volumes", score)
    return names


def test_evaluating_goes_on_where_it_was_stopped_by_its_report(evaluated, scored, made):
    code, found, said, rows = evaluated()
    assert code == 130 and len(found["images"]) == len(rows) == 4
    code, whole, said, rows = evaluated()
    assert code == 0 and "4 of 8 pairs had been scored before" in said
    assert scored == [f"sub-{i}" for i in (0, 1, 2, 3, 4, 4, 5, 6, 7)]
    assert {key: whole["images"][key] for key in found["images"]} == found["images"]  # to the last digit
    assert len(rows) == 8 and {row["outcome"] for row in rows} == {"done"}
    scored.clear()
    scored += [""] * 9
    assert evaluated()[1]["mean"] == whole["mean"] and len(scored) == 9 + 8  # a whole report is made anew


def test_evaluating_goes_on_with_nothing_that_changed_since(evaluated, scored, made):
    evaluated()
    later = time.time() + 60
    os.utime(made / "sub-1_desc-synthetic_T2w.nii.gz", (later, later))
    assert "3 of 8 pairs had been scored before" in evaluated()[2]
    scored[:] = [""] * 3
    evaluated()
    code, _, said, _ = evaluated("--match-intensities")
    assert code == 0 and "before" not in said  # by other numbers


def test_a_report_that_was_cut_off_is_gone_on_with(evaluated, scored, tmp_path):
    evaluated()
    report = tmp_path / "r.csv"
    report.write_text(report.read_text()[:-20])
    assert "3 of 8 pairs had been scored before" in evaluated()[2]


def test_loose_slices_share_the_range_that_they_have_when_all_are_held(t1_folder, monkeypatch):
    trained = Intensity(0, 10, headroom=2.2)  # of other units: all are measured
    held, _ = ranges_for(read_all(t1_folder).volumes, trained)[0]
    monkeypatch.setattr(read, "HELD", 0)
    outlines, _ = finish(look_over(sorted(t1_folder.iterdir())))
    assert all(v.sample is not None and v.sample.size < 500 for v in outlines)
    shared = shared_ranges(outlines, trained)
    assert len(shared) == 8 and len({id(found) for found in shared.values()}) == 1
    assert shared[0][0].high == pytest.approx(held.high, rel=0.05)


def test_outlines_tell_what_the_files_tell_and_load_them(heads, monkeypatch):
    monkeypatch.setattr(read, "HELD", 0)
    whole = read_all(heads[0]).volumes
    outlines, _ = finish(look_over(sorted(heads[0].iterdir())))
    for outline, volume in zip(outlines, whole, strict=True):
        assert np.isnan(outline.data).all() and outline.data.shape == volume.data.shape
        for name in ("name", "looks", "why", "spacing", "dtype", "path", "subject", "series", "notes"):
            assert getattr(outline, name) == getattr(volume, name)
        np.testing.assert_array_equal(load(outline).data, volume.data)
    assert load(replace(outlines[0], subject="other")).subject == "other"


def test_a_report_never_replaces_another_file(heads, trained, tmp_path, capsys):
    (tmp_path / "mine.csv").write_text("my own table")
    for name, word in (("mine.csv", "is no report"), ("sub.nii.gz", "ends in .csv")):
        given = [heads[0], "--model", trained, "--to", "T2", "--out", tmp_path / "o", "--report", tmp_path / name]
        assert main(["translate", *map(str, given)]) == 2
        assert word in capsys.readouterr().err
    assert (tmp_path / "mine.csv").read_text() == "my own table"


# check


def test_check_lists_each_series_that_it_took_and_why(heads, capsys):
    (heads[0] / "sub-9_FLAIR.nii.gz").write_bytes((heads[0] / "sub-1_T1w.nii.gz").read_bytes())
    assert main(["check", *map(str, heads)]) == 0
    out = capsys.readouterr().out
    assert "sub-1_T1w.nii.gz: T1 (named 'sub-1_T1w'); 4x44x36 of 3x1.1x1.1 mm; axial; sub-1" in out
    assert "skipped sub-9_FLAIR.nii.gz: it looks like FLAIR" in out


def test_check_prints_one_json_document_and_nothing_else(heads, capsys, monkeypatch):
    monkeypatch.setattr("napari_t1t2.data.sources.EVERY", 0.0)
    assert main(["check", *map(str, heads), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"version", "pixel_mm", "t1", "t2", "exams", "notes"}
    assert found["t1"].keys() == {"folder", "contrast", "taken", "left_out", "slices", "notes"}
    one = found["t2"]["taken"][0]
    assert one == {
        "series": "sub-0_T2w.nii.gz",
        "contrast": "T2",
        "looks": "T2",
        "why": "named 'sub-0_T2w'",
        "shape": [4, 44, 36],
        "spacing": [3.0, 1.1, 1.1],
        "plane": "axial",
        "subject": "sub-0",
        "file": "sub-0_T2w.nii.gz",
        "files": 1,
    }


def test_loose_slices_share_a_line(t1_folder, t2_folder, capsys):
    assert main(["check", str(t1_folder), str(t2_folder)]) == 0
    assert "  Image #5.png and 7 more: T1 (nothing contradicts it); 1x44x36\n" in capsys.readouterr().out


# cache


def test_alignments_of_exams_are_listed_and_deleted(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NAPARI_T1T2_CACHE", str(tmp_path))
    (tmp_path / "alignments").mkdir()
    for name in ("a", "b"):
        (tmp_path / "alignments" / f"{name}.json").write_text("{}")
    assert main(["cache"]) == 0
    assert "alignments  0.00 MiB, 2 of exams" in capsys.readouterr().out
    assert main(["cache", "--delete", "alignments"]) == 0
    assert "Deleted 2 alignments" in capsys.readouterr().out
    assert not list((tmp_path / "alignments").iterdir())


def test_pictures_beside_one_that_is_broken_are_translated(t1_folder, translated, head):
    (t1_folder / "broken.png").write_bytes((t1_folder / "Image #5.png").read_bytes()[:300])
    Image.fromarray(head(9, "T1")).save(t1_folder / "Image #99.png")
    code, said, rows = translated(t1_folder)
    assert "skipped broken.png" in said
    assert code == 1 and sum(row["outcome"] == "done" for row in rows) == 9


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_report_that_cannot_be_begun_is_named_and_leaves_the_one_of_before(tmp_path, monkeypatch):
    report = tmp_path / "r.csv"
    report.write_bytes(before := f"{','.join(batch.ROW)}\r\nearlier\r\n".encode())
    monkeypatch.setattr(Path, "write_text", full)
    said = rf"^{re.escape(str(report))}: the disk is full"
    with pytest.raises(Refusal, match=said), batch.Batch(1, report):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"] and report.read_bytes() == before


def test_a_row_that_the_disk_does_not_take_names_the_report(tmp_path, monkeypatch):
    said = rf"^{re.escape(str(tmp_path / 'r.csv'))}: the disk is full"
    with pytest.raises(Refusal, match=said), batch.Batch(1, tmp_path / "r.csv") as rows:
        monkeypatch.setattr(rows, "_flush", full)
        rows.add(batch.Row("one"))


def test_a_folder_of_the_contrast_that_is_to_be_made_is_refused_with_the_other_way(heads, translated):
    code, said, rows = translated(heads[1])
    assert code and not rows
    assert "look like T2, not T1: translate them to T1." in said
