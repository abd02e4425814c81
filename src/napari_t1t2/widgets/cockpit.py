"""One dock for the whole way: from two folders over a training to a synthetic layer and its comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from ._job import JobWidget
from ._layers import provenance_of
from .load import LoadWidget, folders_in

if TYPE_CHECKING:
    import napari

STEPS = ("Data", "Train", "Translate", "Compare")


class CockpitWidget(QTabWidget):
    """The steps as pages, each made when it is first looked at; a page's last button leads to the next, filled in."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._pages: dict[int, JobWidget] = {}
        self.setDocumentMode(True)
        self.tabBar().setAccessibleName("steps")
        self.setAcceptDrops(True)
        for number, step in enumerate(STEPS, start=1):
            holder = QWidget()
            QVBoxLayout(holder).setContentsMargins(0, 0, 0, 0)
            self.addTab(holder, f"&{number} {step}")
        self.currentChanged.connect(self.page)
        self.page(0)

    def page(self, index: int) -> JobWidget:
        """One of the steps, made where it is not there yet."""
        if index not in self._pages:
            made = self._pages[index] = self._make(index)
            made.in_cockpit = index + 1 < len(STEPS)
            made.next_step.connect(lambda what, index=index: self._go_on(index + 1, what))
            holder = self.widget(index)
            assert holder is not None
            layout = holder.layout()
            assert layout is not None
            layout.addWidget(made)
        return self._pages[index]

    def _make(self, index: int) -> JobWidget:
        match index:
            case 0:
                return LoadWidget(self._viewer)
            case 1:
                from .train import TrainWidget

                return TrainWidget(self._viewer)
            case 2:
                from .translate import TranslateWidget

                return TranslateWidget(self._viewer)
            case _:
                from .evaluate import EvaluateWidget

                return EvaluateWidget(self._viewer)

    def _go_on(self, index: int, what: Any) -> None:
        """Open a step and fill in what the one before has made."""
        page: Any = self.page(index)
        if isinstance(what, Path):  # a run folder, with its model
            page.form["model"].value = what / "model.safetensors" if what.is_dir() else what
        elif isinstance(what, tuple):  # the layer that was translated, and what was made of it
            page.form["synthetic"].value = what[-1]  # whereupon a real one like it is suggested
            if provenance_of(what[0]):  # which was made too, with another model
                page.form["real"].value, page.form["view"].value = what[0], "curtain"
        self.setCurrentIndex(index)
        page.check()
        if isinstance(what, list):  # models
            page.compare_models(what)

    def event(self, event: QEvent) -> bool:
        """Take the pages out when the dock is closed, so that each ends its job as if it had a dock of its own."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            for page in self._pages.values():
                page.setParent(None)
        return bool(super().event(event))

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Folders may be dropped, whatever the page."""
        if event is not None and folders_in(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Go to the data, and load them."""
        self.setCurrentIndex(0)
        load = self.page(0)
        assert isinstance(load, LoadWidget)
        load.dropEvent(event)
