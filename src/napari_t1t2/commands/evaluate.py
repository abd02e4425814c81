"""The commands evaluate and calibrate, and which files belong together."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.sources import finish
from ..errors import Refusal, UnusableError
from ..images.clues import paired
from ..images.contrast import contrast_of
from ..images.dicom_slices import is_dicom
from ..images.folder import files_in, together
from ..images.names import READABLE, is_known, is_nifti, map_title
from ..images.pixels import evenly
from ..images.read import look_over, provenance_in, refuse_maps, why_no_image
from ..images.volume import Volume
from .batch import TOLD, Batch, Row, rows_of
from .progress import ProgressLine, say

if TYPE_CHECKING:
    from ..synthesis.evaluation import Score

Pairs = dict[str, tuple[Path | Volume, Path | Volume]]  # by name
SCORES = ("psnr", "ssim", "mae", "nmi", "head_psnr", "head_ssim", "head_mae", "head_nmi")
COUNTS = ("slices", "head_slices", "voxels", "head_voxels")
COLUMNS = (*SCORES, *COUNTS, "matched")  # of the report; last, whether intensities were matched


def calibrate(args: Namespace) -> int:
    """Learn how large a model's errors are, on held-out images of both contrasts, and store it in the model's file."""
    say(f"Reading {args.model}, then {args.t1} and {args.t2}", file=sys.stderr)
    from ..model.device import pick_device  # brings torch, which takes seconds
    from ..model.saved import load_model
    from ..synthesis import calibration

    device = pick_device(args.device)
    model, members = load_model(args.model, device), [load_model(path, device) for path in args.ensemble]
    found, alone = pairs_in(args.t1, args.t2, (model.config.t1_label, model.config.t2_label))
    if alone:
        say(f"left out, no partner: {', '.join(alone)}", file=sys.stderr)
    if len(found) > calibration.PAIRS and not any(
        p.suffix.casefold() in READABLE for p, _ in found.values() if isinstance(p, Path)
    ):
        few = [list(found)[i] for i in evenly(len(found), calibration.PAIRS)]
        say(f"{len(few)} of {len(found)} pairs are looked at, spread over all of them", file=sys.stderr)
        found = {name: found[name] for name in few}
    files = [image for pair in found.values() for image in pair if isinstance(image, Path)]
    line = ProgressLine(sys.stderr)
    outlines, skipped = finish(
        look_over(files, places=False),
        lambda at: line.show(f"looking at {at[0]} of {at[1]} files: {at[2].name}", at[0] / at[1]),
    )
    line.end()
    by_path, why = {v.path: v for v in outlines}, {one.path: str(one) for one in skipped}
    if len(found) == 1 and skipped:
        raise UnusableError(str(skipped[0]))

    with Batch(len(found), args.report) as batch:
        pairs: list[tuple[Volume, Volume]] = []
        for name, pair in found.items():
            t1, t2 = (image if isinstance(image, Volume) else by_path.get(image) for image in pair)
            if t1 and t2:
                pairs.append((t1, t2))
            else:
                sentence = "; ".join(why[p] for p in pair if isinstance(p, Path) and p in why)
                batch.add(Row(name, "failed", sentence=sentence))
        known = [calibration.calibrate(model, pairs, image=batch.image)]
        wrong = {row.name for row in batch.rows if row.outcome == "failed"}
        whole = [pair for pair in pairs if (pair[0].series or pair[0].name) not in wrong]
        if members:
            known.append(calibration.calibrate(model, whole, members))
        scores = calibration.scores_of(model, whole)
    if batch.stopped:
        say("Stopped: nothing was stored, as a calibration is of all pairs together.", file=sys.stderr)
        return batch.code()
    about = calibration.store(model, known, scores)

    for side, of_side in known[-1].items():
        say(f"{model.config.label(side)}: calibrated on {of_side.slices} slices")
        if of_side.seen:
            say(
                f"{of_side.seen} of them are of images that it was trained on: on new ones, expect larger errors.",
                file=sys.stderr,
            )
    say(f"Stored in {about.path}" + (", for the model alone and for the ensemble" if members else ""))
    return batch.end("Calibrated with pairs:")


def evaluate(args: Namespace) -> int:
    """Score synthetic images against the real ones of the same name."""
    from ..synthesis.evaluation import SSIM_WINDOW, evaluate_volumes, mean, same_grid
    from ..synthesis.lesions import Lesion, lesions_of, summary

    pairs, alone = pairs_in(args.fake, args.real)
    if args.lesions and len(pairs) > 1:
        raise Refusal("--lesions goes with one synthetic and one real image: give two files.")
    lesions: list[Lesion] = []
    left_out = [f"no partner: {', '.join(alone)}"] if alone else []
    scores: dict[str, Score] = {}
    resampled: list[str] = []
    unlike: list[tuple[str, str]] = []
    matched = "yes" if args.match_intensities else "no"
    before = {} if args.lesions else scored_before(args.report, pairs, matched)
    if before:
        say(f"{len(before)} of {len(pairs)} pairs had been scored before, by {args.report}", file=sys.stderr)
    with Batch(len(pairs), args.report, COLUMNS, log=sys.stderr) as batch:
        for name, (row, score) in before.items():
            scores[name] = score
            batch.add(row)
        for name, pair in pairs.items():
            if name in before:
                continue
            with batch.image(name) as row:
                fake, real = _read(pair[0], flat=True), _read(pair[1])
                row.target = real.series
                try:
                    if why := fake.why_not() or real.why_not():
                        raise UnusableError(f"{(fake if fake.why_not() else real).series} {why}")
                    if real.synthetic:
                        raise UnusableError(f"{real.series}: it is synthetic, so nothing can be scored against it.")
                    if not same_grid(fake, real):
                        names = (fake.series, real.series) if fake.series != real.series else (fake.path, real.path)
                        resampled.append(f"{names[1]} was resampled onto the grid of {names[0]}")
                    wanted = contrast_of([fake.provenance.contrast]) if fake.provenance else ""
                    own = real.looks or contrast_of([real.path.parent.name if real.path else ""], kinds=False)
                    if wanted and own and own != wanted:
                        unlike.append((real.series, f"shows {own}, not {wanted}: the score tells how unlike these are"))
                    scores[name] = one = evaluate_volumes(fake, real, match_intensities=args.match_intensities)
                    if args.lesions:
                        lesions = lesions_of(fake, real, _read(args.lesions, mask=True))
                    row.more = {key: getattr(one, key) for key in (*SCORES, *COUNTS)} | {"matched": matched}
                except UnusableError as error:
                    if len(pairs) == 1:
                        raise
                    row.outcome, row.sentence = "left out", str(error)
                except Refusal as error:
                    which = " against ".join(str(i if isinstance(i, Path) else i.name) for i in pair)
                    raise Refusal(f"{which}: {error}") from error
    left_out += [row.sentence for row in batch.rows if row.outcome in ("left out", "failed")]

    for line in (
        *(f"left out: {what}" for what in left_out[:TOLD]),
        *resampled[:TOLD],
        *(others := together(unlike))[:TOLD],
    ):
        say(line, file=sys.stderr)
    if more := sum(max(0, len(lines) - TOLD) for lines in (left_out, resampled, others)):
        say(f"and {more} more; --json lists all that is left out, --report FILE has a row for each", file=sys.stderr)
    if batch.stopped:
        say(f"Stopped after {len(scores)} of {len(pairs)} pairs; the scores are of these.", file=sys.stderr)
        if not scores:
            return batch.code()
    if not scores:
        raise Refusal(f"No pair of files in {args.fake} and {args.real} can be scored.")
    total = mean(list(scores.values()))
    if remark := total.remark():
        say(remark, file=sys.stderr)
    if args.json:
        images = {name: asdict(one) for name, one in scores.items()}
        found: dict[str, Any] = {
            "ssim_window": SSIM_WINDOW,
            "mean": asdict(total),
            "images": images,
            "left_out": left_out,
        }
        found |= {"lesions": [asdict(one) for one in lesions]} if args.lesions else {}
        say(*json.dumps(found, indent=2).splitlines())
        return batch.code()
    say(f"{len(scores)} images, {total.slices} slices; means over slices, MAE as a part of the data range")
    say(f"SSIM window: {SSIM_WINDOW} (Wang et al. 2004)")
    say(f"{'':16}{'PSNR dB':>9}{'SSIM 11x11':>12}{'MAE':>8}{'NMI':>8}")
    say(f"{'full frame':16}{total.psnr:9.2f}{total.ssim:12.3f}{total.mae:8.4f}{total.nmi:8.3f}")
    say(f"{total.region:16}{total.head_psnr:9.2f}{total.head_ssim:12.3f}{total.head_mae:8.4f}{total.head_nmi:8.3f}")
    if lesions:
        say(*(f"lesion {one.text()}" for one in lesions), summary(lesions))
    return batch.code()


def scored_before(report: Path | None, pairs: Pairs, matched: str) -> dict[str, tuple[Row, Score]]:
    """What the report of a batch that was stopped says of pairs whose files did not change since.

    Empty where it has a row for each pair: then all are scored anew.
    """
    from ..synthesis.evaluation import Score

    rows = rows_of(report) if report else {}
    found: dict[str, tuple[Row, Score]] = {}
    if report is None or not rows or pairs.keys() <= rows.keys():
        return found
    at = report.stat().st_mtime
    for name in (name for name in pairs if rows.get(name, {}).get("matched") == matched):
        said, files = (
            rows[name],
            [file for image in pairs[name] for file in ((image,) if isinstance(image, Path) else image.inputs)],
        )
        if all(file.is_file() and file.stat().st_mtime < at for file in files):
            numbers: dict[str, Any] = {key: float(said[key]) for key in SCORES} | {k: int(said[k]) for k in COUNTS}
            more = numbers | {"matched": matched}
            found[name] = Row(name, "done", said["target"], float(said["seconds"]), more=more), Score(**numbers)
    return found


def _read(image: Path | Volume, *, flat: bool = False, mask: bool = False) -> Volume:
    from ..images.read import load, read_image

    return load(image) if isinstance(image, Volume) else read_image(image, flat=flat, mask=mask)


def pairs_in(fake: Path, real: Path, contrasts: tuple[str, str] | None = None) -> tuple[Pairs, list[str]]:
    """Synthetic and real images that belong together, of two files or folders, and the names of those left alone.

    Or the two `contrasts` of the same heads: sub-01_T1w.nii.gz and sub-01_T2w.nii.gz, even of one folder.
    A file is given to be read; a DICOM series as an outline. Raises `Refusal` with a sentence.
    """
    for path in (fake, real):
        if not path.exists():
            raise Refusal(f"{path} does not exist: check the name.")
    refuse_maps((fake, real))
    fakes, reals = (_images_in(path) if path.is_dir() else {path: path} for path in (fake, real))
    if len(fakes) == len(reals) == 1:  # no name is needed to tell that they belong together
        return {fake.stem: (next(iter(fakes.values())), next(iter(reals.values())))}, []
    if contrasts:
        fakes, reals = (
            {path: image for path, image in images.items() if contrast_of([path.name]) in ("", label)}
            for images, label in zip((fakes, reals), contrasts, strict=True)
        )
    if fake.is_dir() != real.is_dir():
        raise Refusal("Give two files, or two folders with equal names.")
    pairs, unclear = paired(fakes, reals, across=contrasts is not None)
    if not pairs:
        raise Refusal(f"No file of {fake} has the name of one in {real}.")
    found = {path for pair in pairs.values() for path in pair}
    alone = [path.name for path in (*fakes, *reals) if path not in found and path not in unclear]
    alone += [line for folder in dict.fromkeys((fake, real)) if folder.is_dir() for line in _maps_by_name(folder)]
    alone += [f"{path} ({why})" for path, why in unclear.items()]
    return {name: (fakes[one], reals[other]) for name, (one, other) in pairs.items()}, alone


def _maps_by_name(folder: Path) -> list[str]:
    """The images of a folder that their names alone call maps, and why they are left out."""
    called = [path for path in files_in(folder) if is_known(path) and map_title(path)]
    return [f"{path.name} ({why_no_image(path)})" for path in called if provenance_in(path) is None]


def _images_in(folder: Path) -> dict[Path, Path | Volume]:
    """The image files of a folder, to be read one by one, by their place in it; of DICOM, the series."""
    files = [path for path in files_in(folder) if not why_no_image(path)]
    known = [path for path in files if is_nifti(path) or path.suffix.casefold() in READABLE]
    others = set(files) - set(known)
    series, _ = finish(look_over([path for path in files if path in others and is_dicom(path)]))
    placed: dict[Path, Path | Volume] = {path.relative_to(folder): path for path in known}
    return placed | {Path(volume.name.replace("/", "_")): volume for volume in series}
