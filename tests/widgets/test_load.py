import pytest
from PIL import Image

from napari_t1t2.widgets.load import LoadWidget


@pytest.fixture
def widget(viewer, qtbot, told):
    widget = LoadWidget(viewer)
    qtbot.addWidget(widget)
    return widget


def fill(widget, config):
    widget.form["t1_folder"].value = config.t1_folder
    widget.form["t2_folder"].value = config.t2_folder


def test_each_folder_becomes_a_layer_that_knows_its_contrast(widget, viewer, config):
    fill(widget, config)
    widget.go.click()
    widget.wait(20)
    t1, t2 = viewer.layers
    assert (t1.metadata["contrast"], t2.metadata["contrast"]) == ("T1", "T2")
    assert len(t1.data) == len(list(config.t1_folder.iterdir())) == len(t1.metadata["files"])


def test_the_summary_tells_count_size_range_and_what_was_skipped(widget, config):
    (config.t1_folder / "notes.txt").write_text("not an image")
    fill(widget, config)
    widget.go.click()
    widget.wait(20)
    said = widget.status.text()
    assert "T1: 8 images; slices: 8 of 44x36; uint8; values" in said
    assert "skipped notes.txt: not an image" in said


def test_slices_are_shown_as_the_networks_see_them(widget, viewer, config):
    fill(widget, config)
    widget.form["as_seen"].value = True
    widget.form["size"].value = 32
    widget.go.click()
    widget.wait(60)
    seen = viewer.layers["T2 as the networks see it"].data
    assert seen.shape[1:] == (32, 32)
    assert seen.min() == -1 and seen.max() <= 1


def test_labels_other_than_t1_and_t2_are_kept(widget, viewer, config):
    fill(widget, config)
    widget.form["t2_label"].value = "FLAIR"
    widget.go.click()
    widget.wait(20)
    assert viewer.layers[1].metadata["contrast"] == "FLAIR"


def test_one_folder_alone_may_be_looked_at(widget, viewer, config):
    widget.form["t2_folder"].value = config.t2_folder
    widget.go.click()
    widget.wait(20)
    assert [layer.metadata["contrast"] for layer in viewer.layers] == ["T2"]


def test_images_of_two_sizes_become_two_layers(widget, viewer, config, head):
    Image.fromarray(head[:30].astype("uint8")).save(config.t1_folder / "other.png")
    widget.form["t1_folder"].value = config.t1_folder
    widget.go.click()
    widget.wait(20)
    assert {layer.data.shape[1:] for layer in viewer.layers} == {(44, 36), (30, 36)}


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_a_folder_without_images_is_named_in_a_sentence(widget, tmp_path, told, folder):
    (tmp_path / "empty").mkdir()
    widget.form["t1_folder"].value = tmp_path / folder
    widget.go.click()
    widget.wait(20)
    assert folder in widget.status.text() and folder in told[0]


def test_loading_without_a_folder_says_what_to_do(widget, told):
    widget.go.click()
    assert "Choose a folder" in widget.status.text()
    assert not widget.running
