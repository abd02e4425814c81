"""What the header of a DICOM slice says of what it shows, classic or multi-frame, in standard and private elements."""

from __future__ import annotations

import re

from .contrast import Said
from .dicom_slices import Slice
from .pixels import COLOURED
from .vocabulary import PHANTOM, TESTED, UNITS

PULSES = {"GRADIENT": "GR", "SPIN": "SE", "BOTH": "GR SE"}  # of multi-frame headers, as classic ones call them
STATEMENTS = "ComplexImageComponent", "AcquisitionContrast", "VolumeBasedCalculationTechnique"
TEXTS = "SeriesDescription", "ProtocolName", "AcquisitionContrast", "SequenceName", "PulseSequenceName"
EXAM = "StudyDescription", "PerformedProcedureStepDescription", "ReceiveCoilName"


def said_of(first: Slice, kind: str, echoes: int) -> Said:
    """All that it says; its series tells its `kind`, if any, and how many `echoes` there are."""
    texts = [first.text(tag) for tag in (*TEXTS, "DerivationDescription")]
    if texts[0] and first.text("Manufacturer").startswith("GE"):
        texts[1] = ""  # a protocol of the whole exam
    types = first.value("FrameType") or first.value("ImageType") or ()
    part = ("M", "P", "R", "I")[int(first.number("PartOfComplex") or 0) % 4]
    meanings = [str(item.get("CodeMeaning", "")) for item in first.value("AnatomicRegionSequence") or ()]
    doses = max(first.number(f"ContrastBolus{of}") or 0 for of in ("Volume", "TotalDose"))
    given = doses > 0 or first.value("ContrastBolusAgentSequence")
    given = bool(given) or first.text("ContrastBolusAgentAdministered") == "YES"
    sequence = [first.text("ScanningSequence"), first.text("SequenceVariant")]
    sequence += [
        PULSES.get(first.text("EchoPulseSequence"), ""),
        "EP" * (first.text("EchoPlanarPulseSequence") == "YES"),
    ]
    sequence += ["MTC" * first.text("MagnetizationTransfer").endswith("RESONANCE")]
    return Said(
        tuple(texts),
        (*map(str, [types] if isinstance(types, str) else types), *(first.text(k) for k in STATEMENTS), part),
        te=first.number("EffectiveEchoTime", "EchoTime"),
        tr=first.number("RepetitionTime"),
        ti=first.number("InversionTime", "InversionTimes"),
        agent=first.text("ContrastBolusAgent", "ContrastBolusIngredient") or "given" * given,
        sequence=re.sub(r"[^A-Z ]", " ", " ".join(sequence)),
        kind=_kind_of(first) or kind,
        b_value=b_value(first),
        body=first.text("BodyPartExamined") or " ".join(meanings),
        exam=" ".join(first.text(tag) for tag in EXAM),
        echoes=max(1, echoes),
        places=(first.path.name, first.path.parent.name),
    )


def _kind_of(s: Slice) -> str:
    """What it is, where its header says that it is no weighted image of a head; else empty."""
    name = getattr(s.header.get("SOPClassUID"), "name", "")
    if "Secondary Capture" in name:
        return "screen capture"
    if (modality := s.text("Modality")) not in ("", "MR", "OT"):
        return modality
    if COLOURED in s.notes:
        return "colour map"
    if s.text("ImagedNucleus").upper() not in ("", "1H", "H1", "H"):
        return "another nucleus"
    if "Parametric Map" in name or _unit_of(s) in UNITS:
        return "computed map"
    who = s.text("PatientName") + " " + s.text("PatientID")  # may be of a simulated head, as BrainWeb's
    of_test = PHANTOM.search(who) and TESTED.search(who)
    if of_test or PHANTOM.search(" ".join(s.text(tag) for tag in ("BodyPartExamined", *EXAM))):
        return "phantom"
    if s.text("ArterialSpinLabelingContrast"):
        return "perfusion"
    flow = {s.text(tag) for tag in ("AngioFlag", "TimeOfFlightContrast", "PhaseContrast")}
    return "angiography" if flow & {"Y", "YES"} else ""


def _unit_of(s: Slice) -> str:
    """The unit of the values, where the header says one, in lower case; those of a weighted image have none."""
    mapped = s.value("RealWorldValueMappingSequence") or [{}]
    codes = s.value("MeasurementUnitsCodeSequence") or mapped[0].get("MeasurementUnitsCodeSequence") or [{}]
    return (s.text("RescaleType") or str(codes[0].get("CodeValue", ""))).casefold()


def b_value(s: Slice) -> float:
    """The b-value in s/mm2, to which GE adds a thousand millions; 0 where it says none."""
    ge = s.value("BValuesOfGE")
    of_ge = float(ge[0]) % 1e6 if hasattr(ge, "append") and len(ge) else 0.0
    return s.number("DiffusionBValue", "PrivateBValue") or of_ge
