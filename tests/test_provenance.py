"""What a synthetic image says of itself survives every way, and what is no image is taken for none."""

import json
from dataclasses import fields, replace

import nibabel
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from pydicom import dcmread

from napari_t1t2.__main__ import main
from napari_t1t2.errors import Refusal
from napari_t1t2.images.folder import choose
from napari_t1t2.images.read import read_all, read_files, read_folder, read_image
from napari_t1t2.images.volume import Volume, spacing_of
from napari_t1t2.images.write import write_image
from napari_t1t2.model.saved import load_model
from napari_t1t2.provenance import Provenance
from napari_t1t2.synthesis.calibration import calibrate
from napari_t1t2.widgets._layers import layer_of

VALUES = {"bool | None": False, "int | None": 7, "list[str] | None": ["a", "b"], "Kind": "expected error"}
EVERYTHING = Provenance(**{f.name: VALUES.get(f.type, f"{f.name} of é") for f in fields(Provenance)})
AFFINE = np.diag([-0.9, -0.9, 3.0, 1])
FILES = ("it.png", "it.tif", "it.nii", "it.nii.gz", "series")


def volume(provenance=None, slices=1, data=None) -> Volume:
    data = np.random.default_rng(0).integers(0, 200, (slices, 44, 36)) if data is None else data
    return Volume(
        data=np.asarray(data, np.float32),
        name="it",
        dtype="uint8",
        affine=AFFINE,
        spacing=spacing_of(AFFINE),
        provenance=provenance,
    )


def written(path, provenance, **what):
    """The files of an image written as a user would, and it read again."""
    files = write_image(path, volume(provenance, **what))
    (read,), skipped = read_files(files)
    assert not skipped
    return read


def through_sidecar_alone(path):
    """Another program writes the image anew, and knows nothing of our extension."""
    first = write_image(path / "a.nii", volume(EVERYTHING))[0]
    image = nibabel.load(first)
    nibabel.Nifti1Image(np.asarray(image.dataobj).copy(), image.affine).to_filename(first)
    return read_image(first).provenance


WAYS = {
    "json": lambda path: Provenance.from_json(EVERYTHING.to_json()),
    "layer": lambda path: Provenance.from_dict(layer_of(volume(EVERYTHING))[1]["metadata"]),
    "sidecar": through_sidecar_alone,
    **{name: lambda path, name=name: written(path / name, EVERYTHING).provenance for name in FILES},
}


@pytest.fixture(scope="module", params=WAYS)
def arrived(request, tmp_path_factory):
    return WAYS[request.param](tmp_path_factory.mktemp("way"))


@pytest.mark.parametrize("field", [f.name for f in fields(Provenance)])
def test_every_key_survives_every_way(arrived, field):
    assert getattr(EVERYTHING, field) is not None
    assert getattr(arrived, field) == getattr(EVERYTHING, field)


def test_what_is_not_known_is_not_written():
    assert Provenance(contrast="T2").to_dict().keys() == {"synthetic", "kind", "contrast", "notice"}


@pytest.mark.parametrize(
    ("before", "kind"),
    [
        ({"contrast": "T2", "step": 4}, "image"),
        ({"contrast": "expected error of T2", "calibrated": False, "ensemble": []}, "expected error"),
        ({"kind": "expected error", "contrast": "interval of T2", "calibrated": True, "ensemble": []}, "interval"),
        ({"contrast": "difference"}, "difference"),
    ],
)
def test_files_of_the_version_before_say_their_kind(tmp_path, before, kind):
    info = PngInfo()
    info.add_text("Description", json.dumps({"synthetic": True} | before))
    Pillow.fromarray(volume().data[0].astype(np.uint8)).save(tmp_path / "it.png", pnginfo=info)
    assert read_image(tmp_path / "it.png").provenance.kind == kind


@pytest.mark.parametrize(("contrast", "kind"), [("T2", "image"), ("expected error of T2", "expected error")])
def test_dicom_of_the_version_before_says_its_kind(tmp_path, contrast, kind):
    for path in write_image(tmp_path / "series", volume(Provenance(contrast=contrast), slices=3)):
        header = dcmread(path)
        header.remove_private_tags()
        del header.ContributingEquipmentSequence, header.SyntheticData
        header.save_as(path)
    (read,), _ = read_files(sorted((tmp_path / "series").iterdir()))
    assert (read.provenance.kind, read.provenance.contrast) == (kind, contrast)


@pytest.mark.parametrize("said", [None, [], "text", {}, {"synthetic": False}, {"SyntheticImage": "yes"}])
def test_what_others_wrote_is_no_provenance(said):
    assert Provenance.from_dict(said) is Provenance.from_json(json.dumps(said)) is Provenance.from_sidecar(said) is None


def test_a_sidecar_that_another_program_added_to_is_still_ours():
    said = EVERYTHING.to_sidecar()
    said["GeneratedBy"].insert(0, {"Name": "fMRIPrep", "Version": "24"})
    assert Provenance.from_sidecar(said) == EVERYTHING


def test_an_unfinished_image_says_so_where_people_look(tmp_path):
    says = Provenance(contrast="T2", complete=False)
    path, _ = write_image(tmp_path / "it.nii", volume(says))
    assert nibabel.load(path).header["descrip"].item() == b"UNFINISHED SYNTHETIC T2 - not for diagnosis"
    assert layer_of(read_image(path))[1]["name"] == "it (synthetic, unfinished)"


ERRORS = Provenance(kind="expected error", contrast="expected error of T2", calibrated=True)


@pytest.mark.parametrize("name", FILES)
def test_a_folder_leaves_out_an_expected_error_whatever_it_is_called(tmp_path, name):
    slices = 1 if name == "it.png" else 3
    made = written(tmp_path / "made" / name, ERRORS, slices=slices)
    write_image(tmp_path / "real.nii", volume(slices=3))
    for asked in ({"contrast": "T2"}, {"contrast": ""}, {"contrast": "T2", "series": f"real.nii,{made.series}"}):
        try:
            folder = choose(read_all(tmp_path), **asked)
        except ValueError as refused:  # it is not among what can be named
            assert "has no series called" in str(refused)
        else:
            assert [v.name for v in folder.volumes] == ["real"]
            assert any("holds the error to expect of an image" in s.why for s in folder.skipped)


@pytest.mark.parametrize("name", ["a.png", "a.nii", "a.tif"])
@pytest.mark.parametrize("command", ["translate", "evaluate"])
def test_the_commands_refuse_an_expected_error_whatever_it_is_called(trained, tmp_path, capsys, name, command):
    path = write_image(tmp_path / name, volume(ERRORS))[0]
    real = write_image(tmp_path / "real.nii", volume())[0]
    rest = [real] if command == "evaluate" else ["--model", trained, "--to", "T2", "--out", tmp_path / "out"]
    assert main([str(word) for word in (command, path, *rest)]) == 2
    assert "holds the error to expect of an image: give the image itself." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_is_calibrated_with_an_expected_error(trained):
    with pytest.raises(Refusal, match="is synthetic, so no error can be learned from it"):
        calibrate(load_model(trained), [(volume(), volume(ERRORS))])


def test_a_half_filled_image_is_not_translated(trained, tmp_path, capsys):
    path = write_image(tmp_path / "a.nii", volume(Provenance(contrast="T1", complete=False)))[0]
    assert main(["translate", str(path), "--model", str(trained), "--to", "T2", "--out", str(tmp_path / "b.nii")]) == 2
    assert "a.nii: is an unfinished synthetic image: make it again, to its end." in capsys.readouterr().err


def test_a_folder_of_nothing_but_expected_errors_says_so(tmp_path):
    write_image(tmp_path / "a.png", volume(ERRORS))
    with pytest.raises(ValueError, match=r"nothing in it can be used .*holds the error to expect"):
        read_folder(tmp_path, "T2")


def test_a_real_image_says_nothing(tmp_path):
    for name in ("a.png", "a.tif", "a.nii"):
        assert written(tmp_path / name, None).provenance is None
    with pytest.raises(Refusal, match="'it' is not synthetic"):
        write_image(tmp_path / "series", replace(volume(), provenance=None))
