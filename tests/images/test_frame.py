import numpy as np
import pytest

from napari_t1t2.images.frame import Frame

ODD_SIZES = [(37, 23), (217, 60), (60, 217), (181, 181), (1, 9)]


def disc(rows: int, columns: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    inside = np.hypot(y - (rows - 1) / 2, x - (columns - 1) / 2) <= radius
    return np.where(inside, 1, -1).astype(np.float32)[None]


@pytest.mark.parametrize("shape", [(90, 60), (60, 90), (217, 70), (44, 36)])
@pytest.mark.parametrize("size", [0, 32, 64, 128])
def test_a_circle_stays_a_circle(shape, size):
    radius = min(shape) / 2 - 4
    framed = Frame.of(shape, size, 16).put(disc(*shape, radius))[0] > 0
    height, width = framed.any(axis=1).sum(), framed.any(axis=0).sum()
    assert abs(height - width) <= 1
    assert height == pytest.approx(2 * radius * (size / max(shape) if size else 1), abs=2)


@pytest.mark.parametrize("shape", ODD_SIZES)
def test_at_its_own_size_a_slice_comes_back_unchanged(shape):
    slices = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype(np.float32)
    frame = Frame.of(shape, 0, 16)
    assert all(side % 16 == 0 for side in frame.framed)
    np.testing.assert_array_equal(frame.take(frame.put(slices)), slices)


@pytest.mark.parametrize("shape", ODD_SIZES)
@pytest.mark.parametrize("size", [32, 64])
def test_in_a_square_a_slice_comes_back_in_its_shape(shape, size):
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    smooth = (0.5 * (x + y)).astype(np.float32)[None]
    frame = Frame.of(shape, size, 16)
    framed = frame.put(smooth)
    assert framed.shape == (1, size, size)
    assert frame.take(framed).shape == smooth.shape
    assert np.abs(frame.take(framed) - smooth).mean() < 0.1


def test_the_padding_is_air_and_the_slice_is_centred():
    framed = Frame.of((16, 8), 0, 16).put(np.ones((1, 16, 8), np.float32))[0]
    assert (framed[:, :4] == -1).all()
    assert (framed[:, 12:] == -1).all()
    assert (framed[:, 4:12] == 1).all()


@pytest.mark.parametrize("size", [32, 128])
def test_resizing_never_leaves_the_range(size):
    edges = np.sign(np.random.default_rng(0).normal(size=(1, 44, 36))).astype(np.float32)
    framed = Frame.of((44, 36), size, 16).put(edges)
    assert -1 <= framed.min() < framed.max() <= 1
