"""Train on two folders: python train.py T1 T2 RUN [MINUTES]."""

import sys
from dataclasses import replace
from pathlib import Path

from napari_t1t2.config import TrainConfig, preset
from napari_t1t2.events import Finished, Progress
from napari_t1t2.model.about import read_about
from napari_t1t2.model.card import card_of
from napari_t1t2.runs.training import train


def main(config: TrainConfig) -> Path:
    """Train, tell how far it is, and return the model's file."""
    model = config.run_folder
    for event in train(config):  # the other events: napari_t1t2/events.py
        match event:
            case Progress(step=step, fraction=fraction, losses=losses):
                print(f"step {step}, {fraction:.0%}:", {name: round(loss, 3) for name, loss in losses.items()})
            case Finished(path=path):
                model = path
    print(card_of(read_about(model)).summary())
    return model


if __name__ == "__main__":
    t1, t2, run, *minutes = sys.argv[1:]
    folders = {"t1_folder": Path(t1), "t2_folder": Path(t2), "run_folder": Path(run)}
    main(replace(preset("laptop"), **folders, minutes=float(*minutes or [5])))
