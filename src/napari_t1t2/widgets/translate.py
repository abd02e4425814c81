"""Turn the layer on screen into the other contrast, laid over it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from magicgui.types import FileDialogMode
from magicgui.widgets import CheckBox, ComboBox, Container, FileEdit
from napari.layers import Image as ImageLayer
from napari.layers import Layer
from qtpy.QtCore import QEvent

from ..config import Planes, Side, TrainConfig
from ..errors import Refusal
from ..events import Failed, Translated
from ..images.volume import Image, Volume
from ..model.about import About, read_about
from ..provenance import Provenance
from ._form import field_row, narrow
from ._job import JobWidget
from ._layers import pixels_of, place_of, provenance_of, refuse_no_image
from ._memory import described, memory

if TYPE_CHECKING:
    import napari

FULL, ON_SCREEN = "full resolution", "level on screen"
OF_SOURCE = ("world", "stored_towards", "files", "uid")  # what saving the new layer must know
REFRESH = 0.2  # seconds between two looks at a layer that fills


@dataclass(frozen=True, eq=False)
class Begun:
    """The model is read; these images fill while the job runs, the synthetic one first."""

    device: str
    layers: list[tuple[Image, Provenance, tuple[float, float]]]  # with what each says of itself, and its limits
    dtype: str  # of the synthetic image, once it is saved
    remarks: tuple[str, ...]


@dataclass(eq=False)
class Filling:
    """A layer that fills while the job runs, and says so in its name and metadata until it is full."""

    layer: ImageLayer
    name: str  # what it is called in the end
    called: str  # what it is called now, unless the user has renamed it

    def show(self, fraction: float) -> None:
        """Draw what is there, and say how much that is."""
        if fraction == 1:
            self.layer.metadata = {k: v for k, v in self.layer.metadata.items() if k != "complete"}
        if self.layer.name == self.called:
            self.layer.name = self.name if fraction == 1 else f"{self.name}, {fraction:.0%} done"
            self.called = self.layer.name
        self.layer.refresh()


class TranslateWidget(JobWidget):
    """Layer, model, direction; the result is a new layer in the same place, named and marked as synthetic."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        self._viewer = napari_viewer
        self._about: About | None = None
        self._source: Layer | None = None
        self._filling: list[Filling] = []
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
                    tooltip="Three: average the results of axial, coronal and sagittal slices: smoother between "
                    "slices, at least 3 times slower.",
                ),
                ComboBox(
                    name="level",
                    choices=(FULL, ON_SCREEN),
                    tooltip="Of a layer with several resolutions: all its pixels, or the level on screen.",
                ),
                CheckBox(
                    name="uncertainty",
                    label="uncertainty map",
                    tooltip="Make a second layer, the absolute error to expect. Shown on top of the synthetic image: "
                    "bright is a large expected error, black is none. Takes about seven times as long.",
                ),
                CheckBox(
                    name="anonymous",
                    tooltip="Saved as DICOM or NIfTI, the result tells no name, date or identifier (DICOM PS3.15).",
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
        refuse_no_image(layer)
        several = getattr(layer, "multiscale", False)
        level = layer.data_level if several and self.form["level"].value == ON_SCREEN else 0
        data, notice = pixels_of(layer, level)
        if self.form["model"].value == Path():
            raise Refusal("No model was chosen: train one, or choose the model.safetensors of a run.")
        about = read_about(self.form["model"].value)
        to = about.config.side(self.form["to"].value or "")
        self._source, self._place = layer, place_of(layer, level)
        for sentence in filter(None, (notice, self._place.note)):
            self.tell(sentence)
        volume = Volume(
            data=data,  # (..., rows, columns), perhaps lazy
            name=layer.metadata.get("file") or layer.name,
            looks=str(layer.metadata.get("contrast", "")),
            affine=self._place.affine,
            spacing=self._place.spacing,
            provenance=provenance_of(layer),
        )
        planes, uncertainty, wish = (self.form[name].value for name in ("planes", "uncertainty", "device"))
        job = partial(translated, volume, about.path, to, planes, uncertainty=uncertainty, resampled=level > 0)
        return lambda stop: job(device=wish, stop=stop)

    def on_event(self, event: Begun | Translated | Failed) -> None:
        """Make the layers, show them fill, say how far they are."""
        match event:
            case Begun(device=device, remarks=remarks):
                for remark in remarks:
                    self.tell(remark)
                self.status.setText(f"Translating on {device} ...")
                if self.state not in ("stopping", "stopped"):  # while the model was read
                    self._new_layers(event)
            case Translated(done=done, total=total, remark=remark):
                if not self._filling or self._filling[0].layer not in self._viewer.layers:
                    self._slot.stop()  # the user deleted the layer; nothing is left to fill
                    return
                if remark:
                    self.tell(remark)
                self.show_fraction(done / total, f"{done} of {total} slices")
                if done == total or time.monotonic() - self._refreshed_at > REFRESH:
                    for filling in self._filling:
                        filling.show(done / total)
                    self._refreshed_at = time.monotonic()
                if done == total:
                    self.status.setText(f"Synthetic, not for diagnosis: made {self._filling[0].layer.name!r}.")
                    self._filling.clear()
            case Failed():
                pass

    def event(self, event: QEvent) -> bool:
        """Take unfinished layers away when the dock is closed: the job ends then, and half an image would mislead."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._remove_unfinished()
        return bool(super().event(event))

    def _on_finished(self) -> None:
        if self._filling:  # stopped or failed half-way
            self._remove_unfinished()
            if not isinstance(self._last, Failed):
                self.status.setText("Stopped; the unfinished layer was removed.")
        super()._on_finished()

    def _remove_unfinished(self) -> None:
        for filling in self._filling:
            if filling.layer in self._viewer.layers:
                self._viewer.layers.remove(filling.layer)
        self._filling.clear()

    def _new_layers(self, begun: Begun) -> None:
        source = self._source
        assert source is not None
        of_source = {key: source.metadata[key] for key in OF_SOURCE if key in source.metadata}
        of_source |= {"anonymous": True} if self.form["anonymous"].value else {}
        name = f"{begun.layers[0][1].contrast} (synthetic) from {source.name}"
        for image, says, limits in begun.layers:
            looks: dict[str, Any] = {"metadata": {"dtype": begun.dtype}}
            if says.kind == "expected error":
                name = f"expected error of {name}"
                # with additive blending black, no error, lets the image through
                looks = {"metadata": {}, "colormap": "inferno", "blending": "additive"}
            looks["metadata"] |= of_source | replace(says, complete=False).to_dict()
            called = f"{name}, 0% done"
            layer = self._viewer.add_image(
                image, name=called, contrast_limits=limits, rgb=False, **looks, **self._place.geometry
            )
            self._filling.append(Filling(layer, name, layer.name))
        self._viewer.layers.selection.active = self._filling[0].layer

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
    volume: Volume,
    model_path: Path,
    to: Side,
    planes: Planes,
    *,
    uncertainty: bool,
    resampled: bool,
    device: str,
    stop: Callable[[], bool],
) -> Iterator[Begun | Translated]:
    """Read the model, look at the image and translate it; runs in the worker thread."""
    from ..model.device import describe, pick_device
    from ..model.saved import load_model  # these bring torch, which takes seconds: not in the GUI thread
    from ..synthesis.prepare import prepare
    from ..synthesis.translation import blank, stream
    from ..synthesis.uncertainty import UncertaintyMap

    where = pick_device(device)
    model, shape = load_model(model_path, where), volume.data.shape
    label, target = model.config.label(to), model.about.ranges[to]
    error_map = UncertaintyMap(model, label) if uncertainty else None
    looked = prepare(volume, model, to, error_map=error_map, resampled=resampled)
    made, errors = blank(shape), (error_map, blank(shape)) if error_map else None
    layers = [(made, looked.provenance, (target.low, target.high))]
    if errors:
        layers.append((errors[1], looked.of_errors(errors[0]), (0, errors[0].most * (target.high - target.low))))
    yield Begun(describe(where), layers, target.dtype, looked.remarks)
    yield from stream(
        volume.data,
        model,
        to=label,
        affine=volume.affine,
        spacing=volume.spacing,
        planes=planes,
        out=made,
        intensity=looked.intensity if len(shape) <= 3 else None,  # each volume of a series has a range of its own
        errors=errors,
        stop=stop,
    )
