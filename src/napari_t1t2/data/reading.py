"""Both folders to slices, several volumes at a time: in memory if they fit, else in a bank on disk.

Every file is read once and looked at. Where that is more than memory should hold, the voxels are let go, and each file
is read again when all sizes and ranges are known, to cut its slices and store them. Threads suffice for that, as
scipy, zlib and files let go of Python's lock (two are 1.9 times as fast as one); processes would start a user's script
or window again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..config import Side, TrainConfig
from ..errors import Refusal
from ..events import Reading
from ..images.clues import bids_label
from ..images.folder import Folder, choose, files_in, named
from ..images.intensity import Intensity, glimpse
from ..images.read import Part, Source, gathered, read_source, sources_in
from ..images.volume import Image, Volume
from .bank import digest_of, home_of, read_record, write_record, written_whole
from .inputs import as_input
from .seen import fingerprint
from .slices import Plan, Slices, common_pixel
from .sources import Stop, hushed_readers, worked_through
from .stored import StoredSlices, coded

Both = tuple[Slices, Slices, float]

MEMORY = 2 * 2**30  # bytes of slices that are held while training; of voxels, while reading, half as many
FEW = 8  # pixels along each side of a slice that stand for it, where there are more slices than memory holds
ENDING = ".int16"
SIDES: tuple[Side, Side] = ("t1", "t2")


@dataclass(frozen=True, eq=False)
class Look:
    """What must be known of a volume once its voxels are let go."""

    source: Source
    nth: int  # of the volumes in its source
    fingerprint: str
    glimpse: Intensity | Image
    held: bool = True


@dataclass(frozen=True, eq=False)
class Seen:
    """The volumes of one contrast, their voxels perhaps let go, and what is known of each."""

    folder: Folder
    looks: list[Look]

    def fingerprints(self) -> list[str]:
        """Of each volume."""
        return [look.fingerprint for look in self.looks]


@dataclass(frozen=True, eq=False)
class Job:
    """A source, and which volumes of which side it holds."""

    source: Source
    wanted: list[tuple[int, int, Volume, Look]]  # side, number among the side's volumes


@dataclass(frozen=True, eq=False)
class Cut:
    """The slices of one volume: which of them show anatomy, and these, to hold or to store."""

    side: int
    number: int
    shown: npt.NDArray[np.bool_]
    made: npt.NDArray[Any]


def read_both(config: TrainConfig, pixel: float = 0.0) -> Both:
    """`reading` to its end."""
    steps = reading(config, pixel)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            both: Both = end.value
            return both


def reading(config: TrainConfig, pixel: float = 0.0, stop: Stop = lambda: False) -> Generator[Reading, None, Both]:
    """Both contrasts as a run sees them, and the side of their pixels in mm, 0 where unknown.

    A resumed run gives the `pixel` that it was begun with. Says every second how far it is, and then asks `stop`.
    Raises `Refusal` with a sentence where they cannot be trained on, or where `stop` said so.
    """
    files = {folder: files_in(folder) for folder in dict.fromkeys((config.t1_folder, config.t2_folder))}
    times = {path: path.stat().st_mtime_ns for own in files.values() for path in own}
    asked = _asked(config, files)
    home = home_of(asked)
    with hushed_readers():
        places = [str(folder.resolve()) for folder in files]
        if record := (yield from _kept(home, pixel, times, places, config, stop)):
            return _opened(home, record)
        sides = yield from _look(files, config, stop)
        given, pixel = pixel, pixel or common_pixel([v for side in sides for v in side.folder.volumes], config.model)
        plans = [Plan.of(side.folder, config.model, pixel, [look.glimpse for look in side.looks]) for side in sides]
        _refuse_twice(sides, config)
        pixels = sum(plan.most() for plan in plans) * (2 if config.model.depth else 1)
        if pixels * np.float32().itemsize <= MEMORY:
            t1, t2 = yield from _in_memory(sides, plans, config, stop)
            return t1, t2, pixel
        with written_whole(home, pixels * np.int16().itemsize) as folder:
            record = yield from _on_disk(folder, times, sides, plans, config, stop)
            record |= {"given": given, "pixel": pixel, "asked": asked, "places": places}
            write_record(folder, record)
        return _opened(home, record)


def _look(files: dict[Path, list[Path]], config: TrainConfig, stop: Stop) -> Generator[Reading, None, list[Seen]]:
    """Read every file of the folders once; of the two contrasts, what was chosen."""
    sources = [(folder, source) for folder, own in files.items() for source in sources_in(own)]
    found: dict[int, tuple[Part, list[Look]]] = {}
    size = 0
    for done in worked_through(partial(_read, sources, config), range(len(sources)), "reading", stop, config):
        if isinstance(done, Reading):
            yield done
            continue
        index, (part, looks) = done
        held = size <= MEMORY // 2
        size += sum(v.data.nbytes for v in part.volumes)
        found[index] = (part, looks) if held else _let_go(part, looks)
        if held and size > MEMORY // 2:
            found = {i: _let_go(*one) for i, one in found.items()}
    # whatever a volume is called from here on, it keeps its voxels, or what stands for them
    look_at = {id(v.data): look for part, looks in found.values() for v, look in zip(part.volumes, looks, strict=True)}
    parts = {folder: [found[i][0] for i, (f, _) in enumerate(sources) if f == folder] for folder in files}
    everything = {folder: named(folder, *gathered(parts[folder])) for folder in files}
    m = config.model
    chosen = (
        choose(everything[config.t1_folder], m.t1_label, config.t1_series),
        choose(everything[config.t2_folder], m.t2_label, config.t2_series),
    )
    return [Seen(folder, [look_at[id(v.data)] for v in folder.volumes]) for folder in chosen]


def _read(sources: Sequence[tuple[Path, Source]], config: TrainConfig, index: int) -> tuple[Part, list[Look]]:
    _, source = sources[index]
    part = read_source(source, frame=config.frame)
    return part, [Look(source, i, fingerprint(v, config.model.plane), glimpse(v)) for i, v in enumerate(part.volumes)]


def _let_go(part: Part, looks: list[Look]) -> tuple[Part, list[Look]]:
    """The same without the voxels: they keep their shape, and of a single slice some pixels."""
    volumes = [replace(v, data=np.broadcast_to(np.float32(np.nan), v.data.shape)) for v in part.volumes]
    kept = [replace(look, held=False, glimpse=_few(look.glimpse)) for look in looks]
    return replace(part, volumes=volumes), kept


def _few(glimpse: Intensity | Image) -> Intensity | Image:
    """Some hundred pixels of a slice, evenly."""
    if isinstance(glimpse, Intensity):
        return glimpse
    rows, columns = (max(1, side // FEW) for side in glimpse.shape[1:])
    return glimpse[:, ::rows, ::columns].copy()


def _refuse_twice(sides: list[Seen], config: TrainConfig) -> None:
    """What is in both contrasts."""
    t1, t2 = ([look.fingerprint for look in side.looks] for side in sides)
    if twice := set(t1) & set(t2):
        v = next(v for v, own in zip(sides[0].folder.volumes, t1, strict=True) if own in twice)
        raise Refusal(
            f"{len(twice)} images are in both contrasts, {v.series or v.name} for one: give a folder for each, or "
            f"name the {config.model.t1_label} and the {config.model.t2_label} series."
        )


def _jobs(sides: list[Seen]) -> list[Job]:
    """The sources of what was chosen, each with its volumes."""
    jobs: dict[Source, Job] = {}
    for i, side in enumerate(sides):
        for number, (volume, look) in enumerate(zip(side.folder.volumes, side.looks, strict=True)):
            jobs.setdefault(look.source, Job(look.source, [])).wanted.append((i, number, volume, look))
    return list(jobs.values())


def _cut(plans: list[Plan], frame: int, finish: Callable[[Image], npt.NDArray[Any]], job: Job) -> list[Cut]:
    """The slices of a source's volumes. Raises `Refusal` where it is not what it was."""
    part: Part | None = None
    made: list[Cut] = []
    for side, number, volume, look in job.wanted:
        data = volume.data
        if not look.held:
            part = part or read_source(job.source, frame=frame)
            again = part.volumes[look.nth] if look.nth < len(part.volumes) else None
            if not again or fingerprint(again) != look.fingerprint.split()[0]:
                raise Refusal(f"{job.source[0]} changed while it was read: train again when it is complete.")
            data = again.data
        shown, images = plans[side].cut(number, data)
        made.append(Cut(side, number, shown, finish(images)))
    return made


def _in_memory(
    sides: list[Seen], plans: list[Plan], config: TrainConfig, stop: Stop
) -> Generator[Reading, None, list[Slices]]:
    cuts: dict[tuple[int, int], Cut] = {}
    work = partial(_cut, plans, config.frame, lambda images: images)
    for done in worked_through(work, _jobs(sides), "preparing", stop, config):
        if isinstance(done, Reading):
            yield done
        else:
            cuts |= {(cut.side, cut.number): cut for cut in done[1]}
    made: list[Slices] = []
    for i, (plan, side) in enumerate(zip(plans, sides, strict=True)):
        own = [cuts[i, number] for number in range(len(side.looks))]
        made.append(plan.slices(np.concatenate([c.made for c in own]), [c.shown for c in own], side.fingerprints()))
    return made


def _on_disk(
    folder: Path, times: dict[Path, int], sides: list[Seen], plans: list[Plan], config: TrainConfig, stop: Stop
) -> Generator[Reading, None, dict[str, Any]]:
    """Write both banks; what `_opened` must know."""
    jobs = _jobs(sides)
    jobs += [Job((path,), []) for path in times.keys() - {path for job in jobs for path in job.source}]

    def work(job: Job) -> tuple[list[Cut], dict[Path, str]]:
        made = _cut(plans, config.frame, lambda images: coded(as_input(images, config.model).numpy()), job)
        return made, {path: digest_of(path) for path in job.source}

    cuts: dict[tuple[int, int], Cut] = {}
    begins: dict[tuple[int, int], int] = {}
    digests: dict[Path, str] = {}
    counts = [0, 0]
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"{side}{ENDING}").open("wb")) for side in SIDES]
        for done in worked_through(work, jobs, "preparing", stop, config):
            if isinstance(done, Reading):
                yield done
                continue
            made, hashed = done[1]
            digests |= hashed
            for cut in made:  # as they come: `rows` says where each volume lies
                files[cut.side].write(cut.made.data)
                begins[cut.side, cut.number] = counts[cut.side]
                counts[cut.side] += len(cut.made)
                cuts[cut.side, cut.number] = replace(cut, made=np.empty(0))
        for file in files:
            file.flush()
            os.fsync(file.fileno())
    record: dict[str, Any] = {"files": [(times[path], digests[path]) for path in times]}
    for i, (plan, side) in enumerate(zip(plans, sides, strict=True)):
        shown = [cuts[i, number].shown for number in range(len(side.looks))]
        rows = [begins[i, n] + np.arange(s.sum()) for n, s in enumerate(shown)]
        unread = np.broadcast_to(np.float32(np.nan), (counts[i], *plan.frames[0].framed))
        slices = plan.slices(unread, shown, side.fingerprints())
        record[SIDES[i]] = _to_json(slices) | {
            "size": _size(folder / f"{SIDES[i]}{ENDING}"),
            "channels": 2 if config.model.depth else 1,
            "rows": np.concatenate(rows).tolist(),
        }
    return record


def _kept(
    home: Path, pixel: float, times: dict[Path, int], places: list[str], config: TrainConfig, stop: Stop
) -> Generator[Reading, None, dict[str, Any] | None]:
    """The record of a bank of the same images: files of another date or folder are compared by what is in them."""
    record = read_record(home, {"given", "pixel", "files", "places", *SIDES})
    if not record or pixel not in (record["given"], record["pixel"]):
        return None
    if any(_size(home / f"{side}{ENDING}") != record[side]["size"] for side in SIDES):
        return None
    known = dict(zip(times, record["files"], strict=True))
    moved = record["places"] != places  # elsewhere, files of one name, size and date may be another patient's
    changed = [path for path, (date, _) in known.items() if moved or date != times[path]]
    for done in worked_through(digest_of, changed, "comparing", stop, config):
        if isinstance(done, Reading):
            yield done
        elif done[1] != known[done[0]][1]:
            return None
    if changed:
        record |= {"files": [(times[path], digest) for path, (_, digest) in known.items()], "places": places}
        with suppress(OSError):  # of a bank that only others may write to, they are compared again the next time
            write_record(home, record)
    return record


def _opened(home: Path, record: dict[str, Any]) -> Both:
    """Both contrasts of a bank."""
    t1, t2 = (_from_json(record[side], home / f"{side}{ENDING}") for side in SIDES)
    size = sum(record[side]["size"] for side in SIDES) / 2**30
    note = f"the slices, {size:.1f} GiB, are kept in {home} for other runs on these images; delete them when done"
    return t1, replace(t2, notes=(*t2.notes, note)), record["pixel"]


def _size(path: Path) -> int:
    """In bytes; -1 where there is no file."""
    return path.stat().st_size if path.is_file() else -1


def _to_json(slices: Slices) -> dict[str, Any]:
    """All but the images."""
    return {
        "shape": slices.images.shape,
        "owners": slices.owners.tolist(),
        "names": slices.names,
        "subjects": slices.subjects,
        "fingerprints": slices.fingerprints,
        "intensity": asdict(slices.intensity),
        "notes": slices.notes,
        "places": slices.places.tolist(),
        "affines": [None if a is None else a.tolist() for a in slices.affines],
        "keys": slices.keys,
    }


def _from_json(known: dict[str, Any], path: Path) -> Slices:
    _, height, width = known["shape"]
    return Slices(
        StoredSlices(path, known["channels"], (height, width), np.array(known["rows"], np.intp)),
        np.array(known["owners"], np.intp),
        tuple(known["names"]),
        tuple(known["subjects"]),
        tuple(known["fingerprints"]),
        Intensity(**known["intensity"]),
        tuple(known["notes"]),
        np.array(known["places"], np.intp),
        tuple(None if a is None else np.array(a) for a in known["affines"]),
        tuple(known["keys"]),
    )


def _asked(config: TrainConfig, files: dict[Path, list[Path]]) -> dict[str, Any]:
    """All that shapes the slices, but for what is in the files; of the folders' own place, what names are made of."""
    m = config.model
    return {
        "version": __version__,
        "t1": [m.t1_label, config.t1_series, list(files).index(config.t1_folder)],
        "t2": [m.t2_label, config.t2_series, list(files).index(config.t2_folder)],
        "frame": config.frame,
        "model": [m.plane, m.pixel, m.size, m.multiple, m.depth],
        "files": [
            [folder.resolve().name, bids_label(folder.resolve() / "file")]
            + [[path.relative_to(folder).as_posix(), path.stat().st_size] for path in own]
            for folder, own in files.items()
        ],
    }
