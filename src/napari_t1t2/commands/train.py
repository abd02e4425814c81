"""The command train. It prints the same events that the widgets show."""

from __future__ import annotations

import signal
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from ..config import ModelConfig, TrainConfig, preset
from ..errors import Refusal
from .progress import ProgressLine, progress_text, say

if TYPE_CHECKING:
    from ..events import TrainEvent
    from ..model.ranks import Ranks
    from ..runs.session import Session


def train(args: Namespace) -> None:
    """Train a CycleGAN on two folders; Ctrl-C saves and ends. Processes of torchrun train one model (experimental)."""
    from ..model.ranks import joined
    from ..runs.folder import CHECKPOINT_FILE, load_config

    if args.resume and args.preset:
        raise Refusal("--preset does not go with --resume: a run goes on with the settings it began with.")
    with joined() as ranks:
        resume = args.resume
        if ranks.restarted():
            saved = ranks.first and (args.run_folder / CHECKPOINT_FILE).is_file()
            resume = resume or ranks.largest(saved)[0] > 0  # file systems may show a file later elsewhere
            if ranks.first:
                what = "the run goes on from its last checkpoint" if resume else "nothing was saved yet"
                say(f"A process was lost and all were started anew: {what}.", file=sys.stderr)
        base = load_config(args.run_folder) if resume else preset(args.preset or "laptop")
        print_run(with_flags(base, args), resume=resume, ranks=ranks)


def print_run(config: TrainConfig, *, resume: bool = False, ranks: Ranks | None = None) -> None:
    """Drive one training run from a terminal; of several ranks the first one prints. Raises `Refusal` if it fails.

    No ranks given are one process.
    """
    from ..events import Failed, Finished, Noted, Preview, Progress, Reading, Saved, Started
    from ..model.ranks import ALONE
    from ..runs import training
    from ..runs.session import Session

    ranks = ranks or ALONE
    session: Session[TrainEvent] = Session(lambda stop: training.train(config, stop=stop, resume=resume, ranks=ranks))
    line = ProgressLine()
    with _ctrl_c(session, ranks):
        for event in session:
            match event:
                case Failed(sentence=sentence):
                    line.end()
                    raise Refusal(sentence)
                case _ if not ranks.first:
                    pass
                case Reading():
                    line.show(event.text(), event.done / max(1, event.total))
                case Started():
                    line.end()
                    t1, t2 = event.slices
                    height, width = event.shape
                    say(*event.notes, file=sys.stderr)
                    begin = f"Resuming at step {event.step}" if event.step else "Training"
                    data = f"{t1} {config.model.t1_label} and {t2} {config.model.t2_label} slices"
                    say(f"{begin} on {event.device}: {data}, {height}x{width} at a time")
                case Progress():
                    line.show(progress_text(event), event.fraction, last=event.fraction >= 1)
                case Noted(step=step, sentence=sentence):
                    line.end()
                    say(f"step {step}: {sentence}", file=sys.stderr)
                case Finished(step=step, path=path, reason=reason):
                    line.end()
                    say(f"{reason.capitalize()} at step {step}; the model is {path}")
                case Preview() | Saved():
                    pass


@contextmanager
def _ctrl_c(session: Session[Any], ranks: Ranks) -> Iterator[None]:
    """The first Ctrl-C (or a cluster's SIGTERM, or a lost connection's SIGHUP) stops and saves, a second one kills.

    Not where there are several processes: one press may reach them twice, by way of torchrun too, which kills them
    itself if they take longer than its --shutdown-timeout.
    """

    def stop(number: int, _: Any) -> None:
        if ranks.first:
            more = "; once more to kill" if ranks.number == 1 else ""
            with suppress(OSError):  # nobody is there any more to read it
                say("", f"Stopping; what was learned is saved{more}.", file=sys.stderr)
        signal.signal(number, signal.SIG_DFL if ranks.number == 1 else signal.SIG_IGN)
        session.stop()

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # nohup ignores a lost connection, and wants to go on; a shell's background job ignores Ctrl-C, not a kill -INT
    heard = [n for n in numbers if n == signal.SIGINT or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def with_flags(base: TrainConfig, args: Namespace) -> TrainConfig:
    """The config with the flags that were given; a budget that was given stands alone."""
    given = {k: v for k, v in vars(args).items() if v is not None}
    if "steps" in given or "minutes" in given:
        given = {"steps": 0, "minutes": 0.0} | given
    if "frame" in given:
        given = dict.fromkeys(("t1_volume", "t2_volume"), given["frame"]) | given
    model = {f.name: given[f.name] for f in fields(ModelConfig) if f.name in given}
    run = {f.name: given[f.name] for f in fields(TrainConfig) if f.name in given}
    return replace(base, **run, model=replace(base.model, **model))
