"""What a TIFF says of its samples, its sides and its images is honoured, or the file is refused by name."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_t1t2.errors import UnusableError
from napari_t1t2.images.read import read_image

GREY = np.random.default_rng(0).integers(0, 200, (12, 9)).astype(np.uint8)
CLEAR = np.where(GREY > 9, 255, 0).astype(np.uint8)
RAMP = np.tile(np.arange(65536, dtype=np.uint16), (3, 1))
TURNED = {  # by the value of Orientation: what a viewer shows
    **{2: GREY[:, ::-1], 3: GREY[::-1, ::-1], 4: GREY[::-1], 5: GREY.T},
    **{6: np.rot90(GREY, -1), 7: GREY[::-1, ::-1].T, 8: np.rot90(GREY)},
}


@pytest.mark.parametrize("turn", TURNED)
def test_a_tiff_lies_as_its_orientation_says(tmp_path, turn):
    tifffile.imwrite(tmp_path / "a.tif", GREY, extratags=[(274, "H", 1, turn, True)])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data[0], TURNED[turn])


def test_the_sides_of_a_pixel_turn_with_the_image(tmp_path):
    size = {"axes": "YX", "PhysicalSizeX": 2, "PhysicalSizeY": 1, "PhysicalSizeXUnit": "mm", "PhysicalSizeYUnit": "mm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", GREY, metadata=size, extratags=[(274, "H", 1, 6, True)])
    assert read_image(tmp_path / "a.ome.tif").spacing[1:] == (2, 1)


@pytest.mark.parametrize(
    ("samples", "options"),
    [
        (np.dstack([GREY, CLEAR]), {"photometric": "minisblack", "planarconfig": "contig"}),
        (np.stack([GREY, CLEAR]), {"photometric": "minisblack", "planarconfig": "separate"}),
        (np.dstack([GREY, GREY, GREY, CLEAR]), {"photometric": "rgb"}),
    ],
)
@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha"])
def test_transparency_is_no_slice(tmp_path, samples, options, alpha):
    tifffile.imwrite(tmp_path / "a.tif", samples, extrasamples=[alpha], **options)
    volume = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.data, GREY[None])
    assert volume.notes == ("transparency was dropped",)


def test_a_tiff_of_pillow_with_transparency_is_one_slice(tmp_path):
    Image.fromarray(np.dstack([GREY, CLEAR])).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, GREY[None])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_samples_without_a_meaning_are_channels_and_no_slices(tmp_path, count):
    options = {"photometric": "minisblack", "extrasamples": ["unspecified"] * (count - 1)}
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([GREY] * count), planarconfig="contig", **options)
    with pytest.raises(UnusableError, match=rf"a\.tif: its {count} channels are no slices \(axis Z\): save one"):
        read_image(tmp_path / "a.tif")


def test_channels_beside_colour_are_no_part_of_it(tmp_path):
    options = {"photometric": "rgb", "extrasamples": ["unspecified"] * 2}
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([GREY, GREY, GREY, CLEAR, CLEAR]), **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, GREY[None])


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr"])
def test_colours_that_are_no_light_are_refused_by_name(tmp_path, mode):
    Image.merge(mode, [Image.fromarray(GREY)] * len(Image.new(mode, (1, 1)).getbands())).save(tmp_path / "a.tif")
    with pytest.raises(UnusableError, match=r"a\.tif: its colours are [A-Z]+: save it as grey or RGB"):
        read_image(tmp_path / "a.tif")


def test_colour_that_a_jpeg_within_a_tiff_turns_back_is_read(tmp_path):
    options = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 100}}
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([smooth] * 3), **options)
    assert np.abs(read_image(tmp_path / "a.tif").data[0] - smooth).max() <= 2


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "bool"])
def test_white_for_low_values_is_turned_in_every_type(tmp_path, dtype):
    stored = GREY > 99 if dtype == "bool" else GREY.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite")
    volume = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.argsort(volume.data.ravel(), kind="stable")[:1], [stored.argmax()])
    assert "low values were white and were inverted" in volume.notes


@pytest.mark.parametrize(
    ("colours", "wanted"),
    [
        (RAMP[:, :256] * 257, GREY),
        (RAMP[:, :256] * 256, GREY),
        (RAMP[:, :256], GREY),
        (RAMP[:, ::256] + 7, GREY * 256.0 + 7),
    ],
)
def test_a_colour_map_keeps_its_bits_whatever_their_scale(tmp_path, colours, wanted):
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="palette", colormap=colours.astype(np.uint16))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data[0], wanted)


def test_images_of_an_ome_file_are_not_slices_of_each_other(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
        for name in ("T1", "T2"):
            tiff.write(GREY, metadata={"axes": "YX", "Name": name})
    volume = read_image(tmp_path / "a.ome.tif")
    assert volume.data.shape == (1, *GREY.shape)
    assert volume.notes == ("other images in it were left out: 1",)


@pytest.mark.parametrize(("kind", "name"), [("PNG", "a.tif"), ("TIFF", "a.png"), ("BMP", "a.jpg"), ("TIFF", "a.bmp")])
def test_a_picture_is_read_by_its_content_whatever_its_name(tmp_path, kind, name):
    Image.fromarray(GREY).save(tmp_path / name, format=kind)
    np.testing.assert_array_equal(read_image(tmp_path / name).data[0], GREY)


def test_a_tiff_that_is_called_png_is_read_with_all_that_it_says(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="miniswhite")
    (tmp_path / "a.tif").rename(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").data[0], 255 - GREY)


def test_a_tiff_whose_pages_lead_back_to_the_first_is_refused_not_read_for_ever(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([GREY, GREY + 1]), metadata=None)
    with tifffile.TiffFile(path) as tiff:
        first, link = tiff.pages[0].offset, tiff.pages.next_page_offset
    content = bytearray(path.read_bytes())
    content[link : link + 4] = first.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(UnusableError, match=r"a\.tif: it is truncated after page 2; copy it again"):
        read_image(path)
