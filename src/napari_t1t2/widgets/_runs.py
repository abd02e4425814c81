"""The list of earlier trainings: look at them, use them, go on with them, tidy them up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QSize, Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices, QIcon, QPixmap
from qtpy.QtWidgets import QGridLayout, QInputDialog, QListWidget, QListWidgetItem, QMessageBox, QPushButton, QWidget

from ..errors import Refusal
from ..runs.folder import is_taken
from ..runs.listing import Run, delete_run, rename_run, runs_in
from ._form import stack
from ._job import Status
from ._memory import memory

HEIGHT = 170  # pixels of the list


class RunList(QWidget):
    """One row for each run: its last preview, its name, and what it is in a line."""

    use = Signal(object)  # the folder of a run, to translate with
    go_on = Signal(object)  # to train on

    def __init__(self) -> None:
        super().__init__()
        self.list = QListWidget()
        self.list.setAccessibleName("earlier trainings")
        self.list.setIconSize(QSize(72, 48))
        self.list.setWordWrap(True)
        self.list.setFixedHeight(HEIGHT)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.says = Status()
        self.buttons: dict[str, QPushButton] = {}
        grid = QGridLayout(actions := QWidget())
        grid.setContentsMargins(0, 0, 0, 0)
        for n, (text, action) in enumerate(
            (
                ("Translate with it", lambda run: self.use.emit(run.folder)),
                ("Continue", lambda run: self.go_on.emit(run.folder)),
                ("Open folder", lambda run: QDesktopServices.openUrl(QUrl.fromLocalFile(str(run.folder)))),
                ("Rename", self._rename),
                ("Delete", self._delete),
            )
        ):
            self.buttons[text] = button = QPushButton(text)
            button.clicked.connect(lambda _=False, action=action: self._act(action))
            grid.addWidget(button, n // 2 if n < 2 else 1, n if n < 2 else n - 2)
        stack(self, self.list, self.says, actions)
        self.list.currentRowChanged.connect(self._on_row)
        self._runs: list[Run] = []

    def refresh(self, chosen: Path | None = None) -> None:
        """Look anew at what there is."""
        before = chosen or (self.run.folder if self.run else None)
        self._runs = runs_in(memory.home, memory.run_folders)
        self.list.clear()
        for run in self._runs:
            item = QListWidgetItem(f"{run.folder.name}\n{run.trained()}")
            if run.picture:
                item.setIcon(QIcon(QPixmap(str(run.picture))))
            item.setToolTip(str(run.folder))
            self.list.addItem(item)
        folders = [run.folder for run in self._runs]
        self.list.setCurrentRow(folders.index(before) if before in folders else 0 if folders else -1)
        self._on_row()

    @property
    def run(self) -> Run | None:
        """The one that is chosen."""
        row = self.list.currentRow()
        return self._runs[row] if 0 <= row < len(self._runs) else None

    def _on_row(self, _: int = 0) -> None:
        run = self.run
        for button in self.buttons.values():
            button.setEnabled(run is not None)
        self.says.setText(run.summary() if run else f"There is no training in {memory.home} yet.")

    def _act(self, action: Callable[[Run], object]) -> None:
        """Do something with the run chosen, and say what hinders."""
        if self.run is None:
            return
        try:
            action(self.run)
        except (Refusal, OSError) as error:
            self.says.setText(str(error))

    def _rename(self, run: Run) -> None:
        name, agreed = QInputDialog.getText(self, "Rename a training", "New name", text=run.folder.name)
        if not agreed or name == run.folder.name:
            return
        new = rename_run(run.folder, name)
        memory.add_run(new, instead=run.folder)
        if memory.last_model is None and is_taken(new):  # it was the last model
            memory.last_model = new / "model.safetensors"
        self.refresh(new)

    def _delete(self, run: Run) -> None:
        question = f"Delete the training {run.folder.name} and its model for good?\n\n{run.summary()}\n{run.folder}"
        if QMessageBox.question(self, "Delete a training", question) == QMessageBox.StandardButton.Yes:
            delete_run(run.folder)
            self.refresh()
