import math
from dataclasses import replace

import pytest

from napari_t1t2.events import Preview, Progress
from napari_t1t2.model.about import MODEL_FILE, read_about
from napari_t1t2.model.card import card_of
from napari_t1t2.runs.best import relative_error
from napari_t1t2.runs.folder import BEST_FILE
from napari_t1t2.runs.listing import losses_of, read_run
from napari_t1t2.runs.training import train


@pytest.fixture
def scored(monkeypatch):
    """Gives the held-out error of each step; that of doing nothing is 0.5."""

    def score(errors):
        held = lambda preview: {"t2": (errors[preview.step], 0.5), "t1": (errors[preview.step], 0.5)}  # noqa: E731
        monkeypatch.setattr(Preview, "errors", held)

    return score


def run_of(config, **changes):
    return list(train(replace(config, preview_every=2, save_every=2, **changes), resume=config.run_folder.exists()))


def test_of_the_saved_models_the_best_on_the_held_out_slice_is_kept_beside_the_last(config, scored):
    scored({0: 0.9, 2: 0.1, 4: 0.2, 6: 0.3})
    run_of(config, steps=6)
    best, last = (read_about(config.run_folder / name) for name in (BEST_FILE, MODEL_FILE))
    assert (best.step, last.step) == (2, 6)
    assert dict(card_of(best).rows())["Slice held out"].endswith("doing nothing: T2 10.0% (50.0%), T1 10.0% (50.0%)")
    run = read_run(config.run_folder)
    assert (run.best, run.best_step) == (config.run_folder / BEST_FILE, 2) and "error 30.0%" in run.told()


def test_a_resumed_run_keeps_the_best_of_all_its_sittings(config, scored):
    scored({0: 0.9, 2: 0.3, 4: 0.2, 6: 0.25, 8: 0.1})
    for steps, best in ((4, 4), (6, 4), (8, 8)):
        run_of(config, steps=steps)
        assert read_about(config.run_folder / BEST_FILE).step == best
    assert read_run(config.run_folder).best is None  # the last is the best


def test_the_error_of_the_held_out_slice_is_reported_and_kept_with_the_losses(config, scored):
    scored({0: 0.9, 2: 0.3, 4: 0.2, 6: 0.25})
    events = run_of(config, steps=4, report_every=1) + run_of(config, steps=6, report_every=1)
    reported = {e.step: e.losses.get("held-out") for e in events if isinstance(e, Progress)}
    assert reported == {1: 0.9, 2: None, 3: 0.3, 4: None, 5: None, 6: None}
    assert [row.get("held-out") for row in losses_of(config.run_folder)][:4] == [0.9, None, 0.3, None]


def test_without_a_slice_known_in_both_contrasts_no_best_is_kept(config):
    run_of(config)
    assert not (config.run_folder / BEST_FILE).exists()
    assert math.isinf(relative_error(read_about(config.run_folder)))


def test_what_an_earlier_training_left_as_its_best_is_no_model_of_a_new_one(config):
    config.run_folder.mkdir()
    (config.run_folder / BEST_FILE).write_bytes(b"of another one")
    list(train(config))
    assert not (config.run_folder / BEST_FILE).exists()
