"""Rows for the fields of a config: limits, choices and help taken from the field."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from magicgui.widgets import ComboBox, Container, Widget, create_widget
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget
from superqt import QCollapsible

from ..config import ModelConfig, TrainConfig, label_of


class TrainForm(QWidget):
    """Edit a frozen `TrainConfig`; rows are reached by field name, as in `form["minutes"].value = 10`."""

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
        basic = Container(widgets=[row for f, row in described if not f.metadata["advanced"]])
        advanced = Container(widgets=[row for f, row in described if f.metadata["advanced"]])
        self._folded = QCollapsible("More settings")
        self._folded.addWidget(advanced.native)
        stack(self, basic.native, self._folded)
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
        for name, row in self._rows.items():
            if name not in keep:
                _show(row, values[name])
                self._given[name], self._shown[name] = values[name], row.value


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
    return row


def _show(row: Any, value: Any) -> None:
    if value == Path():  # magicgui shows "." or the folder that napari was started in
        row.line_edit.value = ""
    else:
        row.value = value


def narrow(row: ComboBox) -> ComboBox:
    """The row, with long choices cut short rather than its dock made wide."""
    row.native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    row.native.setMinimumContentsLength(12)
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
