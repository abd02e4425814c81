"""What the Load widget asks its worker thread for, and what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..config import ModelConfig, Side, TrainConfig
from ..data.sources import EVERY, MadeT, report
from ..errors import Refusal, UnusableError
from ..events import Doing, Reading
from ..images.folder import Folder, choose, files_in, named
from ..images.intensity import measure
from ..images.pixels import evenly
from ..images.plane import View
from ..images.read import Step, load, look_over
from ..images.volume import Outline, Skipped, spacing_of
from ..runs.session import clock
from ._layers import layer_of
from ._memory import Chosen
from ._series import Series

if TYPE_CHECKING:
    from ..data.slices import Slices
    from ..images.volume import Image, Volume

PAIRS = 64  # of slices that are shown
SLICES = 1000  # loose ones that are shown, where a folder holds more than is held
SHOWN = 5  # layers of a contrast: a folder may hold a hundred heads
LayerData = tuple["Image", dict[str, Any], Literal["image"]]


@dataclass(frozen=True, eq=False)
class Loaded:
    """One contrast is read: what to show and what to say of it."""

    side: Side
    chosen: Chosen
    layers: list[LayerData]
    summary: list[str]
    notes: Sequence[str] = ()
    prepared: bool = False  # lies beside all layers, as it has no place in the head


@dataclass(frozen=True)
class Found:
    """All folders are read: the series in them."""

    series: list[Series]


def look(
    wanted: dict[Side, Chosen], model: ModelConfig, *, prepared: bool, stop: Callable[[], bool]
) -> Iterator[Loaded | Found | Reading]:
    """Read each folder; runs in the worker thread. What fails on one side is raised when the other has been shown.

    With `prepared`, the images are also shown as a model of such a config is trained on them, and with them the pairs.
    """
    everything: dict[tuple[Path, int], Folder] = {}  # both contrasts may lie in one folder
    used: dict[Side, Folder] = {}
    refused: list[str] = []
    for side, chosen in wanted.items():
        if stop():
            return
        path, label = chosen.folder, chosen.label
        try:
            key = path, chosen.volume
            if key not in everything:
                files = look_over(files_in(path), frame=chosen.volume)
                everything[key] = named(path, *(yield from _reading(files, stop)))
            steps = first_loaded(choose(everything[key], label, chosen.series))
            used[side] = yield from _reading(steps, stop, "showing")
        except UnusableError as error:
            refused.append(str(error))
            continue
        origin = {
            "contrast": label,
            "side": side,
            "folder": str(path),
            "series": chosen.series,
            "volume": chosen.volume,
        }
        layers, of = layers_of(used[side], everything[key], label, origin)
        some = [f"{label}: {len(layers)} of {of} are shown as layers"] if len(layers) < of else []
        if unread := sum(not is_read(v) for v in used[side].volumes):
            some.append(f"{label}: of {unread} images only the headers were looked at.")
        yield Loaded(side, chosen, layers, [f"{label}: {used[side].summary()}", *some], used[side].notes())
    folders = {path: folder for (path, _), folder in everything.items()}  # of several volume numbers the series are one
    yield Found([one for folder in folders.values() for one in series_of(folder, wanted, used)])
    if prepared and used and not stop():
        used = {side: replace(of, volumes=[v for v in of.volumes if is_read(v)]) for side, of in used.items()}
        made = yield from as_prepared(wanted, used, model)
        if len(made) == 2 and not stop():
            yield from as_paired(wanted, made, model, stop)
    if refused:
        raise UnusableError(*refused)


def look_at_sample(
    home: Path, wanted: dict[Side, Chosen], model: ModelConfig, *, prepared: bool, stop: Callable[[], bool]
) -> Iterator[Loaded | Found | Reading]:
    """The same of the sample heads, which are written where there are none yet. Raises `Refusal` without nilearn."""
    from ..sample import write_heads

    if not (home / "held-out" / "T2").is_dir():  # which are written last
        write_heads(home)
    yield from look(wanted, model, prepared=prepared, stop=stop)


def _reading(
    steps: Generator[Step, None, MadeT], stop: Callable[[], bool], doing: Doing = "reading"
) -> Generator[Reading, None, MadeT]:
    """Look at files one after the other, and say every second how far it is."""
    began = said = time.monotonic()
    while True:
        try:
            done, total, path = next(steps)
        except StopIteration as end:
            found: MadeT = end.value
            return found
        if (now := time.monotonic()) >= said + EVERY:
            left = clock((now - began) / done * (total - done)) if said > began else ""  # the first may have waited
            yield from report(Reading(done, total, doing, path.name, left), stop)
            said = now


def is_read(volume: Volume) -> bool:
    """Whether its voxels are in memory."""
    return not isinstance(volume, Outline) or volume.held


def first_loaded(folder: Folder) -> Generator[Step, None, Folder]:
    """The folder with the voxels of the volumes that are shown; of more, their headers must do.

    Loose slices are shown all, as one stack: those of a folder so large that they were let go are thinned out. Yields
    what is read.
    """
    volumes: list[Volume] = []
    skipped = list(folder.skipped)
    shown, slices = 0, sum(is_loose(v) for v in folder.volumes)
    some = set(evenly(slices, SLICES).tolist())
    at, done = -1, 0
    for v in folder.volumes:
        at += is_loose(v)
        wanted = at in some if is_loose(v) else shown < SHOWN
        if is_read(v) or not wanted:
            volumes.append(v)
            shown += is_read(v) and not is_loose(v)
            continue
        done += 1
        yield done, max(done, len(some), min(SHOWN, len(folder.volumes))), v.path or folder.path
        try:
            read = load(v)
        except UnusableError as error:
            skipped.append(Skipped(v.path or folder.path, str(error).removeprefix(f"{v.path and v.path.name}: ")))
            continue
        shown += not is_loose(v)
        volumes.append(read)
    return Folder(folder.path, volumes, skipped)


def layers_of(folder: Folder, everything: Folder, label: str, origin: dict[str, Any]) -> tuple[list[LayerData], int]:
    """The first volumes, and the loose slices as a stack of each size; and how many there are of both."""
    volumes = [v for v in folder.volumes if not is_loose(v) and is_read(v)]
    loose = Folder(folder.path, [v for v in folder.volumes if is_loose(v) and is_read(v)], [])
    layers: list[LayerData] = []
    for v in volumes[:SHOWN]:
        data, about, kind = layer_of(v)
        about |= {"name": f"{label}: {everything.call(v)}", "metadata": about["metadata"] | origin}
        layers.append((data, about | {"visible": not layers}, kind))  # else they hide each other
    sizes = list(loose.sizes())
    layers += [stack_of(loose, size, label, origin) for size in sizes[: SHOWN - len(layers)]]
    return layers, sum(not is_loose(v) for v in folder.volumes) + len(sizes)


def is_loose(volume: Volume) -> bool:
    """Whether it is one slice that does not know its place, such as a PNG."""
    return len(volume.data) == 1 and volume.affine is None and not volume.files


def stack_of(folder: Folder, size: tuple[int, int], label: str, origin: dict[str, Any]) -> LayerData:
    """All slices of one size as a layer, (N, rows, columns)."""
    volumes = [v for v in folder.volumes if v.data.shape[1:] == size]
    data = np.concatenate([v.data for v in volumes])
    limits = measure([data])
    name = f"{label}: {folder.path.name}"
    about = {
        "name": name if len(folder.sizes()) == 1 else f"{name} {size[0]}x{size[1]}",
        "contrast_limits": (limits.low, limits.high),
        "metadata": origin | {"files": [v.path.name for v in volumes if v.path]},
    }
    return data, about, "image"


def series_of(everything: Folder, wanted: dict[Side, Chosen], used: dict[Side, Folder]) -> Iterator[Series]:
    """What a folder holds besides loose slices, and what it is used as."""
    sides = tuple(side for side, chosen in wanted.items() if chosen.folder == everything.path)
    names = {side: {v.series for v in used[side].volumes} for side in sides if side in used}
    for v in everything.volumes:
        if is_loose(v):
            continue
        pixels = "x".join(map(str, v.data.shape))
        mm = "x".join(f"{side:.3g}" for side in v.spacing) + " mm" if v.spacing else "? mm"
        uses = frozenset(side for side in names if v.series in names[side])
        where = v.path or everything.path
        yield Series(everything.call(v), v.series, f"{pixels}\n{mm}", v.looks or "unknown", where, sides, uses)


def as_prepared(
    wanted: dict[Side, Chosen], used: dict[Side, Folder], model: ModelConfig
) -> Generator[Loaded, None, list[Slices]]:
    """Each contrast as it is trained on, which is returned; both together decide the in-plane resolution."""
    from ..data.slices import common_pixel, prepare  # brings torch, which takes seconds: not in the GUI thread

    pixel = common_pixel([v for folder in used.values() for v in folder.volumes], model)
    both: list[Slices] = []
    for side, folder in used.items():
        chosen = wanted[side]
        try:
            made = prepare(folder, model, pixel)
        except Refusal as error:
            yield Loaded(side, chosen, [], [str(error)], prepared=True)
            continue
        about: dict[str, Any] = {
            "name": f"{chosen.label} as prepared for training",
            "contrast_limits": (-1, 1),
            "metadata": {
                "contrast": chosen.label,
                "prepared": f"{model.plane}, {pixel:g} mm, size {model.size}",
                "series": chosen.series,
                "volume": chosen.volume,
            },
        }
        known = [view.spacing for v in folder.volumes if (view := View.of(model.plane, v.affine, v.spacing)).spacing]
        if known:
            about |= {"scale": (np.median([mm[0] for mm in known]), pixel, pixel), "units": ("mm",) * 3}
        of = f"; {model.plane}, in-plane resolution {pixel:.3g} mm" if known else ""
        own = {f"{folder.path.name}: {note}" for note in folder.notes()}  # they have been told
        notes = [note for note in made.notes if note not in own]
        layers: list[LayerData] = [(np.asarray(made.images), about, "image")]
        yield Loaded(side, chosen, layers, [f"{chosen.label}: {made.summary()}{of}"], notes, prepared=True)
        both.append(made)
    return both


def as_paired(
    wanted: dict[Side, Chosen], both: list[Slices], model: ModelConfig, stop: Callable[[], bool]
) -> Iterator[Loaded | Reading]:
    """The first pairs of slices that training would find, one contrast over the other."""
    from ..data.pairs import find_pairs
    from ..data.split import Split

    every = np.arange(len(both[0].images)), np.arange(len(both[1].images))
    config = TrainConfig(t1_folder=wanted["t1"].folder, t2_folder=wanted["t2"].folder, model=model)
    pairs = yield from find_pairs(both[0], both[1], Split(every, every, ()), config, stop)
    grid = next((a for a in both[0].affines if a is not None), None)
    where: dict[str, Any] = {} if grid is None else {"scale": spacing_of(grid), "units": ("mm",) * 3}
    layers: list[LayerData] = []
    for images, (side, chosen) in zip(pairs.images, wanted.items(), strict=False):
        over = {} if side == "t1" else {"colormap": "green", "blending": "additive", "opacity": 0.6}
        about = {"name": f"{chosen.label} of the pairs", "contrast_limits": (-1, 1)} | where | over
        about |= {"metadata": {"contrast": chosen.label, "prepared": "pairs"}}
        layers.append((np.stack([images[n] for n in range(min(PAIRS, len(images)))]), about, "image"))
    said = pairs.notes or ("No pairs were found: training is unpaired.",)
    yield Loaded("t1", wanted["t1"], layers, [], said, prepared=True)
