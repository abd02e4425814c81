"""What names and headers say of an image: its contrast, and whose head it is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

# A word for a contrast, whatever is written around it: sub-01_T1w, t1_se_tra, AxT2TSE, "T2 FLAIR".
WORDS = {
    "FLAIR": r"flair|dark[ _-]?fluid|tirm",
    "T2*": r"t2[ _-]?(star|\*)|swi|gre[ _-]?t2|t2[ _-]?gre",
    "T1": r"(?<![a-z0-9])(ax|sag|cor|tra)?t1(?![0-9])|mp2?rage|spgr|bravo|t1(w|_|-| )",
    "T2": r"(?<![a-z0-9])(ax|sag|cor|tra)?t2(?![0-9])|t2(w|_|-| )",
    "PD": r"(?<![a-z0-9])pd(w|(?![a-z]))|proton",
}


def contrast_of(
    texts: Iterable[str], *, te: float | None = None, tr: float | None = None, ti: float | None = None
) -> str:
    """The contrast that descriptions (or else echo, repetition and inversion time in ms) speak for.

    "T1", "T2", "FLAIR", "T2*" or "PD"; empty where nothing is said, or where T1 and T2 are both named. The first
    text that says something decides.
    """
    for text in texts:
        found = [name for name, words in WORDS.items() if re.search(words, text.casefold())]
        if found in (["T1"], ["T2"], ["PD"]):
            return found[0]
        for special in ("FLAIR", "T2*"):  # "T2 FLAIR" is no T2 in this sense
            if special in found and "T1" not in found:
                return special
    if te is None or tr is None or te <= 0 or tr <= 0:
        return ""
    if ti and tr > 4000 and ti > 1400:  # fluid is nulled
        return "FLAIR"
    if te >= 60 and tr >= 2000:
        return "T2"
    if te <= 30 and (tr <= 1000 or ti):  # spin or spoiled gradient echo; or prepared by inversion, as MPRAGE is
        return "T1"
    return "PD" if te <= 40 and tr >= 1800 else ""


def subject_of(path: Path, stack: bool) -> str:
    """Whose head a file shows: the BIDS label in its name or folders, else for a stack its name less the contrast.

    Empty where that cannot be told, as of a loose slice called "Image #9".
    """
    for part in (path.name, *(p.name for p in path.parents)):
        if label := re.match(r"(?:.*[_/])?(sub-[A-Za-z0-9]+)(?=[_.]|$)", part):
            return label[1]
    if not stack:
        return ""
    return bare_name(path) or path.parent.name


def bare_name(path: Path) -> str:
    """A file's name without its ending, its contrast and what says that it is synthetic: equal for what pairs up."""
    stem = re.sub(r"\.(nii(\.gz)?|mgz|mgh|hdr|img(\.gz)?|png|jpe?g|bmp|tiff?|dcm)$", "", path.name, flags=re.IGNORECASE)
    stem = re.sub(r"(?i)_synthetic-\w+$|_desc-synthetic", "", stem)
    return re.sub(r"(?i)(^|[ _.-])(t1|t2)(w|-weighted)?(?=$|[ _.-])", "", stem).strip(" _.-")


def paired(fakes: Iterable[Path], reals: Iterable[Path]) -> dict[str, tuple[Path, Path]]:
    """Synthetic and real files of one bare name, where the real one does not call itself another contrast."""
    candidates: dict[str, list[Path]] = {}
    for real in reals:
        if "synthetic" not in real.name:
            candidates.setdefault(bare_name(real), []).append(real)
    pairs: dict[str, tuple[Path, Path]] = {}
    for fake in fakes:
        marked = re.search(r"_synthetic-(\w+)|_desc-synthetic_(\w+?)w?\.", fake.name)
        contrast = next(filter(None, marked.groups()), "") if marked else contrast_of([fake.name])
        alike = {contrast_of([real.name]): real for real in candidates.get(bare_name(fake), [])}
        if match := alike.get(contrast) or alike.get("") or (None if contrast else next(iter(alike.values()), None)):
            pairs[bare_name(fake)] = fake, match
    return pairs
