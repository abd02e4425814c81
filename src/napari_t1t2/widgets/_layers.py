"""Layers and their geometry: what napari must be told so that images lie in the right place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
from napari.layers import Image as ImageLayer
from napari.layers import Layer

from ..errors import Refusal
from ..images.intensity import measure
from ..images.names import TIFF
from ..images.pictures import picture_provenance
from ..images.pixels import to_grey
from ..images.plane import WORLD, View, stored_towards
from ..images.volume import Affine, Image, Volume
from ..provenance import MAPS, Provenance

if TYPE_CHECKING:
    import napari

GEOMETRY = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
TO_WORLD = np.array([[0, 0, 1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1.0]])  # RAS+ (x, y, z) to that (z, y, x)
BESIDE = "beside"  # of a layer's metadata: it lies in mm only to be seen, the size of its pixels is not known
# with additive blending black, no error, lets the image through; half of it leaves that to be seen
MAPLIKE = {"colormap": "inferno", "blending": "additive", "opacity": 0.5}
ZYX = np.eye(4)[[2, 1, 0, 3]]


def layer_of(volume: Volume) -> tuple[Image, dict[str, Any], Literal["image"]]:
    """A volume as napari takes layers: axial slices, anterior on top and the patient's right on the left.

    The voxels are only turned and mirrored, never resampled; where they lie is told exactly by scale, rotate, and
    translate, or by an affine where the axes are sheared. The world is (superior, posterior, left) in mm.
    """
    limits = measure([volume.data])
    about: dict[str, Any] = {
        "name": volume.name,
        "contrast_limits": (limits.low, limits.high),
        "rgb": False,  # napari takes a last axis of 3 or 4, as of a short sagittal series, for colours
        "metadata": {
            "contrast": volume.contrast or volume.looks,
            "file": volume.path.name if volume.path else "",
            "files": [str(path) for path in volume.inputs],
            "uid": volume.uid,
            "subject": volume.subject,
            "dtype": volume.dtype,
            "notes": list(volume.notes),
        },
    }
    if volume.provenance:
        about["name"] = volume.provenance.mark(volume.name)
        about["metadata"] |= volume.provenance.to_dict()
        about |= MAPLIKE if volume.provenance.kind in MAPS else {}
    if volume.affine is None:
        if volume.spacing:
            about |= {"scale": volume.spacing, "units": ("mm",) * 3}
        return volume.data, about, "image"
    view = View.of("axial", volume.affine)
    about |= placed(view.affine(volume.affine, volume.data.shape))
    about["metadata"] |= {"world": WORLD, "stored_towards": stored_towards(volume.affine)}
    return view.apply(volume.data), about, "image"


def provenance_of(layer: Layer) -> Provenance | None:
    """What a layer says of itself; one that napari's own reader made of a picture, what the file says."""
    said, path = Provenance.from_dict(layer.metadata), layer.source.path
    if said is None and path and Path(path).suffix.casefold() in (".png", *TIFF):
        with suppress(Exception):  # a file that is gone, or no picture
            return picture_provenance(Path(path))
    return said


def maps_of(fake: Layer, layers: Iterable[Layer]) -> list[Layer]:
    """The expected error and the interval of a synthetic layer, also reopened from files; of several, the newest."""
    made, found = provenance_of(fake), {}
    for layer in layers:
        if made and (said := provenance_of(layer)) and said.kind in MAPS and layer.data.shape == fake.data.shape:
            of = said.model_sha256, said.source, said.planes, said.contrast.removeprefix(f"{said.kind} of ")
            if of == (made.model_sha256, made.source, made.planes, made.contrast):
                found[said.kind] = layer
    return list(found.values())


def follow(viewer: napari.Viewer, act: Callable[[Any], None]) -> None:
    """Act whenever a layer comes or goes, or is called otherwise (napari 0.9)."""
    for change in {"inserted", "removed", "renamed"} & set(viewer.layers.events.emitters):
        getattr(viewer.layers.events, change).connect(act)


def is_scan(layer: Layer) -> bool:
    """Whether a layer may be proposed as a source: an image, neither synthetic nor made for looking at training."""
    return (
        isinstance(layer, ImageLayer)
        and not {"preview", "prepared"} & layer.metadata.keys()
        and provenance_of(layer) is None
    )


def refuse_no_image(layer: Layer) -> None:
    """Raises `Refusal` where a layer says that it holds errors, differences or half an image."""
    if (said := provenance_of(layer)) and (why := said.why_not()):
        raise Refusal(f"{layer.name!r} {why}")


def placed(affine: Affine) -> dict[str, Any]:
    """What tells napari where an affine, (x, y, z) index to RAS+ mm, puts (z, y, x) data."""
    to_world = TO_WORLD @ affine @ ZYX
    scale = np.linalg.norm(to_world[:3, :3], axis=0)
    turn = to_world[:3, :3] / scale
    about: dict[str, Any] = {"scale": scale, "units": ("mm",) * 3, "axis_labels": ("z", "y", "x")}
    if not np.allclose(turn.T @ turn, np.eye(3), atol=1e-6):  # sheared
        to_world[:3, :3] = turn
        return about | {"affine": to_world}
    return about | {"translate": to_world[:3, 3]} | ({} if np.allclose(turn, np.eye(3)) else {"rotate": turn})


def affine_of(layer: Layer) -> Affine | None:
    """The inverse of `placed`: (x, y, z) index to RAS+ mm. None where nobody says what the layer's world means."""
    if layer.metadata.get("world") != WORLD or layer.ndim < 3:
        return None
    return _to_ras(layer, np.nan_to_num(_mm(layer), nan=1))


def affine_as_lps(layer: Layer) -> Affine | None:
    """(x, y, z) index to RAS+ mm, if the world is (superior, posterior, left), as ITK's readers have it.

    None where the layer's units are no lengths.
    """
    mm = _mm(layer)
    return None if np.isnan(mm).any() else _to_ras(layer, mm)


def _to_ras(layer: Layer, mm: npt.NDArray[np.float64]) -> Affine:
    affine: Affine = np.linalg.inv(TO_WORLD) @ np.diag([*mm, 1]) @ to_world(layer) @ ZYX
    return affine


def affine_in_window(layer: Layer) -> Affine:
    """(x, y, z) index to where the window shows the voxels, read as RAS+ mm: to compare layers with one another."""
    return _to_ras(layer, np.nan_to_num(_mm(layer), nan=1))


def share_space(one: Layer, other: Layer) -> bool:
    """Whether what the window says of two layers tells where they lie to one another.

    It does not of bare arrays, which lie nowhere, nor of a bare array beside a layer that lies in mm, as of a NIfTI
    that became a TIFF.
    """
    if one.ndim != other.ndim:
        return False
    in_mm = [bool(np.isfinite(_mm(layer)[1:]).all()) for layer in (one, other)]
    bare = [
        not mm and np.array_equal(to_world(layer), np.eye(4)) for mm, layer in zip(in_mm, (one, other), strict=True)
    ]
    return not (all(bare) or (any(bare) and any(in_mm)))


def spacing_of_layer(layer: Layer) -> tuple[float, float, float] | None:
    """(Z, Y, X) in mm, where the layer's units are lengths; a slice is 1 mm thick where they do not say."""
    mm = _mm(layer)
    if np.isnan(mm[1:]).any():
        return None
    steps = np.diag(np.nan_to_num(mm, nan=1)) @ to_world(layer)[:3, :3]
    z, y, x = (float(length) for length in np.linalg.norm(steps, axis=0))
    return z, y, x


def _mm(layer: Layer) -> npt.NDArray[np.float64]:
    """How many mm one unit of the world is, (3,); NaN along axes whose units are no lengths, 1 along missing ones."""
    units = layer.units[-3:]
    if layer.metadata.get(BESIDE):
        return np.full(3, np.nan)
    mm = [(1 * unit).to("mm").magnitude if unit.is_compatible_with("mm") else np.nan for unit in units]
    return np.array([1.0] * (3 - len(mm)) + mm)


def right_of(layers: Sequence[Layer]) -> tuple[float, ...]:
    """A place beside layers, at the height of their first slice, (z, y, x) in the world."""
    if not len(layers):
        return 0, 0, 0
    low, high = np.transpose([[np.r_[0, 0, 0, end][-3:] for end in layer.extent.world] for layer in layers], (1, 0, 2))
    return *low.min(axis=0)[:2].tolist(), float(high[:, 2].max() + 10)


def beside(viewer: napari.Viewer, about: dict[str, Any]) -> dict[str, Any]:
    """Where pictures that lie nowhere go in a window of volumes in mm: right of these, as napari cannot mix units.

    All pictures lie over each other.

    Arguments for a new layer in place of `about`; its metadata say that its mm are no size.
    """
    if "units" in about or not (place := _place_beside(viewer)):
        return about
    return about | {"translate": place, "units": ("mm",) * 3, "metadata": about.get("metadata", {}) | {BESIDE: True}}


_looked_after: WeakSet[napari.Viewer] = WeakSet()


def keep_beside(viewer: napari.Viewer) -> None:
    """From now on, `put_beside` whenever a layer comes; asked for by each dock that makes layers, connected once."""
    if viewer not in _looked_after:
        _looked_after.add(viewer)
        viewer.layers.events.inserted.connect(lambda _: put_beside(viewer))


def put_beside(viewer: napari.Viewer) -> None:
    """The same of pictures of ours that were there first, and of what was made of them: a volume in mm has come."""
    bare = [one for one in viewer.layers if "contrast" in one.metadata and _is_bare(one)]
    if not bare or not (place := _place_beside(viewer)):
        return
    for layer in bare:
        layer.metadata = {**layer.metadata, BESIDE: True}
        layer.translate = [*layer.translate[: max(0, layer.ndim - 3)], *place][-layer.ndim :]
        layer.units = [*layer.units[: max(0, layer.ndim - 3)], "mm", "mm", "mm"][-layer.ndim :]
    viewer.reset_view()


def _place_beside(viewer: napari.Viewer) -> tuple[float, ...] | None:
    """Where the pictures beside volumes in mm lie; None where there are no such volumes."""
    in_mm = [layer for layer in viewer.layers if hasattr(layer, "units") and not np.isnan(_mm(layer)).any()]
    there = next((layer for layer in viewer.layers if BESIDE in layer.metadata and layer.ndim >= 3), None)
    if there is not None:
        return tuple(there.translate[-3:].tolist())
    return right_of(in_mm) if in_mm else None


def _is_bare(layer: Layer) -> bool:
    """Whether it lies in pixels, as of pictures."""
    return BESIDE not in layer.metadata and {str(unit) for unit in layer.units} == {"pixel"}


def to_world(layer: Layer) -> Affine:
    """(4, 4), from the last three axes of the data to those of the world; of a 2D layer, from (0, row, column)."""
    used = min(3, layer.ndim)
    origin = np.zeros(layer.ndim)
    at = np.array(layer.data_to_world(origin))
    steps = np.array([layer.data_to_world(origin + step) for step in np.eye(layer.ndim)[-used:]]) - at
    matrix = np.eye(4)
    matrix[3 - used : 3, 3 - used : 3] = steps[:, -used:].T
    matrix[3 - used : 3, 3] = at[-used:]
    return matrix


@dataclass(frozen=True, eq=False)
class Place:
    """Where the pixels of a layer, or of a coarser level of it, lie."""

    affine: Affine | None  # (x, y, z) index to RAS+ mm
    spacing: tuple[float, float, float] | None  # (Z, Y, X) in mm
    geometry: dict[str, Any]  # arguments for a new layer of the same dimensions
    note: str | None  # what was assumed


def place_of(layer: Layer, level: int = 0) -> Place:
    """Everything that decides where a layer lies; without an affine it is not known which plane its slices are."""
    factors = layer.downsample_factors[level] if getattr(layer, "multiscale", False) else np.ones(layer.ndim)
    geometry = {name: getattr(layer, name) for name in GEOMETRY if hasattr(layer, name)}
    geometry["scale"] = np.multiply(layer.scale, factors)
    last = np.array([1.0, 1.0, 1.0, *factors][-3:])
    affine, spacing, note = affine_of(layer), spacing_of_layer(layer), None
    if spacing is None and not np.allclose(layer.scale[-2:], 1):  # as most readers leave it
        z, y, x = (float(length) for length in np.linalg.norm(to_world(layer)[:3, :3], axis=0))
        spacing = z, y, x
        note = f"{layer.name!r} has a scale but no unit: it is taken as mm."
    if affine is not None:
        affine = affine @ np.diag([*last[::-1], 1])
    if spacing is not None:
        z, y, x = (float(length) for length in np.multiply(spacing, last))
        spacing = z, y, x
    return Place(affine, spacing, geometry, note)


def pixels_of(layer: Layer, level: int = 0) -> tuple[Any, str | None]:
    """The layer's array, (..., rows, columns), and a notice where it is not used as it is.

    NumPy arrays come as they are, all others as dask arrays, which are read piece by piece. Raises `Refusal` with a
    sentence for what cannot be translated.
    """
    if not isinstance(layer, ImageLayer):
        kind = type(layer).__name__
        raise Refusal(f"{layer.name!r} is a {kind} layer: only image layers can be translated. Choose another.")
    data = layer.data[level] if layer.multiscale else layer.data
    if layer.rgb:
        return to_grey(_lazy(data)), f"{layer.name!r} is in colour; its brightness is used."
    return data if isinstance(data, np.ndarray) else _lazy(data), None


def as_volume(data: Any, name: str, affine: Affine | None, dtype: str = "float32") -> Volume:
    """(..., rows, columns) pixels of a layer, read now, as a file reader would have given them."""
    pixels = np.asarray(data, np.float32)
    return Volume(
        data=np.ascontiguousarray(pixels.reshape(-1, *pixels.shape[-2:])), name=name, affine=affine, dtype=dtype
    )


def _lazy(data: Any) -> Any:
    import dask.array as da

    return data if isinstance(data, da.Array) else da.from_array(data)


def show_volumes(volumes: Iterable[Volume]) -> None:
    """Open napari on volumes of one head, the synthetic one laid over the others, and wait until it is closed."""
    import napari

    viewer = napari.Viewer(title="napari-t1t2: synthetic images, not for diagnosis")
    for volume in volumes:
        viewer.add_image(
            volume.data,
            name=volume.name,
            contrast_limits=(0, 255),
            metadata={"contrast": volume.contrast, **(volume.provenance.to_dict() if volume.provenance else {})},
            **({"colormap": "inferno", "opacity": 0.6} if volume.synthetic else {}),
        )
    napari.run()
