"""The loop. Iterate it to train; it does nothing between two events that you do not ask for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..config import ModelConfig, Side, TrainConfig
from ..data.batches import Bank
from ..data.inputs import as_input, polarity
from ..data.pairs import find_pairs
from ..data.reading import reading
from ..data.split import split
from ..data.stored import Images
from ..errors import Refusal
from ..events import Finished, Noted, Preview, Progress, Saved, Started, TrainEvent
from ..images.intensity import Intensity
from ..images.volume import NOTICE, Image
from ..model.about import MODEL_FILE, About, read_about
from ..model.checkpoint import Position, load_checkpoint, save_checkpoint
from ..model.cyclegan import CycleGAN
from ..model.device import computes_in_bfloat16
from ..model.known import learn
from ..model.memory import pages_kept
from ..model.ranks import ALONE, Ranks
from ..model.saved import save_model
from .folder import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    LOSSES_FILE,
    PREVIEW_FOLDER,
    LossTable,
    _check_run_folder,
    claimed,
    locked,
    save_config,
)


def train(
    config: TrainConfig, *, stop: Callable[[], bool] = lambda: False, resume: bool = False, ranks: Ranks = ALONE
) -> Iterator[TrainEvent]:
    """Train one CycleGAN.

    Parameters
    ----------
    config
        The run. It is stored in the run folder.
    stop
        Asked before each step. Once true, the run saves itself and ends with `Finished`. It may block: time spent
        in it does not count. It is asked once a second while images are read, too: then there is nothing to save.
    resume
        Go on from the checkpoint in the run folder. Budget, device and report intervals may differ from before.
    ranks
        The processes that train one model together, from `ranks.joined`. All of them yield the same events; the first
        one writes, and its clock counts. A stop of one is a stop of all.

    Raises
    ------
    Refusal
        A sentence for the user: unusable folders, a taken run folder, training that diverged, a stop before it began.
    """
    with claimed(config.run_folder), ExitStack() as stack:
        yield from _train(config, stop, resume, ranks, stack)


def _train(
    config: TrainConfig, stop: Callable[[], bool], resume: bool, ranks: Ranks, stack: ExitStack
) -> Iterator[TrainEvent]:
    run = config.run_folder
    part = ranks.part(config.batch)
    if ranks.first:
        stack.enter_context(locked(run))
        _check_run_folder(config, resume)
    ranks.meet()  # where the first one refuses, the others do not begin to read
    device = ranks.device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)

    before = read_about(run) if resume else None
    if not ranks.first:
        ranks.meet()
    t1, t2, pixel = yield from reading(config, before.config.pixel if before else 0.0, stop)
    if ranks.first:
        ranks.meet()  # slices beyond memory go to disk once, and the others find them there
    parts = split(t1, t2, config)
    bank_t1, bank_t2 = (Bank(s.images, config, device, i, parts.train[i], part) for i, s in enumerate((t1, t2)))
    shown = tuple(
        _middle(s.images, held, config.model).to(device) for s, held in zip((t1, t2), parts.held, strict=True)
    )
    knows = replace(config.model, pixel=pixel)  # what translating must know
    seen = t1.fingerprints_of(parts.train[0]) | t2.fingerprints_of(parts.train[1])
    ranges: dict[Side, Intensity] = {"t1": t1.intensity, "t2": t2.intensity}
    pairs = yield from find_pairs(t1, t2, parts, config, stop)
    # of one stream, so that both contrasts of a pair are cut and mirrored alike
    paired = [Bank(images, config, device, 5, part=part) for images in pairs.images if len(images)]
    notes = t1.notes + t2.notes + parts.notes + pairs.notes
    if before:  # the model keeps the units it was begun with, and remembers all that it has seen
        ranges = before.ranges
        if before.calibration:
            notes += ("the model's calibration ends with this, as its errors change: calibrate it again",)
        if new := len(seen - before.seen):
            notes += (f"{new} images are new to this run, which was begun on others",)
        seen |= before.seen
    familiar = before.familiar if before else None
    if not familiar:
        each = zip((t1, t2), parts.train, strict=True)
        known = ((s.images[i], [s.subjects[o] for o in s.owners[i]]) for s, i in each)
        familiar = learn(*next(known), *next(known))  # a copy of each, which is not kept

    torch.manual_seed(config.seed)
    gan = CycleGAN(config, ranks).to(device).train()
    at = Position(0, 0.0, [])
    if resume:
        at = load_checkpoint(run / CHECKPOINT_FILE, gan, device)
    else:
        gan.start(falling=polarity(t1.images, parts.train[0]) * polarity(t2.images, parts.train[1]) < 0)
    step, seconds, window = at.step, at.seconds, at.window
    saved_at = step if resume else -1
    if resume and _fraction(config, step, seconds) >= 1:
        raise Refusal(
            f"{run} has used up its budget ({step} steps, {seconds / 60:.1f} minutes): raise minutes or steps to go on."
        )
    ranks.agree(list(gan.parameters()))  # machines may draw other numbers from one seed
    if ranks.first:
        (run / PREVIEW_FOLDER).mkdir(parents=True, exist_ok=True)
        save_config(run / CONFIG_FILE, config)
        losses_csv = LossTable(run / LOSSES_FILE, keep_to=step)

    def look() -> Preview:
        return preview(gan, shown[0], shown[1], step, run if ranks.first else None)

    def save() -> Saved:
        _refuse_divergence(gan, step, saved_at)
        if ranks.first:
            save_checkpoint(run / CHECKPOINT_FILE, gan, Position(step, seconds, window))
            save_model(run / MODEL_FILE, gan, About(run / MODEL_FILE, knows, ranges, step, seen, familiar))
        return Saved(step, run / MODEL_FILE)

    first = bank_t1.batch(step), bank_t2.batch(step)
    gan.fit(*first)
    if told := gan.footprint.take_told():
        notes += (told,)
    counts, shape = (len(parts.train[0]), len(parts.train[1])), first[0].shape[-2:]
    where = ranks.describe(device) + (", bfloat16" if computes_in_bfloat16(device, config.precision) else "")
    yield Started(step, where, counts, (shape[0], shape[1]), notes)
    if step == 0:
        yield look()

    stack.enter_context(pages_kept())  # not before: it would also keep what reading has freed
    since, reported_at = seconds, step
    while True:
        asked = _fraction(config, step, seconds) < 1 and stop()
        began = time.perf_counter()
        stopped, seconds = ranks.largest(asked, seconds if ranks.first else 0.0)
        fraction = _fraction(config, step, seconds)
        if stopped or fraction == 1:
            break

        gan.set_learning_rate(config.learning_rate * _decay(fraction, config.decay_from))
        gan.cycle_weight = config.cycle_weight * _warmup(fraction, config.cycle_warmup)
        rng = np.random.default_rng((config.seed, 4, step))
        pair = (paired[0].batch(step), paired[1].batch(step)) if paired else None
        window.append(gan.step(bank_t1.batch(step), bank_t2.batch(step), rng, pair))
        step += 1
        due = step % config.report_every == 0
        losses = _mean(window) if due else {}
        seconds += time.perf_counter() - began

        if told := gan.footprint.take_told():
            yield Noted(step, told)

        if due:
            _refuse_divergence(gan, step, saved_at)
            fraction = _fraction(config, step, seconds)
            rate = (step - reported_at) * config.batch / max(seconds - since, 1e-9)
            progress = Progress(
                step, step * config.batch, seconds, fraction, seconds * (1 / fraction - 1), rate, losses
            )
            if ranks.first:
                losses_csv.add(progress)
            yield progress
            window, since, reported_at = [], seconds, step

        if step % config.preview_every == 0:
            yield look()

        if step % config.save_every == 0:
            yield save()
            saved_at = step

    if saved_at != step:
        yield save()
    yield Finished(step, run / MODEL_FILE, "completed" if fraction == 1 else "stopped")


def _middle(images: Images, chosen: npt.NDArray[np.intp], model: ModelConfig) -> Tensor:
    """The slice in the middle of those chosen, (1, 1 or 2, H, W)."""
    return as_input(images[chosen[len(chosen) // 2]][None], model)


@torch.inference_mode()
def preview(gan: CycleGAN, t1: Tensor, t2: Tensor, step: int, run: Path | None) -> Preview:
    """Translate one slice each way and back, (1, 1 or 2, H, W); written as a PNG of two rows if a run is given."""

    def image(x: Tensor) -> Image:
        result: Image = x[0, 0].float().cpu().numpy()
        return result

    made = gan.translate(t1, t2)
    event = Preview(step, *(image(x) for x in (t1, made.fake_t2, made.back_t1, t2, made.fake_t1, made.back_t2)))
    if run is None:
        return event
    top = np.hstack([event.t1, event.fake_t2, event.back_t1])
    bottom = np.hstack([event.t2, event.fake_t1, event.back_t2])
    width = max(top.shape[1], bottom.shape[1])
    rows = np.vstack([np.pad(r, ((0, 0), (0, width - r.shape[1])), constant_values=-1) for r in (top, bottom)])
    picture = Pillow.fromarray(np.rint((np.nan_to_num(rows) + 1) * 127.5).astype(np.uint8))
    info = PngInfo()
    info.add_text("Description", f"Columns 2 and 3: {NOTICE}")
    picture.save(run / PREVIEW_FOLDER / f"step-{step:06d}.png", pnginfo=info)
    return event


def _fraction(config: TrainConfig, step: int, seconds: float) -> float:
    """How much of the budget is used, by steps or by time, whichever is further."""
    by_steps = step / config.steps if config.steps else 0.0
    by_time = seconds / (60 * config.minutes) if config.minutes else 0.0
    return min(1.0, max(by_steps, by_time))


def _decay(fraction: float, start: float) -> float:
    """1 up to `start` of the budget, then linearly to 0."""
    return 1.0 if fraction <= start else (1 - fraction) / (1 - start)


def _warmup(fraction: float, end: float) -> float:
    """A tenth at the start, linearly to 1 at `end` of the budget."""
    return 1.0 if fraction >= end else 0.1 + 0.9 * fraction / end


def _mean(window: list[dict[str, Tensor]]) -> dict[str, float]:
    # .item() makes the CPU wait for the GPU, so it happens once per report, not once per step
    return {name: torch.stack([losses[name] for losses in window]).mean().item() for name in window[0]}


def _refuse_divergence(gan: CycleGAN, step: int, saved_at: int) -> None:
    if not torch.stack([torch.isfinite(p).all() for p in gan.parameters()]).all():
        kept = f"the model of step {saved_at} is kept" if saved_at >= 0 else "nothing was saved yet"
        raise Refusal(f"Training diverged before step {step}: {kept}. Lower the learning_rate and train again.")
