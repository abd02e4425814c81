"""What a synthetic DICOM series says: whose head it shows, of which study, that it is synthetic, and by whom."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Refusal
from ..provenance import NOTICE, Provenance
from .volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

GROUP, CREATOR = (
    0x0099,
    "napari-t1t2",
)  # of the private tag that holds a provenance too long for `ContributionDescription`
LONGEST = 1024  # characters of that attribute

PATIENT_AND_STUDY = (  # of the source's header, none of it where the result is to be anonymous
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientWeight"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName"),
)
OF_IMAGE = {  # what else holds of the synthetic image, where it is a value that DICOM knows: no name hides in these
    "PatientPosition": r"[HF]F(S|P|DR|DL)",
    "SliceThickness": r"[0-9]{1,2}(\.[0-9]{1,12})?",
    "LossyImageCompression": r"0[01]",
    "LossyImageCompressionRatio": r"[0-9]{1,4}(\.[0-9]{1,11})?",
    "LossyImageCompressionMethod": r"ISO_[0-9]+(_[0-9]+)?",
}
UNPAIRED = re.compile(  # of these there is no left or right one to be named
    "HEAD|BRAIN|SKULL|HEADNECK|NECK|FACE|JAW|[CTL]?SPINE|CHEST|ABDOMEN|PELVIS|HEART|WHOLEBODY|LIVER|PANCREAS|PROSTATE"
)
CHECKED = ("AS", "CS", "DA", "DS", "SH", "TM")  # kinds of values that are left out where they break DICOM's rules


def series_header(volume: Volume, sources: Sequence[Dataset]) -> Dataset:
    """What all slices of a synthetic volume share, by the headers of the files that it was made from, if DICOM.

    An anonymous one takes nothing from them but what `OF_IMAGE` allows, the body part and the number of the series;
    its study and frame of reference get identifiers that are equal for all series of the study. Raises `Refusal`.
    """
    from pydicom.dataset import Dataset
    from pydicom.uid import MRImageStorage, generate_uid

    made, source, now, header = volume.told(), sources[0] if sources else Dataset(), datetime.now(), Dataset()
    assert made is not None
    burned_in = any(str(s.get("BurnedInAnnotation", "")) == "YES" for s in sources)
    if volume.anonymous and burned_in:
        raise Refusal(
            f"{volume.files[0]} says that text is burned into its pixels: clean it first; --anonymous cannot remove it."
        )
    header.SpecificCharacterSet = "ISO_IR 192"
    _add_patient_and_study(header, volume, source, now)
    header.SliceThickness = decimals([volume.spacing[0] if volume.spacing else 1.0])[0]
    header.PatientPosition = header.PositionReferenceIndicator = ""
    for keyword, known in OF_IMAGE.items():
        with suppress(Exception):  # a value that is missing or cannot be read is not handed on
            value = source[keyword].value
            values = value if isinstance(value, list) or hasattr(value, "append") else [value]
            if values and all(re.fullmatch(known, str(v)) for v in values):
                header[keyword] = source[keyword]
    _add_body_part(header, source, anonymous=volume.anonymous)
    header.SeriesNumber = 1000
    with suppress(Exception):
        header.SeriesNumber = 1000 + int(source.SeriesNumber)

    header.SOPClassUID, header.Modality, header.SyntheticData = MRImageStorage, "MR", "YES"
    header.ImageType = ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC"]
    header.SeriesInstanceUID, header.SeriesDescription = generate_uid(), made.stamp(64)
    model = Path(made.model or "").name  # its folder may name a person
    of = f", from {made.source}" if made.source else ""
    by = f"Made by napari-t1t2 with model {model}, step {made.step}{of}."
    header.DerivationDescription = f"{NOTICE} SHA-256 {made.model_sha256}. {by}"[:1024]
    header.DerivationCodeSequence = [_code("123110", "Artificial Intelligence")]
    header.ImageComments = made.notice
    header.BurnedInAnnotation, header.ContentQualification = "YES" if burned_in else "NO", "RESEARCH"
    header.Manufacturer, header.ManufacturerModelName = "napari-t1t2", model[:64]
    header.SoftwareVersions = made.version or ""
    if not volume.anonymous:  # when it was made tells when a patient was here
        header.SeriesDate = header.ContentDate = header.InstanceCreationDate = now.strftime("%Y%m%d")
        header.SeriesTime = header.ContentTime = header.InstanceCreationTime = now.strftime("%H%M%S")
    header.ScanningSequence, header.SequenceVariant = "RM", "NONE"  # required; RM is research mode
    header.ScanOptions = header.MRAcquisitionType = header.EchoTime = header.RepetitionTime = None
    header.EchoTrainLength = None  # no scanner ran: these are required, and empty
    _add_equipment(header, made, source, now, anonymous=volume.anonymous)
    return header


def _add_patient_and_study(header: Dataset, volume: Volume, source: Dataset, now: datetime) -> None:
    """The source's patient and study as they are, or new ones; all that is required, be it empty."""
    from pydicom.uid import UID, generate_uid

    header.PatientBirthDate = header.PatientSex = header.ReferringPhysicianName = header.AccessionNumber = ""
    header.StudyDate = header.StudyTime = header.StudyID = ""
    header.PatientName, header.PatientID = "" if source else "ANONYMOUS", "ANONYMOUS"
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        uid, made = UID(str(source.get(keyword) or "")), generate_uid()
        if uid:  # of one that is none, as anonymisers write, or that stands for two things, the same new one each time
            keep = uid.is_valid and not volume.anonymous and uid != header.get("StudyInstanceUID")
            made = uid if keep else generate_uid(entropy_srcs=[CREATOR, keyword, uid])
        setattr(header, keyword, made)
    if not volume.anonymous:
        if not source:  # a study of its own
            header.StudyDate, header.StudyTime, header.StudyID = now.strftime("%Y%m%d"), now.strftime("%H%M%S"), "1"
        for keyword in PATIENT_AND_STUDY:
            with suppress(Exception):  # a value that is missing, cannot be read or breaks the rules is not handed on
                if value := _valid(source[keyword]):
                    setattr(header, keyword, value)
        if header.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethodCodeSequence" not in header:
            header.DeidentificationMethod = header.get("DeidentificationMethod") or "not stated by the source"
        return
    if source:  # told apart from others in the study's place: an identifier of few digits could be guessed back
        header.PatientID = f"ANON-{pseudonym(str(header.StudyInstanceUID))}"
    header.PatientIdentityRemoved, header.LongitudinalTemporalInformationModified = "YES", "REMOVED"
    header.DeidentificationMethod = "napari-t1t2: only geometry and body part of the source are kept"
    header.DeidentificationMethodCodeSequence = [
        _code("113100", "Basic Application Confidentiality Profile"),
        _code("113105", "Clean Descriptors Option"),  # descriptions are there, all of them our own
    ]


def pseudonym(text: str) -> str:
    """Eight characters that are the same for the same text, and do not tell it."""
    return hashlib.sha256(f"{CREATOR} {text}".encode()).hexdigest()[:8]


def _valid(element: Any) -> Any:
    """The value, dates and times in the form of today. Raises where it breaks the rules, or gives None."""
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    value = element.value
    if element.VR in ("DA", "TM"):
        value = str(value).replace(":" if element.VR == "TM" else ".", "")
    if element.VR in CHECKED:
        validate_value(element.VR, str(value), RAISE)
    return None if element.keyword == "PatientSex" and value not in ("M", "F", "O") else value


def _add_body_part(header: Dataset, source: Dataset, *, anonymous: bool) -> None:
    """The body part, and the side of one of a pair, which must then be there; where the source says none, the head."""
    part, side = (str(source.get(key) or "").strip().upper() for key in ("BodyPartExamined", "Laterality"))
    paired = bool(part) and not UNPAIRED.fullmatch(part) and not re.search("HEAD|BRAIN|NEURO|SKULL|CRAN", part)
    if paired and not anonymous and re.fullmatch(r"[A-Z0-9 _]{1,16}", part):
        header.BodyPartExamined, header.Laterality = part, side if side in ("L", "R") else ""
    else:
        header.BodyPartExamined = part if UNPAIRED.fullmatch(part) else "HEAD"


def _add_equipment(header: Dataset, made: Provenance, source: Dataset, now: datetime, *, anonymous: bool) -> None:
    """Who made it: the scanner of the source, and this program with its model, which also holds the provenance.

    The provenance stands in standard attributes, which every archive keeps; one that is too long, in a private tag.
    """
    contributions = []
    if source.get("Manufacturer") and not made.source_synthetic and not anonymous:
        scanner = {key: source.get(key) for key in ("Manufacturer", "ManufacturerModelName") if source.get(key)}
        contributions.append(item(PurposeOfReferenceCodeSequence=[_code("109101", "Acquisition Equipment")], **scanner))
    by = item(
        PurposeOfReferenceCodeSequence=[_code("109102", "Processing Equipment")],
        Manufacturer="napari-t1t2",
        ManufacturerModelName=f"CycleGAN {header.ManufacturerModelName}"[:64],
        SoftwareVersions=made.version or "",
    )
    if not anonymous:
        by.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    if len(said := made.to_json()) <= LONGEST:
        by.ContributionDescription = said
    else:
        header.private_block(GROUP, CREATOR, create=True).add_new(0, "UT", said)
    header.ContributingEquipmentSequence = [*contributions, by]


def provenance_of(header: Dataset) -> Provenance | None:
    """What a synthetic slice says of itself, an older one by its private or plain tags; None of a real one."""
    for contribution in reversed(header.get("ContributingEquipmentSequence") or ()):
        if said := Provenance.from_json(str(contribution.get("ContributionDescription", ""))):
            return said
    with suppress(Exception):  # no such block, or a damaged one
        if said := Provenance.from_json(header.private_block(GROUP, CREATOR)[0].value):
            return said
    if "SYNTHETIC" not in str(header.get("ImageType", "")):
        return None
    told = re.fullmatch(r"SYNTHETIC (.*) - not for diagnosis", str(header.get("SeriesDescription", "")))
    return Provenance.from_dict({"synthetic": True, "contrast": told[1] if told else ""})


def reference(source: Dataset) -> Dataset | None:
    """What a synthetic slice says of the image it was made from; None where that has no identifier to name it by."""
    from pydicom.uid import UID

    purpose, uid = _code("121322", "Source image for image processing operation"), source.get("SOPInstanceUID")
    of = {"ReferencedSOPClassUID": source.get("SOPClassUID"), "ReferencedSOPInstanceUID": uid}
    return item(PurposeOfReferenceCodeSequence=[purpose], **of) if uid and UID(uid).is_valid else None


def decimals(values: Iterable[float]) -> list[str]:
    """Numbers in the 16 characters that DICOM allows for one."""
    from pydicom.valuerep import format_number_as_ds

    return [format_number_as_ds(float(value) + 0.0) for value in values]  # + 0.0: no minus before a zero


def item(**fields: Any) -> Dataset:
    """An item of a sequence."""
    from pydicom.dataset import Dataset

    made = Dataset()
    for keyword, value in fields.items():
        setattr(made, keyword, value)
    return made


def _code(value: str, meaning: str) -> Dataset:
    """A term of DICOM's own dictionary."""
    return item(CodeValue=value, CodingSchemeDesignator="DCM", CodeMeaning=meaning)
