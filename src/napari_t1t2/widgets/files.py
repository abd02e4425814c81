"""Files and folders to layers, layers to files: what napari's reader and writers call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Layer
from napari.utils.notifications import show_info, show_warning
from napari_builtins.io import napari_get_reader

from ..errors import Refusal, UnusableError
from ..images.dicom_slices import is_dicom
from ..images.dicom_write import write_dicom
from ..images.folder import files_in, together
from ..images.names import READABLE, SIDECARS, is_nifti, stem
from ..images.nifti_write import write_nifti
from ..images.plane import WORLD, View
from ..images.read import read_files
from ..images.volume import Image, Volume
from ._layers import affine_as_lps, affine_of, layer_of, pixels_of, provenance_of, to_world

Paths = str | list[str]
LayerData = tuple[Image, dict[str, Any], str]

DICOM = frozenset({".dcm", ".dicom", ".ima"})


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """Our reader where there is a volume; of a folder without one, napari's own: it asks, and offers ours first."""
    if any(_has_volume(p) for p in _paths(path)):
        return read_layers
    own: Callable[[Paths], list[LayerData]] = napari_get_reader(path)
    return own if all(p.is_dir() for p in _paths(path)) else None


def read_layers(path: Paths) -> list[LayerData]:
    """One layer for each NIfTI or MGH file and for each DICOM series; of a folder, pictures are left to napari.

    What was done to a file, and which could not be used, is told in notifications. Raises `UnusableError` with a
    sentence where nothing is left.
    """
    files = [file for p in _paths(path) for file in (filter(_is_volume, files_in(p)) if p.is_dir() else [_whole(p)])]
    volumes, skipped = read_files(files)
    refused = together((s.path.name, s.why) for s in skipped)
    if not volumes:
        raise UnusableError(*(refused or [f"{path} holds no NIfTI, MGH or DICOM file: choose another."]))
    if refused:
        show_warning("\n".join(refused))
    if notes := together((v.name, note) for v in volumes for note in v.notes):
        show_info("\n".join(notes))
    return [layer_of(volume) for volume in volumes]


def save_nifti(path: str, data: Any, about: dict[str, Any]) -> list[str]:
    """Write an image layer as .nii.gz or .nii; one with more than three axes becomes a file for each volume."""
    with _heard():
        target = Path(path if path.casefold().endswith((".nii", ".nii.gz")) else f"{path}.nii.gz")
        ending = target.name.removeprefix(stem(target))
        written = [
            file
            for number, volume in _volumes(data, about).items()
            for file in write_nifti(target.with_name(f"{stem(target)}{number}{ending}"), volume)
        ]
        return [str(file) for file in written]


def save_dicom(path: str, data: Any, about: dict[str, Any]) -> list[str]:
    """Write a synthetic image layer as a DICOM series: `name.dcm` becomes the folder `name`, one file a slice."""
    with _heard():
        folder = Path(path.removesuffix(".dcm"))
        written = [
            file
            for number, volume in _volumes(data, about).items()
            for file in write_dicom(folder.with_name(folder.name + number), volume)
        ]
        return [str(file) for file in written]


def volumes_of(layer: ImageLayer) -> list[Volume]:
    """The (Z, Y, X) volumes of an image layer, in the order in which their file stored the voxels; of full resolution.

    Of a layer that does not say what its world means, lengths are taken as (superior, posterior, left), as ITK's
    readers place layers; where its units are no lengths, the size of a voxel is all that is known.
    """
    pixels, notice = pixels_of(layer)
    if notice:
        show_warning(notice)
    provenance = provenance_of(layer)
    metadata, is_ours = layer.metadata, layer.metadata.get("world") == WORLD
    affine = affine_of(layer) if is_ours else affine_as_lps(layer)
    view = View()
    if affine is not None and is_ours and "stored_towards" in metadata:
        view = View.towards(metadata["stored_towards"], affine)
    z, y, x = (float(length) for length in np.linalg.norm(to_world(layer)[:3, :3], axis=0))
    files = tuple(Path(file) for file in metadata.get("files", ()) if is_ours)

    stacks = pixels[None] if pixels.ndim == 2 else pixels
    volumes = []
    for index in np.ndindex(stacks.shape[:-3]):
        data = view.apply(np.asarray(stacks[index], np.float32))
        volume = Volume(
            data=data,
            name=layer.name,
            contrast=str(metadata.get("contrast", "")),
            spacing=view.spacing or (z, y, x),
            affine=affine if affine is None else view.affine(affine, stacks.shape[-3:]),
            path=files[0] if files else None,
            files=() if files and is_nifti(files[0]) else files,
            uid=str(metadata.get("uid", "")),
            provenance=provenance,
            anonymous=bool(metadata.get("anonymous")),
        )
        wanted = np.dtype(metadata.get("dtype") or pixels.dtype)
        volumes.append(replace(volume, dtype=_type_for(data, wanted, provenance is not None)))
    return volumes


def _volumes(data: Any, about: dict[str, Any]) -> dict[str, Volume]:
    """The volumes of a layer by what follows the name of each one's file."""
    layer = Layer.create(data, dict(about), "image")  # napari's own, so that its geometry means what napari means
    volumes = volumes_of(layer)
    names = ("",) if len(volumes) == 1 else (f"_{i:03}" for i in range(len(volumes)))
    return dict(zip(names, volumes, strict=True))


def _type_for(data: Image, wanted: np.dtype[Any], synthetic: bool) -> str:
    """The type that was wanted, if it holds the values; those of a synthetic image may be rounded."""
    if wanted.kind == "b":
        return "uint8"
    if wanted.kind not in "iu":
        return "float32"
    limits = np.iinfo(wanted)
    inside = limits.min <= np.rint(data.min()) and np.rint(data.max()) <= limits.max
    whole = synthetic or all(np.array_equal(plane, np.rint(plane)) for plane in data)
    return wanted.name if inside and whole else "float32"


def _paths(path: Paths) -> list[Path]:
    return [Path(p) for p in ([path] if isinstance(path, str) else path)]


def _has_volume(path: Path) -> bool:
    return any(_is_volume(p) for p in path.rglob("*")) if path.is_dir() else _is_volume(path)


def _is_volume(path: Path) -> bool:
    """Whether a file is NIfTI, MGH or DICOM, or by its name should be."""
    if path.name.startswith("."):
        return False
    suffix = path.suffix.casefold()
    return is_nifti(path) or suffix in DICOM or (suffix not in READABLE | SIDECARS and is_dicom(path))


def _whole(path: Path) -> Path:
    """Of a header with its voxels beside it, the file of the voxels."""
    voxels = path.with_suffix(".img")
    return voxels if path.suffix.casefold() == ".hdr" and voxels.is_file() else path


@contextmanager
def _heard() -> Iterator[None]:
    """Let a sentence reach the user: napari takes a writer's `ValueError` for "there is no writer", and drops it."""
    try:
        yield
    except Refusal as error:
        raise OSError(str(error)) from error
