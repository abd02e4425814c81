import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_t1t2 import sample
from napari_t1t2.sample import DemoHeads, sample_heads, scan, write_heads


@pytest.fixture(scope="module")
def template():
    pytest.importorskip("nilearn", reason="the sample heads need the template in nilearn's wheel (extra demo)")
    return sample.load_template()


@pytest.fixture(scope="module")
def heads(template, tmp_path_factory) -> DemoHeads:
    return write_heads(tmp_path_factory.mktemp("heads"))


@pytest.fixture
def small(template, monkeypatch):
    """A lower head and fewer slices, for tests that make their own."""
    monkeypatch.setattr(sample, "load_template", lambda: template[..., :90])
    monkeypatch.setattr(sample, "PLANES", sample.PLANES[2:4])


@pytest.fixture(scope="module")
def pair(heads):
    """The held-out subject's slices, T1 and T2, each (Z, Y, X)."""
    return pixels(heads.held_out_t1), pixels(heads.held_out_t2)


def pixels(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def subjects(folder: Path) -> set[str]:
    return {name[:6] for name in names(folder)}


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Dice's coefficient."""
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_importing_it_loads_nothing_heavy():
    heavy = ["torch", "napari", "qtpy", "nilearn", "scipy", "skimage"]
    code = f"import sys, napari_t1t2.sample; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("make", [lambda folder: write_heads(folder), lambda folder: sample_heads()])
def test_without_nilearn_the_message_says_what_to_install(make, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "nilearn", None)
    monkeypatch.setitem(sys.modules, "nilearn.datasets", None)
    with pytest.raises(ValueError, match=r'nilearn.*pip install "napari-t1t2\[demo\]"'):
        make(tmp_path)
    assert not list(tmp_path.iterdir())


def test_each_contrast_has_enough_slices_of_one_size_in_8_bit(heads):
    for folder in (heads.t1_folder, heads.t2_folder):
        assert pixels(folder).shape == (42, sample.ROWS, sample.COLUMNS)
        assert pixels(folder).dtype == np.uint8


def test_the_folders_share_no_subject(heads):
    assert len(subjects(heads.t1_folder)) == len(subjects(heads.t2_folder)) == 3
    held_out = subjects(heads.held_out_t1)
    assert len(held_out) == 1
    assert len(subjects(heads.t1_folder) | subjects(heads.t2_folder) | held_out) == 7


def test_a_held_out_pair_has_one_name_in_both_folders(heads):
    assert names(heads.held_out_t1) == names(heads.held_out_t2)
    assert "sub-07_z070.png" in names(heads.held_out_t1)
    assert "sub-01_T1_z070.png" in names(heads.t1_folder)


def test_a_held_out_pair_is_aligned(pair):
    t1, t2 = pair
    assert overlap(t1 > 30, t2 > 30) > 0.98
    inside = (t1 > 30) & (t2 > 30)
    assert np.corrcoef(t1[inside], t2[inside])[0, 1] < -0.7
    shifted = np.roll(t2, 3, axis=2)
    assert np.corrcoef(t1[inside], shifted[inside])[0, 1] > -0.5


def test_subjects_differ_in_shape(heads, pair):
    first, second, _ = np.split(pixels(heads.t1_folder) > 30, 3)
    assert overlap(first, second) < 0.96
    assert overlap(first, pair[0] > 30) < 0.96


def test_csf_is_brightest_in_t2_and_darkest_in_t1(template):
    from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template

    grey, white = (load(resolution=1).get_fdata() for load in (load_mni152_gm_template, load_mni152_wm_template))
    fluid = (template[0] > 0) & (grey + white < 0.05)
    t1, t2 = ([np.median(contrast[tissue]) for tissue in (fluid, grey > 0.95, white > 0.95)] for contrast in template)
    assert t1[0] < t1[1] < t1[2]
    assert t2[0] > t2[1] > t2[2]


def test_the_signal_equation_knows_its_limits():
    assert sample.spin_echo(density=0.8, t1=500, t2=70, tr=1e9, te=0) == pytest.approx(0.8)
    assert sample.spin_echo(density=0.8, t1=500, t2=70, tr=0, te=0) == 0
    assert sample.spin_echo(density=1, t1=1, t2=90, tr=1e9, te=90) == pytest.approx(np.exp(-1))


def test_every_slice_has_the_same_rayleigh_background(heads):
    expected = sample.NOISE * np.sqrt(np.pi / 2) * 255 / sample.HEADROOM
    for folder in (heads.t1_folder, heads.t2_folder):
        beside_the_head = pixels(folder)[..., :6].mean(axis=(1, 2))
        np.testing.assert_allclose(beside_the_head, expected, rtol=0.1)


def test_one_seed_gives_the_same_bytes_and_another_gives_others(small, tmp_path):
    one, again, other = (write_heads(tmp_path / name, seed=seed) for name, seed in [("a", 0), ("b", 0), ("c", 1)])
    for kind in ("t1_folder", "t2_folder", "held_out_t1", "held_out_t2"):
        for path in getattr(one, kind).iterdir():
            assert path.read_bytes() == (getattr(again, kind) / path.name).read_bytes()
            assert path.read_bytes() != (getattr(other, kind) / path.name).read_bytes()


def test_it_overwrites_its_own_files_only(small, tmp_path):
    mine, its = tmp_path / "T1" / "Image #1.png", tmp_path / "T1" / "sub-01_T1_z070.png"
    mine.parent.mkdir()
    mine.write_text("mine")
    its.write_text("an older one")
    write_heads(tmp_path)
    assert mine.read_text() == "mine"
    with Image.open(its) as written:
        assert written.size == (sample.COLUMNS, sample.ROWS)


def test_every_file_says_that_it_is_simulated(heads):
    for folder in (heads.t1_folder, heads.t2_folder, heads.held_out_t1, heads.held_out_t2):
        for path in folder.iterdir():
            with Image.open(path) as written:
                assert written.text["Description"].startswith(f"Simulated {folder.name}")


def test_the_display_is_radiological():
    """A mark at the front of the subject's right appears at the top left, from any template in RAS+ axes."""
    marked = np.zeros((1, 197, 233, 189), np.float32)
    marked[0, 140:160, 170:190, 80:100] = 1
    (slice_,) = scan(marked, [90], subject=1, seed=0)[0]
    row, column = np.argwhere(slice_ > 128).mean(axis=0)
    assert row < sample.ROWS / 2 - 15
    assert column < sample.COLUMNS / 2 - 15


def test_a_subject_is_the_same_in_whichever_planes_it_is_scanned(template):
    alone, among = scan(template, [90], subject=2, seed=0), scan(template, [60, 90], subject=2, seed=0)
    assert np.abs(alone[:, 0].astype(int) - among[:, 1]).mean() < 5  # the noise alone differs


def test_the_template_lies_where_nilearn_says(template):
    from nilearn.datasets import load_mni152_template

    affine = load_mni152_template(resolution=1).affine
    np.testing.assert_array_equal(affine[:3, 3], sample.ORIGIN)
    np.testing.assert_array_equal(affine[:3, :3], np.eye(3))


def test_a_voxel_of_the_sample_lies_where_mni_space_has_what_it_shows(template):
    """Left, front and top end where the template's brain ends, as no subject is turned or bent by more than that."""
    layers = pytest.importorskip("napari.layers", reason="napari makes the layers")
    t1 = layers.Layer.create(*sample_heads()[0])
    brain = np.argwhere(template[0] > 0.3) + sample.ORIGIN
    seen = np.argwhere(np.asarray(t1.data) > 75)[::50]
    world = np.array([t1.data_to_world(index) for index in seen])
    for at, side in ((0, brain[:, 2]), (1, -brain[:, 1]), (2, -brain[:, 0])):
        np.testing.assert_allclose(np.percentile(world[:, at], (2, 50, 98)), np.percentile(side, (2, 50, 98)), atol=9)
    first = t1.data_to_world((0, 0, 0))
    columns, rows, planes = sample.display_axes(template.shape[1:], [0.0])
    np.testing.assert_allclose(first, (planes[0] - 72, 134 - rows[0], 98 - columns[0]))


def test_the_sample_says_what_its_world_means():
    """So that translating it takes its plane and the size of its pixels."""
    layer_module = pytest.importorskip("napari_t1t2.widgets._layers", reason="napari makes the layers")
    from napari.layers import Layer

    pytest.importorskip("nilearn", reason="the sample heads need nilearn (extra demo)")
    layer = Layer.create(*sample_heads()[1])
    affine = layer_module.affine_of(layer)
    np.testing.assert_allclose(affine[:3, :3], np.diag([-1.5, -1.5, 1.5]))
    assert layer_module.spacing_of_layer(layer) == (1.5, 1.5, 1.5)


def test_napari_opens_both_contrasts_in_one_place(small):
    layers = pytest.importorskip("napari.layers", reason="napari makes the layers")
    t1, t2 = (layers.Layer.create(*data) for data in sample_heads())
    assert [t1.name, t2.name] == ["T1 (simulated head)", "T2 (simulated head)"]
    assert [t1.metadata["contrast"], t2.metadata["contrast"]] == ["T1", "T2"]
    for layer in (t1, t2):
        assert layer.metadata["simulated"]
        assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
        np.testing.assert_allclose(layer.scale, sample.SPACING)
    np.testing.assert_allclose(t1.extent.world, t2.extent.world)
    assert overlap(t1.data > 30, t2.data > 30) > 0.98
