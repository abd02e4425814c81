"""translate --anonymous: nothing that is written tells whose head it is."""

import pydicom
import pytest

from napari_t1t2.__main__ import main


@pytest.fixture
def scans(made_data, tmp_path):
    """T1 of two patients as DICOM, each with a name in its header, its series' description and its folder."""
    for path in sorted(made_data.dicom[0].rglob("IM_*")):
        if "T1" in path.parent.name:
            ds = pydicom.dcmread(path)
            ds.PatientName = ds.PatientID = ds.StudyDescription = f"PLANTED{path.parent.name[-2:]}"
            ds.SeriesDescription = f"t1 PLANTED{path.parent.name[-2:]}"
            ds.PatientBirthDate = ds.StudyDate = "19770707"
            target = tmp_path / "PLANTED" / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            ds.save_as(target)
    return tmp_path / "PLANTED"


def test_no_name_date_or_identifier_of_dicom_sources_is_in_names_or_bytes(scans, trained, tmp_path, capsys):
    words = ["translate", scans, "--model", trained, "--to", "T2", "--out", tmp_path / "out", "--anonymous"]
    assert main([*map(str, words), "--uncertainty"]) == 0
    uids = {pydicom.dcmread(p).get(key) for p in scans.rglob("IM_*") for key in ("StudyInstanceUID", "SOPInstanceUID")}
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len({path.parent for path in files}) == 4  # of each patient the image and its errors
    for path in files:
        whole = path.read_bytes()
        assert not [word for word in (b"PLANTED", b"19770707", *(uid.encode() for uid in uids)) if word in whole]
        assert "PLANTED" not in str(path.relative_to(tmp_path / "out"))
    headers = [pydicom.dcmread(path) for path in files]
    assert len({ds.PatientID for ds in headers}) == 2 and {ds.PatientIdentityRemoved for ds in headers} == {"YES"}
    assert {ds.get("SeriesDate", "") for ds in headers} == {""}


def test_without_it_the_patient_is_kept(scans, trained, tmp_path):
    words = ["translate", scans, "--model", trained, "--to", "T2", "--out", tmp_path / "out"]
    assert main([str(word) for word in words]) == 0
    names = {str(pydicom.dcmread(path).PatientName) for path in (tmp_path / "out").rglob("*.dcm")}
    assert names == {"PLANTED01", "PLANTED02"}
