"""The command translate: files to files, or a folder to a folder."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import other
from ..errors import Refusal
from ..images.names import is_nifti, refuse_expected_error
from ..images.read import read_files, read_folder
from ..images.volume import Skipped, Volume
from ..images.write import check_ending, name_for
from .bids import plan_for
from .progress import ProgressLine

if TYPE_CHECKING:
    from ..config import Side
    from ..model.saved import Model
    from ..provenance import Provenance


def translate(args: Namespace) -> None:
    """Translate images into the other contrast: files to files, or a folder to a folder."""
    from ..images.intensity import ranges_for
    from ..images.write import write_image
    from ..model.device import describe, pick_device
    from ..model.saved import load_model
    from ..synthesis.prepare import prepare
    from ..synthesis.translation import blank, translate_prepared
    from ..synthesis.uncertainty import UncertaintyMap

    # the model, and the models beside it
    if args.ensemble and not args.uncertainty:
        raise Refusal("--ensemble tells where models disagree: give --uncertainty as well, or leave it out.")
    device = pick_device(args.device)
    model, *members = (load_model(path, device, args.precision) for path in (args.model, *args.ensemble))
    to = model.config.side(args.to)
    error_map = UncertaintyMap(model, args.to, members) if args.uncertainty else None

    # what is translated, and where it goes
    bids = plan_for(args, model, to) if args.bids else None
    given = model.config.label(other(to))
    read = bids.read(args.frame) if bids else sources(args.inputs, given, series=args.series, frame=args.frame)
    volumes, notes = [replace(v, anonymous=args.anonymous) for v in read[0]], read[1]
    print(*notes, sep="\n", end="\n" * bool(notes), file=sys.stderr)
    goal = args.inputs[0], args.out, model, to
    targets = bids.targets(volumes) if bids else targets_for(volumes, *goal, overwrite=args.overwrite)
    beside = error_targets(targets, overwrite=args.overwrite) if error_map else []
    ranges = ranges_for(volumes, model.about.ranges[other(to)])

    line = ProgressLine()
    print(f"Translating to {model.config.label(to)} on {describe(device)}")
    told: set[str] = set()
    says: list[Provenance] = []
    for done, (volume, target, shared) in enumerate(zip(volumes, targets, ranges, strict=True)):
        # look at it: each remark is told once, of the first image that it is true of
        looked = prepare(volume, model, to, shared=shared, error_map=error_map)
        for remark in dict.fromkeys(looked.remarks):
            if remark not in told:
                print(f"{volume.path}: {remark}", file=sys.stderr)
        told.update(looked.remarks)
        if bids:
            looked = replace(looked, provenance=bids.say_source(looked.provenance, volume))
        says.append(looked.provenance)

        # translate and write
        errors = (error_map, blank(volume.data.shape)) if error_map else None
        made = translate_prepared(volume, model, to, looked, planes=args.planes, errors=errors)
        write_image(target, made)
        if errors:
            name = f"expected error of {made.name}"
            write_image(beside[done], replace(made, data=errors[1], name=name), looked.of_errors(errors[0]))
        part = (done + 1) / len(volumes)
        line.show(f"{done + 1} of {len(volumes)}: {target}", part, last=part == 1)
    line.end()

    # what holds for some of many
    unfamiliar, seen = (sum(bool(getattr(s, key)) for s in says) for key in ("unfamiliar", "seen_in_training"))
    for count, what in ((unfamiliar, "do not look like the training images"), (seen, "were trained on")):
        if count and len(volumes) > 1:
            print(f"{count} of {len(volumes)} images {what}; their files say so.", file=sys.stderr)


FILES = (".png", ".tif", ".tiff", ".nii", ".nii.gz")  # endings that no folder for results has


def sources(
    inputs: Sequence[Path], contrast: str, *, series: str = "", frame: int = 0
) -> tuple[list[Volume], list[str]]:
    """The volumes of one folder that look like a contrast, or of files; and what to tell of them.

    Raises `Refusal` with a sentence: of files, each must be usable.
    """
    refuse_expected_error(inputs)
    folder = next((path for path in inputs if path.is_dir()), None)
    if folder and len(inputs) > 1:
        raise Refusal(f"{folder} is a folder: give one folder, or files.")
    if folder:
        read = read_folder(folder, contrast, series=series, frame=frame)
        return read.volumes, read.notes()
    volumes, skipped = read_files(inputs, frame=frame)
    skipped += [Skipped(v.path or Path(v.name), why) for v in volumes if (why := v.why_not())]
    if skipped:
        raise Refusal(*map(str, skipped))
    return volumes, []


def targets_for(
    volumes: Sequence[Volume], given: Path, out: Path, model: Model, to: Side, *, overwrite: bool = False
) -> list[Path]:
    """Where the synthetic version of each volume goes: below `out` as they lie below `given`, or to the file `out`.

    Raises `Refusal` with a sentence for whatever could not be written.
    """
    folder = given if given.is_dir() else None
    made = [replace(v, dtype=model.about.ranges[to].dtype) for v in volumes]
    if one_file := len(volumes) == 1 and bool(out.suffix) and not out.is_dir() and not folder:
        check_ending(out, made[0])
    elif out.is_file() or out.name.casefold().endswith(FILES):
        raise Refusal(f"{out} is a file name: give a folder for the results.")
    inputs = {v.path.resolve() for v in volumes if v.path}
    targets: dict[Path, None] = {}  # in order, and found at once
    for volume in made:
        deeper = volume.path.parent.relative_to(folder) if folder and volume.path and not volume.files else Path()
        target = out if one_file else out / deeper / name_for(volume, model.config.label(to))
        if target.resolve() in inputs:
            raise Refusal(f"{target} is one of the inputs: give another --out.")
        if target.is_dir() and any(target.iterdir()):
            raise Refusal(f"{target} exists, and DICOM series are never replaced: give another --out.")
        if target.exists() and not target.is_dir() and not overwrite:
            raise Refusal(f"{target} exists: give --overwrite to replace it, or another --out.")
        if target in targets:
            raise Refusal(f"Two inputs would both become {target}: rename one, or translate them one by one.")
        targets[target] = None
    return list(targets)


def error_targets(targets: Sequence[Path], *, overwrite: bool = False) -> list[Path]:
    """Where the error to expect of each result goes: beside it. Raises `Refusal` where a file is there already."""
    beside: list[Path] = []
    for target in targets:
        begin, dot, ending = target.name.partition(".nii") if is_nifti(target) else (target.stem, "", target.suffix)
        bids = begin.replace("_desc-synthetic_", "_desc-expectedError_")
        path = target.with_name((bids if bids != begin else f"{begin}_expected-error") + dot + ending)
        if path.exists() and not overwrite:
            raise Refusal(f"{path} exists: give --overwrite to replace it, or another --out.")
        beside.append(path)
    return beside
