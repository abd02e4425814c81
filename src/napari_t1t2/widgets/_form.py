"""Rows for the fields of a config: limits, choices and help taken from the field."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from magicgui.widgets import ComboBox, Container, FileEdit, Label, Widget, create_widget
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QAbstractSlider, QAbstractSpinBox, QComboBox, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from ..config import ModelConfig, TrainConfig, label_of, spoken
from ..errors import Refusal

SHOWN = ("t1_folder", "t2_folder", "minutes", "device")  # at once; all others are folded away
WRONG = "_wrong"  # ends the name of the sentence below a row


class TrainForm(QWidget):
    """Edit a frozen `TrainConfig`; rows are reached by field name, as in `form["minutes"].value = 10`."""

    changed = Signal(str)  # the name of a row

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        described: list[tuple[Field[Any], Widget]] = [
            (f, field_row(type(part), f.name, getattr(part, f.name)))
            for part in (config, config.model)
            for f in fields(part)
            if f.name != "model"
        ]
        self._rows: dict[str, Any] = {row.name: row for _, row in described}
        self._base = config
        self.basic = Container(widgets=[row for f, row in described if f.name in SHOWN])
        # what is no matter of taste first, then what the networks are made of
        rest = sorted((f.metadata["advanced"], n) for n, (f, _) in enumerate(described) if f.name not in SHOWN)
        self.advanced = Container(widgets=[described[n][1] for _, n in rest])
        self.more = Folded("More settings", self.advanced.native)
        stack(self, self.basic.native, self.more)
        for name, row in self._rows.items():
            row.changed.connect(lambda _, name=name: self.changed.emit(name))
        self._given: dict[str, Any] = {}
        self._shown: dict[str, Any] = {}
        self.fill(config)

    def __getitem__(self, name: str) -> Any:
        return self._rows[name]

    @property
    def config(self) -> TrainConfig:
        """A new, checked config. Raises `Refusal` with a sentence for the user."""
        # a row may show fewer decimals than it was filled with; untouched, it gives back what it was given
        values = {n: self._given[n] if r.value == self._shown[n] else r.value for n, r in self._rows.items()}
        model = {f.name: values.pop(f.name) for f in fields(ModelConfig)}
        return replace(self._base, **values, model=ModelConfig(**model))

    def fill(self, config: TrainConfig, *, keep: Iterable[str] = ()) -> None:
        """Show another config, but leave the rows in `keep` as they are."""
        values = {f.name: getattr(config, f.name) for f in fields(TrainConfig)}
        values |= {f.name: getattr(config.model, f.name) for f in fields(ModelConfig)}
        self.blockSignals(True)  # all rows are one change
        for name, row in self._rows.items():
            if name not in keep:
                _show(row, values[name])
                self._given[name], self._shown[name] = values[name], row.value
        self.blockSignals(False)
        self.changed.emit("")

    def wrong(self, last: str = "") -> dict[str, str]:
        """By row, a sentence on what cannot work. One that names no row is told below the row changed last."""
        found = missing_folders({name: self._rows[name] for name in ("t1_folder", "t2_folder")})
        try:
            self.config  # noqa: B018
        except Refusal as error:
            named = (name for name in self._rows if str(error).startswith(f"{spoken(name)} is "))
            found[next(named, last or "minutes")] = str(error)
        return found

    def show_wrong(self, wrong: dict[str, str]) -> None:
        """Show these sentences and no others; rows that are folded away come to light."""
        show_sentences(self.basic, wrong)
        if show_sentences(self.advanced, wrong):
            self.more.unfold()


def missing_folders(rows: dict[str, Any]) -> dict[str, str]:
    """By row, that the folder in it is not there; an empty row is not wrong yet."""
    return {
        name: f"{row.value} does not exist: choose another folder."
        for name, row in rows.items()
        if row.value != Path() and not row.value.exists()
    }


def show_sentences(container: Container[Any], wrong: dict[str, str]) -> int:
    """Say below each row of a container what is wrong with it, if anything; returns how many are."""
    rows = {row.name: row for row in container}
    for name in rows.keys() & (wrong.keys() | {own.removesuffix(WRONG) for own in rows if own.endswith(WRONG)}):
        if name + WRONG not in rows:
            label = Label(name=name + WRONG, label=" ")  # an empty one would be made of the name
            label.native.setWordWrap(True)
            label.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)  # it wraps
            label.native.setStyleSheet("font-weight: bold; font-style: italic;")
            container.insert(list(rows).index(name) + 1, label)
            rows = {row.name: row for row in container}
        rows[name + WRONG].value = wrong.get(name, "")
        rows[name + WRONG].visible = name in wrong
    return len(rows.keys() & wrong.keys())


class Folded(QWidget):
    """A title to press, and what lies behind it; folded at first."""

    def __init__(self, title: str, content: QWidget) -> None:
        super().__init__()
        self.title = QToolButton()
        self.title.setText(title)
        self.title.setCheckable(True)
        self.title.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.title.setArrowType(Qt.ArrowType.RightArrow)
        self.title.setStyleSheet("QToolButton { border: none; } QToolButton:focus { text-decoration: underline; }")
        self.content = content
        stack(self, self.title, content)
        content.hide()
        self.title.toggled.connect(self._on_toggled)

    def unfold(self, unfolded: bool = True) -> None:
        """Show what lies behind the title, or hide it."""
        self.title.setChecked(unfolded)

    def _on_toggled(self, unfolded: bool) -> None:
        self.title.setArrowType(Qt.ArrowType.DownArrow if unfolded else Qt.ArrowType.RightArrow)
        self.content.setVisible(unfolded)


def field_row(config_class: type, name: str, value: Any = None) -> Widget:
    """One row for one field of a config class; starts with the field's default unless told."""
    field = next(f for f in fields(config_class) if f.name == name)
    hint = get_type_hints(config_class)[name]
    value = field.default if value is None else value
    limits = {"min": field.metadata["low"], "max": field.metadata["high"]}
    options = {k: v for k, v in limits.items() if v is not None} | {"tooltip": field.metadata["help"]}
    if hint is Path:
        options["mode"] = "d"  # every path of a config is a folder
    if hint in (int, float):
        options.setdefault("max", 10_000_000)
    if hint is float:
        options["step"] = 10.0 ** (int(f"{value or 1:e}".split("e")[1]) - 1)
    label = label_of(name)
    row = create_widget(value=value, annotation=hint, name=name, label=label, options=options)
    _show(row, value)
    name_row(row)
    return row


def name_row(row: Any) -> None:
    """Tell a screen reader what a row is."""
    for part in (row.line_edit, row.choose_btn) if isinstance(row, FileEdit) else (row,):
        inner = [one for kind in (QAbstractSlider, QAbstractSpinBox) for one in part.native.findChildren(kind)]
        for native in (part.native, *inner):
            native.setAccessibleName(getattr(row, "text", "") or row.label)
        part.native.setAcceptDrops(not isinstance(row, FileEdit))  # a folder dropped there would become text


def _show(row: Any, value: Any) -> None:
    if value == Path():  # magicgui shows "." or the folder that napari was started in
        row.line_edit.value = ""
    else:
        row.value = value


def narrow(row: ComboBox) -> ComboBox:
    """The row, with long choices cut short rather than its dock made wide."""
    row.native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    row.native.setMinimumContentsLength(8)
    return row


def stack(holder: QWidget, *parts: QWidget) -> QWidget:
    """Lay the parts out in their holder, one below the other; returns the holder."""
    layout = QVBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        layout.addWidget(part)
    return holder


class _LeaveWheel(QObject):
    def eventFilter(self, row: QWidget, event: QEvent) -> bool:
        """Hand a turn of the wheel to what the row lies in, which scrolls."""
        if event.type() != QEvent.Type.Wheel or row.hasFocus():
            return False
        event.ignore()
        return True


def leave_wheel(row: QWidget) -> None:
    """Let the wheel scroll past a number or a choice unless it has the focus, which the wheel does not give."""
    row.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    row.installEventFilter(_LeaveWheel(row))
