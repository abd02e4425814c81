"""What names and headers say of an image: its contrast, and whose head it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..errors import Refusal
from .names import other_half

# A word for a contrast, whatever is written around it: sub-01_T1w, t1_se_tra, AxT2TSE, "T2 FLAIR", BraTS-00002-t2f.
WORDS = {
    "FLAIR": r"flair|dark[ _-]?fluid|tirm|(?<![a-z0-9])t2f(?![a-z0-9])",
    "T2*": r"t2[ _-]?(star|\*)|swi|gre[ _-]?t2|t2[ _-]?gre",
    "T1map": r"t1[ _-]?map",
    "T2map": r"t2[ _-]?map",
    "T1rho": r"t1[ _-]?rho",
    "T1": r"(?<![a-z0-9])(ax|sag|cor|tra)?t1(?![0-9])|mp2?rage|spgr|bravo|(?<![a-z])unit1(?![a-z0-9])"
    r"|t1w|(?<![a-z]{2})t1[ _-]",  # no "patient1_"
    "T2": r"(?<![a-z0-9])(ax|sag|cor|tra)?t2(?![0-9])|t2w|(?<![a-z]{2})t2[ _-]",
    "PD": r"(?<![a-z0-9])pd(w|(?![a-z]))|proton",
}
NARROWER = {  # says more than those beside it: "T2 FLAIR" is no T2 in this sense
    "FLAIR": {"T2", "T2*", "PD"},
    "T2*": {"T2", "PD"},
    "T1map": {"T1"},
    "T2map": {"T2"},
    "T1rho": {"T1"},
}

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

ENDING = re.compile(r"\.(nii(\.gz)?|mgz|mgh|hdr(\.gz)?|img(\.gz)?|png|jpe?g|bmp|tiff?|dcm)$", re.IGNORECASE)
IN_NAME = re.compile(r"(^|[ _.-])(t1(n|c|ce|gd)|t2f|flair|t[12](w|-weighted)?)(?=$|[ _.-])", re.IGNORECASE)
SPLITS = frozenset({"train", "training", "test", "testing", "val", "validation"})  # folders that hold many heads


def contrast_of(
    texts: Iterable[str], *, te: float | None = None, tr: float | None = None, ti: float | None = None
) -> str:
    """The contrast that descriptions (or else echo, repetition and inversion time in ms) speak for.

    "T1", "T2", "FLAIR", "T2*" or "PD"; a word of its own, such as "T1map" or "bold", for what is no image of these;
    empty where nothing is said, or where T1 and T2 are both named. The first text that says something decides.
    """
    for text in texts:
        if said := _contrast_of_suffix(text) or _contrast_of_words(text):
            return said
    if te is None or tr is None or te <= 0 or tr <= 0:
        return ""
    if ti and tr > 4000 and ti > 1400:  # fluid is nulled
        return "FLAIR"
    if te >= 60 and tr >= 2000:
        return "T2"
    if te <= 30 and (tr <= 1000 or ti):  # spin or spoiled gradient echo; or prepared by inversion, as MPRAGE is
        return "T1"
    return "PD" if te <= 40 and tr >= 1800 else ""


def _contrast_of_suffix(text: str) -> str:
    """What the suffix of a BIDS name stands for; empty for other names, and for suffixes that BIDS does not know."""
    name = BIDS.fullmatch(text)
    return SUFFIXES.get(name["suffix"].casefold(), "") if name else ""


def _contrast_of_words(text: str) -> str:
    """The one contrast that free text names."""
    text = re.sub(r"(?<=[a-z])(?=T[12])", " ", text)  # inplaneT1
    text = re.sub(r"space-t[12]w", "", text.casefold())  # where it was brought, not what it is
    found = {name for name, words in WORDS.items() if re.search(words, text)}
    return next((name for name in WORDS if name in found and found - {name} <= NARROWER.get(name, set())), "")


def subject_of(path: Path, stack: bool) -> str:
    """Whose head a file shows: the BIDS label in its name or folders, else for a stack its name less the contrast.

    Empty where that cannot be told, as of a loose slice called "Image #9".
    """
    if label := bids_label(path):
        return label
    if not stack:
        return ""
    return bare_name(path) or path.parent.name


def bids_label(path: Path) -> str:
    """The `sub-...` in a file's name, or else in the nearest of its folders; empty where there is none."""
    for part in (ENDING.sub("", path.name), *(p.name for p in path.parents)):
        if label := re.match(r"(?:.*_)?sub-([^_.\s]+)", part):
            return f"sub-{IN_NAME.sub('', label[1]) or label[1]}"  # sub-01-T1.nii shows sub-01
    return ""


def bare_name(path: Path) -> str:
    """A file's name without its ending, its contrast and what says that it is synthetic: equal for what pairs up."""
    stem = ENDING.sub("", path.name)
    stem = re.sub(r"(?i)_synthetic-\w+$|_desc-synthetic", "", stem)
    return IN_NAME.sub("", stem).strip(" _.-")


def pair_key(path: Path | None, subject: str, folder: Path, *, stack: bool) -> str:
    """Equal for images of two contrasts that may show one place: subject and session, or else head and bare name.

    Empty where nothing is known.
    """
    if stack and subject:
        session = next((m[1] for p in (path.parts[::-1] if path else ()) if (m := re.search(r"ses-([^_./]+)", p))), "")
        return f"{subject} {session}".strip()
    if path is None or stack:
        return ""
    head = subject or (folder_of_head(path.relative_to(folder)) if path.is_relative_to(folder) else "")
    return f"{head} {bare_name(path)}".strip()


def folder_of_head(path: Path) -> str:
    """The first folder of a relative path that may stand for a head; empty where there is none.

    Folders for a contrast (T1, TrainT2) or for a part of a data set (train) do not; P01_T1 and P01_T2 both say P01.
    """
    for part in path.parts[:-1]:
        if part.casefold() in SPLITS:
            continue
        if not contrast_of([part]):
            return part
        bare = bare_name(Path(part))
        if bare != part and re.search(r"\d", bare):
            return bare
    return ""


def paired(
    fakes: Iterable[Path], reals: Iterable[Path], *, across: bool = False
) -> tuple[dict[str, tuple[Path, Path]], dict[Path, str]]:
    """Synthetic files and the real ones that belong to them, by folder and bare name; paths relative to those given.

    A real file belongs to a synthetic one where folder and bare name are equal and it does not call itself another
    contrast; or else where it is the only such one of that bare name, in whatever folder. Raises `Refusal` where two
    do in one folder; of several in other folders none is taken, and the second result says which fit a file.
    `across` contrasts both are real, and what they call themselves decides nothing.
    """
    fakes = _without_second_halves(fakes)
    here: dict[tuple[Path, str], list[Path]] = {}
    anywhere: dict[str, list[Path]] = {}
    for real in _without_second_halves(reals):
        if "synthetic" not in real.name:
            here.setdefault((real.parent, bare_name(real)), []).append(real)
            anywhere.setdefault(bare_name(real), []).append(real)
    often = Counter((fake.parent / bare_name(fake)).as_posix() for fake in fakes)
    pairs: dict[str, tuple[Path, Path]] = {}
    unclear: dict[Path, str] = {}
    for fake in fakes:
        bare, contrast = bare_name(fake), "" if across else _contrast_made(fake)
        found = _of_contrast(contrast, here.get((fake.parent, bare), []))
        if len(found) > 1:
            raise Refusal(f"{found[0]} and {found[1]} could both belong to {fake}: rename or move one.")
        if not found and bare:
            found = _of_contrast(contrast, anywhere.get(bare, []))
        if len(found) == 1:
            key = (fake.parent / bare).as_posix()
            pairs[fake.as_posix() if often[key] > 1 or key == "." else key] = fake, found[0]
        elif found:
            unclear[fake] = f"{found[0]} and {found[1]} both have its name"
    return pairs, unclear


def _contrast_made(fake: Path) -> str:
    """The contrast that a synthetic file says it was given; empty where it does not."""
    marked = re.search(r"_synthetic-(\w+)|_desc-synthetic_(\w+?)w?\.", fake.name)
    said = next(filter(None, marked.groups()), "") if marked else ENDING.sub("", fake.name)
    return contrast_of([said]) or (said if marked else "")


def _of_contrast(contrast: str, reals: list[Path]) -> list[Path]:
    """Those of a contrast, or else those that do not say theirs; where no contrast is asked for, an only one."""
    by_contrast: dict[str, list[Path]] = {}
    for real in reals:
        by_contrast.setdefault(contrast_of([ENDING.sub("", real.name), real.parent.name]), []).append(real)
    only = next(iter(by_contrast.values())) if len(by_contrast) == 1 and not contrast else []
    return by_contrast.get(contrast) or by_contrast.get("") or only


def _without_second_halves(paths: Iterable[Path]) -> list[Path]:
    """Paths without each header (.hdr) that only describes an .img beside it."""
    every = list(paths)
    described = {other_half(p) for p in every if ".img" in p.name.casefold()}
    return [p for p in every if p not in described]
