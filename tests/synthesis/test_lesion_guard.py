from dataclasses import replace

import nibabel
import numpy as np
import pytest

from napari_t1t2.__main__ import main
from napari_t1t2.errors import Refusal
from napari_t1t2.images.volume import Volume
from napari_t1t2.synthesis.lesions import lesions_of, summary

AFFINE = np.diag([-1.0, -1.0, 3.0, 1])


@pytest.fixture
def heads():
    """A real head with two bright lesions; a synthetic one that keeps the first by half and has lost the second."""
    z, y, x = np.mgrid[:6, :64, :64]
    plain = np.where((y - 32) ** 2 + (x - 32) ** 2 < 26**2, 100.0, 0.0)
    plain[:, 28:36, 28:36] = 60  # a ventricle: so that there is more than one value
    first, second = ((y - row) ** 2 + (x - 20) ** 2 <= 9 for row in (20, 44))
    inside = (z > 1) & (z < 4)

    def volume(data, name):
        return Volume(data=data.astype(np.float32), name=name, affine=AFFINE, spacing=(3.0, 1.0, 1.0))

    real = plain + 60 * ((first | second) & inside)
    fake = plain + 30 * (first & inside)
    return volume(fake, "fake"), volume(real, "real"), volume(((first | second) & inside) * 1.0, "mask")


def test_each_lesion_has_its_transmission(heads):
    first, second = lesions_of(*heads)
    assert first.transmitted == pytest.approx(0.5, abs=0.02) and not first.lost
    assert second.transmitted == pytest.approx(0, abs=0.02) and second.lost
    assert first.ml == pytest.approx(29 * 2 * 3 / 1000)
    assert summary([first, second]).startswith("2 lesions visible in the real image: 25% of their contrast")


def test_a_lesion_that_comes_out_dark_instead_of_bright_is_lost(heads):
    fake, real, mask = heads
    turned = replace(fake, data=real.data - 120 * (mask.data > 0))
    assert all(one.transmitted < 0 and one.lost for one in lesions_of(turned, real, mask))


def test_what_the_real_image_hardly_shows_is_not_counted(heads):
    fake, real, mask = heads
    lesions = lesions_of(fake, replace(real, data=real.data - 59.5 * (mask.data > 0)), mask)
    assert [one.transmitted for one in lesions] == [None, None]
    assert summary(lesions) == "2 lesions, none visible in the real image"


def test_an_empty_mask_is_refused(heads):
    fake, real, mask = heads
    with pytest.raises(Refusal, match="mask marks nothing on the synthetic image"):
        lesions_of(fake, real, replace(mask, data=mask.data * 0))


def test_evaluate_says_what_became_of_each_lesion(heads, tmp_path, capsys):
    paths = []
    for volume in heads:
        paths.append(str(tmp_path / f"{volume.name}.nii.gz"))
        nibabel.save(nibabel.Nifti1Image(volume.data.transpose(2, 1, 0), AFFINE), paths[-1])
    assert main(["evaluate", paths[0], paths[1], "--lesions", paths[2]]) == 0
    out = capsys.readouterr().out
    assert "50% transmitted" in out and "LOST" in out and "1 lost" in out
