"""Score a synthetic layer against a real one, and show where they differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import CheckBox, ComboBox, Container, SpinBox
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer
from napari.utils import Colormap
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QPushButton

from .. import __version__
from ..errors import Refusal
from ..images.volume import NOTICE, Image
from ._comparison import Evaluated, Job, Source, Stage, evaluated
from ._form import narrow
from ._job import JobWidget
from ._layers import NO_IMAGE, affine_in_window, pixels_of, place_of, share_space, to_world
from ._scores import JointHistogram, ScoreTable, as_csv

if TYPE_CHECKING:
    import napari

    from ..events import Failed

HEAD = "inside the head"
OF_PLACE = ("world", "stored_towards")  # what saving the difference must know


class EvaluateWidget(JobWidget):
    """Two layers and a region; the result is a table, a joint histogram and a layer of differences."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        self._viewer = napari_viewer
        self._compared: tuple[Layer, Layer] | None = None
        self._own_scale = False
        self._csv = ""
        self.form: Container[Any] = Container(
            widgets=[
                narrow(ComboBox(name="synthetic", choices=self._images, tooltip="The image to score.")),
                narrow(ComboBox(name="real", choices=self._images, tooltip="The scan that it should look like.")),
                CheckBox(
                    name="own_scale",
                    text="Own scale",
                    tooltip="First bring the median of both heads together: MR units are arbitrary.",
                ),
                narrow(
                    ComboBox(
                        name="region",
                        choices=self._regions,
                        tooltip="Where to score, beside the full frame: inside the head, or a labels layer.",
                    )
                ),
                SpinBox(
                    name="label",
                    label="label (0: any)",
                    min=0,
                    max=2**31 - 1,
                    tooltip="Of the labels layer: the pixels with this number, or all that are not 0.",
                ),
            ]
        )
        super().__init__(self.form.native, "Evaluate")
        self._suggested = {name: self.form[name].value for name in ("synthetic", "real")}
        self.form["label"].enabled = False
        self.table = ScoreTable()
        self.histogram = JointHistogram()
        self.copy = QPushButton("Copy as CSV")
        self.copy.setEnabled(False)
        self.buttons.addWidget(self.copy, 1)
        self.body.addWidget(self.table)
        self.body.addWidget(self.histogram)
        self.copy.clicked.connect(self._on_copy)
        self.form["region"].changed.connect(self._on_region)
        self.form["synthetic"].changed.connect(self._on_synthetic)
        napari_viewer.layers.events.inserted.connect(self._on_layers)
        napari_viewer.layers.events.removed.connect(self._on_layers)
        self._on_layers()

    def start(self) -> Callable[[Callable[[], bool]], Iterator[Stage | Evaluated]]:
        """Read the form."""
        self.copy.setEnabled(False)  # the numbers before are of other layers
        fake, real, region = (self.form[name].value for name in ("synthetic", "real", "region"))
        if fake is None or real is None:
            raise Refusal("There is no layer to evaluate: open a synthetic image and the real one.")
        if fake is real:
            raise Refusal(f"{fake.name!r} is chosen twice: choose the real image that it should look like.")
        job = Job(
            self._source(fake, fake),
            self._source(real, fake),
            region=self._source(region, fake) if isinstance(region, Labels) else None,
            label=self.form["label"].value,
            own_scale=self.form["own_scale"].value,
        )
        for sentence in _warnings(fake, real):
            self.tell(sentence)
        self._compared, self._own_scale = (fake, real), job.own_scale
        return lambda stop: evaluated(job, stop)

    def on_event(self, event: Stage | Evaluated | Failed) -> None:
        """Show how far it is, then what was found."""
        match event:
            case Stage(fraction=fraction, text=text):
                self.show_fraction(fraction, text)
                self.status.setText(text)
            case Evaluated():
                self._show(event)

    def _show(self, event: Evaluated) -> None:
        assert self._compared is not None
        fake, real = self._compared
        score = event.score
        for notice in event.notices:
            self.tell(notice)
        if event.resampled:
            self.mention(f"{real.name!r} was resampled onto the grid of {fake.name!r}.")
        seen = fake.metadata.get("seen_in_training")
        about = {
            "synthetic": fake.name,
            "real": real.name,
            "own scale": _yes(self._own_scale),
            "resampled": _yes(event.resampled),
            "seen in training": "" if seen is None else _yes(seen),
            "napari-t1t2": __version__,
        }
        self._csv = as_csv(score, about)
        self.copy.setEnabled(True)
        self.table.show_score(score)
        self.histogram.draw(event.counts, event.edges, score.region, (real.name, fake.name))
        name = f"difference: {fake.name} minus {real.name}"
        self._show_difference(name, event.difference, event.limit, fake)
        self.status.setText(
            f"{fake.name!r} against {real.name!r}: {score.head_voxels:,} voxels {score.region}; made {name!r}."
        )

    def _show_difference(self, name: str, data: Image, limit: float, fake: Layer) -> None:
        """Lay it over the synthetic layer, in place of the one that an earlier press made."""
        layers = self._viewer.layers
        old = next((layer for layer in layers if layer.metadata.get("difference") == name), None)
        active = layers.selection.active
        index, visible = (layers.index(old), old.visible) if old else (len(layers), True)
        if old:
            layers.remove(old)
        made = ImageLayer(
            data,
            name=name,
            rgb=False,
            colormap=Colormap([[0.3, 0.7, 1], [0, 0, 0], [1, 0.55, 0.2]], name="blue-black-orange"),
            contrast_limits=(-limit, limit),
            visible=visible,
            metadata={key: fake.metadata[key] for key in OF_PLACE if key in fake.metadata}
            | {"difference": name, "contrast": "difference", "synthetic": True, "notice": NOTICE, "dtype": "float32"},
            **place_of(fake).geometry,
        )
        layers.insert(index, made)
        layers.selection.active = made if active is old else active  # what the user has selected stays selected

    def _on_copy(self) -> None:
        clipboard = QGuiApplication.clipboard()
        assert clipboard is not None
        clipboard.setText(self._csv)
        self.status.setText("Copied the table as CSV: a header and two lines.")

    def _source(self, layer: Layer, fake: Layer) -> Source:
        if isinstance(layer, Labels):
            pixels, notice = layer.data[0] if layer.multiscale else layer.data, None
        else:
            pixels, notice = pixels_of(layer)
        if notice:
            self.tell(notice)
        shape, wanted = pixels.shape, _shape(fake)
        if math.prod(shape[:-3]) != 1:
            raise Refusal(
                f"{layer.name!r} has {len(shape)} axes, {_times(shape)}: split it into volumes (right-click, Split "
                "Stack) and choose one."
            )
        alike = _volume_shape(shape) == _volume_shape(wanted)
        # labels were drawn where they are seen; an image of another shape that lies nowhere could be anything
        placed = layer is fake or share_space(layer, fake) or (isinstance(layer, Labels) and not alike)
        if not alike and (layer.ndim != fake.ndim or not placed):
            raise Refusal(
                f"{layer.name!r} is {_times(shape)} and {fake.name!r} {_times(wanted)}, and they do not both say where "
                "they lie: choose layers of one shape, or open them from NIfTI or DICOM files."
            )
        if not placed and not np.allclose(to_world(layer), to_world(fake)):
            self.tell(f"{layer.name!r} and {fake.name!r} do not share a space: they are compared pixel by pixel.")
        dtype = str(layer.metadata.get("dtype") or layer.dtype)
        return Source(pixels, layer.name, affine_in_window(layer) if placed else None, dtype)

    def _images(self, _: Any) -> list[Layer]:
        return [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, ImageLayer) and not (NO_IMAGE | {"preview"}) & layer.metadata.keys()
        ]

    def _regions(self, _: Any) -> list[str | Layer]:
        return [HEAD, *(layer for layer in self._viewer.layers if isinstance(layer, Labels))]

    def _on_region(self, region: str | Layer) -> None:
        self.form["label"].enabled = isinstance(region, Labels)

    def _on_layers(self, _: Any = None) -> None:
        images, before = self._images(None), self._suggested
        chosen = {name: self.form[name].value for name in before}
        with self.form["synthetic"].changed.blocked():
            for name in (*before, "region"):
                self.form[name].reset_choices()
            self._suggest(
                {name: layer for name, layer in chosen.items() if layer in images and layer is not before[name]}
            )

    def _on_synthetic(self, fake: Layer | None) -> None:
        real = self.form["real"].value
        if fake is not None:
            self._suggest({"synthetic": fake} | ({} if real in (fake, self._suggested["real"]) else {"real": real}))

    def _suggest(self, chosen: dict[str, Layer]) -> None:
        """A synthetic image and a scan of the same contrast, where the user has chosen none."""
        images = self._images(None)
        scans = [layer for layer in images if not layer.metadata.get("synthetic")]
        if not images:
            return
        made = [layer for layer in images if layer not in scans]
        fake = chosen.get("synthetic") or (made or images)[-1]
        scans = [layer for layer in scans if layer is not fake] or images
        alike = [layer for layer in scans if _contrast(layer) == _contrast(fake)]
        for name, layer in (("synthetic", fake), ("real", (alike or scans)[-1])):
            if name not in chosen:
                self._suggested[name] = layer
            self.form[name].value = chosen.get(name, layer)


def _warnings(fake: Layer, real: Layer) -> Iterator[str]:
    """What the layers say of themselves that the numbers do not."""
    if not fake.metadata.get("synthetic"):
        yield f"{fake.name!r} is not marked as synthetic; it is scored as if it were."
    if real.metadata.get("synthetic"):
        yield f"{real.name!r} is synthetic itself: a score against it says nothing about the real anatomy."
    if fake.metadata.get("seen_in_training"):
        yield (
            f"The model was trained on the image that {fake.name!r} was made from: the score says nothing about how it "
            "does on new ones."
        )


def _shape(layer: Layer) -> tuple[int, ...]:
    """Of all pixels, without colour."""
    data = layer.data[0] if layer.multiscale else layer.data
    return tuple(data.shape[: layer.ndim])


def _volume_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, *shape)[-3:]


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _contrast(layer: Layer) -> str:
    return str(layer.metadata.get("contrast", "")).casefold()


def _yes(value: Any) -> str:
    return "yes" if value else "no"
