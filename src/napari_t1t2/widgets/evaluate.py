"""Compare a synthetic layer with another one: look at both in one picture, score it against the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, Container, FloatSlider, SpinBox
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer
from qtpy.QtCore import QEvent
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QPushButton, QWidget

from .. import __version__
from ..errors import Refusal
from ..provenance import MAPS, Provenance
from ._comparison import Evaluated, Source, Stage, evaluated, have_one_unit, likeness, warnings
from ._form import name_row, narrow, stack
from ._job import JobWidget
from ._layers import follow, maps_of, place_of, provenance_of, refuse_no_image
from ._planes import PlanesWindow
from ._scores import JointHistogram, ScoreTable, as_csv
from ._views import DIFFERENCES, OF_PLACE, WAYS, View

if TYPE_CHECKING:
    import napari

    from ..events import Failed

HEAD = "inside the head"
YES = {True: "yes", False: "no", None: "unknown"}


class EvaluateWidget(JobWidget):
    """Two layers in one picture, or in three planes; with a region, a table, a joint histogram and the differences."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        self._viewer = napari_viewer
        self._compared: tuple[Layer, Layer] | None = None
        self._matched = False
        self._shown = ""  # by blinking
        self._csv = ""
        self._difference: Layer | None = None
        self.form: Container[Any] = Container(
            widgets=[
                narrow(ComboBox(name="synthetic", choices=self._images, tooltip="The image to score.")),
                narrow(
                    ComboBox(
                        name="real",
                        label="compare with",
                        choices=self._images,
                        tooltip="The scan that it should look like; to look at both, also the one that it was made of.",
                    )
                ),
                ComboBox(
                    name="view",
                    choices=("separate layers", *WAYS),
                    tooltip="Both in one picture, in whatever plane: curtain and checkerboard show the first beside "
                    "the second, blink one after the other, difference the first minus the second.",
                ),
                FloatSlider(
                    name="at",
                    label="position",
                    value=0.5,
                    max=1,
                    step=0.01,
                    readout=False,
                    tooltip="Where the curtain hangs; how small the squares are. Or hold Shift over the image and move "
                    "the mouse.",
                ),
                CheckBox(
                    name="same_limits",
                    text="Same contrast limits for both",
                    value=True,
                    tooltip="Off: each is shown with its own limits, as suits images of two contrasts.",
                ),
                ComboBox(
                    name="colours",
                    choices=tuple(DIFFERENCES),
                    tooltip="Of differences and of expected errors; all can be read without telling red from green.",
                ),
                CheckBox(
                    name="match_intensities",
                    text="Match intensities first",
                    tooltip="Scale the synthetic image so that both heads have the same median: MR intensities have no "
                    "fixed unit.",
                ),
                narrow(
                    ComboBox(
                        name="region",
                        choices=self._regions,
                        tooltip="Where to score, besides the whole slices: inside the head, or a labels layer.",
                    )
                ),
                SpinBox(
                    name="label",
                    label="label (0: any)",
                    min=0,
                    max=2**31 - 1,
                    tooltip="Of the labels layer: the label to score in; 0 takes all labels.",
                ),
            ]
        )
        for row in self.form:
            name_row(row)
        self.table = ScoreTable()
        self.histogram = JointHistogram()
        super().__init__(stack(QWidget(), self.form.native, self.table, self.histogram), "Evaluate")
        self._own: dict[str, Layer | None] = {}  # what the user has chosen
        self.form["label"].enabled = self.form["at"].visible = False
        self.copy = QPushButton("Copy as CSV")
        self.copy.setVisible(False)
        self.planes = QPushButton("Three planes")
        self.planes.setToolTip("A window of axial, coronal and sagittal slices of both and of the expected error.")
        self.buttons.addWidget(self.copy, 1)
        self.buttons.addWidget(self.planes, 1)
        self.tab_through(self.go, self.stop, self.next, self.copy, self.planes)
        self.view = View(self, napari_viewer)
        self.planes_window: PlanesWindow | None = None
        self.copy.clicked.connect(self._on_copy)
        self.planes.clicked.connect(self._on_planes)
        for name in ("synthetic", "real", "view", "same_limits"):
            self.form[name].changed.connect(self._on_view)
        self.form["at"].changed.connect(self.view.hang)
        self.view.hung.connect(lambda at: setattr(self.form["at"], "value", at))
        self.view.shows.connect(self._on_shown)
        self.form["colours"].changed.connect(self._on_colours)
        self.form["region"].changed.connect(self._on_region)
        for name in ("synthetic", "real"):
            self.form[name].changed.connect(lambda layer, name=name: self._on_choice(name, layer))
        follow(napari_viewer, self._on_layers)
        napari_viewer.layers.events.removed.connect(self._on_removed)
        self._on_layers()

    def start(self) -> Callable[[Callable[[], bool]], Iterator[Stage | Evaluated]]:
        """Read the form."""
        self.copy.setVisible(False)  # the numbers before are of other layers
        fake, real, region = (self.form[name].value for name in ("synthetic", "real", "region"))
        if fake is None or real is None:
            raise Refusal("There is no layer to evaluate: open a synthetic image and the real one.")
        if fake == real:
            raise Refusal(f"{fake.name!r} is chosen twice: choose the real image that it should look like.")
        for layer in (fake, real):
            refuse_no_image(layer)
        whose = [str(layer.metadata.get("subject") or "") for layer in (fake, real)]
        if all(whose) and whose[0] != whose[1]:
            raise Refusal(
                f"{fake.name!r} is of another patient ({whose[0]}) than {real.name!r} ({whose[1]}): choose the real "
                "image of the same head."
            )
        one, other = (Source.of(layer, fake, self.tell) for layer in (fake, real))
        drawn = Source.of(region, fake, self.tell) if isinstance(region, Labels) else None
        for sentence in warnings(fake, real):
            self.tell(sentence)
        label, match = self.form["label"].value, self.form["match_intensities"].value
        self._compared, self._matched = (fake, real), match
        return lambda stop: evaluated(one, other, drawn, label, match=match, stop=stop)

    def missing(self) -> str:
        """Two images."""
        fake, real = (self.form[name].value for name in ("synthetic", "real"))
        if fake is not None and fake == real and len(self.form["real"].choices) > 1:
            return "choose two images"
        return "open two images" if None in (fake, real) or fake == real else ""

    def on_event(self, event: Stage | Evaluated | Failed) -> None:
        """Show how far it is, then what was found."""
        match event:
            case Stage(fraction=fraction, text=text):
                self.show_fraction(fraction, text)
                self.status.setText(text)
            case Evaluated() if self._compared and all(one in self._viewer.layers for one in self._compared):
                self._show(event)
            case Evaluated():
                self.status.setText("One of the two images was removed meanwhile: there is nothing to show.")

    def _show(self, event: Evaluated) -> None:
        assert self._compared is not None
        fake, real = self._compared
        score = event.score
        for notice in event.notices:
            self.tell(notice)
        if event.resampled:
            self.mention(f"{real.name!r} was resampled onto the grid of {fake.name!r}.")
        if remark := score.remark():
            self.tell(remark)
        about = {
            "synthetic": fake.name,
            "real": real.name,
            "intensities matched": YES[self._matched],
            "resampled": YES[event.resampled],
            "seen in training": YES[fake.metadata.get("seen_in_training")] if fake.metadata.get("synthetic") else "",
            "napari-t1t2": __version__,
        }
        self._csv = as_csv(score, about)
        self.copy.setVisible(True)
        self.table.show_score(score)
        self.histogram.draw(event.counts, event.edges, score.region, (real.name, fake.name))
        name = self._show_difference(event, fake, real)
        self.status.setText(
            f"{fake.name!r} against {real.name!r}: {score.head_voxels:,} voxels {score.region}; made {name!r}."
        )

    def _show_difference(self, event: Evaluated, fake: Layer, real: Layer) -> str:
        """Lay it over the synthetic layer, into the layer that an earlier press made; returns what that is called."""
        name = f"difference: {fake.name} minus {real.name}"
        shown = {"contrast_limits": (-event.limit, event.limit)} | place_of(fake).geometry
        layers = self._viewer.layers
        old = next((layer for layer in layers if layer.metadata.get("difference") == name), None)
        if old is not None and old.ndim == fake.ndim:
            for key, value in ({"data": event.difference} | shown).items():
                setattr(old, key, value)
            self._difference = old
            return name
        active = layers.selection.active
        self._difference = self._viewer.add_image(
            event.difference,
            name=name,
            rgb=False,
            colormap=DIFFERENCES[self.form["colours"].value][0],
            metadata={key: fake.metadata[key] for key in OF_PLACE if key in fake.metadata}
            | Provenance(kind="difference", contrast="difference", meaning=name).to_dict()
            | {"difference": name, "dtype": "float32"},
            **shown,
        )
        layers.selection.active = active  # what the user has selected stays selected
        return name

    def event(self, event: QEvent) -> bool:
        """Take the picture away when the dock is closed: nobody could move it any more."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.form["view"].value = "separate layers"
            if self.planes_window:
                self.planes_window.close()
        return bool(super().event(event))

    def _on_view(self, _: Any = None) -> None:
        """Show both as was chosen; say why not where that cannot be."""
        fake, real, way = (self.form[name].value for name in ("synthetic", "real", "view"))
        self.form["at"].visible = way in ("curtain", "checkerboard")
        if self.status.text() == self._shown:  # the name of the last one that blinked
            self.status.setText("")
        if way not in WAYS or fake is None or real is None or fake == real:
            self.view.close()
            return
        with self.form["same_limits"].changed.blocked():
            if (fake, real) != self.view.layers:
                self.form["same_limits"].value = have_one_unit(fake, real)
        try:
            self.view.show(fake, real, way, same=self.form["same_limits"].value, at=self.form["at"].value)
        except Refusal as error:
            self.view.close()
            self.status.setText(str(error))
        else:
            self._on_colours()

    def _on_shown(self, name: str) -> None:
        self._shown = name
        self.status.setText(name)

    def _on_colours(self, _: Any = None) -> None:
        differences, errors = DIFFERENCES[self.form["colours"].value]
        for layer in self._viewer.layers:
            kind = said.kind if isinstance(layer, ImageLayer) and (said := provenance_of(layer)) else ""
            if kind == "difference" or kind in MAPS:
                layer.colormap = differences if kind == "difference" else errors
        if self.view.layer is not None:  # which is a comparison, not a difference
            self.view.layer.colormap = differences if self.form["view"].value == "difference" else "gray"

    def _on_planes(self) -> None:
        """Open the window of three planes: what was given to the network, what it made, the error to expect."""
        fake, real = self.form["synthetic"].value, self.form["real"].value
        if fake is None:
            self.status.setText("There is no layer to show: open an image first.")
            return
        images = [layer for layer in self._viewer.layers if isinstance(layer, ImageLayer)]
        made_of = fake.metadata.get("source")
        sources = [one for one in images if made_of and made_of in (one.name, one.metadata.get("file"))][:1]
        wanted = dict.fromkeys([*sources, fake, *maps_of(fake, images), *([real] if real is not None else [])])
        shown = [layer for layer in wanted if layer.ndim <= 3]
        if fake not in shown:
            self.status.setText(
                f"{fake.name!r} has {fake.ndim} axes: split it into volumes (right-click, Split Stack)."
            )
            return
        if self.planes_window is None:
            self.planes_window = PlanesWindow(self, self._viewer)
        self.planes_window.show_layers(shown)
        self.planes_window.show()
        self.planes_window.raise_()

    def _on_removed(self, event: Any) -> None:
        """Take away what was found out about a layer that is gone."""
        gone = event.value
        if gone in (self.view.layer, *self.view.layers):
            self.form["view"].value = "separate layers"
        if self.planes_window and gone in self.planes_window.layers:
            self.planes_window.close()
            self.planes_window.show_layers([])
        if self._compared and gone in self._compared and not self.running:
            self._compared = None
            self.table.hide()
            self.histogram.hide()
            self.copy.setVisible(False)
            self.status.setText("")
            for layer in [layer for layer in self._viewer.layers if layer == self._difference]:
                self._viewer.layers.remove(layer)

    def _on_copy(self) -> None:
        clipboard = QGuiApplication.clipboard()
        assert clipboard is not None
        clipboard.setText(self._csv)
        self.status.setText("Copied the table as CSV: a header and two lines.")

    def _images(self, _: Any) -> list[Layer]:
        return [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, ImageLayer) and not {"preview", "prepared"} & layer.metadata.keys()
            if (said := provenance_of(layer)) is None or said.kind == "image"
        ]

    def _regions(self, _: Any) -> list[str | Layer]:
        return [HEAD, *(layer for layer in self._viewer.layers if isinstance(layer, Labels))]

    def _on_region(self, region: str | Layer) -> None:
        self.form["label"].enabled = isinstance(region, Labels)

    def _on_choice(self, name: str, layer: Layer | None) -> None:
        self._own[name] = layer
        if name == "synthetic" and self._own.get("real") == layer:
            del self._own["real"]
        self._on_layers()

    def _on_layers(self, _: Any = None) -> None:
        """Suggest a synthetic image and a scan like it, the newest first, where the user has chosen none."""
        images = self._images(None)[::-1]
        own = {name: layer for name, layer in self._own.items() if layer in images}
        with self.form["synthetic"].changed.blocked(), self.form["real"].changed.blocked():
            region = self.form["region"].value
            for name in ("synthetic", "real", "region"):
                self.form[name].reset_choices()  # which lets go of one that was renamed
            if isinstance(region, Labels) and region in self._viewer.layers:
                self.form["region"].value = region
            if images:
                fake = own.get("synthetic", max(images, key=lambda layer: bool(layer.metadata.get("synthetic"))))
                real = own.get("real", max(images, key=lambda layer: likeness(layer, fake)))
                self.form["synthetic"].value, self.form["real"].value = fake, real
        self.check()
