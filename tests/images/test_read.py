import shutil
from pathlib import Path

import dask.array as da
import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_t1t2.errors import UnusableError
from napari_t1t2.images.folder import Folder, choose, files_in
from napari_t1t2.images.names import natural
from napari_t1t2.images.pixels import to_grey
from napari_t1t2.images.read import read_all, read_folder, read_image
from napari_t1t2.images.volume import Skipped, Volume
from napari_t1t2.images.write import write_image
from napari_t1t2.provenance import Provenance

STORED = {  # in odd/png_tiff: shape and type that a file must be read as
    "exif_rotated.jpg": ((1, 181, 217), "uint8"),
    "extreme_aspect_217x60.png": ((1, 217, 60), "uint8"),
    "large_1736x1448.png": ((1, 1736, 1448), "uint8"),
    "seed_t1.bmp": ((1, 217, 181), "uint8"),
    "seed_t1.jpg": ((1, 217, 181), "uint8"),
    "seed_t1_16bit.tif": ((1, 217, 181), "uint16"),
    "seed_t1_16bit_12used.png": ((1, 217, 181), "uint16"),
    "seed_t1_1bit.png": ((1, 217, 181), "uint8"),
    "seed_t1_LA.png": ((1, 217, 181), "uint8"),
    "seed_t1_deflate_tiled.tif": ((1, 217, 181), "uint8"),
    "seed_t1_float32.tif": ((1, 217, 181), "float32"),
    "seed_t1_int16_negative.tif": ((1, 217, 181), "int16"),
    "seed_t1_odd_181x181.png": ((1, 181, 181), "uint8"),
    "seed_t1_palette.png": ((1, 217, 181), "uint8"),
    "seed_t1_rgb.png": ((1, 217, 181), "uint8"),
    "seed_t1_rgba.png": ((1, 217, 181), "uint8"),
    "seed_t1_stack10.tif": ((10, 217, 181), "uint8"),
    "seed_t1_stack10_ome.ome.tif": ((10, 217, 181), "uint8"),
    "tiny_37x23.png": ((1, 37, 23), "uint8"),
    "名前 with spaces é #1.png": ((1, 217, 181), "uint8"),
}
REFUSED = {
    "png_tiff/all_black.png": "every pixel is 0",
    "png_tiff/constant_128.png": "every pixel is 128",
    "png_tiff/one_pixel.png": "every pixel is",
    "broken/empty.png": "the file is empty",
    "broken/text_named.png": "cannot be decoded",
    "broken/truncated.png": "truncated",
    "broken/truncated.tif": "it is truncated after page 1",
}


@pytest.fixture
def picture(tmp_path, head):
    """Saves a picture made of one head and returns its path: `picture("a.png", lambda grey: ...)`."""

    def save(name: str, make=Image.fromarray, **options) -> Path:
        make(head(0, "T1")).save(tmp_path / name, **options)
        return tmp_path / name

    return save


def colour(grey: np.ndarray) -> Image.Image:
    return Image.fromarray(np.stack([grey, grey // 2, grey // 3], axis=-1))


def test_slices_come_in_natural_order(tmp_path, head):
    for number in (10, 9, 100, 1):
        Image.fromarray(head(0, "T1")).save(tmp_path / f"Image #{number}.png")
    assert [v.name for v in read_folder(tmp_path).volumes] == ["Image #1", "Image #9", "Image #10", "Image #100"]


def test_natural_order_knows_neither_case_nor_an_end_of_digits():
    names = ["b1.png", "A2.png", "a10.png", "2.png", "10.png", "x.png", "scan-1-2.png", "scan-1-10.png"]
    ordered = ["2.png", "10.png", "A2.png", "a10.png", "b1.png", "scan-1-2.png", "scan-1-10.png", "x.png"]
    assert [p.name for p in sorted(map(Path, names), key=natural)] == ordered


def test_a_folder_names_what_it_skips_and_why(t1_folder):
    (t1_folder / "notes.txt").write_text("hello")
    (t1_folder / "broken.png").write_bytes((t1_folder / "Image #5.png").read_bytes()[:200])
    (t1_folder / ".DS_Store").write_bytes(b"\0")
    (t1_folder / "deeper").mkdir()
    folder = read_folder(t1_folder, "T1")
    assert [s.path.name for s in folder.skipped] == ["broken.png", "notes.txt"]
    assert "truncated" in folder.skipped[0].why
    assert "not an image" in folder.skipped[1].why
    assert len(folder.volumes) == 8
    assert {v.contrast for v in folder.volumes} == {"T1"}


def test_a_summary_counts_sizes_types_and_values(t1_folder, head):
    Image.fromarray(head(0, "T1", (50, 40)).astype(np.uint16) * 4).save(t1_folder / "other.png")
    summary = read_folder(t1_folder).summary()
    assert summary.startswith("9 images; slices: 8 of 44x36, 1 of 50x40; uint8, uint16; values 0 to ")


def test_a_folder_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.png").write_text("")
    (tmp_path / "empty").mkdir()
    for folder, words in [
        (tmp_path / "gone", "gone does not exist: give a folder"),
        (tmp_path / "a.png", r"a\.png is a file, not a folder"),
        (tmp_path / "empty", "empty holds no images: it is empty"),
        (Path(), "No folder was given"),
    ]:
        with pytest.raises(UnusableError, match=words):
            read_folder(folder)


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    for index in range(5):
        (tmp_path / f"{index}.txt").write_text("hello")
    with pytest.raises(UnusableError, match=r"nothing in it can be used \(0\.txt and 4 more: not an image"):
        read_folder(tmp_path)


def folder_of(*volumes: tuple[str, str] | tuple[str, str, str]) -> Folder:
    """Volumes of these names, series and looks."""
    data = np.zeros((1, 2, 2), np.float32)
    made = [
        Volume(data=data, name=v[0], series=v[1], looks="".join(v[2:]), files=(Path(v[0]),), path=Path(v[0]))
        for v in volumes
    ]
    return Folder(Path("folder"), made, [])


SERIES = folder_of(
    ("3 t2", "3: t2, TE 90 ms, 44 slices"),
    ("3 t2 (2)", "3: t2, TE 90 ms, 44 slices (2)"),
    ("13 t2", "13: t2, TE 90 ms, 44 slices"),
    ("4 t1, fast", "4: t1, fast, TE 90 ms, 44 slices"),
)


@pytest.mark.parametrize(
    ("series", "names"),
    [
        ("3 t2", ["3 t2"]),  # whole names before parts
        ("3 T2", ["3 t2"]),
        ("t2", ["3 t2", "3 t2 (2)", "13 t2"]),
        ("3: t2, TE 90 ms, 44 slices", ["3 t2"]),  # and its commas are its own
        ("13 t2, 4 t1, fast", ["13 t2", "4 t1, fast"]),
        ("fast,3: t2, TE 90 ms, 44 slices (2)", ["3 t2 (2)", "4 t1, fast"]),
    ],
)
def test_a_whole_name_stands_for_itself_alone(series, names):
    assert [v.name for v in choose(SERIES, "T2", series).volumes] == names


def test_what_a_series_is_called_brings_it_and_no_other():
    for volume in SERIES.volumes:
        assert choose(SERIES, "T2", SERIES.call(volume)).volumes[0].name == volume.name
    every = ", ".join(map(SERIES.call, SERIES.volumes))
    assert len(choose(SERIES, "T2", every).volumes) == 4


def test_a_series_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(UnusableError, match="no series called '5 t1': it has 3: t2, TE 90 ms"):
        choose(SERIES, "T2", "13 t2, 5 t1")


def test_files_of_one_name_are_told_apart_by_their_folder(tmp_path, head):
    for subject in ("a", "b"):
        (tmp_path / subject).mkdir()
        Image.fromarray(head(0, "T1")).save(tmp_path / subject / "T1.png")
    everything = read_all(tmp_path)
    assert [everything.call(v) for v in everything.volumes] == ["a/T1.png", "b/T1.png"]
    assert choose(everything, "T1", "b/T1.png").volumes[0].path.parent.name == "b"


def subjects(folder: Path, grey: np.ndarray, *names: str) -> dict[str, str]:
    """What `read_all` takes for the subject of each file, once these exist."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            Image.fromarray(grey).save(folder / name)
        else:
            image = np.stack([np.roll(grey, k + number, 0) for k in range(3)])
            nibabel.save(nibabel.Nifti1Image(image.T, np.eye(4)), folder / f"{name}.nii")
    return {v.path.relative_to(folder).with_suffix("").as_posix(): v.subject for v in read_all(folder).volumes}


@pytest.mark.parametrize(
    "names",
    [
        ("P0/T1", "P0/T2", "P1/T1"),
        ("P0/anat/T1", "P0/anat/T2", "P1/anat/T1"),
        ("P0/visit1", "P0/visit2", "P1/visit1", "P1/visit2"),
        ("P0/ses1/mri/orig", "P1/ses1/mri/orig", "P1/ses2/mri/orig"),
        ("T1/P0/scan", "T2/P0/scan", "T1/P1/scan"),
        ("P0_T1/scan", "P0_T2/scan", "P1_T1/scan"),
    ],
)
def test_where_names_repeat_between_folders_the_folder_is_the_head(tmp_path, head, names):
    expected = {name: "P0" if "P0" in name else "P1" for name in names}
    assert subjects(tmp_path, head(0, "T1"), *names) == expected


def test_slices_of_several_heads_are_told_apart_by_their_folders(tmp_path, head):
    names = "P0/1.png", "P0/2.png", "P1/1.png"
    assert subjects(tmp_path, head(0, "T1"), *names) == {"P0/1": "P0", "P0/2": "P0", "P1/1": "P1"}


@pytest.mark.parametrize(
    "expected",
    [
        {"T1/lit_p01s1_T1": "lit_p01s1", "T2/lit_p01s1_T2": "lit_p01s1", "T1/lit_p02s1_T1": "lit_p02s1"},
        {"siteA/p01_T1": "p01", "siteB/p02_T1": "p02"},
        {"P0/sub-1_T1w": "sub-1", "P1/sub-1_T1w": "sub-1"},
    ],
)
def test_a_name_that_tells_the_head_is_believed(tmp_path, head, expected):
    assert subjects(tmp_path, head(0, "T1"), *expected) == expected


def test_a_folder_of_one_contrast_keeps_the_heads_of_both(tmp_path, head):
    subjects(tmp_path, head(0, "T1"), "T1/lit_p01s1_T1", "T2/lit_p01s1_T2")
    assert [v.subject for c in ("T1", "T2") for v in read_all(tmp_path / c).volumes] == ["lit_p01s1"] * 2


def test_dicom_series_keep_the_subject_of_their_headers(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("P0/a.nii", "P1/a.nii", "P0/b.dcm", "P1/b.dcm")]
    volumes = [
        Volume(data=np.zeros((2, 2, 2), np.float32), name="a", path=p, files=(p,) * (p.name == "b.dcm"), subject="id 7")
        for p in paths
    ]
    monkeypatch.setattr("napari_t1t2.images.read.read_files", lambda *_, **__: (volumes, []))
    assert [v.subject for v in read_all(tmp_path).volumes] == ["P0", "P1", "id 7", "id 7"]


def test_what_is_derived_of_a_bids_folder_is_not_looked_into(tmp_path):
    names = "sub-1/anat/a.nii", "derivatives/seg/sub-1/b.nii", "derivatives/seg/sourcedata/c.nii", "sourcedata/d.nii"
    for name in (*names, "derivatives.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [p.name for p in files_in(tmp_path)] == ["derivatives.nii", "a.nii"]
    assert [p.name for p in files_in(tmp_path / "sourcedata")] == ["d.nii"]
    for chosen in ("derivatives", "derivatives/seg"):
        assert {p.name for p in files_in(tmp_path / chosen)} == {"b.nii", "c.nii"}


def test_equal_reasons_are_told_once():
    skipped = [Skipped(Path(f"IM_{i}"), "a slice is missing") for i in range(200)]
    folder = Folder(Path("folder"), [], [Skipped(Path("x.txt"), "not an image"), *skipped])
    assert folder.notes() == ["skipped x.txt: not an image", "skipped IM_0 and 199 more: a slice is missing"]


def test_series_of_another_contrast_are_told_together():
    folder = folder_of(("1 t1", "1: t1", "T1"), *((f"{i} t2", f"{i}: t2", "T2") for i in range(2, 40)))
    (line,) = choose(folder, "T1").notes()
    assert line.startswith("skipped 2: t2 and 37 more: it looks like T2, so it is not used as T1. To use it, choose it")


def test_grey_is_read_as_it_is(picture, head):
    volume = read_image(picture("a.png"), "T1")
    np.testing.assert_array_equal(volume.data[0], head(0, "T1"))
    assert volume.data.dtype == np.float32
    assert (volume.name, volume.contrast, volume.dtype, volume.notes) == ("a", "T1", "uint8", ())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_in_a_coloured_file_is_read_unchanged(picture, head, mode):
    volume = read_image(picture("a.png", lambda grey: Image.fromarray(grey).convert(mode)))
    np.testing.assert_array_equal(volume.data[0], head(0, "T1"))
    assert any("transparency" in note for note in volume.notes) == ("A" in mode)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_colour_becomes_luminance_and_that_is_said(picture, head, name):
    volume = read_image(picture(name, colour))
    np.testing.assert_allclose(volume.data[0], head(0, "T1") * (0.299 + 0.587 / 2 + 0.114 / 3), atol=1)
    assert volume.notes == ("colour was turned to grey",)


def test_sixteen_bits_are_kept(tmp_path, head):
    data = head(0, "T1").astype(np.uint16) * 16
    for name in ("a.png", "a.tif"):
        Image.fromarray(data).save(tmp_path / name)
        volume = read_image(tmp_path / name)
        np.testing.assert_array_equal(volume.data[0], data)
        assert volume.dtype == "uint16"


def test_one_bit_is_read(picture):
    volume = read_image(picture("a.png", lambda grey: Image.fromarray(grey > 90)))
    assert np.unique(volume.data).tolist() == [0, 1]


def test_a_phone_s_rotation_is_applied(picture, head):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right to show
    volume = read_image(picture("a.png", exif=exif))
    np.testing.assert_array_equal(volume.data[0], np.rot90(head(0, "T1"), -1))


def test_a_stack_is_one_volume(tmp_path, head):
    stack = np.stack([head(i, "T1") for i in range(3)]).astype(np.float32) / 255
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    volume = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.data, stack)
    assert volume.dtype == "float32"


@pytest.mark.parametrize("shape", [(2, 3, 44, 36), (4, 2, 2, 20, 20)])
def test_a_tiff_of_more_axes_is_refused_with_its_shape(tmp_path, shape):
    tifffile.imwrite(tmp_path / "a.tif", np.random.default_rng(0).random(shape), photometric="minisblack")
    with pytest.raises(UnusableError, match=r"a\.tif: shape .* is not one image or stack; save one channel"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_a_compressed_tiff_is_read(picture, head, compression):
    np.testing.assert_array_equal(read_image(picture("a.tif", compression=compression)).data[0], head(0, "T1"))


def test_holes_become_the_lowest_value_and_are_counted(tmp_path, head):
    data = head(0, "T1").astype(np.float32) - 20
    data[0, :2], data[1, 0] = np.nan, np.inf
    tifffile.imwrite(tmp_path / "a.tif", data)
    volume = read_image(tmp_path / "a.tif")
    assert volume.data[0, 0, 0] == volume.data[0, 1, 0] == -20
    assert volume.notes == ("3 pixels are NaN or infinite and were set to the lowest value",)


def test_an_image_of_holes_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((9, 9), np.nan, np.float32))
    with pytest.raises(UnusableError, match=r"a\.tif: no pixel is a finite number"):
        read_image(tmp_path / "a.tif")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UnusableError, match=r"gone\.png does not exist"):
        read_image(tmp_path / "gone.png")


def test_grey_keeps_the_type():
    red = np.zeros((2, 2, 4), np.uint8)
    red[..., 0] = 255
    assert to_grey(red).tolist() == [[76, 76], [76, 76]]
    assert to_grey(red).dtype == np.uint8
    assert to_grey(red / 255).dtype == np.float64


def test_a_lazy_colour_array_stays_lazy():
    colours = np.random.default_rng(0).integers(0, 255, (3, 4, 5, 3), dtype=np.uint8)
    grey = to_grey(da.from_array(colours, chunks=(1, 4, 5, 3)))
    assert isinstance(grey, da.Array)
    np.testing.assert_array_equal(grey[1].compute(), to_grey(colours)[1])


@pytest.mark.parametrize("name", STORED)
def test_an_odd_file_is_read_in_its_shape_and_type(real_data, name):
    volume = read_image(real_data / "odd" / "png_tiff" / name)
    assert (volume.data.shape, volume.dtype) == STORED[name]
    assert volume.data.min() < volume.data.max()


@pytest.mark.parametrize("name", REFUSED)
def test_a_useless_file_is_refused_by_name_with_the_reason(real_data, name):
    with pytest.raises(UnusableError, match=f"{Path(name).name}: .*{REFUSED[name]}"):
        read_image(real_data / "odd" / name)


def test_no_broken_file_raises_anything_but_a_sentence_with_its_name(real_data):
    refused = []
    for path in (real_data / "odd" / "broken").iterdir():
        try:
            read_image(path)
        except UnusableError as error:
            refused.append(path.name)
            assert str(error).startswith(f"{path.name}: ")
    assert {Path(name).name for name in REFUSED if name.startswith("broken")} <= set(refused)


def test_a_jpeg_named_as_png_is_read(real_data):
    assert read_image(real_data / "odd" / "broken" / "jpeg_named_as.png").data.shape == (1, 217, 181)


@pytest.fixture
def mixed(tmp_path, head):
    """A BIDS-like folder of two subjects with a T1w and a T2w each, a FLAIR, and a scan of no name."""
    for subject in ("sub-01", "sub-02"):
        anat = tmp_path / "bids" / subject / "anat"
        anat.mkdir(parents=True)
        for i, suffix in enumerate(("T1w", "T2w")):
            stack = np.stack([head(k + i, "T1") for k in range(3)])
            nibabel.Nifti1Image(stack.T, np.diag([-1, -1, 3, 1])).to_filename(anat / f"{subject}_{suffix}.nii.gz")
            (anat / f"{subject}_{suffix}.json").write_text("{}")
    shutil.copy(anat / "sub-02_T2w.nii.gz", anat / "sub-02_FLAIR.nii.gz")
    shutil.copy(anat / "sub-02_T2w.nii.gz", anat / "sub-02_scan.nii.gz")
    return tmp_path / "bids"


def test_one_folder_serves_both_contrasts_by_the_names_in_it(mixed):
    t1, t2 = read_folder(mixed, "T1"), read_folder(mixed, "T2")
    assert [v.name for v in t1.volumes] == ["sub-01_T1w", "sub-02_T1w"]
    assert [v.name for v in t2.volumes] == ["sub-01_T2w", "sub-02_T2w"]
    assert [v.subject for v in t2.volumes] == ["sub-01", "sub-02"]
    reasons = {s.path.name: s.why for s in t1.skipped}
    assert "looks like FLAIR, so it is not used as T1" in reasons["sub-02_FLAIR.nii.gz"]
    assert "nothing says which contrast it is" in reasons["sub-02_scan.nii.gz"]
    assert not any(name.endswith(".json") for name in reasons)


def test_a_series_that_is_named_is_taken_whatever_it_looks_like(mixed):
    assert [v.name for v in read_folder(mixed, "T1", series="sub-02_scan, FLAIR").volumes] == [
        "sub-02_FLAIR",
        "sub-02_scan",
    ]
    with pytest.raises(UnusableError, match=r"no series called 'swi': it has sub-01_T1w\.nii\.gz, "):
        read_folder(mixed, "T1", series="swi")


def test_labels_of_ones_own_are_not_second_guessed(mixed):
    assert len(read_folder(mixed, "contrast X").volumes) == 6


def test_a_folder_of_no_names_is_taken_whole(tmp_path, t1_folder):
    assert len(read_folder(t1_folder, "T1").volumes) == 8


def test_a_chosen_volume_of_a_4d_file_is_read(tmp_path, head):
    data = np.stack([np.stack([head(k + i, "T1") for k in range(3)]) for i in range(2)])
    nibabel.Nifti1Image(data.T, np.eye(4)).to_filename(tmp_path / "bold.nii")
    np.testing.assert_array_equal(read_folder(tmp_path, frame=1).volumes[0].data, data[1])


def test_the_mixed_dicom_folder_holds_a_t1_and_a_t2(real_data):
    folder = real_data / "odd" / "dicom" / "lit_p04_T1_T2_mixed_folder"
    (t1,), (t2,) = read_folder(folder, "T1").volumes, read_folder(folder, "T2").volumes
    assert (t1.data.shape, t2.data.shape) == ((48, 128, 128), (44, 192, 174))
    assert t1.subject == t2.subject != ""


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a_T1w.nii.gz", "series"])
def test_what_is_synthetic_is_not_trained_on(tmp_path, t1_folder, name):
    data = np.random.default_rng(0).integers(0, 200, (1 if name == "a.png" else 3, 44, 36)).astype(np.float32)
    made = Volume(data=data, name="made", dtype="uint8", affine=np.diag([-1.0, -1, 3, 1]), spacing=(3, 1, 1))
    write_image(t1_folder / "synthetic" / name, made, Provenance(contrast="T1"))
    folder = read_folder(t1_folder, "T1")
    assert len(folder.volumes) == 8
    assert any("it is synthetic, so it is not used as T1" in s.why for s in folder.skipped)


def test_previews_of_a_run_are_not_trained_on(trained):
    with pytest.raises(UnusableError, match="it is synthetic"):
        read_folder(trained, "T2")


@pytest.mark.parametrize("mm", [0.001, 10_000])
def test_voxels_that_no_head_has_are_refused(tmp_path, head, mm):
    stack = np.stack([head(i, "T1") for i in range(3)])
    nibabel.Nifti1Image(stack.T, np.diag([mm, mm, 3, 1])).to_filename(tmp_path / "a.nii")
    with pytest.raises(UnusableError, match=r"a\.nii: its voxels are .* mm, which no scan of a head has"):
        read_folder(tmp_path)


def test_a_folder_of_another_contrast_is_told_from_one_without_images(mixed):
    for path in mixed.rglob("*T1w*"):
        path.unlink()
    (mixed / "notes.txt").write_text("hello")
    with pytest.raises(UnusableError, match=r"bids holds images, but none to use as T1: sub-0\d_T2w\.nii\.gz"):
        read_folder(mixed, "T1")


def test_samples_of_a_tiff_in_planes_are_colour_and_no_slices(tmp_path):
    grey = np.random.default_rng(0).integers(0, 255, (12, 10)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", np.stack([grey] * 3), photometric="rgb", planarconfig="separate")
    volume = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.data, grey[None])
    assert volume.notes == ()


def test_a_tiff_is_read_through_its_colour_map_and_with_white_where_it_says(tmp_path):
    ramp = np.arange(120, dtype=np.uint8).reshape(12, 10)
    falling = np.tile(np.arange(255, -1, -1, dtype=np.uint16) * 257, (3, 1))
    tifffile.imwrite(tmp_path / "a.tif", ramp, photometric="palette", colormap=falling)
    tifffile.imwrite(tmp_path / "b.tif", ramp, photometric="miniswhite")
    for name in ("a.tif", "b.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name).data[0], 255 - ramp)


def test_a_colour_png_of_16_bits_keeps_them(tmp_path):
    grey = np.random.default_rng(0).integers(0, 60000, (12, 10)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.stack([grey] * 3, axis=-1)))
    volume = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(volume.data[0], grey)
    assert volume.dtype == "uint16"


def test_linked_folders_are_followed_once_and_what_cannot_be_read_is_named(tmp_path):
    far = tmp_path / "far" / "sub-02"
    far.mkdir(parents=True)
    data = tmp_path / "data"
    data.mkdir()
    grey = np.random.default_rng(0).integers(0, 255, (12, 10)).astype(np.uint8)
    for folder in (far, data):
        Image.fromarray(grey).save(folder / f"{folder.name}_T1.png")
    (data / "linked").symlink_to(far, target_is_directory=True)
    (far / "back").symlink_to(data, target_is_directory=True)  # in a circle
    (data / "unfetched_T1.nii.gz").symlink_to(tmp_path / ".git" / "annex" / "nothing")
    (data / "more.zip").write_bytes(b"PK\x03\x04")
    found = read_all(data)
    assert sorted(v.name for v in found.volumes) == ["data_T1", "sub-02_T1"]
    said = {skipped.path.name: skipped.why for skipped in found.skipped}
    assert "a link to a file that is not there" in said["unfetched_T1.nii.gz"]
    assert "an archive" in said["more.zip"]


STACK = np.random.default_rng(0).integers(0, 900, (12, 9, 7)).astype(np.uint16)
OME = {"PhysicalSizeX": 900, "PhysicalSizeY": 0.8, "PhysicalSizeYUnit": "mm", "PhysicalSizeZ": 0.3}


@pytest.mark.parametrize(
    ("kind", "spacing"),
    [
        ({"imagej": True, "resolution": (1 / 0.9, 1 / 0.8), "metadata": {"unit": "mm", "spacing": 3}}, (3, 0.8, 0.9)),
        ({"imagej": True, "resolution": (10 / 9, 10 / 8), "metadata": {"unit": "cm", "spacing": 0.3}}, (3, 8, 9)),
        ({"imagej": True, "resolution": (1e-3, 1e-3), "metadata": {"unit": "\\u00B5m", "spacing": 2000}}, (2, 1, 1)),
        ({"imagej": True, "resolution": (72, 72), "metadata": {"unit": "inch"}}, None),
        ({"imagej": True, "metadata": {}}, None),
        ({"ome": True, "metadata": OME | {"PhysicalSizeZUnit": "cm"}}, (3, 0.8, 0.9)),
        ({"ome": True, "metadata": {"PhysicalSizeX": 900, "PhysicalSizeY": 800}}, (0.8, 0.8, 0.9)),
        ({"ome": True, "metadata": {}}, None),
        ({"resolution": (300, 300), "resolutionunit": "INCH", "metadata": {}}, None),
    ],
)
def test_a_tiff_has_the_spacing_that_imagej_or_ome_gives_it_and_never_that_of_a_printer(tmp_path, kind, spacing):
    kind["metadata"] |= {"axes": "ZYX"}
    tifffile.imwrite(tmp_path / f"a{'.ome' * ('ome' in kind)}.tif", STACK, **kind)
    volume = read_image(next(tmp_path.iterdir()))
    assert volume.spacing == (spacing and pytest.approx(spacing)) and volume.notes == ()
    np.testing.assert_array_equal(volume.data, STACK)


def test_a_size_that_no_head_has_is_ignored_and_said(tmp_path):
    size = {"axes": "ZYX", "PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, metadata=size)
    volume = read_image(tmp_path / "a.ome.tif")
    assert volume.spacing is None
    assert volume.notes == ("its pixels of 0.001x0.001 mm cannot be of a head: the size was ignored",)


@pytest.mark.parametrize(("axis", "what"), [("C", "channels"), ("T", "time points")])
def test_channels_and_times_are_no_slices_unless_they_are_many(tmp_path, axis, what):
    tifffile.imwrite(tmp_path / "a.tif", STACK[:3], imagej=True, metadata={"axes": f"{axis}YX"})
    with pytest.raises(UnusableError, match=f"its 3 {what} are no slices"):
        read_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": f"{axis}YX"})
    volume = read_image(tmp_path / "a.tif")
    assert (volume.data.shape, volume.notes) == (STACK.shape, (f"its 12 {what} were taken for slices",))


@pytest.mark.parametrize("how", ["never written", "cut off"])
def test_a_tiff_with_missing_strips_is_named_and_not_black(tmp_path, how):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0], rowsperstrip=3, compression="deflate")
    raw = bytearray(path.read_bytes())
    if how == "never written":
        with tifffile.TiffFile(path) as tiff:
            at = tiff.pages[0].tags["StripByteCounts"].valueoffset
        raw[at : at + 2] = bytes(2)
    path.write_bytes(raw if how == "never written" else raw[:-5])
    with pytest.raises(UnusableError, match="1 of 3 strips of its pixels are missing"):
        read_image(path)


def test_no_library_says_anything_of_a_broken_picture(tmp_path, caplog, recwarn):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for page in STACK:
            tiff.write(page, contiguous=False)
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.png").write_bytes(b"no picture")
    (tmp_path / "c.tif").write_bytes(whole[:8] + b"x" * 400)
    read = read_all(tmp_path)
    assert len(read.skipped) == 3 and not caplog.records and not recwarn.list
    assert not any("<" in s.why for s in read.skipped)
    assert "it is truncated after page" in next(s.why for s in read.skipped if s.path.name == "a.tif")


def test_complex_values_of_a_tiff_are_refused_by_name(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", (STACK[0] + 1j).astype(np.complex64))
    with pytest.raises(UnusableError, match="its values are complex; save their magnitude"):
        read_image(tmp_path / "a.tif")


def test_pages_that_were_written_one_by_one_are_one_stack_and_other_sizes_are_said(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for page in STACK:
            tiff.write(page, contiguous=False)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, STACK)
    with tifffile.TiffWriter(tmp_path / "b.tif") as tiff:
        for page in (STACK[0], STACK[1, :4, :4], STACK[2, :3, :3]):
            tiff.write(page)
    volume = read_image(tmp_path / "b.tif")
    assert (volume.data.shape, volume.notes) == ((1, 9, 7), ("other images in it were left out: 2",))


def test_colour_of_16_bits_keeps_them(tmp_path):
    colour = np.stack([STACK[0] * 70, STACK[0] * 60, STACK[0] * 50], axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb")
    volume = read_image(tmp_path / "a.tif")
    np.testing.assert_allclose(volume.data[0], colour @ [0.299, 0.587, 0.114], atol=0.51)
    assert volume.dtype == "uint16"


def test_grey_of_16_bits_with_transparency_keeps_them(tmp_path):
    import imagecodecs

    grey = STACK[0] * 70
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.stack([grey, np.full_like(grey, 65535)], axis=-1)))
    volume = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(volume.data[0], grey)
    assert volume.notes == ("transparency was dropped",)


def test_a_picture_that_moves_is_its_first_image_and_that_is_said(tmp_path, head):
    first, *others = (Image.fromarray(head(k, "T1")) for k in range(3))
    first.save(tmp_path / "a.png", save_all=True, append_images=others)
    volume = read_image(tmp_path / "a.png")
    assert volume.notes == ("the first of its 3 images was taken",)
    np.testing.assert_array_equal(volume.data[0], head(0, "T1"))


def test_of_what_dcm2niix_made_even_the_uneven_is_left_out(tmp_path):
    for name in ("P1_T2_4", "P1_T2_4_Eq_1"):
        nibabel.Nifti1Image(STACK.T.astype(np.int16), np.eye(4)).to_filename(tmp_path / f"{name}.nii.gz")
    chosen = read_folder(tmp_path, "T2")
    assert [v.name for v in chosen.volumes] == ["P1_T2_4_Eq_1"]
    assert "made them even in the file _Eq_1 beside it" in chosen.skipped[0].why


def test_the_first_echo_of_a_t2_that_says_no_times_is_not_taken_for_one(tmp_path):
    for name in ("P1_T2_4_e1", "P1_T2_4_e2", "P1_T1_3"):
        nibabel.Nifti1Image(STACK.T.astype(np.int16), np.eye(4)).to_filename(tmp_path / f"{name}.nii.gz")
    assert [v.name for v in read_folder(tmp_path, "T2").volumes] == ["P1_T2_4_e2"]
