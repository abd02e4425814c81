"""The commands of the command line. They print the same events that the widgets show."""

from __future__ import annotations

import json
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .engine.config import ModelConfig, TrainConfig, other, preset

if TYPE_CHECKING:
    from .engine.evaluation import Score
    from .engine.events import TrainEvent
    from .engine.ranks import Ranks
    from .engine.slices import Slices
    from .images.volume import Volume
    from .session import Session


def check(args: Namespace) -> None:
    """Say what two folders hold and whether a model can be trained on them."""
    from .engine.pairs import find_pairs
    from .engine.slices import split
    from .engine.stored import StoredSlices
    from .images.read import read_folder

    config = _with_flags(preset("laptop"), args)
    both: tuple[Slices, Slices, float] | None = None
    with suppress(ValueError):
        both = _read(config)
    if not both or not isinstance(both[0].images, StoredSlices):  # else the voxels are more than memory holds
        problems: list[str] = []
        for label, path, series in (
            (config.model.t1_label, config.t1_folder, config.t1_series),
            (config.model.t2_label, config.t2_folder, config.t2_series),
        ):
            try:
                print(f"{path}: {read_folder(path, label, series=series, frame=config.frame).summary()}")
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("\n".join(problems))
    t1, t2, pixel = both or _read(config)
    for slices in (t1, t2):
        print(*slices.notes, slices.summary(), sep="\n")
    parts = split(t1, t2, config)
    for note in (*parts.notes, *find_pairs(t1, t2, parts, config).notes):
        print(note)
    print(f"A model can be trained on these folders{f', at {pixel:.3g} mm a pixel' if pixel else ''}.")


def _read(config: TrainConfig) -> tuple[Slices, Slices, float]:
    """Both contrasts; how far reading is, is shown where it takes long."""
    from .engine.reading import reading

    steps, line = reading(config), ProgressLine()
    while True:
        try:
            line.show(reading_text(next(steps)))
        except StopIteration as end:
            line.end()
            both: tuple[Slices, Slices, float] = end.value
            return both


def train(args: Namespace) -> None:
    """Train and print; Ctrl-C saves and ends. Started by torchrun, its processes train one model together."""
    from .engine.files import CHECKPOINT_FILE, load_config
    from .engine.ranks import joined

    if args.resume and args.preset:
        raise ValueError("--preset does not go with --resume: a run goes on with the settings it began with.")
    with joined() as ranks:
        resume = args.resume
        if ranks.restarted():
            saved = ranks.first and (args.run_folder / CHECKPOINT_FILE).is_file()
            resume = resume or ranks.largest(saved)[0] > 0  # file systems may show a file later elsewhere
            if ranks.first:
                what = "the run goes on from its last checkpoint" if resume else "nothing was saved yet"
                print(f"A process was lost and all were started anew: {what}.", file=sys.stderr)
        base = load_config(args.run_folder) if resume else preset(args.preset or "laptop")
        print_run(_with_flags(base, args), resume=resume, ranks=ranks)


def print_run(config: TrainConfig, *, resume: bool = False, ranks: Ranks | None = None) -> None:
    """Drive one training run from a terminal; of several ranks the first one prints. Raises `ValueError` if it fails.

    No ranks given are one process.
    """
    from .engine import training
    from .engine.events import Failed, Finished, Noted, Preview, Progress, Reading, Saved, Started
    from .engine.ranks import ALONE
    from .session import Session

    ranks = ranks or ALONE
    session: Session[TrainEvent] = Session(lambda stop: training.train(config, stop=stop, resume=resume, ranks=ranks))
    line = ProgressLine()
    with _ctrl_c(session, ranks):
        for event in session:
            match event:
                case Failed(sentence=sentence):
                    line.end()
                    raise ValueError(sentence)
                case _ if not ranks.first:
                    pass
                case Reading():
                    line.show(reading_text(event))
                case Started():
                    line.end()
                    t1, t2 = event.slices
                    height, width = event.shape
                    print(*event.notes, sep="\n", end="\n" * bool(event.notes), file=sys.stderr)
                    begin = f"Resuming at step {event.step}" if event.step else "Training"
                    data = f"{t1} {config.model.t1_label} and {t2} {config.model.t2_label} slices"
                    print(f"{begin} on {event.device}: {data}, {height}x{width} at a time", flush=True)
                case Progress():
                    line.show(progress_text(event), last=event.fraction >= 1)
                case Noted(step=step, sentence=sentence):
                    line.end()
                    print(f"step {step}: {sentence}", file=sys.stderr)
                case Finished(step=step, path=path, reason=reason):
                    line.end()
                    print(f"{reason.capitalize()} at step {step}; the model is {path}")
                case Preview() | Saved():
                    pass


def reading_text(event: Any) -> str:
    """How far a `Reading` is, in a few words."""
    return f"{event.doing} {event.done} of {event.total} files"


def progress_text(event: Any) -> str:
    """Step, losses, speed and time left of a `Progress`, in one line."""
    from .session import clock

    losses = " ".join(f"{name} {value:.3f}" for name, value in event.losses.items())
    return f"step {event.step} | {losses} | {event.slices_per_second:.1f} slices/s | {clock(event.seconds_left)} left"


class ProgressLine:
    """One line that is rewritten on a terminal; in a log, a new line every ten seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._shown_at = 0.0
        self._open = False

    def show(self, text: str, *, last: bool = False) -> None:
        """Rewrite the line, or add one if it is time (or the last)."""
        if self._terminal:
            print(f"\r\033[K{text}", end="", flush=True)
            self._open = True
        elif last or time.monotonic() - self._shown_at >= 10:
            print(text, flush=True)
            self._shown_at = time.monotonic()

    def end(self) -> None:
        """Go to a new line if the last one was rewritten."""
        if self._open:
            print()
            self._open = False


def translate(args: Namespace) -> None:
    """Files to files, or a folder to a folder."""
    import numpy as np

    from .batch import doubt_targets, sources, targets_for
    from .engine.checkpoint import load_model
    from .engine.device import describe, pick_device
    from .engine.familiar import unfamiliar
    from .engine.slices import fingerprint
    from .engine.translation import (
        blank,
        input_range,
        provenance,
        remarks,
    )
    from .engine.translation import translate as translate_volume
    from .engine.trust import Doubt
    from .images.intensity import range_for
    from .images.write import write_image

    if args.ensemble and not args.trust:
        raise ValueError("--ensemble tells where models disagree: give --trust as well, or leave it out.")
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
        odd = unfamiliar(volume.data, model.about, to, intensity, affine=volume.affine, spacing=volume.spacing)
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


def calibrate(args: Namespace) -> None:
    """Teach a model how large its errors are, on held-out images of both contrasts; translate --trust then tells."""
    from .batch import pairs_in
    from .engine.checkpoint import load_model
    from .engine.device import pick_device
    from .engine.trust import calibrate as calibrated
    from .engine.trust import store
    from .images.read import read_image
    from .images.volume import Volume

    device = pick_device(args.device)
    model, members = load_model(args.model, device), [load_model(path, device) for path in args.ensemble]
    found, alone = pairs_in(args.t1, args.t2, (model.config.t1_label, model.config.t2_label))
    if alone:
        print(f"left out, no partner: {', '.join(alone)}", file=sys.stderr)
    pairs = [tuple(i if isinstance(i, Volume) else read_image(i) for i in pair) for pair in found.values()]
    both = [(t1, t2) for t1, t2 in pairs]
    forms = [calibrated(model, both, ensemble) for ensemble in ([[], members] if members else [[]])]
    about = store(model, forms)
    for side, calibration in forms[-1].items():
        print(f"{model.config.label(side)}: calibrated on {calibration.slices} slices")
        if calibration.seen:
            print(
                f"{calibration.seen} of them are of images that it was trained on: on new ones, expect more.",
                file=sys.stderr,
            )
    print(f"Stored in {about.path}" + (", for the model alone and for the ensemble" if members else ""))


def evaluate(args: Namespace) -> None:
    """Score synthetic images against the real ones of the same name."""
    from .batch import pairs_in
    from .engine.evaluation import evaluate_volumes as score
    from .engine.evaluation import mean, same_grid
    from .images.read import read_image
    from .images.volume import UnusableError, Volume

    pairs, alone = pairs_in(args.fake, args.real)
    left_out = [f"no partner: {', '.join(alone)}"] if alone else []
    scores: dict[str, Score] = {}
    resampled: list[str] = []
    for name, pair in pairs.items():
        try:
            fake, real = (i if isinstance(i, Volume) else read_image(i, flat=i is pair[0]) for i in pair)
            if real.synthetic:
                raise UnusableError(f"{real.series}: it is synthetic, so nothing can be scored against it.")
            if not same_grid(fake, real):
                resampled.append(f"{real.series} was resampled onto the grid of {fake.series}")
            scores[name] = score(fake, real, own_scale=args.own_scale)
        except UnusableError as error:
            if len(pairs) == 1:
                raise
            left_out.append(str(error))
        except ValueError as error:
            which = " against ".join(str(i if isinstance(i, Path) else i.name) for i in pair)
            raise ValueError(f"{which}: {error}") from error
    for line in (*(f"left out: {what}" for what in left_out), *resampled):
        print(line, file=sys.stderr)
    if not scores:
        raise ValueError(f"No pair of files in {args.fake} and {args.real} can be scored.")
    total = mean(list(scores.values()))
    if args.json:
        images = {name: asdict(one) for name, one in scores.items()}
        print(json.dumps({"mean": asdict(total), "images": images, "left_out": left_out}, indent=2))
        return
    print(f"{len(scores)} images, {total.slices} slices; means over slices, MAE as a part of the data range")
    print(f"{'':16}{'PSNR dB':>9}{'SSIM':>8}{'MAE':>8}{'NMI':>8}")
    print(f"{'full frame':16}{total.psnr:9.2f}{total.ssim:8.3f}{total.mae:8.4f}{total.nmi:8.3f}")
    print(f"{total.region:16}{total.head_psnr:9.2f}{total.head_ssim:8.3f}{total.head_mae:8.4f}{total.head_nmi:8.3f}")


def demo(args: Namespace) -> None:
    """Train on the sample heads, score, draw; open napari where there is a screen."""
    from .demo import has_screen, run_demo

    volumes = run_demo(args.out, minutes=args.minutes, train=print_run)
    if not (args.window and has_screen()):
        return
    try:
        from .widgets._layers import show_volumes
    except ImportError as error:
        print(f"No window: napari needs a Qt binding, pip install 'napari-t1t2[all]' ({error}).", file=sys.stderr)
    else:
        show_volumes(volumes)


@contextmanager
def _ctrl_c(session: Session[Any], ranks: Ranks) -> Iterator[None]:
    """The first Ctrl-C (or a cluster's SIGTERM) stops and saves, a second one kills.

    Not where there are several processes: one press may reach them twice, by way of torchrun too, which kills them
    itself if they take longer than its --shutdown-timeout.
    """

    def stop(number: int, _: Any) -> None:
        if ranks.first:
            more = "; once more to kill" if ranks.number == 1 else ""
            print(f"\nStopping; what was learned is saved{more}.", file=sys.stderr)
        signal.signal(number, signal.SIG_DFL if ranks.number == 1 else signal.SIG_IGN)
        session.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _with_flags(base: TrainConfig, args: Namespace) -> TrainConfig:
    """The config with the flags that were given; a budget that was given stands alone."""
    given = {k: v for k, v in vars(args).items() if v is not None}
    if "steps" in given or "minutes" in given:
        given = {"steps": 0, "minutes": 0.0} | given
    model = {f.name: given[f.name] for f in fields(ModelConfig) if f.name in given}
    run = {f.name: given[f.name] for f in fields(TrainConfig) if f.name in given}
    return replace(base, **run, model=replace(base.model, **model))
