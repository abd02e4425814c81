"""What an image is, by all that its names and headers say: a contrast, a kind that is none, or nothing that is sure.

The rules, the first that applies: the kind of object and image that a header states (`ImageType`, SOP class, modality);
a BIDS name; a word for what is no weighted image (a scout, a phase image, a label map); a word for a contrast, unless
the echo time says otherwise; the contrast agent; and only where nothing is said, the times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from unicodedata import combining, normalize

from .vocabulary import (
    ACQUIRED,
    AGENT,
    BIDS,
    BODY,
    BOTH,
    CONTRASTS,
    DCM2NIIX,
    FIRST_ECHO,
    HEADS,
    NARROWER,
    NATIVE,
    NO_AGENT,
    OF_KIND,
    OTHER_MODALITY,
    PARTS,
    STATED,
    SUFFIXES,
    WITH_AGENT,
    WITH_AND_WITHOUT,
    WORDS,
)


@dataclass(frozen=True, slots=True)
class Said:
    """All that the names and headers of an image say; times in ms."""

    texts: tuple[str, ...]  # descriptions, the surest first
    image_type: tuple[str, ...] = ()
    te: float | None = None
    tr: float | None = None
    ti: float | None = None
    agent: str = ""
    sequence: str = ""  # DICOM's ScanningSequence and SequenceVariant, with spaces
    kind: str = ""  # of the object, where it is no MR image: "screen capture", "CT"
    b_value: float = 0.0
    body: str = ""  # BodyPartExamined
    exam: str = ""  # descriptions of the study, and the coil: what was examined, where the body part says nothing
    echoes: int = 1  # of its series
    described: str = ""  # the scanner's words, where the texts begin with the name that somebody gave the file
    places: tuple[str, ...] = ()  # names of the file and its folder, asked where nothing else tells


def judged(said: Said) -> str:
    """The contrast, a kind that is none, or empty; what contradicts itself is called as it contradicts itself."""
    return _judge(said)[0]


def reason(said: Said) -> str:
    """What `judged` goes by: the first of the header's statements, texts, times and places that tells something."""
    return _judge(said)[1]


def _judge(said: Said) -> tuple[str, str]:
    """What it is, and by what."""
    if said.kind:
        return said.kind, f"kind of object: {said.kind}"
    stated, sequence = {value.strip().upper() for value in said.image_type}, said.sequence.split()
    if kind := next((kind for kind, values in STATED.items() if values & stated), ""):
        return kind, f"ImageType {'/'.join(filter(None, said.image_type))}"
    if said.b_value > 0:
        return "diffusion", f"b-value {said.b_value:g}"
    if body := next((kind for kind in BODY if OF_KIND[kind].search(_plain(said.body))), ""):
        return body, f"BodyPartExamined {said.body}"
    if not HEADS.search(exam := _plain(f"{said.body} {said.exam}")):
        spaced = re.sub(r"[_./-]+", " ", exam)
        if body := next((kind for kind in BODY if OF_KIND[kind].search(spaced)), ""):
            return body, "what its study or coil is called"
    if "MTC" in sequence:
        return "magnetisation transfer", "its SequenceVariant MTC"
    words, text = next(((words, text) for text in said.texts if (words := contrast_of([text]))), ("", ""))
    if words not in ("", *CONTRASTS):
        return words, f"named {text!r}"
    if "EP" in sequence:
        return "echo planar", "its ScanningSequence EP"
    by_times, place = _contrast_by_times(said), next((p for p in said.places if contrast_of([p], kinds=False)), "")
    times = ", ".join(f"{n} {t:g} ms" for n, t in (("TE", said.te), ("TR", said.tr), ("TI", said.ti)) if t)
    found = words or by_times
    why = f"named {text!r}" if words else f"by {times}" if by_times else ""
    if not found and any({"PD", "T2"} == _contrasts_in(_plain(text)) for text in said.texts):
        return "PD and T2", "its name says both, and no echo time which"
    if not found and place:
        found, why = contrast_of([place], kinds=False), f"lies in {place!r}"
    named = _plain(" ".join((*said.texts, *said.image_type)))
    if found == "T1" and said.ti and "mp2rage" in re.sub(r"[ _-]", "", named) and "uni" not in named:
        return "inversion image", f"an MP2RAGE with TI {said.ti:g} ms, and not called UNI"
    if contrary := _contradiction(found, by_times, said):
        return f"{found}, but {contrary}", why
    if found == "T2" and "GR" in sequence and "SE" not in sequence:
        return "T2*", f"{why}, a gradient echo"
    if found == "T2" and not said.te and FIRST_ECHO.search(said.texts[0]):
        return "the first of several echoes", why  # often a PD
    agents = _agent(_plain("\n".join(said.texts)))
    if found == "T1" and agents != "without" and (agents == "with" or not NO_AGENT.fullmatch(_plain(said.agent))):
        return AGENT, f"contrast agent {said.agent}".strip()
    described = contrast_of([said.described]) if found == "T1" else ""
    return (described, f"described as {said.described!r}") if described in (AGENT, BOTH) else (found, why)


def _contradiction(found: str, by_times: str, said: Said) -> str:
    """What speaks against T1 or T2: the echo or inversion time, or another text; empty where nothing does."""
    if found not in ("T1", "T2"):
        return ""
    if said.te and (said.te <= 30 if found == "T2" else said.te >= 60):
        return f"a TE of {said.te:g} ms, which no {found} has"
    if by_times in ("FLAIR", "STIR"):
        return f"a TI of {said.ti:g} ms, as {by_times} has"
    if by_times != found and contrast_of([said.described]) not in ("", found, AGENT, BOTH):
        return f"described as {said.described!r}"
    named = {contrast_of([text]) for text in said.texts} - {"", found, "synthetic MR", *BODY}
    others = named - CONTRASTS or (named & {"T1", "T2", "FLAIR"} if not said.te else set())
    return f"also named {min(others)}" if others else ""


def contrast_of(texts: Iterable[str], *, kinds: bool = True) -> str:
    """The contrast, or the kind that is none, that the first text to say something names; else empty.

    Empty, too, where a text names T1 and T2 both. Without `kinds`, as of folders, only words for a contrast count.
    """
    return next((said for text in texts if (said := _of_bids(text) or _of_words(text, kinds))), "")


def said_by(texts: tuple[str, ...], sidecar: dict[str, object], places: tuple[str, ...]) -> Said:
    """What a JSON sidecar (BIDS: times in seconds) says beside the names of its file."""

    def seconds(key: str, longest: float) -> float | None:
        value = sidecar.get(key)
        with suppress(TypeError, ValueError):  # a number, be it as text or the only one of a list
            number = float(value[0] if isinstance(value, list) and len(value) == 1 else value)  # type: ignore[arg-type]
            if 0 < number < inf:
                return 1000.0 * number if number < longest else number  # written by hand, in ms
        return None

    def words(key: str) -> str:
        value = sidecar.get(key)
        return " ".join(map(str, value)) if isinstance(value, list) else str(value or "")

    other = "another nucleus" * (words("ImagedNucleus").upper() not in ("", "1H"))
    kinds = [sidecar.get(key) for key in ("ImageType", "ImageTypeText", "ComplexImageComponent")]
    kinds += ["phase"] * (sidecar.get("Units") in ("rad", "arbitrary rad"))
    tell = "SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceType"
    exam = words("Manufacturer").startswith("GE") and bool(words("SeriesDescription"))  # its protocol is of that
    described = tuple(words(key) for key in tell if not (exam and key == "ProtocolName"))
    return Said(
        (*texts, *described),
        tuple(str(value) for kind in kinds for value in (kind if isinstance(kind, list) else [kind or ""])),
        te=seconds("EchoTime", 1),
        tr=seconds("RepetitionTime", 60),
        ti=seconds("InversionTime", 20),
        agent=words("ContrastBolusIngredient")
        or words("ContrastBolusAgent")
        or "given" * bool(sidecar.get("ContrastBolusTotalDose")),
        sequence=re.sub(r"\W|_", " ", f"{words('ScanningSequence')} {words('SequenceVariant')}")
        + " MTC" * (sidecar.get("MTState") is True),
        kind=modality if (modality := words("Modality")) not in ("", "MR") else other,
        body=words("BodyPartExamined") or words("BodyPart"),
        exam=" ".join(map(words, ("StudyDescription", "ProcedureStepDescription", "ReceiveCoilName"))),
        described=words("SeriesDescription"),
        places=places,
    )


def _contrast_by_times(said: Said) -> str:
    """By echo, repetition and inversion time, where they leave no doubt."""
    te, tr, ti = said.te, said.tr, said.ti
    if te is None or tr is None or te <= 0 or tr <= 0:
        return ""
    if ti and tr > 4000 and ti > 1400:  # fluid is nulled
        return "FLAIR"
    if ti and tr >= 2000 and 80 <= ti <= 260:  # fat is
        return "STIR"
    if te >= 60 and tr >= 2000:
        return "T2"
    # a spin echo, or prepared by inversion as MPRAGE is; fast gradient echoes are scouts and angiographies as well
    gradient = "GR" in said.sequence.split()
    if te <= (30 if ti or not gradient else 10) and (150 <= tr <= 1000 or ti) and (said.echoes == 1 or not gradient):
        return "T1"
    return "PD" if te <= 40 and tr >= 1800 else ""


def _of_bids(text: str) -> str:
    """What a BIDS name stands for; empty for other names, and for suffixes that BIDS does not know."""
    name = BIDS.fullmatch(text)
    found = SUFFIXES.get(name["suffix"].casefold(), "") if name else ""
    said = dict(re.findall(r"([a-z]+)-([^_./]+)", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text))) if found else {}
    entities = {key: value.casefold() for key, value in said.items()}
    acquired = f"{entities.get('acq', '')} {entities.get('rec', '')}".strip()
    written = " ".join(re.findall(r"(?:acq|rec)-([^_./]+)", text.casefold()))
    if found in CONTRASTS and (kind := next((k for k in ACQUIRED if OF_KIND[k].search(f"{acquired} {written}")), "")):
        return kind
    if entities.get("mt") == "on":
        return "magnetisation transfer"
    if entities.get("part") in PARTS:
        return PARTS[entities["part"]]
    if found and "tpl" in entities:
        return "template"
    if found and ("label" in entities or entities.get("desc") in ("mask", "aseg", "aparcaseg")):
        return "label map"
    if found == "T1" and (agent := _agent(f"t1 {acquired}")) in ("with", "both"):
        return AGENT if agent == "with" else BOTH
    return AGENT if found == "T1" and entities.get("ce", "none") not in ("none", "no", "pre", "native") else found


def _of_words(text: str, kinds: bool) -> str:
    """The one contrast or kind that free text names."""
    text = re.sub(r"(?<=[a-z])(?=T[12])", " ", text)  # inplaneT1
    text = re.sub(r"space-t[12]w", "", _plain(text))  # where it was brought, not what it is
    # the T1 of GE and Siemens; FLAIR_to_T1 is none
    text = re.sub(r"t1w?[ _-]?(flair|tirm([ _-](tra|sag|cor|fs))*([ _-]dark[ _-]fluid)?)", "t1 ", text)
    text = re.sub(r"(fat|fett|graisse|grasa|water|wasser)[ _-]?(sat|sup|unter|ges|exc)\w*", "fs", text)
    if half := DCM2NIIX.search(text):
        return "phase" if half[1] == "ph" else "half of a complex image"
    spaced = re.sub(r"[_./\\,;()\[\]-]+", " ", text)
    if kind := next((kind for kind, words in OF_KIND.items() if kinds and words.search(spaced)), ""):
        return kind
    found = _contrasts_in(text)
    name = next((name for name in WORDS if name in found and found - {name} <= NARROWER.get(name, set())), "")
    if not name and not found and OTHER_MODALITY.search(spaced):
        return "another modality"
    return {"with": AGENT, "both": BOTH}.get(_agent(text), name) if name == "T1" else name


def _contrasts_in(text: str) -> set[str]:
    """All contrasts that plain text names; what it was brought to only where it names no other."""
    brought = re.sub(r"[ _-](to|2|in|on|reg\w*|coreg\w*)[ _-](to[ _-])?t[12]w?(?![a-z0-9])", "", text)  # T2_to_T1
    own = {name for name, words in WORDS.items() if re.search(words, brought)}
    return own or {name for name, words in WORDS.items() if re.search(words, text)}


def _agent(text: str) -> str:
    """Whether plain text says "with" contrast agent, "without", "both", or nothing of it."""
    rest, natives = NATIVE.subn(" ", text)
    given = WITH_AGENT.search(rest)
    if WITH_AND_WITHOUT.search(text) or (natives and given):
        return "both"
    return "with" if given else "without" if natives else ""


def _plain(text: str) -> str:
    """Lower case without accents, however these are coded, and without full-width letters."""
    with suppress(UnicodeError):
        text = text.encode("latin-1").decode()  # UTF-8 in a header that does not say so
    return "".join(c for c in normalize("NFKD", text.casefold()) if not combining(c))
