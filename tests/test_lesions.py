import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
lesions = pytest.importorskip("lesions", reason="the benchmarks are not beside the tests")

SHAPE, PLACE, RADIUS = (64, 60), (30, 28), 4
HEAD = np.ones(SHAPE, bool)


def ball() -> np.ndarray:
    return 0.3 * lesions.soft_ball(SHAPE, PLACE, RADIUS)


def test_an_unchanged_lesion_is_transmitted_whole_and_nothing_is_invented():
    survival = lesions.measure_survival(ball(), ball(), HEAD, PLACE, RADIUS)
    assert (survival.transmitted, survival.inside, survival.outside) == pytest.approx((1, 1, 0), abs=1e-3)


def test_an_inverted_lesion_is_negative_and_a_removed_one_zero():
    assert lesions.measure_survival(ball(), -ball() / 2, HEAD, PLACE, RADIUS).transmitted == pytest.approx(-0.5)
    assert lesions.measure_survival(ball(), 0 * ball(), HEAD, PLACE, RADIUS).transmitted == 0


def test_a_change_of_the_whole_slice_is_no_contrast():
    assert lesions.measure_survival(ball(), ball() * 0 + 0.2, HEAD, PLACE, RADIUS).transmitted == pytest.approx(
        0, abs=1e-5
    )


def test_structure_elsewhere_counts_as_false():
    false = 0.3 * lesions.soft_ball(SHAPE, (50, 45), RADIUS)
    survival = lesions.measure_survival(ball(), ball() + false, HEAD, PLACE, RADIUS)
    # its full height, in parts of the mean of the ball, whose edge is soft
    assert survival.outside == pytest.approx(
        0.3 / ball()[lesions.distance_from(SHAPE, PLACE) <= RADIUS].mean(), rel=1e-3
    )
    assert survival.inside == pytest.approx(0.5, abs=0.05)


def test_a_lesion_that_eight_bits_cannot_hold_is_not_counted():
    assert lesions.measure_survival(ball() * 0.1, ball(), HEAD, PLACE, RADIUS) is None
