"""The rows of Translate for a whole folder, and the command that they stand for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from magicgui.types import FileDialogMode
from magicgui.widgets import Container, FileEdit

from ..errors import Refusal
from ..runs.command import Line, run_command
from ._form import Folded, name_row

FLAGS = re.compile(r"give (--overwrite to replace it, or )?another --out\.")


class Batch(Folded):
    """A folder to translate and one for the results, behind a title."""

    def __init__(self) -> None:
        self.rows: Container[Any] = Container(
            widgets=[
                FileEdit(
                    name="folder",
                    mode=FileDialogMode.EXISTING_DIRECTORY,
                    tooltip="All its images of the other contrast are translated, instead of the layer above.",
                ),
                FileEdit(
                    name="results",
                    label="save in",
                    mode=FileDialogMode.EXISTING_DIRECTORY,
                    tooltip="Folder for the synthetic images; files that are there are never replaced.",
                ),
            ]
        )
        super().__init__("Translate a whole folder", self.rows.native)
        for row in self.rows:
            name_row(row)
            row.line_edit.value = ""
        self.rows["folder"].changed.connect(self._on_folder)
        self._proposed = Path()
        self._said: list[str] = []  # since the command told last how far it is: in the end, what has become of all

    @property
    def wanted(self) -> bool:
        """Whether a folder was chosen."""
        return bool(self.rows["folder"].value != Path())

    def start(self, how: Sequence[str]) -> Callable[[Callable[[], bool]], Iterator[Line]]:
        """The command, with these further arguments. Raises `Refusal`."""
        folder, results = self.rows["folder"].value, self.rows["results"].value
        if results == Path():
            raise Refusal("No folder was chosen to save the results in: choose one.")
        self._said = []
        command = ["translate", str(folder), "--out", str(results), *how]
        return lambda stop: _in_words_of_the_window(run_command(command, stop=stop))

    def follow(self, line: Line) -> None:
        """Keep what the command says."""
        self._said = [] if line.total else [*self._said, line.text]

    @property
    def report(self) -> str:
        """What has become of all images, once the command has said so."""
        return "\n".join(["Synthetic images, not for diagnosis.", *self._said]) if self._said else ""

    def _on_folder(self, folder: Path) -> None:
        """Propose a folder for the results beside it."""
        if folder != Path() and self.rows["results"].value in (Path(), self._proposed):
            self.rows["results"].value = self._proposed = folder.with_name(f"{folder.name}_synthetic")


def _in_words_of_the_window(lines: Iterator[Line]) -> Iterator[Line]:
    """What a command says, but for flags that a user of the window knows nothing of."""
    try:
        yield from lines
    except Refusal as error:
        raise Refusal(FLAGS.sub("choose another folder to save in.", str(error))) from error
