"""Small files that ask for much memory: told before it is taken."""

import gzip
import struct
import tracemalloc
import zlib
from contextlib import contextmanager

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLSLossless

from napari_t1t2.errors import UnusableError
from napari_t1t2.images import limits
from napari_t1t2.images.read import read_files, read_image

MUCH = 24 * 2**20


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    """As if any file might hold 64 kB."""
    monkeypatch.setattr(limits, "ALWAYS", 2**16)


@contextmanager
def little_memory():
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MUCH
    finally:
        tracemalloc.stop()


def refused(path, words="says that it holds"):
    with little_memory(), pytest.raises(UnusableError, match=rf"{path.name}: .*{words}"):
        read_image(path)


def nifti(shape, offset=352.0) -> bytes:
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header["vox_offset"], header["magic"] = offset, b"n+1"
    return header.binaryblock


def dicom(rows, columns, syntax=ExplicitVRLittleEndian):
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, "1.2.840.10008.5.1.4.1.1.4"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    header = pydicom.Dataset()
    header.file_meta = meta
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    header.Rows, header.Columns, header.BitsAllocated, header.BitsStored, header.HighBit = rows, columns, 8, 8, 7
    header.SamplesPerPixel, header.PixelRepresentation, header.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    return header


def test_a_nifti_header_that_promises_more_than_its_file(tmp_path):
    (path := tmp_path / "a.nii").write_bytes(nifti((2000, 2000, 2000)) + bytes(100))
    refused(path)


def test_a_compressed_nifti_of_zeros(tmp_path):
    (path := tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti((512, 512, 64)) + bytes(2**25)))
    refused(path)


def test_a_compressed_nifti_with_a_huge_extension(tmp_path):
    content = nifti((4, 4, 4), offset=2.0**27) + bytes([1, 0, 0, 0]) + struct.pack("<ii", 2**26, 6) + bytes(2**26)
    (path := tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
    refused(path)


def test_a_compressed_nifti_whose_pixels_lie_far_behind(tmp_path):
    (path := tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti((4, 4, 4), offset=2.0**26) + bytes(2**26)))
    refused(path)


def test_a_tiff_of_zeros(tmp_path):
    tifffile.imwrite(path := tmp_path / "a.tif", np.zeros((4096, 4096), np.uint16), compression="zlib")
    refused(path)


def test_a_picture_of_zeros(tmp_path):
    Image.new("L", (6000, 6000)).save(path := tmp_path / "a.png")
    refused(path)


def test_a_deep_colour_picture_of_zeros(tmp_path):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", 4000, 4000, 16, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(4000 * (4000 * 6 + 1)))
    (path := tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    refused(path)


def test_a_jpeg_ls_stream_larger_than_its_dicom_header_says(tmp_path):
    import imagecodecs

    header = dicom(64, 64, JPEGLSLossless)
    header.PixelData = encapsulate([imagecodecs.jpegls_encode(np.zeros((8000, 8000), np.uint8))])
    header["PixelData"].is_undefined_length = True
    header.save_as(path := tmp_path / "a.dcm", enforce_file_format=True)
    with little_memory():
        volumes, skipped = read_files([path])
    assert not volumes and "8000x8000, not as its header says" in str(skipped[0])


def test_a_dicom_header_that_promises_more_than_its_file(tmp_path):
    header = dicom(60_000, 60_000, JPEGLSLossless)
    header.PixelData = encapsulate([bytes(100)])
    header["PixelData"].is_undefined_length = True
    header.save_as(path := tmp_path / "a.dcm", enforce_file_format=True)
    refused(path)


def test_a_deflated_dicom_of_zeros(tmp_path):
    header = dicom(5000, 5000, DeflatedExplicitVRLittleEndian)
    header.PixelData = bytes(25_000_000)
    header.save_as(path := tmp_path / "a.dcm", enforce_file_format=True)
    assert path.stat().st_size < 60_000
    refused(path)


def test_a_deflated_dicom_of_sense_is_read(tmp_path, monkeypatch):
    monkeypatch.undo()
    header = dicom(64, 64, DeflatedExplicitVRLittleEndian)
    header.PixelData = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8).tobytes()
    header.save_as(path := tmp_path / "a.dcm", enforce_file_format=True)
    assert read_image(path).data.shape == (1, 64, 64)


def test_an_image_that_memory_does_not_hold_is_refused_with_both_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "left_in_cgroup", lambda: 1e5)
    nibabel.save(nibabel.Nifti1Image(np.ones((64, 64, 64), np.int16), np.eye(4)), path := tmp_path / "a.nii")
    refused(path, r"do not fit into memory: they take 1049 kB, and 100 kB are free")


# What fuzzing found (benchmarks/fuzz.py)


def test_a_tiff_without_pixels_is_skipped_by_name(tmp_path):
    tifffile.imwrite(path := tmp_path / "a.tif", np.ones((5, 4, 4), np.uint8), photometric="minisblack")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags["ImageWidth"]
        content[tag.valueoffset : tag.valueoffset + 2] = b"\0\0"
    path.write_bytes(content)
    volumes, skipped = read_files([path])
    assert not volumes and str(skipped[0]).startswith("a.tif: ")


def test_a_dicom_whose_series_is_of_an_unknown_type_is_skipped_by_name(tmp_path):
    header = dicom(8, 8)
    header.SeriesInstanceUID, header.PixelData = "1.2.3.4", bytes(range(64))
    header.save_as(path := tmp_path / "a.dcm", enforce_file_format=True)
    tag = struct.pack("<HH", 0x20, 0xE)
    path.write_bytes(path.read_bytes().replace(tag + b"UI", tag + b"\x55\xb7"))
    volumes, skipped = read_files([path])
    assert len(volumes) + len(skipped) == 1
