"""What names say of an image beside its contrast: whose head it is, and what pairs up with it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from unicodedata import normalize

from ..errors import Refusal
from .contrast import contrast_of
from .names import ending_of, other_half, stem

ENDING = re.compile(r"\.(nii(\.gz)?|mgz|mgh|hdr(\.gz)?|img(\.gz)?|png|jpe?g|bmp|tiff?|dcm)$", re.IGNORECASE)
IN_NAME = re.compile(r"(^|[ _.-])(t1(n|c|ce|gd)|t2f|flair|t[12](w|-weighted)?)(?=$|[ _.-])", re.IGNORECASE)
OF_DCM2NIIX = re.compile(r"(?<=_\d)[a-z]$|(_(e\d+|ph|real|imaginary|MoCo|i\d{5}|(Eq|Tilt|Crop)(_\d+)?))+$")
MADE_OF = re.compile(  # what programs and people append to the name of an image that they make of another
    r"([ _.-]+((hd[ _-]?)?bet|brain|(py|mi)?defaced?|n[34](bfc|corr\w*)?|bfc|bias[ _-]?corr\w*|restore|denoised?|orig"
    r"|fullfov|maskedbrain|reorient\w*|crop(ped)?|resampled?|\d(\.\d)?mm|mni\w*"
    r"|to[ _-](mni|std|t[12])\w*([ _-](non)?lin)?|(co)?reg(istered)?|normali[sz]ed|skull[ _-]?strip\w*|stripped"
    r"|preproc\w*|warped|masked|cop(y|ie|ia)|kopie|dup-\d+))+$",
    re.IGNORECASE,
)
SPLITS = frozenset({"train", "training", "test", "testing", "val", "validation"})  # folders that hold many heads


def subject_of(path: Path, stack: bool) -> str:
    """Whose head a file shows: the BIDS label in its name or folders, else for a stack its name less the contrast.

    Empty where that cannot be told, as of a loose slice called "Image #9".
    """
    if label := bids_label(path):
        return label
    if not stack:
        return ""
    return bare_name(Path(MADE_OF.sub("", OF_DCM2NIIX.sub("", ENDING.sub("", path.name))))) or path.parent.name


def origins(path: Path) -> set[str]:
    """What the image may be called that this one is a copy of, or was made of, by its name; empty for most."""
    name = stem(path)
    bids = re.sub(r"_(space|desc|res)-[^_]+(?=_)", "", name)
    return {bids, MADE_OF.sub("", name), re.sub(r" ?\(\d+\)$", "", name), re.sub("^[mrsw]{1,3}", "", name)} - {name}


def bids_label(path: Path) -> str:
    """The `sub-...` in a file's name, or else in the nearest of its folders; empty where there is none."""
    for part in (ENDING.sub("", path.name), *(p.name for p in path.parents)):
        if label := re.match(r"(?:.*_|[a-z]{1,4}\d?)?sub-([^_.\s]+)", composed(part)):
            return f"sub-{IN_NAME.sub('', label[1]) or label[1]}"  # sub-01-T1.nii shows sub-01
    return ""


def composed(name: str) -> str:
    """A name whose accents belong to their letters: those of macOS may stand beside them, and would be other names."""
    return normalize("NFC", name)


def bare_name(path: Path) -> str:
    """A file's name without its ending, its contrast and what says that it is synthetic: equal for what pairs up."""
    bare = ENDING.sub("", composed(path.name))
    bare = re.sub(r"(?i)_synthetic-\w+$|_desc-synthetic", "", bare)
    return IN_NAME.sub("", bare).strip(" _.-")


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
        if not contrast_of([part], kinds=False):
            return composed(part)
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


def channel_of(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Of a file of nnU-Net, as case_0001.nii.gz, the name of its case, and what dataset.json calls its channel."""
    if found := re.fullmatch(r"(.+)_(\d{4})", stem(path)):
        for described in (folder / "dataset.json" for folder in path.parents[:2]):
            with suppress(OSError):
                name = _channels(described, described.stat().st_mtime_ns).get(str(int(found[2])))
                return (path.with_name(found[1] + ending_of(path)), (name,)) if name else (path, ())
        second = path.with_name(f"{found[1]}_0001{ending_of(path)}")
        if path.parent.name in ("imagesTr", "imagesTs") and second.exists():
            return path, ("unnamed channel",)
    return path, ()


@lru_cache(8)
def _channels(described: Path, _: int) -> dict[str, str]:
    """The names of the channels by number; of `channel_names`, or as the Decathlon has it, `modality`."""
    with suppress(ValueError):
        said: Any = json.loads(described.read_bytes())
        for names in (said.get(key) for key in ("channel_names", "modality") if isinstance(said, dict)):
            if isinstance(names, dict):
                return {str(number): str(name) for number, name in names.items()}
    return {}
