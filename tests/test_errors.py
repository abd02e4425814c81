"""What a file's name or text must not do to who reads it."""

import pickle
import sys
from pathlib import Path

import pytest
from PIL import Image

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
