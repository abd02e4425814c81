"""The command translate: files to files, or a folder to a folder."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import FOLDS_CASE
from ..config import other
from ..data.sources import finish
from ..errors import Refusal
from ..images.contrast import contrast_of
from ..images.folder import choose, files_in, named
from ..images.names import is_known, is_nifti, map_beside
from ..images.nifti import read_sidecar
from ..images.read import load, look_over, provenance_in, refuse_maps
from ..images.vocabulary import CONTRASTS
from ..images.volume import Skipped, Volume
from ..images.write import check_ending, name_for
from ..provenance import MAPS, Map
from .batch import Batch, Row
from .bids import plan_for
from .progress import ProgressLine, say

if TYPE_CHECKING:
    from ..config import Side
    from ..model.saved import Model
    from ..provenance import Provenance


def translate(args: Namespace) -> int:
    """Translate images into the other contrast: files to files, or a folder to a folder."""
    say(f"Reading {args.model}", file=sys.stderr)
    from ..images.intensity import shared_ranges
    from ..images.write import write_image
    from ..model.device import describe, pick_device  # brings torch, which takes seconds
    from ..model.saved import load_model
    from ..synthesis.prepare import prepare, provenance
    from ..synthesis.translation import blank, translate_prepared
    from ..synthesis.uncertainty import maps_of

    # the model, and the models beside it
    if args.ensemble and not args.maps:
        raise Refusal("--ensemble tells where models disagree: give --uncertainty as well, or leave it out.")
    device = pick_device(args.device)
    model, *members = (load_model(path, device, args.precision) for path in (args.model, *args.ensemble))
    to = model.config.side(args.to)
    maps = maps_of(model, args.to, [title for title in MAPS if title in args.maps], members)

    # what is translated, and where it goes
    bids = plan_for(args, model, to) if args.bids else None
    ways = model.config.label(other(to)), model.config.label(to)
    read = bids.read(args.frame) if bids else sources(args.inputs, *ways, series=args.series, frame=args.frame)
    volumes, (notes, left_out, broken) = [replace(v, anonymous=args.anonymous) for v in read[0]], read[1:]
    chosen = args.inputs[0].is_dir() and not args.series
    say(*notes, file=sys.stderr)
    asked: dict[str, Any] = {"planes": "three" if args.planes == "three" else None, "volume_number": args.frame or None}
    passed: set[Path] = set()

    @cache
    def ours(volume: Volume, path: Path) -> bool:
        expected = provenance(model, to, volume.origin)
        expected = bids.say_source(expected, volume) if bids else expected
        return not args.overwrite and is_made(path, volume, replace(expected, **asked))

    goal = args.inputs[0], args.out, model, to
    targets = bids.targets(volumes) if bids else targets_for(volumes, *goal, overwrite=args.overwrite, ours=ours)
    beside = [error_targets(volumes, targets, m.title, overwrite=args.overwrite, ours=ours) for m in maps]
    for i, (volume, target) in enumerate(zip(volumes, targets, strict=True)):
        there = all(is_map(own[i], m.describe()) for m, own in zip(maps, beside, strict=True))
        if there and is_whole(target) and ours(volume, target):
            passed.add(target)
    shared = shared_ranges(volumes, model.about.ranges[other(to)])
    say(f"Translating to {model.config.label(to)} on {describe(device)}")
    told: set[str] = set()
    says: list[Provenance] = []
    with Batch(len(volumes) + len(broken), args.report) as batch:
        for outcome, ones in (("left out", left_out), ("failed", broken)):
            for one in ones:
                batch.add(Row(str(one.path), outcome, sentence=one.why))
        for i, (outline, target) in enumerate(zip(volumes, targets, strict=True)):
            name = name_of(outline, args.inputs[0])
            if target in passed:
                batch.add(Row(name, "passed over", str(target)))
                continue
            with batch.image(name) as row:
                # look at it: each remark is told once, of the first image that it is true of
                volume = load(outline)
                if chosen and volume.looks != outline.looks and volume.looks not in CONTRASTS:
                    row.outcome, row.sentence = "left out", f"its values are those of a {volume.looks}"
                    continue
                looked = prepare(volume, model, to, shared=shared.get(i), error_maps=maps)
                for remark in (*(note for note in volume.notes if note not in outline.notes), *looked.remarks):
                    if (kind := re.sub(r"[\d.]+", "#", remark)) not in told:
                        batch.say(f"{volume.path}: {remark}")
                        told.add(kind)
                said = replace(looked.provenance, **asked)
                looked = replace(looked, provenance=bids.say_source(said, outline) if bids else said)

                # translate and write
                of_maps = [(m, blank(volume.data.shape)) for m in maps]
                made = translate_prepared(volume, model, to, looked, planes=args.planes, maps=of_maps)
                for own, (m, data) in zip(beside, of_maps, strict=True):
                    of_errors = replace(made, data=data, name=f"{m.title} of {made.name}")
                    write_image(own[i], of_errors, looked.of_errors(m))
                write_image(target, made)
                row.target = str(target)
                says.append(looked.provenance)

    # what holds for some of many
    unfamiliar, seen = (sum(bool(getattr(s, key)) for s in says) for key in ("unfamiliar", "seen_in_training"))
    for count, what in ((unfamiliar, "do not look like the training images"), (seen, "were trained on")):
        if count and len(volumes) > 1:
            say(f"{count} of {len(says)} images {what}; their files say so.", file=sys.stderr)
    for row in batch.rows:
        if row.outcome == "left out" and row.seconds:
            say(f"left out {row.name}: {row.sentence}", file=sys.stderr)
    return batch.end(f"Written to {args.bids or args.out}:")


def is_made(path: Path, volume: Volume, expected: Provenance) -> bool:
    """Whether a file is what is expected to be made of a volume, and not older than that."""
    said = provenance_in(path)
    if said is None or path.stat().st_mtime < max(p.stat().st_mtime for p in volume.inputs):
        return False
    if volume.anonymous:  # then one that tells its source is not the same
        expected = replace(expected, source=None)
    keys = ("model_sha256", "planes", "volume_number", "precision", *(["source"] if said.source else []))
    return all(getattr(said, key) == getattr(expected, key) for key in keys) and said.complete is not False


def is_map(path: Path, expected: dict[str, Any]) -> bool:
    """Whether a file is a map that says of itself what is expected: its kind, and the ensemble of its model."""
    said = provenance_in(path) if path.exists() else None
    return said is not None and (said.kind, said.ensemble) == (expected["kind"], expected["ensemble"])


def is_whole(target: Path) -> bool:
    """Whether all files of a result are there: of a NIfTI, its sidecar is written last."""
    return target.exists() and (not is_nifti(target) or read_sidecar(target) is not None)


def name_of(volume: Volume, given: Path) -> str:
    """What an image is called in the batch: its place in the folder; a DICOM series by its name."""
    path = volume.path
    if volume.files or path is None:
        return volume.series or volume.name
    return path.relative_to(given).as_posix() if path.is_relative_to(given) and path != given else path.name


FILES = (".png", ".tif", ".tiff", ".nii", ".nii.gz")  # endings that no folder for results has


def sources(
    inputs: Sequence[Path], contrast: str, target: str, *, series: str = "", frame: int = 0
) -> tuple[list[Volume], list[str], list[Skipped], list[Skipped]]:
    """Of a folder the volumes that look like a contrast, of files all; what to tell, what is left out, what is broken.

    They are outlines, to be loaded one by one. Raises `Refusal` with a sentence where there is nothing to use.
    """
    refuse_maps(inputs)
    folder = next((path for path in inputs if path.is_dir()), None)
    if folder and len(inputs) > 1:
        raise Refusal(f"{folder} is a folder: give one folder, or files.")
    line = ProgressLine()
    paths = files_in(folder) if folder else list(inputs)
    volumes, skipped = finish(
        look_over(paths, frame=frame, places=False),
        lambda at: line.show(f"looking at {at[0]} of {at[1]} files: {at[2].name}", at[0] / at[1]),
    )
    line.end()
    if folder:
        looks = {v.looks for v in volumes if not v.why_not() and not v.synthetic}
        if not series and looks == {contrast_of([target])} != {contrast_of([contrast])}:
            raise Refusal(f"The images of {folder} look like {target}, not {contrast}: translate them to {contrast}.")
        read = choose(named(folder, volumes, skipped), contrast, series)
        broken = [one for one in skipped if is_known(one.path) and not one.why.endswith("leave it out.")]
        return read.volumes, read.notes(), [one for one in read.skipped if one not in broken], broken
    skipped += [Skipped(v.path or Path(v.name), why) for v in volumes if (why := v.why_not())]
    volumes = [v for v in volumes if not v.why_not()]
    if not volumes:
        raise Refusal(*(one.why if one.why.startswith(str(one.path)) else str(one) for one in skipped))
    return volumes, [], [], skipped


def targets_for(
    volumes: Sequence[Volume],
    given: Path,
    out: Path,
    model: Model,
    to: Side,
    *,
    overwrite: bool = False,
    ours: Callable[[Volume, Path], bool] = lambda *_: False,
) -> list[Path]:
    """Where the synthetic version of each volume goes: below `out` as they lie below `given`, or to the file `out`.

    What is there is replaced where `ours` says that it was made of the volume. Raises `Refusal` with a sentence for
    whatever could not be written.
    """
    folder = given if given.is_dir() else None
    made = [replace(v, dtype=model.about.ranges[to].dtype) for v in volumes]
    if one_file := len(volumes) == 1 and bool(out.suffix) and not out.is_dir() and not folder:
        check_ending(out, made[0])
    elif out.is_file() or out.name.casefold().endswith(FILES):
        raise Refusal(f"{out} is a file name: give a folder for the results.")
    inputs = {v.path.resolve() for v in volumes if v.path}
    targets: dict[str, Path] = {}  # in order, and found at once
    for volume in made:
        deeper = volume.path.parent.relative_to(folder) if folder and volume.path and not volume.files else Path()
        target = out if one_file else out / deeper / name_for(volume, model.config.label(to))
        if target.resolve() in inputs:
            raise Refusal(f"{target} is one of the inputs: give another --out.")
        if target.is_dir() and any(target.iterdir()) and (overwrite or not ours(volume, target)):
            raise Refusal(f"{target} exists, and DICOM series are never replaced: give another --out.")
        if not target.is_dir():
            _refuse_existing(target, volume, overwrite, ours)
        if (name := str(target).casefold() if FOLDS_CASE else str(target)) in targets:
            raise Refusal(f"Two inputs would both become {target}: rename one, or translate them one by one.")
        targets[name] = target
    return list(targets.values())


def error_targets(
    volumes: Sequence[Volume],
    targets: Sequence[Path],
    title: Map = "expected error",
    *,
    overwrite: bool = False,
    ours: Callable[[Volume, Path], bool] = lambda *_: False,
) -> list[Path]:
    """Where the map of that title of each result goes: beside it. Raises `Refusal` as `targets_for`."""
    beside: list[Path] = []
    for volume, target in zip(volumes, targets, strict=True):
        path = map_beside(target, title)
        _refuse_existing(path, volume, overwrite, ours)
        beside.append(path)
    return beside


def _refuse_existing(path: Path, volume: Volume, overwrite: bool, ours: Callable[[Volume, Path], bool]) -> None:
    if path.exists() and not overwrite and not ours(volume, path):
        by = " and was made by another model, with other settings or of an older input" if provenance_in(path) else ""
        raise Refusal(f"{path} exists{by}: give --overwrite to replace it, or another --out.")
