"""Turn the layer on screen into the other contrast, laid over it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from magicgui.types import FileDialogMode
from magicgui.widgets import CheckBox, ComboBox, Container, FileEdit
from napari.layers import Image as ImageLayer
from napari.layers import Layer

from ..config import Planes, Side, TrainConfig
from ..errors import Refusal
from ..events import Failed, Translated
from ..images.volume import Affine, Image
from ..model.about import About, read_about
from ._form import field_row, narrow
from ._job import JobWidget
from ._layers import NO_IMAGE, as_volume, pixels_of, place_of
from ._memory import described, memory

if TYPE_CHECKING:
    import napari

    from ..images.intensity import Intensity

FULL, ON_SCREEN = "full resolution", "level on screen"
OF_SOURCE = ("world", "stored_towards", "files", "uid")  # what saving the new layer must know
REFRESH = 0.2  # seconds between two looks at a layer that fills


@dataclass(frozen=True, eq=False)
class Begun:
    """The model is read; `made` fills while the job runs, `metadata` is what its layer will say of itself."""

    device: str
    made: Image
    metadata: dict[str, Any]
    target: Intensity
    notices: tuple[str, ...]
    doubts: tuple[Image, dict[str, Any], float] | None = None  # error to expect, what its layer says, the most there is


@dataclass(frozen=True, eq=False)
class Source:
    """What is translated: the array, where it lies, and what the form asks for."""

    data: Any  # (..., rows, columns)
    name: str
    affine: Affine | None
    spacing: tuple[float, float, float] | None
    planes: Planes
    trust: bool = False
    synthetic: bool = False
    looks: str = ""  # the contrast that the layer says it is


class TranslateWidget(JobWidget):
    """Layer, model, direction; the result is a new layer in the same place, named and marked as synthetic."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        self._viewer = napari_viewer
        self._about: About | None = None
        self._source: Layer | None = None
        self._made: ImageLayer | None = None
        self._doubts: ImageLayer | None = None
        self._refreshed_at = 0.0
        self.form: Container[Any] = Container(
            widgets=[
                narrow(ComboBox(name="layer", choices=self._layers, tooltip="The image to translate.")),
                FileEdit(
                    name="model",
                    mode=FileDialogMode.EXISTING_FILE,
                    filter="*.safetensors",
                    tooltip="A model file that training wrote.",
                ),
                narrow(ComboBox(name="to", label="make", choices=self._contrasts, tooltip="The contrast to make.")),
                ComboBox(
                    name="planes",
                    choices=get_args(Planes),
                    tooltip="Three averages axial, coronal and sagittal slices, against flicker from slice to slice; "
                    "it takes three times as long, or more.",
                ),
                ComboBox(
                    name="level",
                    choices=(FULL, ON_SCREEN),
                    tooltip="Of a layer with several resolutions: all its pixels, or the level on screen.",
                ),
                CheckBox(
                    name="trust",
                    label="expected error",
                    tooltip="A second layer glows where the synthetic one is to be doubted: the absolute error to "
                    "expect, in units of the contrast made. It takes about seven times as long.",
                ),
                field_row(TrainConfig, "device"),
            ]
        )
        super().__init__(self.form.native, "Translate")
        self.form["model"].changed.connect(self._on_model)
        self.form["layer"].changed.connect(self._suggest_direction)
        napari_viewer.layers.events.inserted.connect(self._on_layers)
        napari_viewer.layers.events.removed.connect(self._on_layers)
        napari_viewer.layers.selection.events.active.connect(self._on_active)
        memory.model_changed.connect(self._on_trained)
        self._suggested = memory.last_model
        if self._suggested:
            self.form["model"].value = self._suggested
        self._on_active()

    def start(self) -> Callable[[Callable[[], bool]], Iterator[Begun | Translated]]:
        """Read the form."""
        layer: Layer | None = self.form["layer"].value
        if layer is None:
            raise Refusal("There is no layer to translate: open an image first.")
        if NO_IMAGE & layer.metadata.keys():
            raise Refusal(f"{layer.name!r} holds errors of an image: choose the image itself.")
        several = getattr(layer, "multiscale", False)
        level = layer.data_level if several and self.form["level"].value == ON_SCREEN else 0
        data, notice = pixels_of(layer, level)
        if self.form["model"].value == Path():
            raise Refusal("No model was chosen: train one, or choose the model.safetensors of a run.")
        about = read_about(self.form["model"].value)
        to = about.config.side(self.form["to"].value or "")
        self._source, self._made, self._place = layer, None, place_of(layer, level)
        self._doubts = None
        for sentence in filter(None, (notice, self._place.note)):
            self.tell(sentence)
        source = Source(
            data,
            layer.metadata.get("file") or layer.name,
            self._place.affine,
            self._place.spacing,
            self.form["planes"].value,
            self.form["trust"].value,
            bool(layer.metadata.get("synthetic")),
            str(layer.metadata.get("contrast", "")),
        )
        wish = self.form["device"].value
        return lambda stop: translated(source, about.path, to, wish, stop)

    def on_event(self, event: Begun | Translated | Failed) -> None:
        """Make the layer, show it fill, say how far it is."""
        match event:
            case Begun(device=device, notices=notices):
                for notice in notices:
                    self.tell(notice)
                self.status.setText(f"Translating on {device} ...")
                self._new_layer(event)
            case Translated(done=done, total=total):
                layer = self._made
                if layer is None or layer not in self._viewer.layers:
                    self._slot.stop()  # the user deleted the layer; nothing is left to fill
                    return
                self.show_fraction(done / total, f"{done} of {total} slices")
                if done == total:
                    self._refresh()
                    self.status.setText(f"Synthetic, not for diagnosis: made {layer.name!r}.")
                    self._made = None
                elif time.monotonic() - self._refreshed_at > REFRESH:
                    self._refresh()
                    self._refreshed_at = time.monotonic()
            case Failed():
                pass

    def _on_finished(self) -> None:
        if self._made is not None:  # stopped or failed half-way; half an image would mislead
            if self._made in self._viewer.layers:
                self._viewer.layers.remove(self._made)
            if self._doubts is not None and self._doubts in self._viewer.layers:
                self._viewer.layers.remove(self._doubts)
            if not isinstance(self._last, Failed):
                self.status.setText("Stopped; the unfinished layer is gone.")
            self._made = None
        super()._on_finished()

    def _new_layer(self, begun: Begun) -> None:
        source = self._source
        assert source is not None
        of_source = {key: source.metadata[key] for key in OF_SOURCE if key in source.metadata}
        self._made = self._viewer.add_image(
            begun.made,
            name=f"{begun.metadata['contrast']} (synthetic) from {source.name}",
            contrast_limits=(begun.target.low, begun.target.high),
            metadata=of_source | begun.metadata | {"dtype": begun.target.dtype},
            rgb=False,
            **self._place.geometry,
        )

        if begun.doubts:
            doubts, says, most = begun.doubts
            self._doubts = self._viewer.add_image(
                doubts,
                name=f"expected error of {self._made.name}",
                contrast_limits=(0, most),
                colormap="inferno",  # with additive blending black, no error, lets the image through
                blending="additive",
                metadata=of_source | begun.metadata | says,
                rgb=False,
                **self._place.geometry,
            )
            self._viewer.layers.selection.active = self._made

    def _refresh(self) -> None:
        for layer in filter(None, (self._made, self._doubts)):
            layer.refresh()

    def _layers(self, _: Any) -> list[Layer]:
        return list(self._viewer.layers)

    def _contrasts(self, _: Any) -> list[str]:
        return [self._about.config.t2_label, self._about.config.t1_label] if self._about else []

    def _on_layers(self, _: Any = None) -> None:
        self.form["layer"].reset_choices()

    def _on_active(self, _: Any = None) -> None:
        """The layer that the user has selected is the one to translate."""
        active = self._viewer.layers.selection.active
        if active is not None and not active.metadata.get("preview") and not self.running:
            self.form["layer"].reset_choices()
            self.form["layer"].value = active

    def _on_trained(self, path: str) -> None:
        if self.running or self.form["model"].value not in (Path(), self._suggested):
            return  # the user has chosen another one
        self._suggested = Path(path)
        self.form["model"].value = self._suggested
        self._on_model()

    def _on_model(self, _: Any = None) -> None:
        try:
            self._about = read_about(self.form["model"].value)
        except Refusal as error:
            self._about = None
            self.status.setText(str(error))
        else:
            self.status.setText(described(self._about))
        before = list(self.form["to"].choices)
        self.form["to"].reset_choices()
        if list(self.form["to"].choices) != before:
            self._suggest_direction()

    def _suggest_direction(self, _: Any = None) -> None:
        """The other contrast than the layer's own."""
        layer = self.form["layer"].value
        if self._about is None or layer is None:
            return
        own = str(layer.metadata.get("contrast", "")).casefold()
        for label, other in (self._contrasts(None), self._contrasts(None)[::-1]):
            if own == label.casefold():
                self.form["to"].value = other


def translated(
    source: Source, model_path: Path, to: Side, device: str, stop: Callable[[], bool]
) -> Iterator[Begun | Translated]:
    """Read the model and translate; runs in the worker thread."""
    from ..data.slices import fingerprint
    from ..model.device import describe, pick_device
    from ..model.saved import load_model  # these bring torch, which takes seconds: not in the GUI thread
    from ..synthesis.familiarity import unfamiliar
    from ..synthesis.prepare import input_range, provenance, remarks
    from ..synthesis.translation import blank, stream
    from ..synthesis.uncertainty import Doubt

    where = pick_device(device)
    model = load_model(model_path, where)
    intensity, unusual = input_range(source.data, model, to)
    odd = unfamiliar(
        source.data,
        model.about.familiar,
        model.config,
        to,
        intensity,
        affine=source.affine,
        spacing=source.spacing,
    )
    # what is read piece by piece is too large to be read once more for this
    whole = isinstance(source.data, np.ndarray) and source.data.ndim <= 3
    seen = fingerprint(as_volume(source.data, source.name, source.affine)) in model.about.seen if whole else None
    made = blank(source.data.shape)
    doubt = (Doubt(model, to), blank(source.data.shape)) if source.trust else None
    target = model.about.ranges[to]
    doubts = (doubt[1], doubt[0].provenance(), doubt[0].most * (target.high - target.low)) if doubt else None
    told_of = remarks(
        model,
        to,
        unusual=unusual,
        spacing=source.spacing,
        odd=odd,
        seen=seen,
        looks=source.looks,
        synthetic=source.synthetic,
        doubt=doubt and doubt[0],
    )
    says = provenance(model, to, source.name, odd) | ({} if seen is None else {"seen_in_training": seen})
    yield Begun(describe(where), made, says, target, tuple(told_of), doubts)
    yield from stream(
        source.data,
        model,
        to=model.config.label(to),
        affine=source.affine,
        spacing=source.spacing,
        planes=source.planes,
        out=made,
        intensity=intensity if source.data.ndim <= 3 else None,  # each volume of a series has a range of its own
        doubt=doubt,
        stop=stop,
    )
