"""What napari is told about the plugin."""

from importlib.metadata import entry_points
from pathlib import Path

import pytest
from npe2 import PluginManifest
from npe2.manifest.utils import import_python_name

import napari_t1t2

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(Path(napari_t1t2.__file__).parent / "napari.yaml")


def test_each_door_of_the_manifest_opens(manifest):
    for command in manifest.contributions.commands:
        assert callable(import_python_name(command.python_name)), command.id


def test_the_three_widgets_have_their_names(manifest):
    assert [w.display_name for w in manifest.contributions.widgets] == ["Load T1/T2 folders", "Train", "Translate"]


def test_the_entry_point_leads_to_the_manifest():
    (entry,) = entry_points(group="napari.manifest", name="napari-t1t2")
    assert entry.value == "napari_t1t2:napari.yaml"


def test_the_manifest_at_the_root_is_the_one_in_the_package(manifest):
    assert (ROOT / "napari.yaml").read_text() == (Path(napari_t1t2.__file__).parent / "napari.yaml").read_text()
