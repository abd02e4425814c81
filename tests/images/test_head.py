import numpy as np
import pytest
from scipy.ndimage import binary_opening, gaussian_filter
from skimage.measure import label

from napari_t1t2.data.inputs import depth_of
from napari_t1t2.images.head import head_mask, head_masks


def as_it_was(image):
    """The mask that depth was defined with when the first models were trained."""
    air = np.pad(~binary_opening(image > -0.9), 1, constant_values=True)
    parts = label(label(air, connectivity=1)[1:-1, 1:-1] != 1)
    return parts == 1 + np.bincount(parts.ravel())[1:].argmax() if parts.any() else parts != 0


@pytest.mark.parametrize("smooth", [0.3, 0.6, 1, 2, 4])
def test_the_mask_is_the_one_that_trained_models_know(smooth):
    random = np.random.default_rng(int(10 * smooth))
    for shape in ((40, 33), (64, 64), (17, 90)):
        noise = gaussian_filter(random.normal(size=shape), smooth) * smooth
        for level in (-1.0, -0.9, -0.7):
            image = (noise + level).astype(np.float32)
            np.testing.assert_array_equal(head_mask(image), as_it_was(image))


def test_the_mask_of_real_heads_is_the_one_that_trained_models_know(real_data):
    from napari_t1t2.images.read import read_image

    for path in sorted((real_data / "lit" / "T2").glob("*.png"))[::40]:
        image = read_image(path).data[0] / np.float32(127.5) - 1
        np.testing.assert_array_equal(head_mask(image), as_it_was(image))


def test_holes_belong_to_the_head_and_noise_in_air_does_not(head):
    image = head(1, "T1").astype(np.float32) / 127.5 - 1
    whole = head_mask(image)
    image[22, 18] = -1
    image[1, 1] = 1
    np.testing.assert_array_equal(head_mask(image), whole)


def test_of_two_parts_the_larger_is_the_head():
    image = np.full((30, 40), -1, np.float32)
    image[5:15, 5:15], image[5:25, 20:35] = 0, 0
    assert not head_mask(image)[:, :18].any() and head_mask(image)[15, 27]


def test_where_there_is_only_air_there_is_no_head_and_no_depth():
    air = np.full((3, 20, 20), -1, np.float32)
    assert not head_masks(air).any() and not depth_of(air[0]).any()
    assert head_masks(air[:0]).shape == (0, 20, 20)
