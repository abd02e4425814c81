#!/usr/bin/env python3
"""Write the tables of docs/settings.md anew from the config: `python scripts/settings.py`. A test compares them."""

import sys
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/settings.md"
BEGIN, END = "<!-- made by scripts/settings.py, from here -->", "<!-- to here -->"


def tables() -> str:
    """All tables as Markdown."""
    from napari_t1t2.config import ModelConfig, TrainConfig

    described = [(f, TrainConfig) for f in fields(TrainConfig) if f.name != "model"]
    described += [(f, ModelConfig) for f in fields(ModelConfig)]
    parts = [
        ("Shown at once, or first under *More settings*", [(f, c) for f, c in described if not f.metadata["advanced"]]),
        ("Further down under *More settings*", [(f, c) for f, c in described if f.metadata["advanced"]]),
    ]
    lines: list[str] = []
    for title, rows in parts:
        lines += [f"## {title}", "", "| setting | what it does | default | allowed |", "|---|---|---|---|"]
        lines += [row(f, get_type_hints(c)[f.name]) for f, c in rows] + [""]
    return "\n".join([*lines, "## What the presets change", "", *presets()])


def row(field: Field[Any], hint: Any) -> str:
    """One line: name, help, the default of the preset `laptop`, limits or choices."""
    says = field.metadata["help"].replace("|", "\\|")
    return f"| `{field.name}` | {says} | {plain(setting_of('laptop', field.name))} | {allowed(field, hint)} |"


def allowed(field: Field[Any], hint: Any) -> str:
    """Choices, or limits."""
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    low, high = field.metadata["low"], field.metadata["high"]
    if low is None:
        return {bool: "yes, no", str: "text", Path: "a folder"}.get(hint, "")
    return f"{low:g} to {high:g}" if high is not None else f"{low:g} or more"


def setting_of(preset_name: Any, name: str) -> Any:
    """What a preset sets."""
    from napari_t1t2.config import preset

    config = preset(preset_name)
    return getattr(config, name) if hasattr(config, name) else getattr(config.model, name)


def presets() -> Iterator[str]:
    """A table of the settings in which a preset differs from `laptop`."""
    from napari_t1t2.config import ModelConfig, PresetName, TrainConfig

    names = get_args(PresetName)
    yield f"| setting | {' | '.join(f'`{name}`' for name in names)} |"
    yield "|---" * (len(names) + 1) + "|"
    for f in (*fields(TrainConfig), *fields(ModelConfig)):
        values = [plain(setting_of(name, f.name)) for name in names if f.name != "model"]
        if len(set(values)) > 1:
            yield f"| `{f.name}` | {' | '.join(values)} |"


def plain(value: Any) -> str:
    """A value as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else "" if value in ("", Path()) else str(value)


def page(text: str) -> str:
    """The page with new tables; what stands before and after them is kept."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
