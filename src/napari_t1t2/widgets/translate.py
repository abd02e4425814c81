"""Turn the layer on screen into the other contrast, laid over it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from magicgui.types import FileDialogMode
from magicgui.widgets import CheckBox, ComboBox, Container, FileEdit
from napari.layers import Layer
from qtpy.QtCore import QEvent
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QWidget

from ..config import Planes, TrainConfig
from ..errors import Refusal
from ..events import Failed, Translated
from ..images.volume import Image, Volume
from ..model.about import SAMPLE_NAME, About, read_about
from ..model.card import card_of
from ..provenance import MAPS, Map
from ..runs.child import Child
from ..runs.command import Line
from ..runs.translating import Begun, Glimpsed, Looked, Mapped, translate_in_child
from ._batch import Batch
from ._card import CardView
from ._filling import Filling, Looking
from ._form import field_row, name_row, narrow, show_sentences, stack
from ._job import JobWidget
from ._layers import BESIDE, MAPLIKE, follow, is_scan, keep_beside, pixels_of, place_of, provenance_of, refuse_no_image
from ._memory import memory

if TYPE_CHECKING:
    import napari

FULL, ON_SCREEN = "full resolution", "level on screen"
OF_SOURCE = ("world", "stored_towards", "files", "uid", "subject", BESIDE)  # what the new layer must know
ROWS: dict[Map, str] = {"expected error": "uncertainty", "interval": "interval"}  # also the command's flags
REFRESH = 1.0  # seconds between two drawings of a layer that fills; the slice on screen is drawn when it is there


class TranslateWidget(JobWidget):
    """Layer, model, direction; the result is a new layer in the same place, named and marked as synthetic.

    It fills in the background, the slice on screen first.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        self._viewer = napari_viewer
        self._about: About | None = None
        self._source: Layer | None = None
        self._level = 0
        self._looking = Looking()
        self._child = child = Child()
        self._images: list[Image] = []
        self._filling: list[Filling] = []
        self._refreshed_at = 0.0
        self._models: list[Path] = []  # still to translate with, where two are compared
        self._compared: list[Layer] = []  # what was made with them
        self._by = ""  # of the names of these
        self.form: Container[Any] = Container(
            widgets=[
                narrow(ComboBox(name="layer", choices=self._layers, nullable=True, tooltip="The image to translate.")),
                FileEdit(
                    name="model",
                    mode=FileDialogMode.EXISTING_FILE,
                    filter="*.safetensors",
                    tooltip=f"A model file that training wrote; {SAMPLE_NAME}: the general one of this program.",
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
                    name="interval",
                    tooltip="Make a layer of half the width of the interval that holds 90 % of voxels: the real value "
                    "is expected between the synthetic one minus and plus it. The model must be calibrated.",
                ),
                CheckBox(
                    name="anonymous",
                    tooltip="Saved as DICOM or NIfTI, the result tells no name, date or identifier (DICOM PS3.15).",
                ),
                field_row(TrainConfig, "device"),
            ]
        )
        for row in self.form:
            name_row(row)
        self.card, self.more = CardView(), Batch()
        self.batch = self.more.rows
        super().__init__(stack(QWidget(), self.form.native, self.card, self.more), "Translate")
        for row in (self.batch["folder"], self.form["to"]):
            row.changed.connect(self.check)
        self.form["interval"].changed.connect(self._on_model)  # it may have been calibrated since
        self.destroyed.connect(lambda: child.close())
        self.form["model"].changed.connect(self._on_model)
        self.form["device"].changed.connect(self._warm)
        self.form["layer"].changed.connect(self._suggest_direction)
        for change in ("current_step", "order", "ndisplay"):
            getattr(napari_viewer.dims.events, change).connect(self._on_dims)
        follow(napari_viewer, self._on_layers)
        napari_viewer.layers.selection.events.active.connect(self._on_active)
        memory.model_changed.connect(self._on_trained)
        self._suggested = memory.last_model or Path(SAMPLE_NAME)
        self.form["model"].line_edit.value = str(self._suggested)  # the row itself would look for a file of that name
        self._on_active()
        keep_beside(napari_viewer)

    def start(self) -> Callable[[Callable[[], bool]], Iterator[Any]]:
        """Read the form."""
        self._source = None
        if self.more.wanted:
            return self._start_batch()
        layer: Layer | None = self.form["layer"].value
        if layer is None:
            raise Refusal("There is no layer to translate: open an image first.")
        refuse_no_image(layer)
        several = getattr(layer, "multiscale", False)
        level = layer.data_level if several and self.form["level"].value == ON_SCREEN else 0
        data, notice = pixels_of(layer, level)
        about = self._read_about()
        to = about.config.side(self.form["to"].value or "")
        self._source, self._level, self._place = layer, level, place_of(layer, level)
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
        options = {name: self.form[name].value for name in ("planes", "device")}
        options |= {"maps": [title for title, row in ROWS.items() if self.form[row].value]}
        options |= {"resampled": level > 0, "looked_at": partial(getattr, self._looking, "at")}
        self._on_dims()
        job = partial(translate_in_child, self._child, volume, about.path, to, **options)
        return lambda stop: job(stop=stop)

    def _start_batch(self) -> Callable[[Callable[[], bool]], Iterator[Any]]:
        self._read_about().config.side(self.form["to"].value or "")
        given = ("model", "to", "planes", "device")
        how = [word for row in given for word in (f"--{row}", str(self.form[row].value))]
        how += [f"--{row}" for row in (*ROWS.values(), "anonymous") if self.form[row].value]
        return self.more.start(how)

    def on_event(self, event: Line | Mapped | Begun | Looked | Glimpsed | Translated | Failed) -> None:
        """Make the layers, show them fill, say how far they are."""
        if self._filling and self._filling[0].layer not in self._viewer.layers:
            self._slot.stop()  # the user deleted the layer; nothing is left to fill
            return
        match event:
            case Mapped(images=images):
                self._images = images
            case Begun(device=device):
                self.status.setText(f"Translating on {device}, the slice on screen first ...")
                if self.state not in ("stopping", "stopped"):  # while the model was read
                    self._new_layers(event)
            case Looked(says=says, remarks=remarks):
                for remark in remarks:
                    self.tell(remark)
                for filling, found in zip(self._filling, says, strict=False):
                    filling.layer.metadata = {**filling.layer.metadata, **replace(found, complete=False).to_dict()}
            case Glimpsed() if self._filling:  # the dock may have been closed since
                self._filling[0].layer.refresh()
            case Translated(done=done, total=total, remark=remark) if self._filling:
                if remark:
                    self.tell(remark)
                self.show_fraction(done / total, f"{done} of {total} slices")
                if done == total or time.monotonic() - self._refreshed_at > REFRESH:
                    for filling in self._filling:
                        filling.show(done / total)
                    self._refreshed_at = time.monotonic()
                if done == total:
                    made = self._filling[0].layer
                    self.status.setText(f"Synthetic, not for diagnosis: made {made.name!r}.")
                    self._compared += [made] if self._by else []
                    self.offer("Compare", (self._compared[0] if self._compared else self._source, made))
                    self._filling.clear()
            case Line(text=text, done=done, total=total):
                self.more.follow(event)
                (self.status.setText if total else self._remark)(text)
                if total:
                    self.show_fraction(done / total, f"{done} of {total} images")

    def missing(self) -> str:
        """An image or a folder, a model, and one that can make what is ticked."""
        wrong = {}
        if self._about and self.form["interval"].value and self.form["to"].value not in card_of(self._about).intervals:
            wrong["interval"] = "Not calibrated for intervals: untick, or run `napari-t1t2 calibrate` first."
        show_sentences(self.form, wrong)
        if not self.more.wanted and self.form["layer"].value is None:
            return "open an image"
        return "see above what is wrong" if wrong else "" if self._about else "choose a model"

    def event(self, event: QEvent) -> bool:
        """Take unfinished layers away when the dock is closed: the job ends then, and half an image would mislead."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._remove_unfinished()
            self._child.close()
        return bool(super().event(event))

    def showEvent(self, event: QShowEvent) -> None:
        """Have the model ready for the first press."""
        super().showEvent(event)
        self._warm()

    def _on_finished(self) -> None:
        if self._filling:  # stopped or failed half-way
            self._remove_unfinished()
            if not isinstance(self._last, Failed):
                self.status.setText("Stopped; the unfinished layer was removed.")
        if isinstance(self._last, Line) and self.more.report:
            self.status.setText(self.more.report)
        self._images = []
        if self._by:
            (self._translate_next if self.state == "completed" else self._forget_comparison)()

    def compare_models(self, models: Sequence[Path]) -> None:
        """Translate the layer with one model after the other, and go on to the next step with what they made."""
        if self.running:
            self.status.setText("Wait until this translation has ended, then compare.")
            return
        self._models, self._compared = list(models), []
        self.batch["folder"].line_edit.value = ""  # it is the layer that both translate
        self._translate_next()

    def _translate_next(self) -> None:
        if self._models:
            model = self._models.pop(0)
            self.form["model"].value, self._by = model, f", {model.parent.name}"
            self.go.click()
        elif len(self._compared) > 1:
            self.next.click()
        if not self.running:
            self._forget_comparison()

    def _forget_comparison(self) -> None:
        self._models, self._by, self._compared = [], "", []

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
        name = f"{begun.says[0][0].contrast} (synthetic) from {source.name}{self._by}"
        for image, (says, limits) in zip(self._images, begun.says, strict=True):
            looks: dict[str, Any] = {"metadata": {"dtype": begun.dtype}}
            called = name
            if says.kind in MAPS:
                called = f"{says.kind} of {name}"
                looks = MAPLIKE | {"metadata": {}, "visible": len(self._filling) < 2}  # two would add up
            looks["metadata"] |= of_source | replace(says, complete=False).to_dict()
            layer = self._viewer.add_image(
                image, name=f"{called}, 0% done", contrast_limits=limits, rgb=False, **looks, **self._place.geometry
            )
            self._filling.append(Filling(layer, called, layer.name))
        self._viewer.layers.selection.active = self._filling[0].layer

    def _layers(self, _: Any) -> list[Layer]:
        return list(self._viewer.layers)

    def _contrasts(self, _: Any) -> list[str]:
        return [self._about.config.t2_label, self._about.config.t1_label] if self._about else []

    def _on_layers(self, _: Any = None) -> None:
        """Propose the newest scan where the one that was chosen is gone; never what is synthetic itself."""
        before = self.form["layer"].value
        with self.form["layer"].changed.blocked():
            self.form["layer"].reset_choices()  # which lets go of one that was renamed
            self.form["layer"].value = before if before in self._viewer.layers else None
        if self.form["layer"].value is None and not self.running:
            self.form["layer"].value = next(filter(is_scan, reversed(self._viewer.layers)), None)
        self.check()

    def _on_active(self, _: Any = None) -> None:
        """The scan that the user has selected is the one to translate."""
        active = self._viewer.layers.selection.active
        self._on_layers()
        if active is not None and is_scan(active) and not self.running:
            self.form["layer"].value = active

    def _on_dims(self, _: Any = None) -> None:
        self._looking.follow(self._source, self._level, self._viewer.dims)

    def _warm(self, _: Any = None) -> None:
        if self._about is not None and self.isVisible() and not self.running:
            self._child.warm(self._about.path, self.form["device"].value)

    def _on_trained(self, path: str) -> None:
        if self.running or self.form["model"].value not in (Path(), self._suggested):
            return  # the user has chosen another one
        self.form["model"].value = self._suggested = Path(path)
        self._on_model()

    def _read_about(self) -> About:
        if self.form["model"].value == Path():
            raise Refusal("No model was chosen: train one, or choose the model.safetensors of a run.")
        return read_about(self.form["model"].value, brief=True)

    def _on_model(self, _: Any = None) -> None:
        try:
            self._about = self._read_about()
        except Refusal as error:
            self._about = None
            self.status.setText(str(error))
        else:
            self.status.setText("")
            self._warm()
        self.card.show_card(card_of(self._about) if self._about else None)
        self.check()
        before = list(self.form["to"].choices)
        self.form["to"].reset_choices()
        if list(self.form["to"].choices) != before:
            self._suggest_direction()

    def _suggest_direction(self, _: Any = None) -> None:
        """The other contrast than the layer's own."""
        self.check()
        layer = self.form["layer"].value
        if self._about is None or layer is None:
            return
        own = str(layer.metadata.get("contrast", "")).casefold()
        for label, other in (self._contrasts(None), self._contrasts(None)[::-1]):
            if own == label.casefold():
                self.form["to"].value = other
