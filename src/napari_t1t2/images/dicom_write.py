"""DICOM out: a synthetic volume as a new series, in the study of its source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..atomic import written_folder
from ..errors import Refusal
from .dicom_header import decimals, reference, series_header
from .pixels import as_stored
from .quiet import quiet
from .volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

TWELVE_BITS = 4096  # values, as many as most scanners tell apart
Vector = npt.NDArray[np.float64]


def write_dicom(folder: Path, volume: Volume) -> list[Path]:
    """Write a synthetic volume as a new MR series, one file a slice, in the study of its source's DICOM files.

    The folder must be new or empty; it appears when it is complete. Raises `Refusal` with a sentence.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Refusal(f"{folder} already holds something: give a new or empty folder for the DICOM series.")
    if not volume.provenance:
        raise Refusal(
            f"{volume.name!r} is not synthetic. DICOM is written for synthetic images only, and marks them so; save it "
            "as NIfTI."
        )
    plane, positions = _geometry(folder.name, volume)
    words, units = _words(volume)
    with quiet():
        sources = [_source(path, volume.uid) for path in volume.files]
        header = series_header(volume, sources)
        header.update(plane)
        header.update(units)
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        folder.parent.mkdir(parents=True, exist_ok=True)
        with written_folder(folder) as partial:
            for k, (image, position) in enumerate(zip(words, positions, strict=True)):
                header.SOPInstanceUID = generate_uid()
                header.InstanceNumber = k + 1
                header.ImagePositionPatient = position
                header.PixelData = image.tobytes()
                if sources and not volume.anonymous:
                    own = sources[k : k + 1] if len(sources) == len(words) else sources
                    header.SourceImageSequence = [*filter(None, map(reference, own))]
                    if not header.SourceImageSequence:
                        del header.SourceImageSequence
                header.save_as(partial / f"IM_{k + 1:04d}.dcm", enforce_file_format=True)
    return sorted(folder.iterdir())


def _geometry(name: str, volume: Volume) -> tuple[Dataset, list[list[str]]]:
    """What all slices say of their plane, and the position of each. Raises `Refusal` with a sentence."""
    from pydicom.dataset import Dataset

    if volume.affine is None:
        raise Refusal(f"{name}: the image has no place in space, which DICOM needs; write a TIFF or NIfTI instead.")
    columns = volume.affine[:3].T * (-1, -1, 1)  # to LPS: a step along a row, down a column, to the next slice, origin
    lengths = np.linalg.norm(columns[:3], axis=1)
    if not np.isfinite(columns).all() or lengths.min() == 0:
        raise Refusal(f"{name}: the image's affine is singular; write a TIFF or NIfTI instead.")
    axes = columns[:2] / lengths[:2, None]
    between = abs(float(np.cross(*axes) @ columns[2]))
    if abs(axes[0] @ axes[1]) > 1e-4 or between < 1e-4:
        raise Refusal(f"{name}: the pixels are sheared, which DICOM cannot say; write NIfTI instead.")
    plane = Dataset()
    plane.ImageOrientationPatient = decimals(axes.ravel())
    plane.PixelSpacing = decimals(lengths[[1, 0]])
    plane.SpacingBetweenSlices = decimals([between])[0]
    return plane, [decimals(columns[3] + k * columns[2]) for k in range(len(volume.data))]


def _words(volume: Volume) -> tuple[npt.NDArray[Any], Dataset]:
    """The values in 16 bits, and how to read them: as they are, or else 65535 even steps from lowest to highest.

    Floats are rounded where 12 bits or more of whole numbers are left: MR images have no rescaling in DICOM's
    definition of them, and viewers differ in what they make of one.
    """
    from pydicom.dataset import Dataset

    units = Dataset()
    values = as_stored(volume)
    if np.ptp(values) >= TWELVE_BITS:
        values = np.rint(values).astype(np.int64)
    low, high = float(values.min()), float(values.max())
    fits = (t for t in ("uint16", "int16") if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    dtype = next(fits, None) if np.issubdtype(values.dtype, np.integer) else None
    if dtype is None:
        slope, start = decimals([(high - low) / 65535 or 1.0, low])
        values = np.clip(np.rint((values.astype(np.float64) - float(start)) / float(slope)), 0, 65535)
        units.RescaleIntercept, units.RescaleSlope, units.RescaleType = start, slope, "US"
    dark, bright = (float(v) for v in np.percentile(volume.data, (1, 99.5)))
    units.WindowCenter, units.WindowWidth = decimals([(dark + bright) / 2, (bright - dark) or (high - low) or 1.0])
    units.VOILUTFunction = "LINEAR_EXACT"  # the plain one is wrong for windows as narrow as 0 to 1
    units.SamplesPerPixel, units.PhotometricInterpretation = 1, "MONOCHROME2"
    units.Rows, units.Columns = values.shape[1:]
    units.BitsAllocated, units.BitsStored, units.HighBit = 16, 16, 15
    units.PixelRepresentation = int(dtype == "int16")
    return values.astype(np.dtype(dtype or "uint16").newbyteorder("<")), units


def _source(path: Path, uid: str) -> FileDataset:
    """The header of a source's file. Raises `Refusal` with a sentence where it is gone, or another one by now."""
    from pydicom import dcmread

    try:
        header = dcmread(path, force=True, stop_before_pixels=True)
    except Exception as error:
        raise Refusal(f"{path} is needed for patient and study, but cannot be read; put it back.") from error
    if uid and str(header.get("SeriesInstanceUID", "")) != uid:
        raise Refusal(f"{path} is of another series than when it was read, so its patient is not known; read again.")
    return header
