"""What cannot be read is called what it is, with what to do, whatever its name says."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from napari_t1t2.errors import UnusableError
from napari_t1t2.images.folder import choose
from napari_t1t2.images.foreign import SIGNS, what_else
from napari_t1t2.images.read import read_all, read_image

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"
ANNEX = b"/annex/objects/MD5E-s12345--abcd.nii.gz\n"
NAMES = ["a.nii", "a.nii.gz", "a.mgz", "a.png", "a.tif", "a.jpg", "a.dcm", "IM0001"]


def archive(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as zipped:
            zipped.writestr("a.nii", "x" * 999)
    else:
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("a.nii"))
    return file.getvalue()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LFS, r"is a pointer of Git LFS, whose content was not fetched: run `git lfs pull`"),
        (ANNEX, r"is a pointer of git-annex, whose content was not fetched: run `git annex get` or `datalad get`"),
        (archive("zip"), r"is an archive \(ZIP\), which is not looked into; unpack it first"),
        (archive("tar"), r"is an archive \(tar\), which"),
        (bz2.compress(b"x" * 999), r"is an archive \(bzip2\), which"),
        (lzma.compress(b"x" * 999), r"is an archive \(xz\), which"),
        (b"<!DOCTYPE HTML><html><title>Log in</title>" + b" " * 600, r"is a web page, as a failed download leaves"),
        (bytes(2000), r"is filled with zeros, as an aborted copy leaves; copy it again"),
    ],
)
def test_a_file_that_is_something_else_is_called_that(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnusableError, match=rf"{name}: {said}" if "." in name and "dcm" not in name else said):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mgz"])
def test_what_its_name_promises_is_not_said_of_a_damaged_file(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b"\1" * 5000))
    with pytest.raises(UnusableError, match="cannot be decoded"):
        read_image(tmp_path / name)
    noise = np.random.default_rng(0).normal(size=(9, 9, 9)).astype(np.float32)
    (nibabel.MGHImage if "mgz" in name else nibabel.Nifti1Image)(noise, np.eye(4)).to_filename(tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:1500])
    with pytest.raises(UnusableError, match="compressed data end early"):
        read_image(tmp_path / name)


def test_a_damaged_picture_is_damaged_and_not_misnamed(tmp_path):
    Image.new("L", (40, 40), 9).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:45])
    with pytest.raises(UnusableError, match="cannot be decoded"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(("at", "sign", "what"), [sign[:3] for sign in SIGNS])
def test_every_sign_is_known_of_a_file_without_a_name_for_it(tmp_path, at, sign, what):
    (tmp_path / "a").write_bytes(b"\0" * at + sign + b"\0" * 600)
    assert what_else(tmp_path / "a") == f"is {what}."


def test_nothing_is_said_of_what_is_not_known_or_not_there(tmp_path):
    (tmp_path / "a").write_bytes(b"hello")
    assert what_else(tmp_path / "a") == what_else(tmp_path / "b") == ""


def test_a_placeholder_of_icloud_is_named_though_it_is_hidden(tmp_path, head):
    Image.fromarray(head(0, "T1")).save(tmp_path / "a_T1.png")
    (tmp_path / ".b_T1.png.icloud").write_bytes(b"bplist00" + b"\0" * 99)
    (tmp_path / "._a_T1.png").write_bytes(b"\0\5\x16\7")
    (skipped,) = choose(read_all(tmp_path), "T1").skipped
    assert skipped.why == "is a placeholder of iCloud, whose content was not fetched: download it in the Finder."


@pytest.mark.parametrize("place", [".hidden/a.png", "derivatives/a.png", ".a.png"])
def test_a_folder_that_is_not_empty_is_not_called_empty(tmp_path, head, place):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(head(0, "T1")).save(tmp_path / place)
    with pytest.raises(UnusableError, match="what it holds is hidden, or in derivatives or sourcedata"):
        choose(read_all(tmp_path), "T1")
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(UnusableError, match="it is empty"):
        choose(read_all(tmp_path), "T1")


def test_a_name_that_steers_a_terminal_is_said_once(tmp_path, head):
    Image.fromarray(head(0, "T1")).save(tmp_path / "a_T1.png")
    Path(tmp_path / "Icon\r").touch()
    assert [str(s) for s in read_all(tmp_path).skipped] == [r"Icon\r: the file is empty (0 bytes); copy it again."]


@pytest.mark.parametrize("name", ["a.nii.gz", "a.png", "a.tif", "IM0001"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(b"x" * 999)

    def refuse(*_):
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UnusableError, match=r"cannot be read \(Permission denied\): allow it, or copy it again"):
        read_image(tmp_path / name)
