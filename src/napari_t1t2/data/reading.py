"""Both folders to slices, several volumes at a time: in memory if they fit, else in a slice cache on disk.

Every file is read once and looked at. Where that is more than memory should hold, the voxels are let go, and each file
is read again when all sizes and ranges are known, to cut its slices. Threads suffice for that, as scipy, zlib and files
let go of Python's lock (of volumes, two are up to 1.9 times as fast as one); processes would start a user's script or
window again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..config import SIDES, Side, TrainConfig
from ..errors import Refusal
from ..events import Reading
from ..images.clues import bids_label
from ..images.folder import Folder, choose, files_in, named
from ..images.quiet import quiet
from ..images.read import Part, Source, gathered, read_source, sources_in
from ..images.volume import Image, Skipped, Volume
from .bank import digest_of, home_of, lock, mark_used, read_record, write_record, written_whole
from .inputs import as_input
from .seen import fingerprint
from .slices import Plan, SeenVolume, Shown, Slices, common_pixel, seen_in
from .sources import ItemT, MadeT, Stop, finish, work_through
from .stored import HeldSlices, StoredSlices, coded

Both = tuple[Slices, Slices, float]
Kept = npt.NDArray[Any]  # (n, C, H, W) slices of a volume as they are kept: float32 in memory, int16 on disk
Rows = npt.NDArray[np.intp]  # where each slice lies among those kept

MEMORY = 2 * 2**30  # bytes of slices that are held while training; of voxels, while reading, half as many
ENDING = ".int16"


def read_both(config: TrainConfig, pixel: float = 0.0, show: Callable[[Reading], None] = lambda _: None) -> Both:
    """`reading` to its end; its progress goes to `show`."""
    return finish(reading(config, pixel), show)


def reading(config: TrainConfig, pixel: float = 0.0, stop: Stop = lambda: False) -> Generator[Reading, None, Both]:
    """Both contrasts as a run sees them, and the side of their pixels in mm, 0 where unknown.

    A resumed run gives the `pixel` that it was begun with. Says every second how far it is, and then asks `stop`.
    Raises `Refusal` with a sentence where they cannot be trained on, or where `stop` said so.
    """
    folders = list(dict.fromkeys((config.t1_folder, config.t2_folder)))
    files = dict(zip(folders, _try_each(_find_files, folders), strict=True))
    times = {path: _stat(path).st_mtime_ns for own in files.values() for path in own}
    asked = _asked(config, files)
    home = home_of(asked)
    places = [str(folder.resolve()) for folder in folders]
    find = partial(_find_cache, home, pixel, times, places, config, stop)
    with quiet():
        if home.is_dir():
            with (yield from lock(home, stop)):
                if both := (yield from find()):
                    return both
        sides = yield from _look(files, config, stop)
        given, pixel = pixel, pixel or common_pixel([v for side in sides for v in side.volumes], config.model)
        plans = [Plan.of(side, config.model, pixel) for side in sides]
        _refuse_twice(plans, config)
        pixels = sum(plan.most() * math.prod(plan.frames[0].framed) for plan in plans) * _channels(config)
        if pixels * np.float32().itemsize <= MEMORY:
            t1, t2 = yield from _in_memory(plans, config, stop)
            return t1, t2, pixel
        with (yield from lock(home, stop)):
            if both := (yield from find()):  # another run was faster
                return both
            with written_whole(home, pixels * np.int16().itemsize) as folder:
                record = yield from _on_disk(folder, times, plans, config, stop)
                record |= {"given": given, "pixel": pixel, "asked": asked, "places": places}
                write_record(folder, record)
            return _opened(home, record)


def _find_files(folder: Path) -> list[Path]:
    """The files in it. Raises `UnusableError` where there are none."""
    files = files_in(folder)
    if not files:
        choose(Folder(folder, [], []), "")  # which says so
    return files


def _stat(path: Path) -> os.stat_result:
    """Of a file, or of a link to nothing."""
    return path.stat() if path.exists() else path.lstat()


def _try_each(work: Callable[[ItemT], MadeT], items: Iterable[ItemT]) -> list[MadeT]:
    """What `work` makes of each. Raises `Refusal` with the sentences of all that it refuses."""
    made: list[MadeT] = []
    refused: list[str] = []
    for item in items:
        try:
            made.append(work(item))
        except Refusal as error:
            refused.append(str(error))
    if refused:
        raise Refusal(*dict.fromkeys(refused))
    return made


def _look(files: dict[Path, list[Path]], config: TrainConfig, stop: Stop) -> Generator[Reading, None, list[Folder]]:
    """Read every file of the folders once; of the two contrasts, what was chosen, as `SeenVolume`s.

    Where both are in one folder, and of other volume numbers, files are read once for each.
    """
    wanted = {"t1": (config.t1_folder, config.t1_volume), "t2": (config.t2_folder, config.t2_volume)}
    sources = [(key, source) for key in dict.fromkeys(wanted.values()) for source in sources_in(files[key[0]])]
    parts: dict[int, Part] = {}
    size = 0

    def read(index: int) -> Part:
        (_, number), source = sources[index]
        part = read_source(source, frame=number)
        plane = config.model.plane
        return replace(part, volumes=[SeenVolume.of(v, plane, source, n, number) for n, v in enumerate(part.volumes)])

    def take(index: int, part: Part) -> None:
        nonlocal size
        held, size = size <= MEMORY // 2, size + sum(v.data.nbytes for v in part.volumes)
        parts[index] = part
        if size > MEMORY // 2:
            for i in list(parts) if held else [index]:
                parts[i] = replace(parts[i], volumes=[v.let_go() for v in seen_in(parts[i])])

    yield from work_through(read, range(len(sources)), "reading", stop, config, take)
    everything = {
        key: named(key[0], *gathered([parts[i] for i, (own, _) in enumerate(sources) if own == key]))
        for key in dict.fromkeys(wanted.values())
    }

    def chosen(side: Side) -> Folder:
        series = config.t1_series if side == "t1" else config.t2_series
        return _once(choose(everything[wanted[side]], config.model.label(side), series))

    return _try_each(chosen, SIDES)


def _once(folder: Folder) -> Folder:
    """The folder without stacks whose voxels another one holds too, as a second export does under other identifiers."""
    looked_at = seen_in(folder)
    first = {v.fingerprint.split()[0]: v for v in reversed(looked_at)}
    twice = [v for v in looked_at if len(v.data) > 1 and first[v.fingerprint.split()[0]] is not v]
    why = "another image here holds the same voxels; one is enough."
    skipped = [Skipped(v.path or folder.path, why) for v in twice]
    return replace(folder, volumes=[v for v in folder.volumes if v not in twice], skipped=folder.skipped + skipped)


def _channels(config: TrainConfig) -> int:
    return 2 if config.model.depth else 1


def _refuse_twice(plans: Sequence[Plan], config: TrainConfig) -> None:
    """What is in both contrasts."""
    others = {v.fingerprint.split()[0] for v in plans[1].volumes}
    if twice := [v for v in plans[0].volumes if v.fingerprint.split()[0] in others]:
        raise Refusal(
            f"{len(twice)} images are in both contrasts, {twice[0].series or twice[0].name} for one: give a folder for "
            f"each, or name the {config.model.t1_label} and the {config.model.t2_label} series."
        )


def _prepare(
    plans: Sequence[Plan],
    config: TrainConfig,
    stop: Stop,
    keep: Callable[[Image], Kept],
    put: Callable[[int, int, Kept], object],
    digests: dict[Path, str] | None = None,
) -> Generator[Reading, None, list[tuple[list[Shown], Rows]]]:
    """Cut all volumes into slices, `keep` them in threads, and `put` them away as they come: contrast, row, slices.

    Returns of each contrast which slices of each volume show anatomy, and in which row each of these lies. The files
    that `digests` names get theirs.
    """
    wanted: dict[Source, list[tuple[int, int, SeenVolume]]] = {}
    for side, plan in enumerate(plans):
        for number, volume in enumerate(plan.volumes):
            wanted.setdefault(volume.source, []).append((side, number, volume))
    for path in (digests or {}).keys() - {path for source in wanted for path in source}:
        wanted[path,] = []
    shown: dict[tuple[int, int], Shown] = {}
    rows: dict[tuple[int, int], Rows] = {}
    counts = [0, 0]

    def cut(source: Source) -> list[tuple[Shown, Kept]]:
        voxels = _voxels(source, [volume for *_, volume in wanted[source]])
        made = [plans[side].cut(n, data) for (side, n, _), data in zip(wanted[source], voxels, strict=True)]
        if digests is not None:  # now, as the system still holds the file
            digests.update({path: digest_of(path) for path in source})
        return [(some, keep(images)) for some, images in made]

    def take(source: Source, made: list[tuple[Shown, Kept]]) -> None:
        for (side, number, _), (some, kept) in zip(wanted[source], made, strict=True):
            put(side, counts[side], kept)
            shown[side, number], rows[side, number] = some, counts[side] + np.arange(len(kept))
            counts[side] += len(kept)

    yield from work_through(cut, wanted, "preparing", stop, config, take)
    numbers = [range(len(plan.volumes)) for plan in plans]
    return [([shown[i, n] for n in own], np.concatenate([rows[i, n] for n in own])) for i, own in enumerate(numbers)]


def _voxels(source: Source, volumes: Sequence[SeenVolume]) -> Iterator[Image]:
    """Those of volumes of a source, read again where they were let go. Raises `Refusal` if it is not what it was."""
    read: dict[int, list[Volume]] = {}  # by volume number
    for volume in volumes:
        if volume.held:
            yield volume.data
            continue
        if volume.frame not in read:
            read[volume.frame] = read_source(source, frame=volume.frame).volumes
        again = read[volume.frame]
        if len(again) <= volume.number or fingerprint(again[volume.number]) != volume.fingerprint.split()[0]:
            raise Refusal(f"{source[0]} changed while it was read: train again when it is complete.")
        yield again[volume.number].data


def _in_memory(plans: Sequence[Plan], config: TrainConfig, stop: Stop) -> Generator[Reading, None, list[Slices]]:
    """Both contrasts. Room that is made and not filled takes no memory."""
    held = [np.empty((plan.most(), _channels(config), *plan.frames[0].framed), np.float32) for plan in plans]

    def put(side: int, row: int, inputs: Image) -> None:
        held[side][row : row + len(inputs)] = inputs

    made = yield from _prepare(plans, config, stop, lambda images: as_input(images, config.model).numpy(), put)
    return [
        plan.gather(HeldSlices(inputs[: len(rows)], rows), shown)
        for plan, inputs, (shown, rows) in zip(plans, held, made, strict=True)
    ]


def _on_disk(
    folder: Path, times: dict[Path, int], plans: Sequence[Plan], config: TrainConfig, stop: Stop
) -> Generator[Reading, None, dict[str, Any]]:
    """Write both contrasts; what `_opened` must know."""
    paths = [folder / f"{side}{ENDING}" for side in SIDES]
    digests = dict.fromkeys(times, "")
    with ExitStack() as stack:
        for path in paths:
            path.touch(mode=0o600)
        files = [stack.enter_context(path.open("wb")) for path in paths]
        made = yield from _prepare(
            plans,
            config,
            stop,
            lambda images: coded(as_input(images, config.model).numpy()),
            lambda side, _, kept: files[side].write(kept.data),
            digests,
        )
        for file in files:
            file.flush()
            os.fsync(file.fileno())
    record: dict[str, Any] = {"files": [(times[path], digests[path]) for path in times]}
    for side, plan, path, (shown, rows) in zip(SIDES, plans, paths, made, strict=True):
        unread = np.broadcast_to(np.float32(np.nan), (len(rows), *plan.frames[0].framed))
        record[side] = plan.gather(unread, shown).to_json()
        record[side] |= {"size": path.stat().st_size, "channels": _channels(config), "rows": rows.tolist()}
    return record


def _find_cache(
    home: Path, pixel: float, times: dict[Path, int], places: list[str], config: TrainConfig, stop: Stop
) -> Generator[Reading, None, Both | None]:
    """Both contrasts of a cache of the same images: files of another date or folder are compared by their content."""
    record = read_record(home, {"given", "pixel", "files", "places", *SIDES})
    if not record or pixel not in (record["given"], record["pixel"]):
        return None
    sizes = {path.name: path.stat().st_size for path in home.glob(f"*{ENDING}")}
    if any(sizes.get(f"{side}{ENDING}") != record[side]["size"] for side in SIDES):
        return None
    known = dict(zip(times, record["files"], strict=True))
    moved = record["places"] != places  # elsewhere, files of one name, size and date may be another patient's
    changed = [path for path, (date, _) in known.items() if moved or date != times[path]]
    digests = yield from work_through(digest_of, changed, "comparing", stop, config)
    if digests != [known[path][1] for path in changed]:
        return None
    if changed:
        record |= {"files": [(times[path], digest) for path, (_, digest) in known.items()], "places": places}
    with suppress(OSError):  # of a cache that only others may write to, they are compared again the next time
        if changed:
            write_record(home, record)
        mark_used(home)
    return _opened(home, record)


def _opened(home: Path, record: dict[str, Any]) -> Both:
    """Both contrasts of a cache."""
    t1, t2 = (
        Slices.from_json(known, StoredSlices(path, known["channels"], known["images"][1:], np.array(known["rows"])))
        for known, path in ((record[side], home / f"{side}{ENDING}") for side in SIDES)
    )
    size = sum(record[side]["size"] for side in SIDES) / 2**30
    note = (
        f"The prepared slices ({size:.1f} GiB) are kept in {home} for other trainings on these images: `napari-t1t2 "
        "cache` lists and deletes such caches."
    )
    return t1, replace(t2, notes=(*t2.notes, note)), record["pixel"]


def _asked(config: TrainConfig, files: dict[Path, list[Path]]) -> dict[str, Any]:
    """All that shapes the slices, but for what is in the files; of the folders' own place, what names are made of."""
    m = config.model
    return {
        "version": [__version__, 4],  # the second one is that of the record
        "t1": [m.t1_label, config.t1_series, list(files).index(config.t1_folder)],
        "t2": [m.t2_label, config.t2_series, list(files).index(config.t2_folder)],
        "volumes": [config.t1_volume, config.t2_volume],
        "model": [m.plane, m.pixel, m.size, m.multiple, m.depth],
        "files": [
            [folder.resolve().name, bids_label(folder.resolve() / "file")]
            + [[path.relative_to(folder).as_posix(), _stat(path).st_size] for path in own]
            for folder, own in files.items()
        ],
    }
