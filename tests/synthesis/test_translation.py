import errno
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest

from napari_t1t2.errors import Refusal
from napari_t1t2.images.intensity import Intensity
from napari_t1t2.images.plane import PLANES, View
from napari_t1t2.images.read import read_image
from napari_t1t2.images.volume import Volume, spacing_of
from napari_t1t2.images.write import write_image
from napari_t1t2.model.saved import load_model
from napari_t1t2.runs.training import train
from napari_t1t2.synthesis import translation
from napari_t1t2.synthesis.prepare import NOT_FAMILIAR, input_range, prepare, provenance, unusual_spacing
from napari_t1t2.synthesis.translation import blank, stream, translate


@pytest.fixture(scope="module")
def model(trained):
    return load_model(trained)


@pytest.fixture
def stack(head):
    """(5, 44, 36) in the units of the training images."""
    return np.stack([head(i, "T1") for i in range(5)]).astype(np.float32)


class Recorder:
    """An array that cannot be seen whole, and remembers which slices were asked for."""

    def __init__(self, data):
        self._data, self.asked = data, []
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim
        self.lazy = da.from_array(self, chunks=(*(1 for _ in data.shape[:-2]), *data.shape[-2:]), meta=data[:0])

    def __array__(self, *_, **__):
        raise AssertionError("the whole array was asked for")

    def __getitem__(self, index):
        self.asked.append(index[0].start if isinstance(index[0], slice) else index[0])
        return self._data[index]


@pytest.fixture
def two_at_once(monkeypatch):
    monkeypatch.setattr(translation, "PIXELS_AT_ONCE", 2 * 44 * 36)


@pytest.mark.parametrize("shape", [(44, 36), (3, 44, 36), (2, 3, 40, 40), (1, 2, 1, 9, 37, 23), (217, 60), (3, 5)])
def test_any_size_and_any_number_of_axes_is_translated(model, head, shape):
    slices = np.stack([head(i, "T1", shape[-2:]) for i in range(int(np.prod(shape[:-2])))])
    made = translate(slices.reshape(shape), model, to="t2")
    assert made.shape == shape
    assert made.dtype == np.float32
    assert made.min() < made.max()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_the_type_of_the_input_changes_nothing(model, stack, dtype):
    np.testing.assert_array_equal(translate(stack.astype(dtype), model, to="t2"), translate(stack, model, to="t2"))


@pytest.mark.parametrize("shape", [(7,), (0, 44, 36), (44, 0)])
def test_what_is_no_image_is_refused_with_its_shape(model, shape):
    with pytest.raises(ValueError, match="needs rows and columns"):
        translate(np.zeros(shape, np.float32), model, to="t2")


def test_a_flat_image_is_refused(model):
    with pytest.raises(ValueError, match="Every pixel is 3"):
        translate(np.full((44, 36), 3.0, np.float32), model, to="t2")


def test_the_two_directions_use_the_two_generators(model, stack):
    assert not np.array_equal(translate(stack, model, to="t1"), translate(stack, model, to="t2"))


def test_the_contrast_is_asked_for_by_name(model, stack):
    np.testing.assert_array_equal(translate(stack, model, to="T2"), translate(stack, model, to="t2"))
    with pytest.raises(ValueError, match="makes T1 and T2, not 'PD'"):
        translate(stack, model, to="PD")


def test_the_output_has_the_units_of_the_target(model, stack):
    in_other_units = replace(model.about, ranges=model.about.ranges | {"t2": Intensity(1000, 3000, "int16")})
    made = translate(stack, model, to="t2")
    scaled = translate(stack, replace(model, about=in_other_units), to="t2")
    target = model.about.ranges["t2"]
    assert target.low <= made.min() < made.max() <= target.high
    expected = 1000 + 2000 * (made - target.low) / (target.high - target.low)
    np.testing.assert_allclose(scaled, expected, rtol=1e-4)


def test_a_volume_stays_where_it_is_and_says_that_it_is_synthetic(model, stack):
    volume = Volume(
        data=stack, name="head", contrast="T1", spacing=(3, 1, 1), affine=np.diag([-1.0, -1, 3, 1]), dtype="float64"
    )
    made = translate(volume, model, to="t2")
    np.testing.assert_array_equal(made.data, translate(stack, model, to="t2"))
    assert (made.name, made.contrast) == ("T2 (synthetic) from head", "T2")
    assert made.synthetic and made.provenance.source == "head" and made.provenance.seen_in_training is True
    assert made.spacing == volume.spacing
    np.testing.assert_array_equal(made.affine, volume.affine)
    assert made.dtype == "uint8"  # of the target's files


def test_the_provenance_names_model_step_and_source(model, trained):
    said = provenance(model, "t2", "head.png")
    assert (said.kind, said.contrast, said.source, said.step) == ("image", "T2", "head.png", 4)
    assert said.model == "run/model.safetensors"  # a longer path may name a person
    assert len(said.model_sha256) == 64


def test_the_stream_fills_an_array_as_it_goes(model, stack, two_at_once):
    out, filled = np.zeros_like(stack), []
    for event in stream(stack, model, to="t2", out=out):
        filled.append((event.done, event.total, int(out.any(axis=(1, 2)).sum())))
    assert filled == [(2, 5, 2), (4, 5, 4), (5, 5, 5)]
    np.testing.assert_array_equal(out, translate(stack, model, to="t2"))


def test_the_size_of_a_batch_changes_nothing(model, stack, two_at_once, monkeypatch):
    few = translate(stack, model, to="t2")
    monkeypatch.undo()
    np.testing.assert_allclose(few, translate(stack, model, to="t2"), atol=1e-3)


def test_slices_of_nothing_but_air_stay_air_and_change_nothing_else(model, stack, two_at_once):
    shown = translate(stack, model, to="t2")
    stack[[0, 3, 4]] = 0
    made = translate(stack, model, to="t2")
    low = model.about.ranges["t2"].low
    assert (made[[0, 3, 4]] == low).all() and made[1:3].std() > 0
    np.testing.assert_allclose(made[1:3], shown[1:3], rtol=1e-4, atol=1e-3)


def test_a_lazy_array_is_read_batch_by_batch(model, stack, two_at_once):
    data = Recorder(stack)
    done = [(event.done, len(data.asked)) for event in stream(data.lazy, model, to="t2", intensity=Intensity(0, 255))]
    assert all(asked <= done + 2 for done, asked in done)  # one batch ahead
    assert sorted(data.asked) == [0, 1, 2, 3, 4]


def test_thick_chunks_are_read_once(model, stack, two_at_once):
    data = Recorder(stack)
    thick = da.from_array(data, chunks=(4, 44, 36), meta=stack[:0])
    list(stream(thick, model, to="t2", intensity=Intensity(0, 255)))
    assert sorted(data.asked) == [0, 4]


def test_the_range_is_measured_on_a_few_slices(model, stack):
    data = Recorder(np.repeat(stack, 20, axis=0))
    input_range(data.lazy, model, "t2")
    assert len(data.asked) <= 32
    assert {0, 99} <= set(data.asked)


def test_a_stopped_stream_ends_early(model, stack, two_at_once):
    done = []
    for event in stream(stack, model, to="t2", stop=lambda: bool(done)):
        done.append(event.done)
    assert done == [2]


def test_each_volume_of_a_series_has_its_own_range(config, model, head):
    ranges = {side: replace(r, per_stack=True) for side, r in model.about.ranges.items()}
    of_stacks = replace(model, about=replace(model.about, ranges=ranges))
    one = np.stack([head(i, "T1") for i in range(4)]).astype(np.float32)
    series = translate(np.stack([one, 3 * one]), of_stacks, to="t2")
    np.testing.assert_allclose(series[1], series[0], atol=1e-2)
    np.testing.assert_array_equal(series[0], translate(one, of_stacks, to="t2"))


def in_other_order(volume: Volume, towards: str) -> Volume:
    """The same head, stored in another order."""
    view = View.towards(towards, volume.affine)
    data = np.ascontiguousarray(view.apply(volume.data))
    return replace(volume, data=data, affine=view.affine(volume.affine, volume.data.shape), spacing=view.spacing)


@pytest.mark.parametrize("towards", ["SAR", "RIP", "ALS", "LSA"])
def test_the_storage_order_of_a_volume_changes_nothing(model, stack, towards):
    turn = np.array([[0.98, -0.17, 0.05], [0.17, 0.98, 0.0], [-0.05, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([-1.0, -1, 3]), (30, -20, 7)
    plain = Volume(data=stack, name="head", affine=affine, spacing=spacing_of(affine))
    stored = in_other_order(plain, towards)
    made = translate(stored, model, to="t2")
    np.testing.assert_array_equal(made.affine, stored.affine)
    back = View.of("axial", made.affine)
    np.testing.assert_allclose(back.apply(made.data), translate(plain, model, to="t2").data, atol=1e-3)


@pytest.mark.parametrize("plane", ["coronal", "sagittal"])
def test_a_volume_is_translated_in_the_plane_of_the_model(model, head, plane):
    data = np.stack([head(i % 8, "T1") for i in range(20)]).astype(np.float32)
    affine = np.diag([-1.0, -1, 1, 1])
    volume = Volume(data=data, name="head", affine=affine, spacing=(1, 1, 1))
    turned = replace(model, about=replace(model.about, config=replace(model.config, plane=plane)))
    view = View.of(plane, affine)
    slices = np.ascontiguousarray(view.apply(data))
    expected = translate(slices, model, to="t2", intensity=input_range(data, model, "t2")[0])
    np.testing.assert_allclose(view.apply(translate(volume, turned, to="t2").data), expected, atol=1e-3)


def test_pixels_are_brought_to_those_of_the_model_and_back(model, head):
    at_one_mm = replace(model, about=replace(model.about, config=replace(model.config, pixel=1.0)))
    large = np.kron(head(0, "T1"), np.ones((2, 2))).astype(np.float32)[None]
    affine = np.diag([-0.5, -0.5, 1, 1])
    fine = translate(Volume(data=large, name="a", affine=affine, spacing=(1, 0.5, 0.5)), at_one_mm, to="t2").data[0]
    plain = translate(head(0, "T1").astype(np.float32), model, to="t2")
    assert fine.shape == (88, 72)
    assert np.abs(fine[::2, ::2] - plain).mean() < 0.06 * np.ptp(plain)
    without = translate(large[0], model, to="t2")
    assert np.abs(fine - without).mean() > 0  # at its own pixels it looks otherwise


def test_a_mirrored_head_is_translated_to_the_mirror_image(model, stack):
    made = translate(stack, model, to="t2")
    assert model.config.mirror and np.allclose(translate(stack[..., ::-1], model, to="t2"), made[..., ::-1], atol=1e-2)
    one_way = replace(model, about=replace(model.about, config=replace(model.config, mirror=False)))
    assert not np.allclose(translate(stack, one_way, to="t2"), made, atol=1e-2)


def test_a_model_that_cannot_warn_says_so(model, stack):
    quiet = replace(model, about=replace(model.about, familiar={}))
    assert prepare(Volume(data=stack, name="it"), quiet, "t2").remarks[0] == NOT_FAMILIAR


def test_a_missing_spacing_is_told(model):
    at_one_mm = replace(model, about=replace(model.about, config=replace(model.config, pixel=0.8)))
    assert "does not say its spacing" in unusual_spacing(at_one_mm, None)
    assert "0.8 mm" in unusual_spacing(at_one_mm, None)
    assert unusual_spacing(at_one_mm, (1, 1, 1)) is None
    assert "without a spacing" in unusual_spacing(model, (1, 1, 1))
    assert unusual_spacing(model, None) is None


@pytest.mark.parametrize("affine", [None, np.diag([-1.0, -1, 1, 1])])
def test_three_planes_are_averaged(model, head, affine):
    data = np.stack([head(i % 8, "T1") for i in range(20)]).astype(np.float32)
    out, events = np.zeros_like(data), []
    for event in stream(data, model, to="t2", affine=affine, planes="three", out=out):
        events.append(event)
    assert (events[-1].done, events[-1].total) == (100, 100)  # 20 + 44 + 36
    intensity = input_range(data, model, "t2")[0]
    views = (
        [View.of(p, affine) for p in PLANES]
        if affine is not None
        else [View(a) for a in ((0, 1, 2), (1, 0, 2), (2, 0, 1))]
    )
    each = [
        view.undo(translate(np.ascontiguousarray(view.apply(data)), model, to="t2", intensity=intensity))
        for view in views
    ]
    np.testing.assert_allclose(out, np.mean(each, axis=0), atol=1e-3)


def test_a_large_result_lives_in_a_file(monkeypatch):
    monkeypatch.setattr(translation, "IN_MEMORY", 100)
    large = blank((2, 8, 8))
    assert isinstance(large, np.memmap)
    assert not large.any()
    large[1] = 3
    assert large.sum() == 192
    assert not isinstance(blank((2, 2)), np.memmap)


def test_a_slice_in_the_units_of_training_needs_no_notice(model, stack):
    assert input_range(stack, model, "t2") == (model.about.ranges["t1"], None)


def test_a_slice_in_other_units_is_translated_alike_with_a_notice(model, stack):
    notice = input_range(stack / 255, model, "t2")[1]
    assert notice is not None
    assert "training images" in notice
    usual, unusual = (translate(data, model, to="t2") for data in (stack, stack / 255))
    assert np.abs(usual - unusual).mean() < 0.02 * np.ptp(usual)


def test_a_volume_in_other_units_is_translated_alike(model, head):
    volume = np.stack([head(i % 8, "T1") for i in range(10)]).astype(np.float32)
    usual, unusual = (translate(data, model, to="t2") for data in (volume, 16 * volume - 1000))
    np.testing.assert_allclose(unusual, usual, atol=0.02 * np.ptp(usual))


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_a_hole_in_one_slice_does_not_spread(model, stack, hole):
    holed = stack.copy()
    holed[2, 20, 10:20] = hole
    made, whole = translate(holed, model, to="t2"), translate(stack, model, to="t2")
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(np.delete(made, 2, axis=0), np.delete(whole, 2, axis=0))


def test_the_input_is_left_as_it_was(model, stack):
    before = stack.copy()
    translate(stack, model, to="t2")
    np.testing.assert_array_equal(stack, before)


def test_a_contrast_called_like_the_other_side_gets_its_own_generator(config, tmp_path):
    swapped = replace(config.model, t1_label="T2", t2_label="T1")
    list(train(replace(config, model=swapped)))
    model = load_model(config.run_folder)
    image = np.linspace(0, 200, 44 * 36, dtype=np.float32).reshape(1, 44, 36)
    made = translate(image, model, to="T2")
    del model.generators["t2"]  # makes the contrast called T1, so it must not be asked
    np.testing.assert_array_equal(translate(image, model, to="T2"), made)


def test_results_have_all_digits_unless_fewer_are_asked_for(trained, stack):
    exact, coarse = (translate(stack, load_model(trained, precision=p), to="t2") for p in ("float32", "bfloat16"))
    assert np.array_equal(exact, translate(stack, load_model(trained), to="t2"))
    assert 0 < np.abs(exact - coarse).max() < 0.05 * np.ptp(exact)


def test_what_goes_wrong_while_reading_ahead_is_raised(model):
    def fail(block):
        raise OSError("the disk is gone")

    lazy = da.ones((6, 44, 36), chunks=(1, 44, 36)).map_blocks(fail, meta=np.ones((1, 1, 1)))
    with pytest.raises(OSError, match="the disk is gone"):
        for _ in stream(lazy, model, to="t2", intensity=Intensity(0, 255, "uint8")):
            pass


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_before_the_translation_begins(model, stack, monkeypatch):
    monkeypatch.setattr(translation, "IN_MEMORY", 100)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(Refusal, match=r"The result takes .* GiB in .*, where .* are free: .* TMPDIR"):
        translate(stack, model, to="t2")


def test_where_nothing_can_be_reserved_the_free_space_is_asked_for(monkeypatch):
    monkeypatch.setattr(translation, "IN_MEMORY", 100)
    monkeypatch.delattr(os, "posix_fallocate")
    assert isinstance(blank((2, 8, 8)), np.memmap)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=500))
    with pytest.raises(Refusal, match="TMPDIR"):
        blank((2, 8, 8))


def test_the_space_of_a_large_result_is_taken_at_once(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(translation, "IN_MEMORY", 100)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(Refusal, match="TMPDIR"):
            blank((1, 100, 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_empty_volume_of_an_array_is_told_and_becomes_air(model, stack):
    series = np.stack([stack, np.full_like(stack, 7)])
    with pytest.warns(UserWarning, match="Volume 1 of 2 was left as air"):
        made = translate(series, model, to="t2")
    np.testing.assert_array_equal(made[0], translate(stack, model, to="t2"))
    assert (made[1] == model.about.ranges["t2"].low).all()
    with pytest.raises(Refusal, match="Every pixel is 7"):
        translate(series[1], model, to="t2")


def test_a_translated_volume_carries_what_its_file_will_say(model, head, tmp_path):
    volume = Volume(data=head(0, "T1")[None].astype(np.float32) * 2, name="head", dtype="uint8")
    made = translate(volume, model, to="t2")
    assert made.synthetic and not volume.synthetic
    (path,) = write_image(tmp_path / "made.png", made)
    assert read_image(path).provenance == made.provenance
    again = translate(read_image(path), model, to="t1")
    assert again.provenance.source_synthetic is True and again.provenance.source == "made.png"
