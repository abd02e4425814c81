from pathlib import Path

import heads
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from napari_t1t2.widgets._folders import SHOWN
from napari_t1t2.widgets._job import KEPT
from napari_t1t2.widgets.load import LoadWidget
from napari_t1t2.widgets.train import TrainWidget


def make_head(index: int, contrast: str) -> np.ndarray:
    """A slice of 44x36, T2 bright where T1 is dark."""
    y, x = np.mgrid[-1:1:44j, -1:1:36j]
    tissue = 0.6 + 0.3 * np.sin(7 * x + index) * np.cos(5 * y - index)
    return 255 * np.where(np.hypot(y / 0.9, x / 0.6) < 1, tissue if contrast == "T1" else 1.2 - tissue, 0)


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


def test_slices_are_shown_as_prepared_for_training(widget, viewer, config):
    fill(widget, config)
    widget.form["prepared"].value = True
    widget.form["size"].value = 32
    widget.go.click()
    widget.wait(60)
    seen = viewer.layers["T2 as prepared for training"].data
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


def test_what_is_wrong_with_a_folder_is_said_once(widget, tmp_path):
    load(widget, tmp_path, tmp_path)
    assert widget.status.text().count("holds no images") == 1


def test_loading_without_a_folder_says_what_to_do(widget, told):
    widget.go.click()
    assert "Choose a folder" in widget.status.text()
    assert not widget.running


@pytest.fixture
def nifti(tmp_path):
    """Writes a small NIfTI head: `nifti("T1/a_T1.nii.gz", "T1")`."""

    def write(name: str, contrast: str, mm=(1.0, 1.0, 3.0), slices=3) -> Path:
        path = tmp_path / "nifti" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = np.stack([make_head(i, contrast).T for i in range(slices)], axis=-1).astype(np.int16)
        nib.save(nib.Nifti1Image(data, np.diag([*mm, 1])), path)
        return path

    return write


def write_mri(folder, number, what, contrast, te=None, tr=None):
    """A DICOM series of two slices, its files named without ending, as scanners do."""
    for k in range(2):
        image = make_head(k, contrast).astype(np.uint16)
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, f"1.2.{number}.{k + 1}"
        ds.SeriesInstanceUID, ds.SeriesNumber, ds.SeriesDescription = f"1.2.{number}", number, what
        ds.StudyInstanceUID, ds.Modality, ds.PatientID, ds.InstanceNumber = "1.1", "MR", "P1", k + 1
        ds.EchoTime, ds.RepetitionTime = te, tr
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 4 * k], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = [1.5, 1.5], 4
        ds.Rows, ds.Columns = image.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.PixelData = image.tobytes()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(folder / f"IM_{9 - k}{number}", enforce_file_format=True)


@pytest.fixture
def mixed(tmp_path):
    """One DICOM folder: a T1, a T2, and a series whose contrast nothing tells."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    write_mri(folder, 2, "t1_se, tra", "T1", 12, 550)
    write_mri(folder, 3, "t2_tse", "T2", 90, 6000)
    write_mri(folder, 4, "t2_tse, fast", "T2", 80, 5000)
    write_mri(folder, 5, "head", "T1")
    return folder


def load(widget, t1_folder=None, t2_folder=None, **rows):
    """Fill the form, press the button and wait."""
    for name, value in {"t1_folder": t1_folder, "t2_folder": t2_folder, **rows}.items():
        if value is not None:
            widget.form[name].value = value
    widget.go.click()
    return widget.wait(60)


def names(viewer, side):
    """Of the layers of one side, less those of an earlier choice."""
    layers = [layer for layer in viewer.layers if layer.metadata.get("side") == side]
    return [layer.name for layer in layers if not layer.name.endswith("(earlier)")]


def use(widget, title, text):
    """Choose in the table what the series of that title is used as."""
    row = next(r for r in range(widget.table.rowCount()) if widget.table.item(r, 0).text().startswith(title))
    widget.table.use(row).setCurrentText(text)


def uses(widget):
    return [widget.table.use(row).currentText() for row in range(widget.table.rowCount())]


def test_each_volume_becomes_a_layer_in_mm_that_knows_where_it_came_from(widget, viewer, nifti):
    folder = nifti("T1/a_T1.nii.gz", "T1", (0.5, 0.5, 3)).parent
    nifti("T1/b_T1.nii.gz", "T1")
    load(widget, folder)
    a, b = viewer.layers
    assert (a.name, b.name) == ("T1: a_T1", "T1: b_T1")
    assert tuple(a.scale) == (3, 0.5, 0.5) and {str(unit) for unit in a.units} == {"millimeter"}
    assert (a.metadata["contrast"], a.metadata["side"], a.metadata["folder"]) == ("T1", "t1", str(folder))
    assert a.visible and not b.visible  # they lie at one place
    assert viewer.layers.selection.active is a


def test_of_many_volumes_a_handful_is_shown_and_that_is_said(widget, viewer, nifti):
    for i in range(SHOWN + 2):
        folder = nifti(f"T1/{i}_T1.nii.gz", "T1").parent
    load(widget, folder)
    assert len(viewer.layers) == SHOWN
    assert f"T1: {SHOWN} of {SHOWN + 2} are shown" in widget.status.text()
    assert widget.table.rowCount() == SHOWN + 2


def test_loose_slices_need_no_table(widget, config):
    load(widget, config.t1_folder, config.t2_folder)
    assert widget.table.isHidden() and not widget.table.rowCount()


def test_one_folder_of_both_contrasts_serves_both_sides(widget, viewer, mixed):
    load(widget, mixed, mixed)
    assert names(viewer, "t1") == ["T1: 2: t1_se, tra, TE 12 ms, TR 550 ms, 2 axial slices"]
    assert len(names(viewer, "t2")) == 2
    assert "nothing says which contrast it is" in widget.status.text()


def test_the_table_shows_what_was_found_and_what_it_is_used_as(widget, mixed):
    load(widget, mixed, mixed)
    table = widget.table
    assert not table.isHidden() and widget.minimumWidth() > table.minimumSizeHint().width()
    assert table.item(0, 0).text() == "2: t1_se\ntra, TE 12 ms, TR 550 ms, 2 axial slices"
    assert table.item(0, 1).text() == "2x44x36\n4x1.5x1.5 mm"
    assert [table.item(row, 2).text() for row in range(4)] == ["T1", "T2", "T2", "unknown"]
    assert uses(widget) == ["T1", "T2", "T2", "neither"]
    assert [table.use(0).itemText(i) for i in range(3)] == ["T1", "T2", "neither"]


def test_a_series_chosen_in_the_table_is_loaded_though_its_name_is_part_of_another(widget, viewer, mixed):
    load(widget, mixed, mixed)
    use(widget, "4: t2_tse", "neither")
    use(widget, "5: head", "T1")
    assert "2 as T1, 1 as T2" in widget.status.text()
    load(widget)
    assert names(viewer, "t2") == ["T2: 3 t2_tse"]
    assert len(names(viewer, "t1")) == 2
    assert uses(widget) == ["T1", "T2", "neither", "T1"]
    assert viewer.layers["T2: 3 t2_tse"].metadata["series"] == widget.form["t2_series"].value == "3 t2_tse"


def test_names_with_commas_are_chosen_exactly(widget, viewer, mixed):
    load(widget, mixed, mixed)
    use(widget, "3: t2_tse", "T1")
    load(widget)
    assert len(names(viewer, "t2")) == 1 and "4: t2_tse, fast" in names(viewer, "t2")[0]
    assert len(names(viewer, "t1")) == 2


def test_contrasts_can_be_swapped(widget, viewer, real_data):
    folder = real_data / "odd/dicom/lit_p04_T1_T2_mixed_folder"
    load(widget, folder, folder)
    assert (names(viewer, "t1"), names(viewer, "t2")) == (["T1: 3 t1_se_tra"], ["T2: 4 t2_tse_tra"])
    use(widget, "3: t1_se_tra", "T2")
    use(widget, "4: t2_tse_tra", "T1")
    load(widget)
    assert (names(viewer, "t1"), names(viewer, "t2")) == (["T1: 4 t2_tse_tra"], ["T2: 3 t1_se_tra"])


def test_a_contrast_left_without_series_is_asked_for(widget, viewer, mixed, told):
    load(widget, mixed, mixed)
    use(widget, "2: t1_se", "neither")
    widget.go.click()
    assert not widget.running
    assert told == ["No series is used as T1: choose one in the table."]


def test_the_series_rows_work_without_the_table(widget, viewer, mixed):
    load(widget, mixed, t1_series="head")
    assert names(viewer, "t1") == ["T1: 5 head"]
    assert uses(widget) == ["neither", "neither", "neither", "T1"]


def test_the_table_speaks_of_the_labels_in_the_form(widget, mixed):
    load(widget, mixed, mixed)
    widget.form["t2_label"].value = "FLAIR"
    assert uses(widget) == ["T1", "FLAIR", "FLAIR", "neither"]


def test_another_folder_forgets_the_series_chosen_of_the_former_but_not_those_typed(widget, mixed, nifti):
    load(widget, mixed, mixed)
    use(widget, "5: head", "T1")
    use(widget, "4: t2_tse", "neither")
    chosen = widget.form["t1_series"].value
    widget.form["t2_folder"].value = nifti("T2/a_T2.nii", "T2").parent
    assert (widget.form["t1_series"].value, widget.form["t2_series"].value) == (chosen, "")
    assert widget.table.isHidden()
    widget.form["t1_series"].value = "head"
    widget.form["t1_folder"].value = nifti("T1/a_T1.nii", "T1").parent
    assert widget.form["t1_series"].value == "head"


def test_a_series_that_nothing_tells_apart_is_said_to_be_used_twice(widget, nifti):
    folder = nifti("one/head.nii", "T1").parent
    load(widget, folder, folder)
    assert "head.nii is used as T1 and as T2: choose one" in widget.status.text()
    use(widget, "head.nii", "T2")
    assert not widget.table.calls("t1") and widget.table.calls("t2") == ["head"]


def test_a_wrong_series_is_told_and_the_table_still_helps(widget, viewer, nifti, told):
    t1 = nifti("T1/a_T1.nii", "T1").parent
    t2 = nifti("T2/a_T1.nii", "T1").parent
    load(widget, t1, t2)
    assert len(told) == 1 and "looks like T1, so it is not used as T2" in told[0]
    assert names(viewer, "t1") and not names(viewer, "t2")
    assert uses(widget) == ["T1", "neither"]
    widget.table.use(1).setCurrentText("T2")
    load(widget)
    assert names(viewer, "t2") == ["T2: a_T1"]


def test_loading_again_adds_no_layers_but_shows_what_the_files_hold_now(widget, viewer, nifti, head):
    own = viewer.add_image(head)
    folder = nifti("T1/a_T1.nii", "T1").parent
    load(widget, folder, prepared=True)
    nifti("T1/a_T1.nii", "T2")
    before = viewer.layers["T1: a_T1"].data.copy()
    load(widget, folder)
    assert [layer.name for layer in viewer.layers] == [own.name, "T1: a_T1", "T1 as prepared for training"]
    assert np.abs(viewer.layers["T1: a_T1"].data - before).max() > 50


def test_what_is_no_longer_chosen_is_hidden(widget, viewer, nifti):
    folder = nifti("T1/a_T1.nii", "T1").parent
    nifti("T1/b_T1.nii", "T1")
    load(widget, folder, t1_series="a_T1")
    load(widget, t1_series="b_T1")
    assert {layer.name: layer.visible for layer in viewer.layers} == {"T1: a_T1 (earlier)": False, "T1: b_T1": True}


@pytest.fixture
def train(viewer, qtbot, told):
    """Opens the Train widget beside it."""

    def opened():
        train = TrainWidget(viewer)
        qtbot.addWidget(train)
        return train

    return opened


def rows(train, side="t1"):
    return train.form[f"{side}_folder"].value, train.form[f"{side}_series"].value


def test_train_follows_each_choice_also_back_to_the_first(widget, train, mixed):
    opened = train()
    for series in ("t1_se", "head", "head", "t1_se"):
        load(widget, mixed, t1_series=series)
        assert rows(opened) == (mixed, series)


def test_train_follows_the_series_chosen_in_the_table(widget, train, mixed):
    opened = train()
    load(widget, mixed, mixed)
    use(widget, "2: t1_se", "neither")
    use(widget, "5: head", "T1")
    assert rows(opened) == (mixed, "")  # until Load is pressed
    load(widget)
    assert rows(opened) == (mixed, "5 head") == rows(train())


def test_train_follows_a_second_folder(widget, train, nifti):
    opened = train()
    for name in ("one", "two"):
        folder = nifti(f"{name}/a_T1.nii", "T1").parent
        load(widget, folder)
        assert rows(opened) == (folder, "")


def test_train_opened_later_takes_the_last_choice_though_its_layers_are_gone(widget, viewer, train, mixed):
    for series in ("t1_se", "head"):
        load(widget, mixed, t1_series=series)
    viewer.layers.clear()
    assert rows(train()) == (mixed, "head")


def test_what_could_not_be_read_is_not_handed_on_to_train(widget, train, nifti, tmp_path):
    opened = train()
    folder = nifti("T1/a_T1.nii", "T1").parent
    load(widget, folder)
    load(widget, tmp_path / "nowhere")
    assert rows(opened) == (folder, "")


def test_a_choice_that_comes_back_gets_its_layers_back(widget, viewer, nifti):
    folder = nifti("T1/a_T1.nii", "T1").parent
    nifti("T1/b_T1.nii", "T1")
    for series in ("a_T1", "b_T1", "a_T1"):
        load(widget, folder, t1_series=series)
    assert {layer.name: layer.visible for layer in viewer.layers} == {"T1: a_T1": True, "T1: b_T1 (earlier)": False}


def test_both_folders_decide_the_resolution_of_the_prepared_images(widget, viewer, nifti):
    t1 = nifti("T1/a_T1.nii", "T1", (1, 1, 3)).parent
    t2 = nifti("T2/a_T2.nii", "T2", (2, 2, 3)).parent
    load(widget, t1, t2, prepared=True)
    seen = [viewer.layers[f"{label} as prepared for training"] for label in ("T1", "T2")]
    assert [tuple(layer.scale) for layer in seen] == [(3, 1.5, 1.5)] * 2
    assert seen[0].data.shape[1:] == (32, 32) and seen[1].data.shape[1:] == (64, 48)
    assert "axial, in-plane resolution 1.5 mm" in widget.status.text()
    beside = viewer.layers["T2: a_T2"].extent.world[1, 2]
    assert all(layer.extent.world[0, 2] > beside for layer in seen)


def test_images_are_prepared_in_the_plane_that_was_asked_for(widget, viewer, nifti):
    load(widget, nifti("T1/a_T1.nii", "T1", (1, 1, 1), slices=24).parent, prepared=True, plane="sagittal")
    assert viewer.layers["T1 as prepared for training"].data.shape[1:] == (32, 48)


def test_a_long_list_of_notes_is_scrolled_and_leaves_room_for_other_docks(widget, nifti):
    folder = nifti("T1/a_T1.nii", "T1").parent
    for i in range(20):
        Image.fromarray(np.full((9, 9), i + 1, np.uint8)).save(folder / f"flat{i}.png")
    widget.show()
    load(widget, folder)
    assert "flat19.png: every pixel is 20" in widget.status.text()
    kept = widget.status.sizeHint().height()
    assert kept == widget.status._kept <= KEPT and kept < widget.status.document().size().height()


@pytest.fixture
def of_two(tmp_path):
    """A folder with one 4D file, of a dark and a bright volume."""
    folder = tmp_path / "4D"
    folder.mkdir()
    one = np.stack([make_head(i, "T1").T for i in range(3)], axis=-1)
    nib.save(
        nib.Nifti1Image(np.stack([one, one[::-1] + 100], axis=-1).astype(np.int16), np.eye(4)), folder / "a_T1.nii"
    )
    return folder


def test_the_frame_of_a_4d_file_is_chosen_and_train_takes_it_over(widget, viewer, qtbot, of_two):
    train = TrainWidget(viewer)
    qtbot.addWidget(train)
    for frame, least in ((0, 0), (1, 100), (0, 0)):
        load(widget, of_two, t1_volume=frame)
        shown = [layer for layer in viewer.layers if layer.visible]
        assert [layer.data.min() for layer in shown] == [least]
        assert shown[0].metadata["volume"] == train.form["t1_volume"].value == frame
    assert train.form["t1_folder"].value == of_two


def test_a_frame_that_is_not_there_is_told(widget, of_two, told):
    load(widget, of_two, t1_volume=7)
    assert "2 volumes, 0 to 1; there is no number 7" in told[0]


def test_a_long_label_leaves_room_for_the_series(widget, mixed):
    widget.form["t2_label"].value = "W" * 250
    load(widget, mixed, mixed)
    widget.resize(460, 800)
    widget.show()
    assert widget.table.columnWidth(0) > 100
    assert widget.minimumSizeHint().width() < 460


def test_no_row_is_cut_off_at_the_side(widget):
    assert widget.minimumSizeHint().width() > widget.folders.native.minimumSizeHint().width()


def test_pairs_that_training_would_find_lie_over_each_other(widget, viewer, tmp_path):
    for contrast in ("T1", "T2"):
        for patient in heads.PATIENTS:
            heads.write_pictures(tmp_path / contrast, heads.head(patient, contrast), patient)
    load(widget, tmp_path / "T1", tmp_path / "T2", prepared=True)
    t1, t2 = (viewer.layers[f"{contrast} of the pairs"] for contrast in ("T1", "T2"))
    assert t1.data.shape == t2.data.shape and tuple(t1.translate) == tuple(t2.translate)
    assert "slices have a matching T2 slice" in widget.status.text()


def test_folders_without_pairs_say_so(widget, tmp_path):
    for contrast, patient in zip(("T1", "T2"), heads.PATIENTS, strict=True):
        heads.write_pictures(tmp_path / contrast, heads.head(patient, contrast), patient)
    load(widget, tmp_path / "T1", tmp_path / "T2", prepared=True)
    assert "No pairs were found: training is unpaired." in widget.status.text()


def test_series_of_a_folder_with_two_volume_numbers_are_listed_once(widget, viewer, of_two):
    load(widget, of_two, of_two, t1_series="a_T1", t2_series="a_T1", t1_volume=0, t2_volume=1)
    assert widget.table.rowCount() == 1
    assert sorted(float(layer.data.min()) for layer in viewer.layers) == [0, 100]


def test_pictures_without_a_place_lie_beside_a_head_in_mm_and_over_each_other(widget, viewer, config, nifti):
    head = nifti("T1/a_T1.nii.gz", "T1").parent
    load(widget, head)
    load(widget, config.t1_folder, config.t2_folder)
    volume, t1, t2 = viewer.layers
    assert t1.translate[-1] > volume.extent.world[1][-1]
    assert t2.translate[-1] == t1.translate[-1]
