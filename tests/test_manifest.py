"""What napari is told about the plugin."""

from importlib.metadata import entry_points
from pathlib import Path

import pytest
from npe2 import PluginManager, PluginManifest
from npe2.manifest.utils import import_python_name

import napari_t1t2

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(Path(napari_t1t2.__file__).parent / "napari.yaml")


def test_each_door_of_the_manifest_opens(manifest):
    for command in manifest.contributions.commands:
        assert callable(import_python_name(command.python_name)), command.id


def test_the_widgets_have_their_names(manifest):
    names = [w.display_name for w in manifest.contributions.widgets]
    assert names == ["T1 / T2 contrasts", "Load T1/T2 folders", "Train", "Translate", "Evaluate"]


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        *((name, True) for name in ("a.nii", "T1.NII.GZ", "a.mgz", "a.hdr", "IM.dcm", "IM_03000", "I10")),
        *((name, True) for name in ("1.2.840.113619.2.5.1762583153.215519", "MR.1.3.12.2.1107.5.2.30.26380.30")),
        *(
            (name, False)
            for name in ("a.png", "a.tif", "a.jpg", "v1.2.png", "Image #10.png", "a.py", "a.zarr", "long-name")
        ),
    ],
)
def test_the_reader_is_asked_for_volumes_and_not_for_pictures(manifest, name, ours):
    """Where it is asked for a picture as well, napari has two readers and asks the user each time."""
    pm = PluginManager()
    pm.register(manifest)
    assert bool(list(pm.iter_compatible_readers([name]))) == ours


def test_each_kind_of_file_has_its_writer(manifest):
    pm = PluginManager()
    pm.register(manifest)
    for name, command in (("a.nii", "save_nifti"), ("a.nii.gz", "save_nifti"), ("a.dcm", "save_dicom")):
        writer, path = pm.get_writer(name, ["image"])
        assert writer.command == f"napari-t1t2.{command}" and path == name
    assert pm.get_writer("a.png", ["image"])[0] is None and pm.get_writer("a.nii", ["labels"])[0] is None


def test_the_entry_point_leads_to_the_manifest():
    (entry,) = entry_points(group="napari.manifest", name="napari-t1t2")
    assert entry.value == "napari_t1t2:napari.yaml"


def test_the_manifest_at_the_root_is_the_one_in_the_package(manifest):
    assert (ROOT / "napari.yaml").read_text() == (Path(napari_t1t2.__file__).parent / "napari.yaml").read_text()


def test_napari_shows_a_page_of_preferences_and_the_window_follows_it(request, npe2pm, manifest):
    import napari.settings

    if not hasattr(napari.settings, "get_plugin_settings"):
        pytest.skip("plugins have had a page of preferences since napari 0.9")
    request.getfixturevalue("plugin_settings")
    from napari_t1t2.config import TrainConfig
    from napari_t1t2.widgets._memory import preferred

    npe2pm.register(manifest)
    kept = napari.settings.get_plugin_settings("napari-t1t2").training
    assert (kept.device, kept.threads) == (TrainConfig().device, TrainConfig().threads)
    kept.device = "cpu"
    assert preferred("device", "auto") == "cpu"


def test_without_a_page_of_preferences_the_defaults_hold(monkeypatch):
    import napari.settings

    from napari_t1t2.widgets._memory import preferred

    monkeypatch.delattr(napari.settings, "get_plugin_settings", raising=False)  # as before napari 0.9
    assert preferred("device", "auto") == "auto"
