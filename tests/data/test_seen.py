"""Which images a model was trained on, slice by slice."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from napari_t1t2.data import seen as module
from napari_t1t2.data.seen import NOT_NOTED, fingerprint, images_in, marks, seen_in_all, trained_on
from napari_t1t2.images.plane import View
from napari_t1t2.images.read import read_folder
from napari_t1t2.images.volume import Volume
from napari_t1t2.model.about import read_about

AFFINE = np.diag([-1.0, -1, 2, 1])


@pytest.fixture
def stack(head) -> np.ndarray:
    """Twelve different slices."""
    return np.stack([head(i % 8, "T1") * (1 + i // 8) for i in range(12)]).astype(np.float32)


def known(*volumes, plane="axial") -> frozenset[str]:
    return frozenset(word for v in volumes for word in fingerprint(v, plane).split())


def of(data, affine=None) -> Volume:
    return Volume(data=data, name="it", affine=affine)


def test_slices_trained_on_one_by_one_are_seen_as_a_stack_and_the_other_way(stack):
    singles = known(*(of(image[None]) for image in stack))
    assert trained_on(stack, None, singles, "axial") is True
    assert trained_on(stack[3], None, known(of(stack)), "axial") is True
    assert trained_on(stack * 1.1, None, singles, "axial") is False


def test_one_slice_is_enough(stack):
    other = stack * np.float32(1.1)
    other[7] = stack[2]
    assert trained_on(other, None, known(of(stack)), "axial") is True


def test_a_part_and_a_series_of_a_trained_volume_are_seen(stack):
    seen = known(of(stack, AFFINE))
    assert trained_on(stack[4:9], AFFINE, seen, "axial") is True
    assert trained_on(np.stack([stack * 2.2, stack, stack * 3.3]), AFFINE, seen, "axial") is True
    assert trained_on(np.stack([stack * 2.2, stack * 3.3]), AFFINE, seen, "axial") is False


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("towards", ["SPL", "RAS", "LIP"])
def test_the_order_in_which_a_file_stores_a_volume_does_not_matter(stack, plane, towards):
    view = View.towards(towards, AFFINE)
    turned, affine = view.apply(stack), view.affine(AFFINE, stack.shape)
    assert trained_on(turned, affine, known(of(stack, AFFINE), plane=plane), plane) is True


def test_a_slice_turned_or_with_more_air_around_is_seen(stack):
    seen = known(of(stack))
    assert trained_on(np.rot90(stack[3]), None, seen, "axial") is True
    assert trained_on(np.pad(stack[3], 9), None, seen, "axial") is True


def test_slices_without_anatomy_tell_nothing(stack):
    mask = (stack > 50).astype(np.float32)
    assert not marks(mask) and not marks(np.zeros_like(stack))
    assert trained_on(np.zeros_like(stack), None, known(of(stack)), "axial") is None


def test_of_lazy_data_too_large_to_read_it_is_not_known_that_they_are_new(stack, monkeypatch):
    monkeypatch.setattr(module, "WHOLE", 1000)
    lazy, new = da.from_array(stack, chunks=(1, 44, 36)), da.from_array(stack * 1.1, chunks=(1, 44, 36))
    assert trained_on(lazy, None, known(of(stack)), "axial") is True
    assert trained_on(new, None, known(of(stack)), "axial") is None
    monkeypatch.undo()
    assert trained_on(new, None, known(of(stack)), "axial") is False


def test_of_a_model_of_an_earlier_version_only_whole_volumes_are_known(stack):
    earlier = frozenset([fingerprint(of(stack))])
    assert trained_on(stack, None, earlier, "axial") is True
    assert trained_on(stack[2:5], None, earlier, "axial") is None


def test_a_run_resumed_from_an_earlier_version_on_other_images_knows_what_it_does_not_know(stack):
    earlier, now = frozenset([fingerprint(of(stack))]), known(of(stack * 2.2))
    assert NOT_NOTED in seen_in_all(now, earlier)
    assert trained_on(stack[2:5], None, seen_in_all(now, earlier), "axial") is None
    assert NOT_NOTED not in seen_in_all(known(of(stack)), earlier)
    assert images_in(seen_in_all(now, earlier)) == 2


def test_a_folder_of_pictures_trained_on_is_seen_as_the_stack_that_load_shows(trained):
    about = read_about(trained)
    folder = read_folder(trained.parent / "T1", "T1")
    stack = np.concatenate([v.data for v in folder.volumes])
    assert trained_on(stack, None, about.seen, about.config.plane) is True
    assert trained_on(stack * 1.1, None, about.seen, about.config.plane) is False


def test_the_golden_model_says_unknown(stack):
    about = read_about(Path(__file__).parent / "golden" / "paper")
    assert trained_on(stack * 1.37, None, about.seen, about.config.plane) is None
