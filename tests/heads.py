"""Heads made of ellipsoids, and a small data set of them in every kind of file: the same wherever they are made.

Two patients, T1 and T2 of each, 3x3x6 mm: scalp, skull, fluid, folded grey matter, white matter and two ventricles.
"""

from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
from nibabel.spatialimages import SpatialImage
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

SHAPE, SPACING = (56, 68, 12), (3.0, 3.0, 6.0)  # left to right, back to front, bottom to top
PATIENTS = ("01", "02")
BRIGHT = {  # of 1000, as a spin echo at 1.5 T shows them; (T1, T2)
    "air": (0, 0),
    "scalp": (900, 620),
    "skull": (90, 60),
    "fluid": (210, 1000),
    "grey": (450, 560),
    "white": (640, 400),
}
TE_TR = {"T1": (12, 500), "T2": (100, 5000)}  # ms


def tissues(patient: str) -> np.ndarray:
    """The tissue of each voxel as an index into `BRIGHT`, SHAPE; patients differ in size, folds and ventricles."""
    number = int(patient)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    z = 0.75 * z - 0.1  # the slab ends below the vertex and above the skull's base

    def ellipsoid(side: float, length: float, height: float, at: tuple[float, float] = (0, 0)) -> np.ndarray:
        return ((x - at[0]) / side) ** 2 + ((y - at[1]) / length) ** 2 + (z / height) ** 2

    wide, long = 0.80 + 0.03 * number, 0.92 - 0.02 * number
    angle = np.arctan2(y, x)
    folds = 0.06 * np.sin((9 + number) * angle + 4 * z) + 0.03 * np.cos(23 * angle - 6 * z)
    labels = np.zeros(SHAPE, np.uint8)
    labels[ellipsoid(wide, long, 1.0) < 1] = 1
    labels[ellipsoid(wide - 0.07, long - 0.06, 0.95) < 1] = 2
    labels[ellipsoid(wide - 0.15, long - 0.13, 0.9) < 1] = 3
    labels[ellipsoid(wide - 0.19, long - 0.17, 0.87) < 1 + folds] = 4
    labels[ellipsoid(wide - 0.29, long - 0.27, 0.78) < 1 + 2 * folds] = 5
    labels[(np.abs(x) < 0.025) & (labels == 4)] = 3  # between the hemispheres
    for side in (-1, 1):
        labels[ellipsoid(0.07, 0.26 + 0.02 * number, 0.45, (side * 0.14, 0.0)) < 1] = 3
    return labels


def head(patient: str, contrast: str) -> np.ndarray:
    """A volume, int16, SHAPE: a smooth receive field and the noise of a magnitude image lie over the tissues."""
    column = ("T1", "T2").index(contrast)
    signal = np.array([pair[column] for pair in BRIGHT.values()], np.float64)[tissues(patient)]
    signal *= 1 + 0.08 * np.linspace(-1, 1, SHAPE[1])[None, :, None]
    noise = np.random.default_rng([int(patient), column]).normal(0, 12, (2, *SHAPE))
    return np.rint(np.hypot(signal + noise[0], noise[1])).astype(np.int16)


def oblique_affine(patient: str) -> np.ndarray:
    """Voxels to RAS+ in mm, the head turned by some degrees about two axes."""
    nod, turn = np.deg2rad(6 + int(patient)), np.deg2rad(4)
    about_x = [[1, 0, 0], [0, np.cos(nod), -np.sin(nod)], [0, np.sin(nod), np.cos(nod)]]
    about_z = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    affine = np.eye(4)
    affine[:3, :3] = np.array(about_x) @ np.array(about_z) @ np.diag(SPACING)
    affine[:3, 3] = -affine[:3, :3] @ (np.array(SHAPE) - 1) / 2
    return affine


def write_data_set(home: Path) -> SimpleNamespace:
    """Both patients in every kind of file below `home`; returns the folders, one for each contrast and kind."""
    for patient in PATIENTS:
        for contrast in ("T1", "T2"):
            data, affine = head(patient, contrast), oblique_affine(patient)
            bids = home / "nifti" / f"sub-{patient}" / "anat" / f"sub-{patient}_{contrast}w.nii.gz"
            write_nifti(bids, nibabel.Nifti1Image(data, affine))
            twice = np.stack([data[::-1], data], axis=-1)  # volume 1 is the head, volume 0 its mirror image
            write_nifti(home / "4d" / contrast / f"head{patient}.nii", nibabel.Nifti1Image(twice, affine))
            write_dicom_series(home / "dicom" / f"{contrast}-{patient}", data, affine, patient, contrast)
            write_pictures(home / "png" / contrast, data, patient)
    return SimpleNamespace(
        nifti=(home / "nifti", home / "nifti"),  # one folder of both contrasts, told apart by their names
        dicom=(home / "dicom", home / "dicom"),
        png=(home / "png" / "T1", home / "png" / "T2"),
        volumes=(home / "4d" / "T1", home / "4d" / "T2"),
    )


def write_nifti(path: Path, image: SpatialImage) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def write_pictures(folder: Path, data: np.ndarray, patient: str) -> None:
    """One 8 bit PNG a slice, front on top, named alike in both contrasts."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(data.shape[2]):
        grey = np.clip(data[:, ::-1, k].T // 4, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"patient{patient} #{k + 1}.png")


def write_dicom_series(folder: Path, data: np.ndarray, affine: np.ndarray, patient: str, contrast: str) -> None:
    """One classic MR file a slice, named without an ending and numbered against its position, as exports do."""
    folder.mkdir(parents=True, exist_ok=True)
    study, series, space = (generate_uid(entropy_srcs=[patient, what]) for what in ("study", contrast, "space"))
    to_lps = np.diag([-1.0, -1.0, 1.0])
    columns = to_lps @ affine[:3, :3] @ np.diag(1 / np.array(SPACING))
    for k in range(data.shape[2]):
        plane = np.ascontiguousarray(data[:, :, k].T)  # a row runs left to right
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.SOPClassUID, slice_.SOPInstanceUID = MRImageStorage, generate_uid(entropy_srcs=[series, str(k)])
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = study, series, space
        slice_.PatientID, slice_.PatientName = f"PHANTOM{patient}", f"Phantom^{patient}"
        slice_.StudyDate, slice_.Modality = "20260101", "MR"
        slice_.SeriesNumber, slice_.SeriesDescription = int(contrast[1]), f"{contrast.lower()}_se_tra"
        slice_.EchoTime, slice_.RepetitionTime = TE_TR[contrast]
        slice_.InstanceNumber = data.shape[2] - k
        slice_.ImagePositionPatient = [round(v, 4) for v in to_lps @ (affine @ (0, 0, k, 1))[:3]]
        slice_.ImageOrientationPatient = [round(v, 8) for v in (*columns[:, 0], *columns[:, 1])]
        slice_.PixelSpacing, slice_.SliceThickness = list(SPACING[:2]), SPACING[2]
        slice_.Rows, slice_.Columns = plane.shape
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated = slice_.BitsStored = 16
        slice_.HighBit, slice_.PixelRepresentation = 15, 1
        slice_.PixelData = plane.tobytes()
        slice_.save_as(folder / f"IM_{k:05d}", enforce_file_format=True)
