"""What reading costs in opened files, and what it leaves behind."""

import logging
import sys
import threading
import warnings
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from napari_t1t2.images.quiet import quiet
from napari_t1t2.images.read import read_all, read_image

opened: Counter[str] | None = None


def count(event: str, args: tuple[object, ...]) -> None:
    """Count what is opened in any way, C code aside; a hook can only be added, never removed."""
    if event == "open" and opened is not None and isinstance(args[0], str):
        opened[args[0]] += 1


sys.addaudithook(count)


@pytest.fixture
def opens(monkeypatch) -> Counter[str]:
    counter = Counter()
    monkeypatch.setattr(sys.modules[__name__], "opened", counter)
    return counter


def write_dicom_slice(path: Path, pixels: np.ndarray, z: float) -> None:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = MRImageStorage, generate_uid(), "1.2.3"
    ds.Rows, ds.Columns, ds.SamplesPerPixel = *pixels.shape, 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing = [0, 0, z], [1, 0, 0, 0, 1, 0], [1, 1]
    ds.PixelData = pixels.astype(np.uint16).tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.tif", "a.nii", "a.nii.gz", "a.mgz", "a.mgh", "a.img", "series", "no_preamble"]
)
def test_a_file_is_opened_once_for_its_header_and_once_for_its_pixels(tmp_path, head, opens, name):
    stack = np.stack([head(i, "T1") for i in range(3)])
    if name in ("series", "no_preamble"):
        for i, pixels in enumerate(stack):
            write_dicom_slice(tmp_path / f"IM{i}", pixels, 3.0 * i)
    elif name.endswith((".png", ".jpg", ".tif")):
        Image.fromarray(stack[0]).save(tmp_path / name)
    else:
        kind = {"g": nibabel.Nifti1Pair, "h": nibabel.MGHImage, "z": nibabel.Nifti1Image}.get(name[-1])
        kind = nibabel.MGHImage if ".mg" in name else kind or nibabel.Nifti1Image
        kind(stack.T, np.eye(4)).to_filename(tmp_path / name)
    if name == "no_preamble":
        for path in tmp_path.iterdir():
            path.write_bytes(path.read_bytes()[132:])
    files = list(map(str, tmp_path.iterdir()))
    opens.clear()
    (volume,) = read_all(tmp_path).volumes
    assert volume.data.shape in (stack.shape, stack[:1].shape)
    counts = {Path(file).name: opens[file] for file in files}
    assert all(1 <= times <= 2 for times in counts.values()), counts


def test_an_ordinary_volume_is_opened_once(tmp_path, head, opens):
    path = tmp_path / "a.nii.gz"
    nibabel.Nifti1Image(np.stack([head(i, "T1") for i in range(3)]).T, np.eye(4)).to_filename(path)
    opens.clear()
    read_image(path)
    assert opens[str(path)] == 1


def test_readers_in_threads_are_silent_till_the_last_is_done_and_give_all_back():
    logs = [logging.getLogger(name) for name in ("nibabel.global", "pydicom")]
    entered, leave, seen = threading.Event(), threading.Event(), []

    def read() -> None:
        with quiet():
            entered.set()
            leave.wait(10)
            seen.extend(log.disabled for log in logs)

    before = warnings.filters[:]
    thread = threading.Thread(target=read)
    with quiet():
        thread.start()
        entered.wait(10)
    assert all(log.disabled for log in logs)  # the other still reads
    leave.set()
    thread.join()
    assert seen == [True, True]
    assert not any(log.disabled for log in logs)
    assert warnings.filters[:] == before
