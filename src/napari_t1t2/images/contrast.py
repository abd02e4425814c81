"""What an image is, by all that its names and headers say: a contrast, a kind that is none, or nothing that is sure.

The rules, the first that applies: the kind of object and image that a header states (`ImageType`, SOP class, modality);
a BIDS name; a word for what is no weighted image (a scout, a phase image, a label map); a word for a contrast, unless
the echo time says otherwise; the contrast agent; and only where nothing is said, the times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

AGENT = "T1 with contrast agent"
BOTH = "T1 with and without contrast agent"  # one name for two images: which of them it is cannot be told
CONTRASTS = frozenset({"T1", "T2", "FLAIR", "T2*", "PD", "STIR", AGENT})

# What is no weighted image of its own, by what ImageType says; DICOM part 3, C.7.6.1.1.2 and the vendors' values.
STATED = {
    "localizer": {"LOCALIZER", "SCOUT", "SURVEY"},
    "phase": {"P", "PHASE", "PHASE MAP", "PHASE_MAP", "PHASE MAP UNWRAPPED", "VELOCITY", "VELOCITY MAP", "FLOW"},
    "half of a complex image": {"R", "REAL", "I", "IMAGINARY"},
    "Dixon": {"DIXON", "WATER", "FAT", "IN_PHASE", "OUT_PHASE", "OPP_PHASE", "W", "F", "IP", "OP"},
    "subtraction": {"SUB", "SUBTRACTION", "SUBTRACT"},
    "diffusion": {"ADC", "TRACEW", "TRACE", "DIFFUSION", "FA", "EXP", "EADC", "DWI", "TENSOR", "TENSOR_B0", "COLFA"},
    "angiography": {"ANGIO", "TOF", "FLOW_ENCODED", "MRA"},
    "projection": {"MIP", "PROJECTION IMAGE", "MINIP", "MNIP", "CSA MIP", "CSAPARALLEL"},
    "perfusion": {"PERFUSION", "CBF", "CBV", "MTT", "TTP", "ASL", "RELCBF", "PBP", "GBP", "TMAX"},
    "function": {"FMRI", "BOLD", "T-MAP", "TMAP"},
    "T1map": {"T1 MAP", "T1_MAP", "T1MAP", "R1 MAP"},
    "T2map": {"T2 MAP", "T2_MAP", "T2MAP", "T2_STAR MAP", "T2STAR_MAP", "R2 MAP", "R2STAR_MAP", "R2_STAR MAP"},
    "field map": {"B0", "B0 MAP", "FIELD_MAP", "FIELD MAP", "B1", "B1 MAP"},
    "susceptibility": {"SWI", "QSM", "SUSCEPTIBILITY"},
    "spectroscopy": {"SPECTROSCOPY", "CSI"},
    "screen capture": {"SCREEN SAVE", "SCREEN_SAVE", "SCREENSAVE", "SCREEN CAPTURE", "CAPTURE"},
}

# The same by words, in English, German, French and Spanish, without accents; not inside of longer words.
KINDS = {
    "localizer": r"locali[sz]er|localizador|lokali[sz]i?er\w*|localisateur|loc|survey|topogra\w*|reperage"
    r"|schnittplan\w*|^plan(ung|ning|ificacion|s)?$|plan ?scan|smartbrain|\w*scout\w*|\w*setter|3[ -]?plane?"
    r"|3[ -]?ebenen|tri[ -]?plan\w*|asset ?cal\w*|calibration|kalibrier\w*|senseref\w*|ref[ -]?scan"
    r"|coil ?(survey|sens\w*)|ue?bersicht\w*|locator|pre ?scan|scanogram\w*",
    "inversion image": r"inv[ -]?[12]|ti[12]",
    "T1map": r"mp2?rage[ \w]* t1[ -]?(images?|map)|t1[ -]?map\w*|r1[ -]?map|qt1",
    "T2map": r"q?t2[ -]?map\w*|r2[ -]?(map|star|\*)|t2[ -]?(star|\*)[ -]?map",
    "T1rho": r"t1[ -]?rho\w*",
    "Dixon": r"m?dixon|lava ?flex|(in|opp|out) ?phase|(fat|water)( only| image)?|(fett|wasser)(bild)?|eau|agua",
    "subtraction": r"subtra\w+|soustraction|sustraccion",
    "phase": r"ph|pha|phase( images?)?|phasen(bild\w*)?",
    "field map": r"\w*field ?map\w*|feldkarte|fmap|gre ?field\w*|b0[ -]?map\w*|b1[ -]?map\w*|topup|shim\w*|tfl ?b1\w*",
    "diffusion": r"dwi\w*|dti\w*|dki|dmri|ivim|\w*diffusivity|^fa$|[de]?adc|[de]?adc ?map|tracew?|diffusion\w*|difusion"
    r"|fa ?map|colfa|colou?r ?fa|tensor|ep2d ?diff\w*|ep ?b\d+|b0 t2\w*|t2\w* b0|average ?dc|fractional ?aniso\w*",
    "function": r"bold\w*|[rt]?fmri\w*|sbref|rs ?fmri|resting ?state|ep2d ?bold\w*",
    "perfusion": r"perf|perfusion\w*|asl|p?casl|pasl|pwi|dsc(?! ?\d)|dce|dyn(ami\w+)?|m0(scan)?|(r(el)?)?cb[fv]"
    r"|mtt|ttp",
    "angiography": r"tof\w*|angio\w*|mra|mrv|venogra\w*|twist|tricks|cemra|pca|phase ?contrast|phasenkontrast|arm"
    r"|fl3d ?ce|inhance\w*",
    "projection": r"mips?|minips?|mpr ?range",
    "spectroscopy": r"svs|csi|mrsi?|spectro\w*|spektro\w*",
    "magnetisation transfer": r"mt[cr]?|mt ?(on|off|w)|magneti[sz]ation ?transfer",
    "susceptibility": r"qsm|suscept\w*|sw ?phase",
    "screen capture": r"screen ?(save|shot|capture)|phoenix ?zip ?report|(dose|structured) report|key ?images?",
    "double inversion": r"dir(?=$| (ax|sag|cor|tra|3d|space|cube))|double ?ir|double inversion",
    "unnamed channel": r"unnamed channel",  # of nnU-Net, without its dataset.json
    "synthetic MR": r"symri|magic|synth",
    "label map": r"seg|segm\w*|dseg|labels?|(\w+ ?)?mask\d*|aseg|aparc|parc(ellation)?|atlas|roi\w*|tissue ?class\w*"
    r"|\w*labels|\w*segmentation|f?seg\d*",
    "tissue map": r"pve( ?\d)?|(\w+ ?)?prob(ability|seg|map)?|pveseg|\w*posteriors?\d*|ples ?l[gp]a"
    r"|^(u )?[smwru]*(c[1-6](?=[a-ce-z])|p[0-6](?=t[12]|sub)|(?<=w)p[0-3](?=[a-z]))\w*",  # as SPM and CAT12 begin names
    "computed map": r"bias( ?field)?(?! ?(field ?)?(corr|rem|free))|\w*biasfield|\d?(inverse ?)?warp(field)?"
    r"|\w*\d(inverse)?warp|(non ?lin|warp|deformation|displacement)s? ?(fields?|coeff?s?)|jac(obian)?\w*|\w*jacobian"
    r"|(?<!slice )\w*thickness|curvature|\w*divided ?by\w*|myelin\w*|\w*ratio|residuals?|g ?factor\w*|overlay|fused",
    "spine": r"[chtlb]ws|[ctls]{0,2} ?spine|spinal|lumbar\w*|cervical\w*|thoracic|lumbal\w*|wirbel\w*"
    r"|halswirbel\w*|rachis|colonne|columna|moelle|medular|rue?ckenmark|myelo\w*|mielo\w*|lombaire|dorsal\w*",
    "another part of the body": r"knees?|knie|genou|rodilla|abdom\w*|liver|leber|foie|higado|breast|mamm\w+|prostat\w*"
    r"|pelvi\w*|becken|shoulder|schulter|epaule|hombro|ankle|wrist|heart|cardiac|herz",
    "echo planar": r"ep2d\w*|epi|epi2d\w*",
}
BODY = "spine", "another part of the body"
OF_KIND = {kind: re.compile(rf"(?<![a-z0-9])({words})(?![a-z0-9])") for kind, words in KINDS.items()}

# A word for a contrast, whatever is written around it: sub-01_T1w, t1_se_tra, AxT2TSE, "T2 FLAIR", BraTS-00002-t2f.
WORDS = {
    "FLAIR": r"flair|dark[ _-]?fluid|tirm|(?<![a-z0-9])t2f(?![a-z0-9])",
    "STIR": r"(?<![a-z])stir(?![a-z])",
    "T2*": r"t2w?[ _-]?(ffe|flash|fl[23]d|eg(?![a-z]))|(?<![a-z])(ffe|flash|eg)[ _-]t2|gradiente?s? t2"
    r"|t2\w*[ _-](echo|eco)[ _-](de[ _-])?gradient|(?<![a-z])merge(?![a-z])|t2[ _-]?(star|\*)|swi"
    r"|(?<![a-z])swan(?![a-z])|gre[ _-]?t2|t2[ _-]?gre|hemo(?![a-z])|medic(?![a-z])",
    "T1": r"(?<![a-z0-9])(ax|sag|cor|tra|3d)?t1(?![0-9](?!d))|mp2?[ _-]?rage|spgr|bravo|(?<![a-z])unit1(?![a-z0-9])"
    r"|(?<![a-z0-9])(t1|ir)[ _-]?(fspgr|tfe|ffe)|t1w|(?<![a-z]{2})t1[ _-]",  # no "patient1_"
    "T2": r"(?<![a-z0-9])(ax|sag|cor|tra|3d)?t2(?![0-9](?!d))|t2w|(?<![a-z]{2})t2[ _-]",
    "PD": r"(?<![a-z0-9])(pd|dp)(w|(?![a-z]))|proton|densite",
}
NARROWER = {  # says more than those beside it: "T2 FLAIR" is no T2 in this sense
    "FLAIR": {"T2", "T2*", "PD"},
    "STIR": {"T1", "T2", "PD"},
    "T2*": {"T2", "PD"},
}
OF_AGENT = (
    r"((de|del|di|iv|i\.v\.)[ _-]+)?(contrast\w*|kontrast\w*|gd|gad\w*|km|mdc|inj\w*|civ|c|ce|enh\w*)(?![a-z])"
)
ELSE = r"(?![a-z]|[ _-]?(op|surg|rt|chemo|trauma|proces|treat))"  # what comes after an operation
SATURATED = r"(?![ _-]*(fs|fat|spair|sat|mt|flow))"  # "without fat saturation" says nothing of an agent
OR = r"[ _,/&+-]*(and|und|et|y|e|o|or|puis|then)?[ _,/&+-]*"
WITH = rf"(w/?|with|mit|m|con|com|avec|post|nach|apres|apos|tras|dopo|despues|after){ELSE}"
BARE = rf"(pre|prae|vor|avant|antes|before|prima){ELSE}"
WITHOUT = rf"(w/?o|without|ohne|non?|nicht|kein\w*|sans|sin|sem|senza){ELSE}{SATURATED}"
NATIVE = re.compile(
    rf"(?<![a-z])({BARE}|{WITHOUT})[ _.-]*{OF_AGENT}|(?<![a-z]){BARE}|(?<![a-z])(native?|nativ[ao]|plain|s/c)(?![a-z])"
    r"|(?<![a-z])((pre|non?)[ _-]?(contrast\w*|km|gd|gad\w*|inj\w*|enhanced)|unenhanced)|km[ _-]?frei"
    r"|(?<![a-z])o[ _.]+km"
)
WITH_AGENT = re.compile(
    r"(?<![a-z])t1[ _-]?(c|ce|gd|gad\w*|km)(?![a-z])|\+ ?(c|gd|km|gado)(?![a-z])|(?<![a-z0-9])c ?\+"
    rf"|(?<![a-z]){WITH}[ _./-]*{OF_AGENT}|(?<![a-z])post{ELSE}|(?<![a-z])(post|nach)(km|gd|gad|con)"
    r"|(?<![a-z])(gd|gado\w*|inj(ect\w*)?|km|mdc|ce|c/c|(contrast|kontrast)\w*|enhanced|delayed)(?![a-z])"
    r"|(?<![a-z])(dotarem|clariscan|omniscan|magnevist|prohance|multihance|elucirem|vueway|primovist)(?![a-z])"
)
WITH_AND_WITHOUT = re.compile(
    rf"(?<![a-z0-9])({WITH}{OR}({WITHOUT}|{BARE})|({WITHOUT}|{BARE}){OR}{WITH}|w/?w/?o|pre[ _-]?post)"
    r"|(\+ ?/ ?-|- ?/ ?\+|±)(?! ?f)"
)
NO_AGENT = re.compile(r"\W*|0|((no(ne)?|nil|nein|kein\w*|ohne|aucun|sin|n\W?a|unknown|without)\b.*)")  # of a header

# BIDS: entities such as ses-2, then a suffix that says what the image is.
ENTITIES = (
    "sub ses sample task tracksys acq nuc voi ce trc stain rec dir run mod echo flip inv mt part proc hemi space "
    "split recording chunk seg res den label desc tpl cohort atlas from to mode"
)
BIDS = re.compile(rf"((?:{'|'.join(ENTITIES.split())})-[^_./]+_)+(?P<suffix>[a-z0-9]+)(\.[a-z.]+)?", re.IGNORECASE)
WEIGHTED = {
    **{"T1w": "T1", "UNIT1": "T1", "inplaneT1": "T1", "T2w": "T2", "inplaneT2": "T2"},
    **{"FLAIR": "FLAIR", "PDw": "PD", "T2starw": "T2*", "T2star": "T2*"},
}
OTHER = (  # suffixes of raw images and derivatives that are none of these
    "angio FLASH PD PDT2 MP2RAGE IRT1 MEGRE MESE MPM MTR MTS VFA TB1AFI TB1DAM TB1EPI TB1RFM TB1SRGE TB1TFL RB1COR "
    "T1map T2map T2starmap T1rho R1map R2map R2starmap PDmap MTRmap MTsat MTVmap MWFmap M0map S0map Chimap TB1map "
    "RB1map defacemask bold boldref cbv sbref phase dwi dwiref asl m0scan pet epi fieldmap magnitude magnitude1 "
    "magnitude2 phase1 phase2 phasediff mask dseg probseg xfm ADC FA MD"
)
SUFFIXES = {suffix.casefold(): WEIGHTED.get(suffix, suffix) for suffix in (*WEIGHTED, *OTHER.split())}
PARTS = {"phase": "phase", "real": "half of a complex image", "imag": "half of a complex image"}
DCM2NIIX = re.compile(r"_(ph|real|imaginary)[a-z]?(_\w{2,3})?(\.nii(\.gz)?)?$")
FIRST_ECHO = re.compile(r"_e1$")  # as dcm2niix names echoes of one series
ACCENTS = str.maketrans("áàâäéèêëíìîïóòôöúùûüñç", "aaaaeeeeiiiioooouuuunc")


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
    places: tuple[str, ...] = ()  # names of the file and its folder, asked where nothing else tells


def judged(said: Said) -> str:
    """The contrast, a kind that is none, or empty; what contradicts itself is called as it contradicts itself."""
    if said.kind:
        return said.kind
    stated = {value.strip().upper() for value in said.image_type}
    if kind := next((kind for kind, values in STATED.items() if values & stated), ""):
        return kind
    if said.b_value > 0:
        return "diffusion"
    if body := next((kind for kind in BODY if OF_KIND[kind].search(_plain(said.body))), ""):
        return body
    words = contrast_of(said.texts)
    if words not in ("", *CONTRASTS):
        return words
    if "EP" in said.sequence.split():
        return "echo planar"
    by_times = _contrast_by_times(said)
    found = words or by_times or contrast_of(said.places, kinds=False)
    if found in ("T1", "T2") and said.te and (said.te <= 30 if found == "T2" else said.te >= 60):
        return f"{found}, but a TE of {said.te:g} ms, which no {found} has"
    if found == "T2" and not said.te and FIRST_ECHO.search(said.texts[0]):
        return "the first of several echoes"  # often a PD
    given = not NO_AGENT.fullmatch(_plain(said.agent)) and _agent(_plain(" ".join(said.texts))) != "without"
    return AGENT if found == "T1" and given else found


def reason(said: Said) -> str:
    """What `judged` goes by: the first of the header's statements, texts, times and places that tells something."""
    if said.kind:
        return f"kind of object: {said.kind}"
    stated = {value.strip().upper() for value in said.image_type}
    if any(values & stated for values in STATED.values()):
        return f"ImageType {'/'.join(said.image_type)}"
    if said.b_value > 0:
        return f"b-value {said.b_value:g}"
    if any(OF_KIND[kind].search(_plain(said.body)) for kind in BODY):
        return f"BodyPartExamined {said.body}"
    if judged(said) == AGENT and contrast_of(said.texts) != AGENT:
        return f"contrast agent {said.agent}"
    if text := next((text for text in said.texts if contrast_of([text])), ""):
        return f"named {text!r}"
    times = [f"{name} {time:g} ms" for name, time in (("TE", said.te), ("TR", said.tr), ("TI", said.ti)) if time]
    if _contrast_by_times(said):
        return f"by {', '.join(times)}"
    place = next((place for place in said.places if contrast_of([place], kinds=False)), "")
    return f"lies in {place!r}" if place and judged(said) else "other tags of the header" if judged(said) else ""


def contrast_of(texts: Iterable[str], *, kinds: bool = True) -> str:
    """The contrast, or the kind that is none, that the first text to say something names; else empty.

    Empty, too, where a text names T1 and T2 both. Without `kinds`, as of folders, only words for a contrast count.
    """
    return next((said for text in texts if (said := _of_bids(text) or _of_words(text, kinds))), "")


def said_by(texts: tuple[str, ...], sidecar: dict[str, object], places: tuple[str, ...]) -> Said:
    """What a JSON sidecar (BIDS: times in seconds) says beside the names of its file."""

    def seconds(key: str, longest: float) -> float | None:
        value = sidecar.get(key)
        if not isinstance(value, int | float) or value <= 0:
            return None
        return 1000.0 * value if value < longest else float(value)  # written by hand, in ms

    def words(key: str) -> str:
        value = sidecar.get(key)
        return " ".join(map(str, value)) if isinstance(value, list) else str(value or "")

    kinds = [sidecar.get(key) for key in ("ImageType", "ImageTypeText", "ComplexImageComponent")]
    described = tuple(words(key) for key in ("SeriesDescription", "ProtocolName", "SequenceName"))
    return Said(
        (*texts, *described),
        tuple(str(value) for kind in kinds for value in (kind if isinstance(kind, list) else [kind or ""])),
        te=seconds("EchoTime", 1),
        tr=seconds("RepetitionTime", 60),
        ti=seconds("InversionTime", 20),
        agent=words("ContrastBolusIngredient"),
        sequence=f"{words('ScanningSequence')} {words('SequenceVariant')}".replace("\\", " "),
        kind=modality if (modality := words("Modality")) not in ("", "MR") else "",
        body=words("BodyPartExamined"),
        places=places,
    )


def _contrast_by_times(said: Said) -> str:
    """By echo, repetition and inversion time, where they leave no doubt."""
    te, tr, ti = said.te, said.tr, said.ti
    if te is None or tr is None or te <= 0 or tr <= 0:
        return ""
    if ti and tr > 4000 and ti > 1400:  # fluid is nulled
        return "FLAIR"
    if te >= 60 and tr >= 2000:
        return "T2"
    # a spin echo, or prepared by inversion as MPRAGE is; fast gradient echoes are scouts and angiographies as well
    if te <= (30 if ti or "GR" not in said.sequence.split() else 10) and (150 <= tr <= 1000 or ti):
        return "T1"
    return "PD" if te <= 40 and tr >= 1800 else ""


def _of_bids(text: str) -> str:
    """What a BIDS name stands for; empty for other names, and for suffixes that BIDS does not know."""
    name = BIDS.fullmatch(text)
    found = SUFFIXES.get(name["suffix"].casefold(), "") if name else ""
    entities = dict(re.findall(r"([a-z]+)-([^_./]+)", text.casefold())) if found else {}
    if entities.get("part") in PARTS:
        return PARTS[entities["part"]]
    if found and ("label" in entities or entities.get("desc") in ("mask", "aseg", "aparcaseg")):
        return "label map"
    return AGENT if found == "T1" and "ce" in entities else found


def _of_words(text: str, kinds: bool) -> str:
    """The one contrast or kind that free text names."""
    text = re.sub(r"(?<=[a-z])(?=T[12])", " ", text)  # inplaneT1
    text = re.sub(r"space-t[12]w", "", _plain(text))  # where it was brought, not what it is
    text = re.sub(r"t1w?[ _-]?flair", "t1 ", text)  # the T1 of GE; FLAIR_to_T1 is none
    text = re.sub(r"(fat|fett|graisse|grasa|water|wasser)[ _-]?(sat|sup|unter|ges|exc)\w*", "fs", text)
    if half := DCM2NIIX.search(text):
        return "phase" if half[1] == "ph" else "half of a complex image"
    spaced = re.sub(r"[_./\\,;()\[\]-]+", " ", text)
    if kind := next((kind for kind, words in OF_KIND.items() if kinds and words.search(spaced)), ""):
        return kind
    brought = re.sub(r"[ _-](to|2|in|on|reg\w*|coreg\w*)[ _-](to[ _-])?t[12]w?(?![a-z0-9])", "", text)  # T2_to_T1
    own = {name for name, words in WORDS.items() if re.search(words, brought)}
    found = own or {name for name, words in WORDS.items() if re.search(words, text)}
    name = next((name for name in WORDS if name in found and found - {name} <= NARROWER.get(name, set())), "")
    return {"with": AGENT, "both": BOTH}.get(_agent(text), name) if name == "T1" else name


def _agent(text: str) -> str:
    """Whether plain text says "with" contrast agent, "without", "both", or nothing of it."""
    rest, natives = NATIVE.subn(" ", text)
    given = WITH_AGENT.search(rest)
    if WITH_AND_WITHOUT.search(text) or (natives and given):
        return "both"
    return "with" if given else "without" if natives else ""


def _plain(text: str) -> str:
    """Lower case without accents."""
    return text.casefold().translate(ACCENTS)
