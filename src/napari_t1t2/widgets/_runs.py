"""The list of earlier trainings: look at them, use them, go on with them, tidy them up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QProcess, QSize, Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices, QIcon, QPixmap
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QInputDialog,
    QListWidget,
    QListWidgetItem,
    QMessageBox,
    QPushButton,
    QWidget,
)

from ..errors import Refusal
from ..model.about import MODEL_FILE
from ..runs.command import COMMAND
from ..runs.folder import is_taken
from ..runs.listing import Run, delete_run, rename_run, runs_in
from ._card import CardView
from ._form import stack
from ._job import Status
from ._memory import memory

HEIGHT = 190  # pixels of the list, at most before it scrolls
BEST, COMPARE = "Translate with best", "Compare two"
KINDS = {"ONNX (*.onnx)": ".onnx", "TorchScript (*.ts)": ".ts", "bioimage.io package (*.zip)": ".zip"}
TIPS = {
    BEST: "The saved model with the lowest error on the slice held out, where that is not the last one.",
    "Export": "One direction as ONNX, TorchScript or a bioimage.io package, for other programs.",
    COMPARE: "Choose two (with Ctrl or Shift): translate the same layer with both, and show one beside the other.",
}


class RunList(QWidget):
    """One row for each run: its last preview, its name, and what it is in a line."""

    use = Signal(object)  # the folder of a run, or a model in it, to translate with
    go_on = Signal(object)  # to train on
    compare = Signal(object)  # the models of two
    moved = Signal(object, object)  # the folder before, and the one now, which is the same where it was deleted

    def __init__(self) -> None:
        super().__init__()
        self.list = QListWidget()
        self.list.setAccessibleName("earlier trainings")
        self.list.setIconSize(QSize(72, 48))
        self.list.setWordWrap(True)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setSelectionMode(QListWidget.SelectionMode.ExtendedSelection)
        self.says, self.card = Status(), CardView()
        self.buttons: dict[str, QPushButton] = {}
        grid = QGridLayout(actions := QWidget())
        grid.setContentsMargins(0, 0, 0, 0)
        for n, (text, action) in enumerate(
            (
                ("Translate with it", lambda run: self.use.emit(run.folder)),
                (BEST, lambda run: self.use.emit(run.best)),
                ("Continue", lambda run: self.go_on.emit(run.folder)),
                ("Open folder", lambda run: QDesktopServices.openUrl(QUrl.fromLocalFile(str(run.folder)))),
                ("Rename", self._rename),
                ("Export", self._export),
                (COMPARE, lambda _: self.compare.emit([run.folder / MODEL_FILE for run in self._chosen])),
                ("Delete", self._delete),
            )
        ):
            self.buttons[text] = button = QPushButton(text)
            button.setToolTip(TIPS.get(text, ""))
            button.clicked.connect(lambda _=False, action=action: self._act(action))
            grid.addWidget(button, n // 2, n % 2)
        stack(self, self.list, self.says, self.card, actions)
        self.list.currentRowChanged.connect(self._on_row)
        self.list.itemSelectionChanged.connect(self._on_row)
        self._runs: list[Run] = []

    def refresh(self, chosen: Path | None = None) -> None:
        """Look anew at what there is."""
        before = chosen or (self.run.folder if self.run else None)
        self._runs = runs_in(memory.home, memory.run_folders)
        self.list.clear()
        for run in self._runs:
            item = QListWidgetItem(f"{run.folder.name}\n{run.told()}")
            if run.picture:
                icon = QIcon(picture := QPixmap(str(run.picture)))
                icon.addPixmap(picture, QIcon.Mode.Selected)  # Qt would tint it
                item.setIcon(icon)
            item.setToolTip(str(run.folder))
            self.list.addItem(item)
        rows = sum(self.list.sizeHintForRow(row) for row in range(self.list.count()))
        self.list.setFixedHeight(min(HEIGHT, rows + 2 * self.list.frameWidth() + 2))
        folders = [run.folder for run in self._runs]
        self.list.setCurrentRow(folders.index(before) if before in folders else 0 if folders else -1)
        self._on_row()

    @property
    def run(self) -> Run | None:
        """The one that is chosen."""
        row = self.list.currentRow()
        return self._runs[row] if 0 <= row < len(self._runs) else None

    @property
    def _chosen(self) -> list[Run]:
        rows = sorted(self.list.row(item) for item in self.list.selectedItems())
        return [self._runs[row] for row in rows if row < len(self._runs)]

    def _on_row(self, _: int = 0) -> None:
        run = self.run
        for button in self.buttons.values():
            button.setEnabled(run is not None)
        self.buttons[BEST].setEnabled(run is not None and run.best is not None)
        self.buttons[COMPARE].setEnabled(len(self._chosen) == 2)
        best = f" The best on the slice held out is that of step {run.best_step:,}." if run and run.best else ""
        self.says.setText(f"{run.summary()}.{best}" if run else f"There is no training in {memory.home} yet.")
        self.card.show_card(run.card if run else None)

    def _act(self, action: Callable[[Run], object]) -> None:
        """Do something with the run chosen, and say what hinders."""
        if self.run is None:
            return
        if not (folder := self.run.folder).is_dir():
            self.moved.emit(folder, folder)
            self.refresh()
            self.says.setText(f"{folder} was removed or renamed by another program.")
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
            memory.last_model = new / MODEL_FILE
        self.moved.emit(run.folder, new)
        self.refresh(new)

    def _export(self, run: Run) -> None:
        """Ask for what and where, and let the command do it in a process of its own."""
        labels = run.config.model.t2_label, run.config.model.t1_label
        to, agreed = QInputDialog.getItem(self, "Export a model", "Contrast that it makes", labels, 0, False)
        if not agreed:
            return
        path, kind = QFileDialog.getSaveFileName(self, "Export a model", str(run.folder / f"to {to}"), ";;".join(KINDS))
        if not path:
            return
        asked = ["--overwrite"]  # the dialog has asked, of the name that it was given
        if Path(path).suffix.casefold() not in KINDS.values():
            path, asked = path + KINDS.get(kind, ".onnx"), []
        process = QProcess(self)
        process.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
        process.finished.connect(lambda *_: self._on_exported(process))
        self.says.setText(f"Exporting {path} ...")
        process.start(COMMAND[0], [*COMMAND[1:], "export", str(run.folder), "--to", to, "--out", path, *asked])

    def _on_exported(self, process: QProcess) -> None:
        said = bytes(process.readAll().data()).decode(errors="replace").strip().splitlines()
        self.says.setText(said[-1].removeprefix("napari-t1t2: ") if said else "The export ended without a word.")
        process.deleteLater()

    def _delete(self, run: Run) -> None:
        question = f"Delete the training {run.folder.name} and its model for good?\n\n{run.summary()}\n{run.folder}"
        if QMessageBox.question(self, "Delete a training", question) == QMessageBox.StandardButton.Yes:
            delete_run(run.folder)
            self.moved.emit(run.folder, run.folder)
            self.refresh()
