"""The demo, cut short."""

from dataclasses import replace

import pytest

from napari_t1t2.commands.demo import draw_losses, run_demo
from napari_t1t2.commands.train import print_run


@pytest.mark.parametrize(
    ("rows", "drawn"), [("", False), ("5,5,1,.5\n", True), ("5,5,1,.5\n10,10,2,\n", True)], ids=["no", "one", "two"]
)
def test_losses_are_drawn_where_there_are_any(rows, drawn, tmp_path):
    (tmp_path / "losses.png").write_bytes(b"of an earlier demo")
    (tmp_path / "losses.csv").write_text("step,images,seconds,cycle\n" * bool(rows) + rows)
    assert draw_losses(tmp_path, tmp_path / "losses.png") is drawn
    assert (tmp_path / "losses.png").exists() is drawn


@pytest.mark.slow
def test_a_demo_of_fewer_steps_than_one_report_is_scored_all_the_same(tmp_path, capsys):
    pytest.importorskip("nilearn", reason="the sample heads need nilearn (extra demo)")

    def train(config):
        tiny = replace(config.model, channels=4, levels=2)
        print_run(replace(config, minutes=0, steps=2, crop=32, disc_channels=4, device="cpu", pairs="off", model=tiny))

    run_demo(tmp_path, minutes=1, train=train)
    said = capsys.readouterr().out
    assert f"Look at {tmp_path / 'side-by-side.png'}; the model is" in said and "losses.png" not in said
