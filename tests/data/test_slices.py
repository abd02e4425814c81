from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_t1t2.config import ModelConfig
from napari_t1t2.data.batches import Bank
from napari_t1t2.data.inputs import as_input, depth_of, polarity
from napari_t1t2.data.reading import read_both
from napari_t1t2.data.slices import Slices, common_pixel, fingerprint, prepare
from napari_t1t2.data.split import split
from napari_t1t2.images.folder import Folder
from napari_t1t2.images.intensity import Intensity
from napari_t1t2.images.plane import View
from napari_t1t2.images.read import read_folder
from napari_t1t2.images.volume import Volume

CPU = torch.device("cpu")


@pytest.fixture
def plain(config):
    """Whole slices, one at a time, unmirrored."""
    return replace(config, crop=0, flip=False, batch=1)


def numbered(n: int, side: int = 8) -> np.ndarray:
    """(n, side, side) of slices that tell which they are."""
    return np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None], (n, side, side)).copy()


def which(batch: torch.Tensor) -> list[int]:
    return batch[:, 0, 0, 0].int().tolist()


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 10])
def test_each_slice_comes_once_per_epoch(plain, batch):
    bank = Bank(numbered(7), replace(plain, batch=batch), CPU, 0)
    seen = [i for step in range(21) for i in which(bank.batch(step))]
    epochs = [seen[start : start + 7] for start in range(0, 21, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_batch_larger_than_the_set_is_full(plain):
    assert len(Bank(numbered(3), replace(plain, batch=32), CPU, 0).batch(5)) == 32


def test_a_batch_depends_on_the_seed_and_the_step_alone(config):
    images = np.random.default_rng(0).random((5, 44, 36), dtype=np.float32)
    config = replace(config, batch=2)
    used, fresh = Bank(images, config, CPU, 0), Bank(images, config, CPU, 0)
    for step in range(6):
        used.batch(step)
    assert torch.equal(used.batch(6), fresh.batch(6))
    other_seed = Bank(images, replace(config, seed=1), CPU, 0)
    assert not torch.equal(fresh.batch(6), other_seed.batch(6))


def test_the_two_contrasts_come_in_different_orders(plain):
    t1, t2 = (Bank(numbered(20), plain, CPU, stream) for stream in (0, 1))
    assert [which(t1.batch(s)) for s in range(20)] != [which(t2.batch(s)) for s in range(20)]


def test_about_half_of_the_slices_are_mirrored_left_to_right(plain):
    ramp = np.tile(np.linspace(-1, 1, 8, dtype=np.float32), (1, 8, 1))
    bank = Bank(ramp, replace(plain, flip=True), CPU, 0)
    batches = [bank.batch(step)[0, 0] for step in range(60)]
    mirrored = [torch.equal(image, torch.from_numpy(ramp[0]).flip(-1)) for image in batches]
    assert 20 < sum(mirrored) < 40
    assert all(m or torch.equal(image, torch.from_numpy(ramp[0])) for m, image in zip(mirrored, batches, strict=True))


def test_crops_come_from_all_over_the_slice_and_are_pieces_of_it(plain):
    image = np.arange(44 * 36, dtype=np.float32).reshape(1, 44, 36)
    bank = Bank(image, replace(plain, crop=16), CPU, 0)
    corners = set()
    for step in range(80):
        crop = bank.batch(step)[0, 0].numpy()
        top, left = divmod(int(crop[0, 0]), 36)
        np.testing.assert_array_equal(crop, image[0, top : top + 16, left : left + 16])
        corners.add((top, left))
    tops, lefts = (np.array(c) for c in zip(*corners, strict=True))
    assert tops.min() <= 4 <= 24 <= tops.max()
    assert lefts.min() <= 3 <= 17 <= lefts.max()


def test_a_crop_larger_than_the_slice_takes_the_whole_slice(plain):
    assert Bank(numbered(2), replace(plain, crop=64), CPU, 0).batch(0).shape == (1, 1, 8, 8)


def slices_of(subjects: list[str], per_subject: int = 2, first: int = 0) -> Slices:
    """Numbered slices, so many a subject; each volume is one subject's."""
    n = len(subjects) * per_subject
    owners = np.repeat(np.arange(len(subjects)), per_subject)
    prints = tuple(str(first + i) for i in range(len(subjects)))
    names = tuple(f"{s}.nii" for s in subjects)
    return Slices(numbered(n, side=24), owners, names, tuple(subjects), prints, Intensity(0, 1), ())


def test_a_subject_is_held_out_whole_and_from_both_contrasts(config):
    heads = [f"sub-{i:02d}" for i in range(5)]
    t1, t2 = slices_of(heads), slices_of(heads[::-1], per_subject=3, first=9)
    parts = split(t1, t2, config)
    assert [t1.subjects[i] for i in set(t1.owners[parts.held[0]])] == ["sub-02"]
    assert [t2.subjects[i] for i in set(t2.owners[parts.held[1]])] == ["sub-02"]
    assert sorted([*parts.train[0], *parts.held[0]]) == list(range(10))
    assert sorted([*parts.train[1], *parts.held[1]]) == list(range(15))
    assert parts.notes == ("1 patient is kept for checking: the previews show slices that are not trained on.",)


@pytest.mark.parametrize(
    "others", [["a", "b"], ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"], ["v", "w", "x", "y", "z"]]
)
def test_nobody_is_on_both_sides_of_the_split(config, others):
    t1, t2 = slices_of(["a", "b", "c", "d", "e"]), slices_of(others, first=20)
    parts = split(t1, t2, replace(config, hold_out=2))
    on = [
        {s.subjects[i] for s, rows in zip((t1, t2), side, strict=True) for i in s.owners[rows]}
        for side in (parts.train, parts.held)
    ]
    if len(others) >= 5:
        assert not on[0] & on[1]
    assert len(parts.train[0]) == 8 or not set(others) & set(t1.subjects)


def test_of_few_subjects_none_is_held_out_and_that_is_said(config):
    parts = split(slices_of(["a", "b"]), slices_of(["a", "b"], first=5), config)
    assert len(parts.train[0]) == len(parts.train[1]) == 4
    said = "T1 and T2: Too few patients to keep one for checking: previews look better than a new patient would."
    assert parts.notes == (said,)


def test_loose_slices_are_held_out_from_the_middle(config):
    parts = split(slices_of([""] * 15, 1), slices_of([""] * 4, 1, first=20), replace(config, hold_out=3))
    assert parts.held[0].tolist() == [6, 7, 8]
    assert parts.train[0].tolist() == [0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14]
    assert len(parts.train[1]) == 4


def test_the_same_pixels_on_both_sides_of_the_split_are_reported(config):
    t1 = slices_of([f"sub-{i}" for i in range(5)])
    t1 = replace(t1, fingerprints=("same", "1", "same", "3", "4"))
    parts = split(t1, slices_of([f"sub-{i}" for i in range(5)], first=9), config)
    assert "T1: sub-2.nii is held out, but sub-0.nii, with the same pixels, is trained on" in parts.notes


def test_one_slice_is_too_few(config):
    with pytest.raises(ValueError, match="has 1 usable slice, but training needs at least 2"):
        split(slices_of([""], 1), slices_of([""] * 4, 1), config)


def every(images: np.ndarray) -> np.ndarray:
    return np.arange(len(images))


def test_polarity_tells_bright_furrows_from_dark_ones():
    y, x = np.mgrid[-1:1:96j, -1:1:80j]
    head = np.hypot(x, y) < 0.95
    furrow = np.abs(np.sin(9 * x + 3 * np.sin(4 * y))) < 0.2
    dark = np.where(head, np.where(furrow, -0.6, 0.4), -1).astype(np.float32)
    bright = np.where(head, np.where(furrow, 0.8, -0.3), -1).astype(np.float32)
    assert polarity(dark[None], every(dark[None])) < -0.3
    assert polarity(bright[None], every(bright[None])) > 0.3


def test_polarity_of_slices_without_an_inside_is_none():
    air = np.full((2, 32, 32), -1, np.float32)
    assert polarity(air, every(air)) == 0


@pytest.mark.parametrize("folder", ["seed/Train", "lit/", "eval_png/lit_p04/", "eval_png/lit_p07_brain/"])
def test_the_polarity_of_real_heads_is_that_of_their_contrast(real_data, folder):
    for contrast, sign in (("T1", -1), ("T2", 1)):
        slices = prepare(read_folder(real_data / f"{folder}{contrast}"), ModelConfig())
        assert sign * polarity(slices.images, every(slices.images)) > 0.5


def test_the_networks_see_the_full_range(t1_folder):
    slices = prepare(read_folder(t1_folder), ModelConfig(levels=2))
    assert slices.images.shape == (8, 44, 36)
    assert (slices.images.min(), slices.images.max()) == (-1, 1)
    assert slices.intensity.dtype == "uint8"


def test_a_slice_without_anatomy_is_left_out_and_counted(t1_folder):
    nearly_black = np.zeros((44, 36), np.uint8)
    nearly_black[3, 3] = 200
    Image.fromarray(nearly_black).save(t1_folder / "Image #99.png")
    slices = prepare(read_folder(t1_folder), ModelConfig(levels=2))
    assert len(slices.images) == 8
    assert "T1: 1 slice without anatomy left out" in slices.notes


def ball(mm: tuple[float, float, float], towards: str = "SPL", radius: float = 14.0) -> Volume:
    """A bright ball of 14 mm about the origin, a dark spot in front; voxels of (slice, row, column) mm."""
    axes = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine, shape = np.eye(4), [round(44 / side) for side in mm]
    affine[:3, :3] = 0
    for stored, letter in enumerate(towards):
        axis, sign = axes[letter]
        affine[axis, 2 - stored] = sign * mm[stored]
        affine[axis, 3] -= sign * mm[stored] * (shape[stored] - 1) / 2
    index = np.stack([*np.indices(shape)[::-1], np.ones(shape)])
    x, y, z, _ = np.tensordot(affine, index, axes=1)
    data = 100.0 * (np.hypot(np.hypot(x, y), z) < radius) - 90 * (np.hypot(np.hypot(x, y - 8), z) < 4)
    return Volume(data=data.astype(np.float32), name=towards, affine=affine, spacing=mm)


@pytest.mark.parametrize("towards", ["SPL", "SAR", "RIP", "ALS"])
@pytest.mark.parametrize(("plane", "top"), [("axial", True), ("coronal", False), ("sagittal", False)])
def test_slices_lie_in_one_plane_whatever_the_storage_order(towards, plane, top):
    folder = Folder(Path("heads"), [ball((2, 2, 2), towards)], [])
    model = ModelConfig(levels=2, plane=plane)
    images = prepare(folder, model, 2.0).images
    plain = prepare(replace(folder, volumes=[ball((2, 2, 2))]), model, 2.0).images
    np.testing.assert_array_equal(images, plain)
    dark = np.argwhere(images[len(images) // 2] < 0)
    if top:  # the spot lies in front of the middle, and axial slices show the front on top
        middle = images[len(images) // 2]
        assert middle[6].mean() < middle[-7].mean() or dark[:, 0].mean() < images.shape[1] / 2


def test_heads_of_two_pixel_sizes_look_equally_large():
    fine, coarse = ball((3, 0.72, 0.72)), ball((3, 0.91, 0.91), "SAR")
    pixel = common_pixel([fine, coarse], ModelConfig())
    assert pixel == pytest.approx(0.815)
    sizes = []
    for volume in (fine, coarse):
        images = prepare(Folder(Path("heads"), [volume], []), ModelConfig(levels=2), pixel).images
        inside = images[len(images) // 2] > -0.5
        sizes.append((inside.any(axis=1).sum(), inside.any(axis=0).sum()))
    assert np.abs(np.subtract(sizes, 28 / pixel)).max() <= 2
    assert np.abs(np.subtract(*sizes)).max() <= 1


def test_the_longest_side_fits_into_a_size():
    pixel = common_pixel([ball((2, 1, 1)), ball((2, 2, 1))], ModelConfig(size=32))
    assert pixel == pytest.approx(44 / 32)
    images = prepare(Folder(Path("heads"), [ball((2, 2, 1))], []), ModelConfig(size=32), pixel).images
    assert images.shape[1:] == (32, 32)


def test_slices_beyond_the_head_are_left_out_and_counted():
    slices = prepare(Folder(Path("heads"), [ball((2, 2, 2))], []), ModelConfig(levels=2), 2.0)
    assert len(slices.images) == 14
    assert "heads: 8 slices without anatomy left out" in slices.notes


def test_images_without_a_spacing_are_used_as_they_are_and_that_is_said():
    bare = replace(ball((2, 2, 2)), affine=None, spacing=None)
    slices = prepare(Folder(Path("heads"), [bare, ball((2, 1, 1))], []), ModelConfig(levels=2), 1.0)
    assert "heads: 1 image without pixel spacing: not resampled" in slices.notes


def test_one_image_in_both_contrasts_is_refused(config, t1_folder, t2_folder):
    (t2_folder / "copy.png").write_bytes((t1_folder / "Image #7.png").read_bytes())
    with pytest.raises(ValueError, match=r"1 images are in both contrasts, Image #7\.png for one"):
        read_both(config)


@pytest.mark.parametrize("towards", ["SAR", "RIP"])
def test_the_same_voxels_in_another_order_have_one_fingerprint(towards):
    volume = ball((2, 2, 2))
    view = View.towards(towards, volume.affine)
    turned = replace(volume, data=view.apply(volume.data), affine=view.affine(volume.affine, volume.data.shape))
    assert fingerprint(turned) == fingerprint(volume) != fingerprint(replace(volume, data=volume.data[:, ::-1]))


def test_stacks_that_say_nothing_are_subjects_of_their_own():
    bare = [replace(ball((2, 2, 2)), name=name, subject="") for name in ("a", "b")]
    assert prepare(Folder(Path("heads"), bare, []), ModelConfig(levels=2), 2.0).subjects == ("a", "b")


def test_depth_grows_from_the_surface_and_knows_neither_pixel_size_nor_cavities():
    rows, columns = np.mgrid[:64, :64] - 31.5
    radius = np.hypot(rows, columns)
    head = np.where(radius < 24, 0.0, -1.0).astype(np.float32)
    head[radius < 6] = -1  # a ventricle, as dark as air
    depth = depth_of(head)
    assert (depth[radius > 25] == 0).all()
    assert depth[32, 32] == pytest.approx(1, abs=0.05)
    assert depth[32, 32 + 12] == pytest.approx(0.5, abs=0.05)
    twice = depth_of(head.repeat(2, axis=0).repeat(2, axis=1))
    np.testing.assert_allclose(twice[::2, ::2], depth, atol=0.05)
    assert not depth_of(np.full((8, 8), -1, np.float32)).any()


def test_the_depth_of_a_crop_is_that_of_the_slice_it_was_cut_from(plain):
    head = np.full((2, 40, 40), -1, np.float32)
    head[:, 4:36, 4:36] = 0.5
    deep = replace(plain, crop=16, model=ModelConfig(channels=4, levels=2, depth=True))
    whole = as_input(head, deep.model)
    batches = torch.cat([Bank(head, deep, CPU, 0).batch(step) for step in range(20)])
    assert batches.shape == (20, 2, 16, 16)
    assert batches[:, 1].max() <= whole[:, 1].max()
    assert (batches[:, 1, 8, 8].unique().numel()) > 2  # by where it was cut, not the same in every crop


def test_air_that_lies_above_0_is_told_once_and_is_the_darkest(head):
    stack = np.stack([head(i, "T1") for i in range(3)]).astype(np.float32)
    volumes = [Volume(data=stack + 1000 + i, name=str(i), dtype="uint16") for i in range(2)]
    slices = prepare(Folder(Path("heads"), volumes, []), ModelConfig(channels=4, levels=2))
    assert slices.notes == ("heads: Air is at about 1000, not 0: it was taken as the darkest.",)
    assert np.median(slices.images[:, 0]) == -1
