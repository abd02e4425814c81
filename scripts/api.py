#!/usr/bin/env python3
"""Write docs/api.md anew from the docstrings: `python scripts/api.py`. A test compares them."""

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/api.md"
PUBLIC = {
    "config": ("preset", "TrainConfig", "ModelConfig"),
    "runs.training": ("train",),
    "events": ("Reading", "Started", "Progress", "Preview", "Saved", "Noted", "Finished", "Translated"),
    "images.read": ("read_image", "read_folder"),
    "images.write": ("write_image",),
    "images.volume": ("Volume",),
    "model.saved": ("load_model", "Model"),
    "model.about": ("About",),
    "model.card": ("card_of",),
    "model.exported": ("write_onnx", "write_bioimageio", "write_torchscript"),
    "synthesis.translation": ("translate", "stream"),
    "synthesis.evaluation": ("evaluate", "evaluate_volumes", "Score"),
    "synthesis.lesions": ("lesions_of",),
    "synthesis.uncertainty": ("UncertaintyMap",),
    "synthesis.calibration": ("calibrate", "store"),
    "provenance": ("Provenance",),
    "errors": ("Refusal",),
}
INTRO = """# API

What scripts and notebooks use, with its docstrings, made by `scripts/api.py`; [Scripting](scripting.md) shows it used.
What is not on this page may change in any version. Settings have [a page of their own](settings.md).
"""


def page() -> str:
    """The whole page as Markdown."""
    parts = [INTRO]
    for home, names in PUBLIC.items():
        module = import_module(f"napari_t1t2.{home}")
        parts.append(f"## napari_t1t2.{home}\n\n{inspect.getdoc(module)}\n")
        parts += [entry(name, getattr(module, name)) for name in names]
    return "\n".join(parts)


def entry(name: str, thing: object) -> str:
    """Signature and docstring of a function or class, and of a class its methods."""
    lines = [f"### {name}\n", *signature(name, thing), f"```text\n{inspect.getdoc(thing)}\n```\n"]
    for method, code in vars(thing).items() if inspect.isclass(thing) else ():
        function = getattr(code, "fget", None) or getattr(code, "__func__", code)
        if not method.startswith("_") and inspect.isfunction(function) and function.__doc__:
            first = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
            lines.append(f"- `{method}`: {first}")
    return "\n".join(lines) + "\n"


def signature(name: str, thing: object) -> list[str]:
    """Of a function its arguments, of a class its fields as they stand in the code; both as text."""
    if inspect.isfunction(thing):
        said = inspect.signature(thing)
        by_name = {one.name for one in said.parameters.values() if one.kind == one.KEYWORD_ONLY}
        lines = [f"    {one},{'  # by name' if one.name in by_name else ''}" for one in said.parameters.values()]
        lines = [line.replace("'", "") for line in (f"{name}(", *lines, f") -> {said.return_annotation}")]
    else:
        fields = [] if name.endswith("Config") else inspect.getsource(thing).splitlines()  # type: ignore[arg-type]
        lines = [line[4:] for line in fields if re.match(r"    [a-z]\w*: ", line)]
    text = re.sub(r"<(function|Ranks).*? at 0x\w+>", "...", "\n".join(lines))
    return [f"```text\n{text}\n```\n"] if text else []


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    PAGE.write_text(page(), encoding="utf-8")
