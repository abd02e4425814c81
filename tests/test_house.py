"""The rooms of the house: who may import whom."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

import napari_t1t2

HOUSE = Path(napari_t1t2.__file__).parent
FLOORS = (  # from the ground up: a room imports from the floors below it and from itself, never from beside or above
    {"", "errors", "provenance"},
    {"atomic"},
    {"images"},
    {"config", "events", "sample"},
    {"data"},
    {"model"},
    {"synthesis"},
    {"runs"},
    {"commands", "widgets"},
    {"__main__"},
)
MODULES = {path.relative_to(HOUSE).as_posix(): path for path in HOUSE.rglob("*.py")}
LONGEST, LINES = 350, 18_700  # 10,000 were wanted before pairs, every hospital export, the cockpit and model cards

HEAVY = {"torch", "scipy", "skimage", "nibabel", "pydicom", "matplotlib", "qtpy", "magicgui", "napari"}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """The modules of ours that a module imports anywhere, functions included, as parts: ("images", "volume")."""
    room = path.relative_to(HOUSE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*room[: len(room) + 1 - node.level], *(node.module or "").split(".")) if node.module else room[:0]
            for alias in node.names:
                named = (*base, alias.name)
                yield named if HOUSE.joinpath(*named).with_suffix(".py").is_file() else tuple(base)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not any(name.split(".")[0] == "napari_t1t2" for name in names), f"{path}: import ours relatively"


def floor(room: str) -> int:
    return next(height for height, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_only_lead_down(name):
    own = name.removesuffix(".py").split("/")[0].replace("__init__", "")
    for parts in imported(MODULES[name]):
        room = parts[0] if parts else ""
        assert room == own or floor(room) < floor(own), f"{name} imports {'.'.join(parts)}"


def test_no_two_modules_import_each_other_whatever_the_way():
    below = {tuple(name.removesuffix(".py").split("/")): set(imported(path)) for name, path in MODULES.items()}
    while free := {module for module, needed in below.items() if not needed & below.keys() - {module}}:
        below = {module: needed for module, needed in below.items() if module not in free}
    assert not below, f"a circle among {sorted('.'.join(module) for module in below)}"


def test_no_file_is_too_long_to_read():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert max(lengths.values()) <= LONGEST, max(lengths, key=lengths.__getitem__)
    assert sum(lengths.values()) <= LINES


def test_engine_images_and_session_import_where_qt_and_napari_are_absent():
    run(
        "import sys; sys.modules.update(dict.fromkeys(['qtpy', 'napari', 'magicgui', 'superqt', 'PyQt6', 'PySide6']))\n"
        "import napari_t1t2.__main__, napari_t1t2.commands.demo, napari_t1t2.images.write, napari_t1t2.runs.process\n"
        "import napari_t1t2.runs.training, napari_t1t2.synthesis.evaluation, napari_t1t2.synthesis.translation"
    )


def test_images_sample_and_command_line_load_without_torch():
    run(
        "import sys; sys.modules['torch'] = None\n"
        "import napari_t1t2.images.read, napari_t1t2.images.write, napari_t1t2.images.frame, napari_t1t2.sample\n"
        "import napari_t1t2.config, napari_t1t2.runs.folder, napari_t1t2.model.about, napari_t1t2.__main__"
    )


def test_the_package_itself_imports_nothing_heavy():
    loaded = run("import sys, napari_t1t2; print(*sys.modules)").split()
    assert not HEAVY & set(loaded) and "numpy" not in loaded


def test_the_help_is_printed_without_anything_heavy():
    printed = run(
        "import sys, napari_t1t2.__main__ as line\ntry: line.main(['--help'])\nexcept SystemExit: print(*sys.modules)"
    ).splitlines()
    assert printed[0].startswith("usage:") and not HEAVY & set(printed[-1].split())


def test_widgets_readers_and_writers_open_without_anything_that_loads_slowly(tmp_path):
    alone = run("import sys; from napari.components import ViewerModel; ViewerModel(); print(*sys.modules)").split()
    loaded = run(
        "import sys\n"
        "from qtpy.QtCore import QSettings\n"  # no model that the user has trained is remembered
        f"QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, {str(tmp_path)!r})\n"
        "from napari_t1t2.widgets.cockpit import CockpitWidget\n"
        "from napari_t1t2.widgets.evaluate import EvaluateWidget\n"
        "from napari_t1t2.widgets.files import get_reader\n"
        "from napari_t1t2.widgets.load import LoadWidget\n"
        "from napari_t1t2.widgets.train import TrainWidget\n"
        "from napari_t1t2.widgets.translate import TranslateWidget\n"
        "from qtpy.QtWidgets import QApplication\n"
        "from napari.components import ViewerModel\n"
        "app, viewer = QApplication([]), ViewerModel()\n"
        "docks = CockpitWidget, LoadWidget, TrainWidget, TranslateWidget, EvaluateWidget\n"
        "widgets = [dock(viewer) for dock in docks]\n"
        "print(*sys.modules)\n"
        "for widget in widgets:\n"  # as napari does: PyQt may end in a fault where it finds them open
        "    widget.close()\n"
        "    widget.deleteLater()\n"
        "app.processEvents()"
    ).split()
    assert "napari_t1t2.widgets.train" in loaded
    slow = {"torch", "matplotlib", "scipy.ndimage", "skimage.filters", "nibabel", "pydicom"}
    assert not slow & (set(loaded) - set(alone))  # older versions of napari load some of them by themselves


def test_the_lowest_versions_that_are_tested_are_those_that_the_metadata_allow():
    root = Path(__file__).parents[1]
    needed = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    floors = {name.partition("[")[0]: Version(floor) for name, _, floor in (one.partition(">=") for one in needed)}
    lines = (root / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = {name: Version(version) for name, _, version in (line.partition("==") for line in lines if "==" in line)}
    assert pinned == floors
