"""What a folder holds, and which of it is chosen for a contrast."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import UnusableError
from .clues import bare_name, bids_label, folder_of_head, origins
from .contrast import contrast_of
from .names import KINDS, ending_of, natural, stem
from .vocabulary import CONTRASTS
from .volume import Skipped, Volume

NOT_RAW = frozenset({"derivatives", "sourcedata"})  # folders of a BIDS data set


@dataclass(frozen=True)
class Folder:
    """What a folder held: the usable volumes in natural order, and the rest."""

    path: Path
    volumes: list[Volume]
    skipped: list[Skipped]

    def sizes(self) -> dict[tuple[int, int], int]:
        """How many slices there are of each (rows, columns), the most frequent first."""
        count: Counter[tuple[int, int]] = Counter()
        for volume in self.volumes:
            count[volume.data.shape[1], volume.data.shape[2]] += len(volume.data)
        return dict(count.most_common())

    def summary(self, ends: Sequence[tuple[float, float]] = ()) -> str:
        """Count, sizes, spacing, type and range in one line; with `ends` of each volume, no voxels are looked at."""
        if not self.volumes:
            return "no usable images"
        sizes = ", ".join(f"{n} of {rows}x{columns}" for (rows, columns), n in self.sizes().items())
        spacings = dict.fromkeys("x".join(f"{mm:.3g}" for mm in v.spacing) for v in self.volumes if v.spacing)
        types = ", ".join(dict.fromkeys(v.dtype for v in self.volumes))
        ends = (
            ends or [(v.data.min(), v.data.max()) for v in self.volumes if getattr(v, "held", True)] or [(np.nan,) * 2]
        )
        lows, highs = zip(*ends, strict=True)
        mm = f"; {', '.join(spacings)} mm" if spacings else ""
        return f"{len(self.volumes)} images; slices: {sizes}{mm}; {types}; values {min(lows):g} to {max(highs):g}"

    def notes(self) -> list[str]:
        """What was done to a file on the way in, and which files were left out and why."""
        done = together((v.series or v.name, note) for v in self.volumes for note in v.notes)
        return done + [f"skipped {line}" for line in together((s.path.name, s.why) for s in self.skipped)]

    def call(self, volume: Volume) -> str:
        """What to give as `series` to get this volume and no other: its name, or its series where that is clearer."""
        return volume.name if self._often[_split(volume.name)] == 1 and "," not in volume.name else volume.series

    @cached_property
    def _often(self) -> Counter[tuple[str, ...]]:
        """How many volumes have a name, or a series, of such words."""
        return Counter(words for v in self.volumes for words in {_split(v.name), _split(v.series)})


def together(said: Iterable[tuple[str, str]]) -> list[str]:
    """Who and what of each, as lines; of all of whom the same is said, the first is named and the others counted."""
    names: dict[str, list[str]] = {}
    for name, what in said:
        names.setdefault(what, []).append(name)
    return [f"{who[0]}{f' and {len(who) - 1} more' if who[1:] else ''}: {what}" for what, who in names.items()]


def files_in(folder: Path) -> list[Path]:
    """All files in the folder and the folders in it, linked ones too, in natural order, hidden ones left out.

    Placeholders of iCloud, which are hidden, are not: what they stand for would vanish without a word.

    So are those in folders called `derivatives` or `sourcedata`, which are no raw data in BIDS, unless the folder is
    one of these or lies in one. Raises `UnusableError` where it is no folder.
    """
    if folder == Path():
        raise UnusableError("No folder was given: choose one for each contrast.")
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UnusableError(f"{folder} {what}: give a folder of images.")
    found = [p.relative_to(folder) for p in _walk(folder)]
    not_raw = NOT_RAW if NOT_RAW.isdisjoint(folder.resolve().parts) else frozenset[str]()
    hidden = re.compile(r"(.*/)?\.(?!.*\.icloud$)")
    seen = [p for p in found if not_raw.isdisjoint(p.parts[:-1]) and not hidden.match(p.as_posix())]
    return [folder / p for p in sorted(seen, key=lambda p: [natural(Path(part)) for part in p.parts])]


def _walk(folder: Path) -> Iterator[Path]:
    """The files below, also through links to folders, each folder once; links to nothing are files to be named.

    Raises `UnusableError` for a folder that may not be read: its subjects would vanish without a word.
    """

    def refuse(error: OSError) -> None:
        raise UnusableError(f"{error.filename} cannot be read ({error.strerror}): allow it, or move it away.")

    seen: set[str] = set()
    for at, below, names in os.walk(folder, onerror=refuse, followlinks=True):
        if (real := os.path.realpath(at)) in seen:
            below.clear()
            continue
        seen.add(real)
        yield from (path for name in names if (path := Path(at, name)).is_file() or path.is_symlink())


def named(folder: Path, volumes: list[Volume], skipped: list[Skipped]) -> Folder:
    """All that was read of a folder: files of one name in several folders told apart, and so the heads they show."""
    often = Counter(v.series for v in volumes)
    told_apart = [
        replace(v, series=v.path.relative_to(folder).as_posix()) if often[v.series] > 1 and v.path else v
        for v in volumes
    ]
    return Folder(folder, _heads_by_folder(told_apart, folder), skipped)


def _heads_by_folder(volumes: list[Volume], folder: Path) -> list[Volume]:
    """Volumes with the folder they lie in as subject, where their names repeat between folders: P0/T1, P1/T1.

    DICOM series and files with a BIDS label keep the subject that their headers or names tell.
    """
    of = {
        i: folder_of_head(v.path.relative_to(folder))
        for i, v in enumerate(volumes)
        if v.path and not v.files and not bids_label(v.path)
    }
    spread: dict[str, set[str]] = {}
    for i, head in of.items():
        if head and (path := volumes[i].path):
            spread.setdefault(bare_name(path), set()).add(head)
    if all(len(heads) < 2 for heads in spread.values()):
        return volumes
    return [replace(v, subject=of.get(i) or v.subject) for i, v in enumerate(volumes)]


def choose(everything: Folder, contrast: str, series: str = "") -> Folder:
    """What `read_folder` takes of all that a folder holds. Raises `UnusableError` where that is nothing."""
    folder = everything.path
    no_image = [Skipped(v.path or folder, why) for v in everything.volumes if (why := v.why_not())]
    images = [v for v in everything.volumes if not v.why_not()]
    volumes, left_out = _pick(images, contrast, series, folder)
    skipped = everything.skipped + no_image + left_out
    if not volumes:
        lines = together((s.path.name, s.why.rstrip(".")) for s in left_out + no_image + everything.skipped)
        reasons = "; ".join(lines[:3]) + (f"; and {len(lines) - 3} other reasons" if len(lines) > 3 else "")
        if left_out:
            raise UnusableError(f"{folder} holds images, but none to use as {contrast}: {reasons}.")
        left = "what it holds is hidden, or in derivatives or sourcedata" if any(_walk(folder)) else "it is empty"
        found = f"nothing in it can be used ({reasons})" if skipped else left
        raise UnusableError(f"{folder} holds no images: {found}. Give a folder of {KINDS} files.")
    return Folder(folder, [replace(v, contrast=contrast) for v in volumes], skipped)


def _pick(volumes: list[Volume], contrast: str, series: str, folder: Path) -> tuple[list[Volume], list[Skipped]]:
    """The volumes of one contrast, or those whose names the user gave; and the others, each with the reason."""
    if wanted := _split(series):
        return _find_series(volumes, wanted, folder), []
    asked = contrast_of([contrast]) or contrast
    mixed = any(v.looks in CONTRASTS and v.looks != asked for v in volumes)
    told = any(v.looks == asked and len(v.data) > 1 for v in volumes)
    evened = {v.path for v in volumes if v.path and "_Eq_" in v.path.name}
    kept: list[Volume] = []
    left_out: list[Skipped] = []
    for v in volumes:
        if v.synthetic and contrast:
            found = "it is synthetic"
        elif v.path and v.path.with_name(f"{stem(v.path)}_Eq_1{ending_of(v.path)}") in evened:
            found = "dcm2niix found its slices unevenly spaced, and made them even in the file _Eq_1 beside it"
        elif not contrast_of([contrast]) or v.looks == asked or not (v.looks or mixed or (told and len(v.data) > 1)):
            kept.append(v)
            continue
        else:
            said = f"it looks like {v.looks}" if v.looks in CONTRASTS else f"its name or header says {v.looks}"
            found = said if v.looks else "nothing says which contrast it is"
        why = f"{found}, so it is not used as {contrast}. To use it, choose it in the table (or name it as a series)"
        left_out.append(Skipped(Path(v.series.replace("/", "_")) if v.files else v.path or folder, why))
    here = {(v.path.parent, stem(v.path)) for v in kept if contrast and v.path and not v.files}
    for v in list(kept):
        if v.path and not v.files and any((v.path.parent, name) in here for name in origins(v.path)):
            kept.remove(v)
            why = "its name says that it is a copy, or was made, of another image that is here too"
            left_out.append(Skipped(v.path, f"{why}. To use it, choose it in the table (or name it as a series)"))
    return kept, left_out


def _split(text: str) -> tuple[str, ...]:
    """What stands between the commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _find_series(volumes: list[Volume], wanted: tuple[str, ...], folder: Path) -> list[Volume]:
    """The volumes that a user named: by a whole name, of as many words as it has, else by a part of one."""
    whole: dict[tuple[str, ...], set[int]] = {}
    of_any_case: dict[tuple[str, ...], set[int]] = {}
    for i, v in enumerate(volumes):
        for title in (v.series, v.name):
            whole.setdefault(_split(title), set()).add(i)
            of_any_case.setdefault(_split(title.casefold()), set()).add(i)
    longest = max(map(len, whole), default=1)
    taken: set[int] = set()
    while wanted:
        counts = range(min(longest, len(wanted)), 0, -1)
        found = next(((whole[wanted[:n]], n) for n in counts if wanted[:n] in whole), None)
        folded = tuple(word.casefold() for word in wanted[:longest])
        found = found or next(((of_any_case[folded[:n]], n) for n in counts if folded[:n] in of_any_case), None)
        if not found:
            found = {i for i, v in enumerate(volumes) if folded[0] in f"{v.series} {v.name}".casefold()}, 1
        indices, used = found
        if not indices:
            there = ", ".join(v.series or v.name for v in volumes[:20]) or "nothing"
            raise UnusableError(f"{folder} has no series called {wanted[0]!r}: it has {there}.")
        taken |= indices
        wanted = wanted[used:]
    return [v for i, v in enumerate(volumes) if i in taken]
