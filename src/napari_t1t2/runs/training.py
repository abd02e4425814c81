"""The loop. Iterate it to train; it does nothing between two events that you do not ask for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..atomic import LOCK_FILE
from ..config import TrainConfig
from ..errors import Refusal
from ..events import Finished, Noted, Preview, Progress, Saved, Started, TrainEvent
from ..model.about import MODEL_FILE
from ..model.checkpoint import Position, read_checkpoint, save_checkpoint
from ..model.cyclegan import CycleGAN
from ..model.device import computes_in_bfloat16
from ..model.memory import pages_kept
from ..model.ranks import ALONE, Ranks
from ..model.saved import save_model
from ..model.start import AUTO, begin_from, beginning_from, with_networks_of
from .best import Best
from .folder import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    DATA_FILE,
    LOSSES_FILE,
    NOTES_FILE,
    LossTable,
    add_data,
    add_notes,
    check_run_folder,
    claimed,
    is_model_of,
    load_config,
    save_config,
)
from .guard import Guard, uninterrupted
from .learned import learned_from
from .preview import preview, slice_at
from .schedule import Schedule

SAVE_SECONDS = 300.0  # of training between two saves, at most


def train(
    config: TrainConfig,
    *,
    stop: Callable[[], bool] = lambda: False,
    resume: bool = False,
    ranks: Ranks = ALONE,
    preview_at: Callable[[], float] = lambda: 0.5,
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
    preview_at
        Which slice of the held-out head previews show, from 0, its first, to 1, its last. Another answer than before
        gives a preview after the next step.

    Whoever leaves the loop early, with `break` or an interrupt, loses nothing: the run saves itself first.

    Raises
    ------
    Refusal
        A sentence: unusable folders, a taken run folder, a failed write, a training that diverged, an early stop.
    """
    if config.run_folder == Path():
        raise Refusal("No run folder was given: choose where the model goes.")
    if config.start and resume:
        config = _as_begun(config)
    elif config.start and config.start != AUTO:
        config = beginning_from(config.start, config)
    ranks.part(config.batch)  # refuses one that the processes cannot share
    with ExitStack() as stack:
        if ranks.first:
            if not (config.run_folder / LOCK_FILE).exists():  # which is not put into somebody else's folder
                check_run_folder(config, resume)
            stack.enter_context(claimed(config.run_folder))
            check_run_folder(config, resume)  # another run may have ended meanwhile
        ranks.meet()  # where the first one refuses, the others do not begin to read
        yield from _train(config, stop, resume, ranks, preview_at, stack)


def _as_begun(config: TrainConfig) -> TrainConfig:
    """A config that is to go on with its run, beginning from what that began from. Raises `Refusal`."""
    before = load_config(config.run_folder)
    config = replace(config, start=before.start if config.start == AUTO else config.start)
    return with_networks_of(before.model, config) if before.start else config


def _train(
    config: TrainConfig,
    stop: Callable[[], bool],
    resume: bool,
    ranks: Ranks,
    preview_at: Callable[[], float],
    stack: ExitStack,
) -> Iterator[TrainEvent]:
    # Set up: the images, the networks, and where a resumed run stands.
    run, device = config.run_folder, ranks.device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    saved = read_checkpoint(run / CHECKPOINT_FILE, device) if resume else None
    at = saved.position if saved else Position(0, 0.0, [])
    step, seconds, window = at.step, at.seconds, at.window
    schedule = Schedule.of_resumed(config, saved) if saved else Schedule(config)
    if saved and schedule.used(step, seconds) >= 1:
        if not is_model_of(run / MODEL_FILE, step):  # the last save was cut in two
            gan = CycleGAN(config, ranks).to(device)
            saved.restore(gan)
            if ranks.first:
                with gan.averaged():
                    save_model(run / MODEL_FILE, gan, saved.about)
            yield Noted(step, "This training was finished, but its model was not saved: it is now.")
            yield Finished(step, run / MODEL_FILE, "completed")
            return
        raise Refusal(
            f"This training is finished ({step} steps, {seconds / 60:.1f} minutes): to train on, give more minutes or "
            "steps, counted from its beginning."
        )
    learned = yield from learned_from(config, saved.about if saved else None, device, stop, ranks)
    config = learned.config
    schedule = schedule if saved else Schedule(config)
    torch.manual_seed(config.seed)
    gan = CycleGAN(config, ranks).to(device).train()
    if saved:
        saved.restore(gan)
    elif config.start:
        begin_from(config.start, gan)
    else:
        gan.start(falling=learned.falling)
    ranks.agree(list(gan.parameters()))  # machines may draw other numbers from one seed
    first = learned.t1.batch(step), learned.t2.batch(step)
    gan.fit(*first)
    notes = learned.notes
    if saved and schedule.began != at.began:
        rate = schedule.learning_rate(schedule.position(step, seconds))
        notes += (f"the budget is new: the learning rate goes on from {rate:.2g} and falls to 0 at its end",)
    if told := gan.footprint.take_change():
        notes += (told,)
    where = ranks.describe(device) + (", bfloat16" if computes_in_bfloat16(device, config.precision) else "")
    if ranks.first:
        save_config(run / CONFIG_FILE, config)
        add_notes(run / NOTES_FILE, step, where, notes)
        add_data(run / DATA_FILE, step, learned.data)
        losses_csv = LossTable(run / LOSSES_FILE, keep_to=step)
        best = Best(run, resumed=saved is not None)

    saved_at, saved_seconds = (step, seconds) if saved else (-1, 0.0)
    looked_at, looked_step, errors = 0.5, step, dict[str, tuple[float, float]]()

    def shown(at: float) -> tuple[Tensor, Tensor]:
        t1, t2 = (slice_at(at, *head, config.model).to(device) for head in learned.heads[:2])
        return t1, t2

    guard = Guard(gan, shown(0.5))

    def look() -> Preview:
        nonlocal looked_at, looked_step, errors
        looked_at, looked_step = preview_at(), step
        with uninterrupted():
            seen = preview(gan, *shown(looked_at), step, run if ranks.first else None, learned.heads[2])
            errors = seen.errors()
        return seen

    def save() -> Saved:
        """Write the checkpoint first: a run that is killed in between goes on from it."""
        nonlocal saved_at, saved_seconds
        guard.check_weights(step, saved_at)
        guard.check_images(step, saved_at)
        if ranks.first:
            card = learned.about.card | {"minutes": round(seconds / 60, 2), "held_out": errors}
            about = replace(learned.about, step=step, card=card)
            run.mkdir(parents=True, exist_ok=True)  # who removed it gets it anew
            save_checkpoint(run / CHECKPOINT_FILE, gan, Position(step, seconds, window, schedule.began), about)
            with uninterrupted(), gan.averaged():
                save_model(run / MODEL_FILE, gan, about)
                best.keep(gan, about)
        saved_at, saved_seconds = step, seconds
        return Saved(step, run / MODEL_FILE)

    shape = first[0].shape[-2:]
    yield Started(step, where, learned.counts, (shape[0], shape[1]), notes, learned.patients)
    if step == 0:
        yield look()

    stack.enter_context(pages_kept())  # not before: it would also keep what reading has freed
    since, reported_at = seconds, step
    try:
        while True:
            # Ask whether to go on. What the answer takes is not training time.
            asked = schedule.used(step, seconds) < 1 and stop()
            began = time.perf_counter()
            stopped, seconds = ranks.largest(asked, seconds if ranks.first else 0.0)
            completed = schedule.used(step, seconds) >= 1
            if stopped or completed:
                break

            # One step.
            position = schedule.position(step, seconds)
            gan.set_learning_rate(schedule.learning_rate(position))
            gan.cycle_weight = schedule.cycle_weight(position)
            rng = np.random.default_rng((config.seed, 4, step))
            pair = (learned.pairs[0].batch(step), learned.pairs[1].batch(step)) if learned.pairs else None
            unpaired = schedule.unpaired_weight(step, learned.share)
            t1, t2 = pair if pair and not unpaired else (learned.t1.batch(step), learned.t2.batch(step))
            with uninterrupted():
                losses = gan.step(t1, t2, rng, pair, unpaired)
                window, step = [*window, losses], step + 1
            due = step % config.report_every == 0
            means = _mean(window) if due else {}
            seconds += time.perf_counter() - began

            # Report.
            if told := gan.footprint.take_change():
                yield Noted(step, told)
            if due:
                guard.check_losses(means, step, saved_at)
                guard.check_weights(step, saved_at)
                if errors and looked_step >= reported_at:
                    means["held-out"] = errors["t2"][0]
                fraction = schedule.used(step, seconds)
                rate = (step - reported_at) * config.batch / max(seconds - since, 1e-9)
                left = seconds * (1 / fraction - 1)
                progress = Progress(step, step * config.batch, seconds, fraction, left, rate, means)
                window, since, reported_at = [], seconds, step
                if ranks.first:
                    losses_csv.add(progress)
                yield progress

            # Preview and save.
            if step % config.preview_every == 0 or preview_at() != looked_at:
                yield look()
            if step % config.save_every == 0 or seconds - saved_seconds >= SAVE_SECONDS:
                if learned.heads[2] and looked_step != step:
                    yield look()  # by which the best one is known
                yield save()
    except (GeneratorExit, KeyboardInterrupt):  # a notebook's `break` or interrupt
        if step not in (0, saved_at):
            save()
        raise

    # The end: show what was learned, save what is not saved yet.
    if looked_step != step:
        yield look()
    if saved_at != step:
        yield save()
    yield Finished(step, run / MODEL_FILE, "completed" if completed else "stopped")


def _mean(window: list[dict[str, Tensor]]) -> dict[str, float]:
    # .item() makes the CPU wait for the GPU, so it happens once per report, not once per step
    names = dict.fromkeys(name for losses in window for name in losses)  # not every step has all
    return {n: torch.stack([losses[n] for losses in window if n in losses]).mean().item() for n in names}
