"""What a file's name or text must not do to who reads it."""

import pickle
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from napari_t1t2.__main__ import main
from napari_t1t2.config import ModelConfig
from napari_t1t2.errors import Refusal, UnusableError, shown
from napari_t1t2.images.read import read_files

EVIL = "a\x1b[31mred\nline\u202egnp"


def test_what_steers_a_terminal_is_escaped_and_other_scripts_are_not():
    assert shown(EVIL) == r"a\x1b[31mred\nline\u202egnp"
    assert shown("名前 é\u3000x\xa0y") == "名前 é\u3000x\xa0y"
    assert shown(bytes([0xFF]).decode(errors="surrogateescape")) == r"\udcff"


def test_a_refusal_escapes_each_of_its_sentences_once():
    refusal = Refusal(f"{EVIL} is missing.", "And this.")
    assert str(refusal).splitlines() == [r"a\x1b[31mred\nline\u202egnp is missing.", "And this."]
    assert str(pickle.loads(pickle.dumps(refusal))) == str(refusal)
    assert isinstance(UnusableError("x"), ValueError)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_names_of_files_are_shown_escaped(tmp_path, head):
    (tmp_path / f"{EVIL}.png").write_bytes(b"none")
    Image.fromarray(head(0, "T1")).save(tmp_path / "b\x1b[1m.png")
    volumes, skipped = read_files(sorted(Path(tmp_path).iterdir()))
    assert [str(s)[:12] for s in skipped] == [r"a\x1b[31mred"]
    assert [v.series for v in volumes] == [r"b\x1b[1m.png"]


def test_a_label_that_steers_a_terminal_is_refused():
    with pytest.raises(Refusal, match=r"The contrasts are called .*x1b.*: give two names"):
        ModelConfig(t1_label="T1\x1b[2J")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_no_command_prints_a_name_that_steers_a_terminal(t1_folder, t2_folder, tmp_path, capfd, head):
    evil = tmp_path / EVIL
    evil.mkdir()
    t1, t2 = t1_folder.rename(evil / "T1"), t2_folder.rename(evil / "T2")
    tiny = ("--crop", "32", "--channels", "4", "--disc-channels", "4", "--device", "cpu", "--pairs", "off")
    flags = ("--steps", "2", "--report-every", "1", *tiny)
    model = ("--model", evil / "run", "--to", "T2", "--device", "cpu")
    for command in (
        ("check", t1, t2),
        ("check", t1, t2, "--json"),
        ("train", t1, t2, "--run", evil / "run", *flags),
        ("train", t1, t2, "--run", evil / "run", *flags),
        ("translate", t1, *model, "--out", evil / "out"),
        ("translate", t1 / "Image #5.png", *model, "--out", evil / "one.tif", "--report", evil / "report.csv"),
        ("translate", t1 / "none.png", *model, "--out", evil / "none.tif"),
        ("evaluate", evil / "out", t2),
        ("evaluate", evil / "out", t2, "--json"),
        ("evaluate", evil / "none", t2),
        ("calibrate", evil / "run", t1, t2, "--device", "cpu"),
        ("info", evil / "run"),
        ("info", evil / "run", "--markdown", evil / "card.md"),
        ("info", evil / "run", "--markdown", evil / "no" / "card.md"),
        ("export", evil / "run", "--to", "T2", "--out", evil / "t2.txt"),
        ("check", t1, t2, evil),  # a name too many, as of a shell's *
    ):
        with suppress(SystemExit):
            main([*map(str, command)])
        printed = "".join(capfd.readouterr())
        assert printed and not {c for c in printed if c in "\x1b\u202e"}, command
        assert not [line for line in printed.splitlines() if line.startswith("line")], command
