"""What is written as DICOM: valid by dciodvfy, and telling nobody's name where it must not."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage
from test_dicom import SAYS, enhanced, one, series, synthetic

from napari_t1t2.errors import Refusal
from napari_t1t2.images.dicom import read_dicoms
from napari_t1t2.images.dicom_header import provenance_of
from napari_t1t2.images.dicom_slices import is_dicom
from napari_t1t2.images.dicom_write import write_dicom
from napari_t1t2.images.folder import files_in
from napari_t1t2.images.read import read_image
from napari_t1t2.images.write import name_for, write_image

LATER = r"\(0x0008,0x001c\)|this is a Standard Extended SOP Class"  # SyntheticData is younger than the validator
needs_dciodvfy = pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (Debian: dicom3tools) is absent")


def complaints(path: Path) -> list[str]:
    """The errors and warnings of dciodvfy, but for those of an attribute that versions before 2026 do not know."""
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, errors="replace")
    said = {line.strip() for line in (done.stdout + done.stderr).splitlines() if re.search("Error|Warning", line)}
    return sorted(line for line in said if not re.search(LATER, line))


def made_of(paths: list[Path], out: Path, **fields) -> list[Path]:
    """The first slices written of each volume in DICOM files, as the synthetic image of it would be."""
    volumes, _ = read_dicoms(paths)
    placed = [v for v in volumes if v.affine is not None]
    said = {"provenance": SAYS, **fields}
    return [write_dicom(out / f"{k}", replace(v, **said))[0] for k, v in enumerate(placed)]


VALID = {  # what scanners write, and a careful archive keeps
    "PatientName": "Doe^Jane",
    "PatientBirthDate": "19700101",
    "PatientSex": "F",
    "PatientAge": "050Y",
    "StudyDate": "20200102",
    "StudyTime": "101112",
    "StudyID": "7",
    "Manufacturer": "SIEMENS",
    "ManufacturerModelName": "Skyra",
    "BodyPartExamined": "HEAD",
    "PatientPosition": "HFS",
}


@needs_dciodvfy
@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize("part", ["HEAD", "BRAIN", "head", "HEAD_NECK", "NEURO", "", None, "CSPINE"])
def test_the_validator_finds_nothing_whatever_the_source_calls_the_head(tmp_path, part):
    paths = series(tmp_path / "in", **VALID | {"BodyPartExamined": part})
    (path,) = made_of(paths, tmp_path / "out")
    assert complaints(path) == []


@needs_dciodvfy
def test_the_validator_finds_nothing_in_what_is_made_of_a_multi_frame_file(tmp_path):
    ds = pydicom.dcmread(enhanced(tmp_path / "a.dcm", (6, 2, 4)))
    ds.SOPClassUID = EnhancedMRImageStorage
    for keyword, value in VALID.items():
        setattr(ds, keyword, value)
    ds.save_as(tmp_path / "a.dcm")
    (path,) = made_of([tmp_path / "a.dcm"], tmp_path / "out")
    assert complaints(path) == []


@needs_dciodvfy
@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_jp2klossless.dcm", "examples_overlay.dcm", "MR700"])
def test_the_validator_finds_no_more_than_in_the_vendor_s_own_file(tmp_path, name):
    path = get_testdata_file(name, download=False)
    if not path:
        pytest.skip(f"{name} is not among pydicom's files here")
    source = [p for p in Path(path).rglob("*") if p.is_file()] if Path(path).is_dir() else [Path(path)]
    before = {line for p in source for line in complaints(p)}
    for written in made_of(source, tmp_path / "out"):
        found = complaints(written)
        assert [line for line in found if "Error" in line] == []
        assert set(found) <= before


@needs_dciodvfy
def test_the_validator_finds_no_error_in_what_is_made_of_any_real_series(real_data, tmp_path):
    for root in (real_data / "odd/dicom", real_data / "cases"):
        for path in made_of([p for p in files_in(root) if is_dicom(p)], tmp_path / root.name):
            assert [line for line in complaints(path) if "Error" in line] == []


@needs_dciodvfy
def test_the_validator_finds_no_error_in_an_anonymous_series(tmp_path):
    (path,) = made_of(series(tmp_path / "in", **VALID), tmp_path / "out", anonymous=True)
    found = complaints(path)  # an index of a disc would need what is withheld
    assert [line for line in found if "DICOMDIR" not in line] == []


def test_the_header_says_synthetic_by_whom_and_how_in_standard_attributes(tmp_path):
    (path,) = made_of(series(tmp_path / "in", **VALID), tmp_path / "out")
    ds = pydicom.dcmread(path)
    assert ds.SyntheticData == "YES"
    scanner, program = ds.ContributingEquipmentSequence
    assert [c.PurposeOfReferenceCodeSequence[0].CodeValue for c in (scanner, program)] == ["109101", "109102"]
    assert (scanner.Manufacturer, scanner.ManufacturerModelName) == ("SIEMENS", "Skyra")
    assert (program.Manufacturer, program.SoftwareVersions) == ("napari-t1t2", "1.0")
    assert program.ManufacturerModelName == "CycleGAN heads"
    assert ds.DerivationCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    assert ds.SourceImageSequence
    assert [e for e in ds if e.tag.is_private] == []
    assert provenance_of(ds) == SAYS


def test_a_provenance_too_long_for_standard_attributes_survives_too(tmp_path):
    long = replace(SAYS, ensemble=["ab" * 32] * 20)
    assert one(*write_dicom(tmp_path / "out", replace(synthetic(), provenance=long))).provenance == long


@pytest.mark.parametrize(
    ("field", "value"),
    [("PatientAge", "0Y"), ("PatientSex", "m"), ("PatientBirthDate", "1.1.1970"), ("StudyTime", "?")],
)
def test_a_value_that_breaks_the_rules_is_not_handed_on(tmp_path, field, value):
    with pytest.warns(UserWarning, match="Invalid value"):
        paths = series(tmp_path / "in", **VALID | {field: value})
    (path,) = made_of(paths, tmp_path / "out")
    assert not pydicom.dcmread(path).get(field)


@pytest.mark.parametrize(
    ("field", "old", "new"), [("StudyDate", "2020.01.02", "20200102"), ("StudyTime", "10:11:12.5", "101112.5")]
)
def test_a_date_in_the_form_of_old_scanners_is_written_in_that_of_today(tmp_path, field, old, new):
    with pytest.warns(UserWarning, match="Invalid value"):
        paths = series(tmp_path / "in", **VALID | {field: old})
    (path,) = made_of(paths, tmp_path / "out")
    assert pydicom.dcmread(path)[field].value == new


@needs_dciodvfy
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_identifiers_that_are_none_are_replaced_by_the_same_ones_each_time(tmp_path):
    paths = series(tmp_path / "in", **VALID, StudyInstanceUID="05fa52", SOPInstanceUID="dccc95")
    (path,), (again,) = made_of(paths, tmp_path / "out"), made_of(paths, tmp_path / "again")
    assert complaints(path) == []
    assert pydicom.dcmread(path).StudyInstanceUID == pydicom.dcmread(again).StudyInstanceUID


@needs_dciodvfy
def test_a_source_that_was_made_anonymous_by_an_unknown_method_is_no_error(tmp_path):
    (path,) = made_of(series(tmp_path / "in", **VALID, PatientIdentityRemoved="YES"), tmp_path / "out")
    assert complaints(path) == []


@needs_dciodvfy
@pytest.mark.filterwarnings("ignore:The value length")
def test_a_hash_in_place_of_a_study_number_is_not_handed_on(tmp_path):
    (path,) = made_of(series(tmp_path / "in", **VALID | {"StudyID": "ab" * 32}), tmp_path / "out")
    assert not [line for line in complaints(path) if "Error" in line] and pydicom.dcmread(path).StudyID == ""


def test_the_side_of_a_knee_is_kept(tmp_path):
    (path,) = made_of(series(tmp_path / "in", BodyPartExamined="KNEE", Laterality="L"), tmp_path / "out")
    ds = pydicom.dcmread(path)
    assert (ds.BodyPartExamined, ds.Laterality) == ("KNEE", "L")


@pytest.mark.parametrize(("span", "rescaled"), [(5000, False), (3, True)])
def test_floats_are_rounded_where_twelve_bits_are_left_and_else_rescaled(tmp_path, span, rescaled):
    data = np.linspace(-span / 2, span / 2, 4 * 6 * 5, dtype=np.float32).reshape(4, 6, 5)
    paths = write_dicom(tmp_path / "out", replace(synthetic(), data=data, provenance=SAYS))
    assert ("RescaleSlope" in pydicom.dcmread(paths[0])) is rescaled
    np.testing.assert_allclose(one(*paths).data, data, atol=max(0.5, span / 65535) if not rescaled else span / 65535)


# Anonymous


PLANTED = {  # by the kind of value; each is looked for in the bytes of what is written
    **dict.fromkeys(("AE", "CS", "LO", "SH"), "PLANTED"),
    **dict.fromkeys(("LT", "PN", "ST", "UC", "UR", "UT"), "PLANTED"),
    **{"AS": "077Y", "DA": "19770707", "TM": "070707.0707", "DT": "19770707070707"},
    **{"DS": "7777777", "IS": "7777777", "OB": b"PLANTED ", "OW": b"PLANTED ", "UN": b"PLANTED "},
}
MARKS = (b"PLANTED", b"077Y", b"19770707", b"070707", b"7777777", b"1.2.777.")
NEEDED = r"(Specific|SOPClass|Modality|Rows|Columns|Bits|HighBit|Pixel|SamplesPer|Photo|Image(Pos|Orient)|Spacing)"
NOT_IN_A_SLICE = r"FunctionalGroups|NumberOfFrames|Rescale|LossyImage|Palette|LUT|DirectoryRec|BurnedIn"
NOT_IN_A_SLICE += r"|EchoTime|EchoNumbers|StackID|Temporal|SeriesNumber|InstanceNumber|Overlay|EncapsulatedDoc"


def plant(ds: Dataset, depth: int = 0) -> None:
    """Put something that tells a patient into each attribute that DICOM knows, and into private ones."""
    for number, (tag, (kind, count, _, retired, keyword)) in enumerate(DicomDictionary.items()):
        unfit = not keyword or retired or re.match(NEEDED, keyword) or re.search(NOT_IN_A_SLICE, keyword)
        if unfit or tag < 0x00080000 or tag >> 16 in (0x0028, 0x7FE0):
            continue
        if kind == "SQ" and depth == 0:
            item = Dataset()
            item.PatientName, item.TextValue, item.Date = "PLANTED^In", "PLANTED", "19770707"
            item.ReferencedSOPInstanceUID = f"1.2.777.{number}"
            ds.add_new(tag, "SQ", [item])
        elif kind == "UI":
            ds.add_new(tag, "UI", f"1.2.777.{number}")
        elif kind in PLANTED and count[0] == "1":
            ds.add_new(tag, kind, PLANTED[kind])
    for group in (0x0009, 0x0019, 0x0099):
        block = ds.private_block(group, "PLANTED", create=True)
        block.add_new(1, "LO", "PLANTED")
        block.add_new(2, "UN", b"PLANTED ")


@pytest.fixture
def planted(tmp_path) -> list[Path]:
    """A series that tells its patient wherever it can."""
    paths = series(tmp_path / "PLANTED")
    for k, path in enumerate(paths):
        ds = pydicom.dcmread(path)
        plant(ds)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = (f"1.2.777.{n}" for n in (1, 2, 3))
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.777.4.{k}"
        ds.ImageType, ds.SeriesNumber = ["ORIGINAL", "PRIMARY", "M", "PLANTED"], 4
        ds.save_as(path.with_name(f"PLANTED {k}"))
        path.unlink()
    return sorted(path for path in (tmp_path / "PLANTED").iterdir())


def found(folder: Path) -> set[bytes]:
    """The planted marks in the files of a folder and in their names."""
    every = [(p.relative_to(folder).as_posix().encode(), p.read_bytes()) for p in folder.rglob("*") if p.is_file()]
    assert every
    return {mark for name, bytes_ in every for mark in MARKS if mark in name or mark in bytes_}


@pytest.mark.parametrize("kind", ["", ".nii", ".tif"])
def test_nothing_planted_in_a_dicom_source_is_found_in_what_is_written_anonymously(tmp_path, planted, kind):
    volume = replace(one(*planted), provenance=replace(SAYS, source=planted[0].name))
    assert "PLANTED" in volume.name and b"PLANTED" in planted[0].read_bytes()
    write_image(tmp_path / "plain" / (f"a{kind}"), volume)
    assert b"PLANTED" in found(tmp_path / "plain")
    hidden = replace(volume, anonymous=True)
    write_image(tmp_path / "out" / (f"a{kind}" if kind else name_for(hidden, "T2")), hidden)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    read = read_image(next(path for path in files if path.suffix in (kind, ".dcm")))
    assert read.provenance == replace(SAYS, source=None)
    assert found(tmp_path / "out") == set()


def test_anonymous_series_of_one_study_stay_together_and_those_of_others_apart(tmp_path):
    def written(name: str, study: str) -> Dataset:
        paths = series(tmp_path / name, StudyInstanceUID=study, SeriesInstanceUID=f"{study}.{len(name)}")
        for path in paths:
            ds = pydicom.dcmread(path)
            ds.FrameOfReferenceUID = f"{study}.9"
            ds.save_as(path)
        headers = [
            pydicom.dcmread(p)
            for p in write_dicom(tmp_path / "out" / name, replace(one(*paths), provenance=SAYS, anonymous=True))
        ]
        for key in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"):
            assert len({h[key].value for h in headers}) == 1
        assert len({h.SOPInstanceUID for h in headers}) == len(headers)
        return headers[0]

    first, second, other = written("a", "1.2.3"), written("bb", "1.2.3"), written("ccc", "1.2.4")
    for key in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert first[key].value == second[key].value != other[key].value
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert first.PatientIdentityRemoved == "YES"
    codes = [c.CodeValue for c in first.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113105"]


def test_an_anonymous_image_keeps_its_place_and_its_values(tmp_path):
    source = one(*series(tmp_path / "in", **VALID))
    made = one(*write_dicom(tmp_path / "out", replace(source, provenance=SAYS, anonymous=True)))
    np.testing.assert_allclose(made.affine, source.affine, atol=1e-4)
    np.testing.assert_array_equal(made.data, source.data)


def test_text_burned_into_the_pixels_is_refused_where_nobody_may_be_told(tmp_path):
    source = replace(one(*series(tmp_path / "in", BurnedInAnnotation="YES")), provenance=SAYS)
    with pytest.raises(Refusal, match="says that text is burned into its pixels: clean it first"):
        write_dicom(tmp_path / "no", replace(source, anonymous=True))
    assert not (tmp_path / "no").exists()
    assert pydicom.dcmread(write_dicom(tmp_path / "out", source)[0]).BurnedInAnnotation == "YES"


def test_a_nifti_source_lends_nothing_but_its_geometry(tmp_path):
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(5, 4, 3), np.diag([2, 2, 3, 1]))
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = b"PLANTED"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"PLANTED"))
    nibabel.save(image, tmp_path / "a_T1w.nii")
    (tmp_path / "a_T1w.json").write_text('{"PatientName": "PLANTED", "InstitutionName": "PLANTED"}')
    volume = replace(read_image(tmp_path / "a_T1w.nii"), provenance=SAYS)
    for name in ("series", "b.nii", "b.tif"):
        write_image(tmp_path / "out" / name, volume)
    assert found(tmp_path / "out") == set()
    header = pydicom.dcmread(next((tmp_path / "out" / "series").iterdir()))
    assert (header.PatientID, header.StudyID) == ("ANONYMOUS", "1")
