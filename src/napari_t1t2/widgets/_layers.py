"""Layers and their geometry: what napari must be told so that images lie in the right place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Layer

from ..images.read import GreyView
from ..images.volume import NOTICE, Volume

if TYPE_CHECKING:
    import napari

    from ..images.volume import Image

GEOMETRY = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


def geometry_of(layer: Layer) -> dict[str, Any]:
    """Everything that decides where a layer lies, as arguments for a new one of the same dimensions."""
    return {name: getattr(layer, name) for name in GEOMETRY if hasattr(layer, name)}


def pixels_of(layer: Layer) -> tuple[Any, str | None]:
    """The layer's array, (..., rows, columns), and a notice where it is not used as it is.

    Dask and zarr arrays stay lazy. Raises `ValueError` with a sentence for what cannot be translated.
    """
    if not isinstance(layer, ImageLayer):
        kind = type(layer).__name__
        raise ValueError(f"{layer.name!r} is a {kind} layer: only image layers can be translated. Choose another.")
    data = layer.data[0] if layer.multiscale else layer.data
    notice = f"{layer.name!r} has several resolutions; the finest was translated." if layer.multiscale else None
    if layer.rgb:
        return GreyView(data), f"{layer.name!r} is in colour; its brightness was translated."
    return data, notice


def show_preview(viewer: napari.Viewer, images: dict[str, Image]) -> None:
    """Images in rows of three, right of all other layers; those that are there already get new data."""
    height, width = (max(side) + 4 for side in zip(*(image.shape for image in images.values()), strict=True))
    places = {name: np.array([i // 3 * height, i % 3 * width], float) for i, name in enumerate(images)}
    there = {layer.metadata["preview"]: layer for layer in viewer.layers if layer.metadata.get("preview") in images}
    if there:
        name, layer = next(iter(there.items()))
        origin = layer.translate - places[name]
    elif len(viewer.layers):
        extent = viewer.layers.extent.world[:, -2:]
        origin = np.array([extent[0, 0], extent[1, 1] + 10])
    else:
        origin = np.zeros(2)
    active = viewer.layers.selection.active
    for name, image in images.items():
        if name in there:
            there[name].data = image
            continue
        others = [layer for layer in viewer.layers if hasattr(layer, "units")]  # napari 0.6 has them, mixed ones warn
        viewer.add_image(
            image,
            name=name,
            contrast_limits=(-1, 1),
            translate=origin + places[name],
            metadata={"preview": name, "synthetic": "synthetic" in name},
            **({"units": others[0].units[-2:]} if others else {}),
        )
    if len(there) < len(images):
        viewer.layers.selection.active = active  # what the user has selected stays selected
    if not there:
        viewer.reset_view()


def show_volumes(volumes: Iterable[Volume]) -> None:
    """Open napari on volumes of one head, the synthetic one laid over the others, and wait until it is closed."""
    import napari

    viewer = napari.Viewer(title="napari-t1t2: synthetic images, not for diagnosis")
    for volume in volumes:
        synthetic = NOTICE in volume.notes
        viewer.add_image(
            volume.data,
            name=volume.name,
            contrast_limits=(0, 255),
            metadata={"contrast": volume.contrast, "synthetic": synthetic},
            **({"colormap": "inferno", "opacity": 0.6} if synthetic else {}),
        )
    napari.run()
