"""The rooms of the house: who may import whom."""

import subprocess
import sys

HEAVY = {"torch", "scipy", "skimage", "nibabel", "pydicom", "matplotlib", "qtpy", "magicgui", "napari"}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_engine_images_and_session_import_where_qt_and_napari_are_absent():
    run(
        "import sys; sys.modules.update(dict.fromkeys(['qtpy', 'napari', 'magicgui', 'superqt', 'PyQt6', 'PySide6']))\n"
        "import napari_t1t2.session, napari_t1t2.process, napari_t1t2.images.write, napari_t1t2.engine.training\n"
        "import napari_t1t2.engine.translation, napari_t1t2.engine.evaluation, napari_t1t2.__main__, napari_t1t2.demo"
    )


def test_images_sample_and_command_line_load_without_torch():
    run(
        "import sys; sys.modules['torch'] = None\n"
        "import napari_t1t2.images.read, napari_t1t2.images.write, napari_t1t2.images.frame, napari_t1t2.sample\n"
        "import napari_t1t2.engine.config, napari_t1t2.engine.files, napari_t1t2.__main__"
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
    loaded = run(
        "import sys\n"
        "from qtpy.QtCore import QSettings\n"  # no model that the user has trained is remembered
        f"QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, {str(tmp_path)!r})\n"
        "from napari_t1t2.widgets.evaluate import EvaluateWidget\n"
        "from napari_t1t2.widgets.files import get_reader\n"
        "from napari_t1t2.widgets.load import LoadWidget\n"
        "from napari_t1t2.widgets.train import TrainWidget\n"
        "from napari_t1t2.widgets.translate import TranslateWidget\n"
        "from qtpy.QtWidgets import QApplication\n"
        "from napari.components import ViewerModel\n"
        "app, viewer = QApplication([]), ViewerModel()\n"
        "widgets = LoadWidget(viewer), TrainWidget(viewer), TranslateWidget(viewer), EvaluateWidget(viewer)\n"
        "print(*sys.modules)"
    ).split()
    assert "napari_t1t2.widgets.train" in loaded
    assert not {"torch", "matplotlib", "scipy.ndimage", "skimage.filters", "nibabel", "pydicom"} & set(loaded)
