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
from ..images.volume import Volume
from ..images.write import check_ending, name_for
from .progress import ProgressLine

if TYPE_CHECKING:
    from ..config import Side
    from ..images.volume import Volume
    from ..model.saved import Model


def translate(args: Namespace) -> None:
    """Files to files, or a folder to a folder."""
    import numpy as np

    from ..data.slices import fingerprint
    from ..images.intensity import range_for
    from ..images.write import write_image
    from ..model.device import describe, pick_device
    from ..model.saved import load_model
    from ..synthesis.familiarity import unfamiliar
    from ..synthesis.prepare import input_range, provenance, remarks
    from ..synthesis.translation import blank
    from ..synthesis.translation import translate as translate_volume
    from ..synthesis.uncertainty import Doubt

    if args.ensemble and not args.trust:
        raise Refusal("--ensemble tells where models disagree: give --trust as well, or leave it out.")
    device = pick_device(args.device)
    model, *members = (load_model(path, device, args.precision) for path in (args.model, *args.ensemble))
    to = model.config.side(args.to)
    doubt = Doubt(model, args.to, members) if args.trust else None
    trained = model.about.ranges[other(to)]
    volumes, notes = sources(args.inputs, model.config.label(other(to)), series=args.series, frame=args.frame)
    print(*notes, sep="\n", end="\n" * bool(notes), file=sys.stderr)
    targets = targets_for(volumes, args.inputs[0], args.out, model, to, overwrite=args.overwrite)
    beside = doubt_targets(targets, overwrite=args.overwrite) if doubt else []
    loose: dict[str, list[Volume]] = {}  # single slices of a folder share a range, as in training
    for volume in volumes:
        if len(volume.data) == 1:
            loose.setdefault(volume.dtype, []).append(volume)
    shared = {dtype: range_for(np.concatenate([v.data.ravel() for v in vs]), 1, trained) for dtype, vs in loose.items()}

    line = ProgressLine()
    print(f"Translating to {model.config.label(to)} on {describe(device)}")
    told: set[str] = set()
    unfamiliar_files = seen_files = 0
    for done, (volume, target) in enumerate(zip(volumes, targets, strict=True), 1):
        single = len(volume.data) == 1
        intensity, unusual = shared[volume.dtype] if single else input_range(volume.data, model, to)
        seen = fingerprint(volume) in model.about.seen
        odd = unfamiliar(
            volume.data,
            model.about.familiar,
            model.config,
            to,
            intensity,
            affine=volume.affine,
            spacing=volume.spacing,
        )
        unfamiliar_files, seen_files = unfamiliar_files + bool(odd), seen_files + seen
        for sentence in remarks(
            model,
            to,
            unusual=unusual,
            spacing=volume.spacing,
            odd=odd,
            seen=seen,
            looks=volume.looks,
            synthetic=volume.synthetic,
            doubt=doubt,
        ):
            if sentence not in told:
                print(f"{volume.path}: {sentence}", file=sys.stderr)
                told.add(sentence)
        doubts = (doubt, blank(volume.data.shape)) if doubt else None
        made = translate_volume(volume, model, to=args.to, planes=args.planes, intensity=intensity, doubt=doubts)
        source = volume.path.name if volume.path else volume.name
        says = provenance(model, to, source, odd) | {"seen_in_training": seen, "source_synthetic": volume.synthetic}
        write_image(target, made, says)
        if doubts:
            name = f"expected error of {made.name}"
            write_image(beside[done - 1], replace(made, data=doubts[1], name=name), says | doubts[0].provenance())
        line.show(f"{done} of {len(volumes)}: {target}", last=done == len(volumes))
    line.end()
    for count, what in ((unfamiliar_files, "do not look like the training images"), (seen_files, "were trained on")):
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
    if skipped:
        raise Refusal("\n".join(map(str, skipped)))
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
    targets: list[Path] = []
    for volume in made:
        deeper = volume.path.parent.relative_to(folder) if folder and volume.path and not volume.files else Path()
        target = out if one_file else out / deeper / name_for(volume, model.config.label(to))
        if target.resolve() in {v.path.resolve() for v in volumes if v.path}:
            raise Refusal(f"{target} is one of the inputs: give another --out.")
        if target.is_dir() and any(target.iterdir()):
            raise Refusal(f"{target} exists, and DICOM series are never replaced: give another --out.")
        if target.exists() and not target.is_dir() and not overwrite:
            raise Refusal(f"{target} exists: give --overwrite to replace it, or another --out.")
        if target in targets:
            raise Refusal(f"Two inputs would both become {target}: rename one, or translate them one by one.")
        targets.append(target)
    return targets


def doubt_targets(targets: Sequence[Path], *, overwrite: bool = False) -> list[Path]:
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
