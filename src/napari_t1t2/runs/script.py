"""A config as the command line and as Python: what a window did can be done again elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from pprint import pformat
from textwrap import indent
from typing import Any

from ..config import PresetName, TrainConfig, preset

OF_SITTING = ("minutes", "steps", "device", "threads", "memory", "precision")  # what a run that goes on may change
FOLDERS = ("t1_folder", "t2_folder", "run_folder")


def as_command(config: TrainConfig, name: PresetName = "laptop", *, resume: bool = False) -> str:
    """The line that trains with this config in a terminal; of the settings, those that differ from the preset's."""
    words = ["napari-t1t2", "train", str(config.t1_folder), str(config.t2_folder), "--run", str(config.run_folder)]
    words += ["--resume"] if resume else ["--preset", name] if name != "laptop" else []
    changed = dict(_changed(config, preset(name)))
    if changed.keys() & {"minutes", "steps"} or resume:  # a budget that is given stands alone
        changed |= {what: getattr(config, what) for what in ("minutes", "steps") if getattr(config, what)}
        changed = {what: value for what, value in changed.items() if what not in ("minutes", "steps") or value}
    if resume:  # all else is that of the run
        changed = {what: value for what, value in changed.items() if what in OF_SITTING}
    for what, value in changed.items():
        flag, given = what.replace("_", "-"), [str(value)]
        if isinstance(value, bool):
            flag, given = flag if value else f"no-{flag}", []
        elif given[0].startswith("-"):  # which would be taken for a flag
            flag, given = f"{flag}={value}", []
        words += [f"--{flag}", *given]
    return shlex.join(words)


def as_python(config: TrainConfig, name: PresetName = "laptop", *, resume: bool = False) -> str:
    """A script that trains with this config, whatever the presets become, and prints what happens."""
    values = pformat(config.to_dict(), sort_dicts=False, width=100)
    return (
        "from napari_t1t2.config import TrainConfig\nfrom napari_t1t2.runs.training import train\n\n"
        f"config = TrainConfig.from_dict(\n{indent(values, '    ')}\n)\n"
        f"for event in train(config{', resume=True' if resume else ''}):\n    print(event)\n"
    )


def _changed(config: TrainConfig, base: TrainConfig) -> Iterator[tuple[str, Any]]:
    for own, other in ((config, base), (config.model, base.model)):
        for f in fields(own):
            if f.name not in (*FOLDERS, "model") and (value := getattr(own, f.name)) != getattr(other, f.name):
                yield f.name, str(value) if isinstance(value, Path) else value
