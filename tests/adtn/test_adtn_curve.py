import itertools
import math
import random

import pytest

from adtn.curve import Curve, even, evened, measured


def test_loss_between_two_sizes_lies_on_a_line_over_the_logarithm() -> None:
    curve = Curve(((100, 4.0), (400, 2.0), (1000, 0.0)))
    assert curve.at(200) == pytest.approx(3.0)
    assert [curve.at(size) for size in (100, 400, 1000)] == [4.0, 2.0, 0.0]
    assert [curve.at(size) for size in (50, 5000)] == [4.0, 0.0]


def test_measurements_that_contradict_each_other_are_taken_at_their_mean() -> None:
    curve = measured([(300, 2.0), (100, 1.0), (500, 0.25)], 900)
    assert curve.points == ((100, 1.5), (300, 1.5), (500, 0.25), (900, 0))


@pytest.mark.parametrize("seed", range(5))
def test_no_falling_curve_is_nearer_to_the_measurements(seed: int) -> None:
    draw = random.Random(seed)
    losses = [draw.random() for _ in range(4)]
    curve = measured(enumerate(losses, start=1), 5)
    distance = sum((curve.at(size) - loss) ** 2 for size, loss in enumerate(losses, start=1))
    for rising in itertools.combinations_with_replacement([i / 20 for i in range(21)], 4):
        other = sum((level - loss) ** 2 for level, loss in zip(reversed(rising), losses, strict=True))
        assert other >= distance - 1e-12


def test_where_nothing_is_measured_a_number_is_worth_what_the_layer_lacks() -> None:
    curve = even(4096)
    for size in (1, 64, 1000, 4096):
        assert curve.at(size) == pytest.approx(math.log(4096 / size))


def test_half_of_a_curve_is_what_was_measured_and_half_an_even_share() -> None:
    """By hand: losses of 4 and 0 against two and three halvings, so a halving is worth 4 / 5."""
    found = evened({"a": Curve(((16, 4.0), (32, 1.0), (64, 0.0))), "b": Curve(((8, 0.0), (64, 0.0)))})
    assert found["a"].at(16) == pytest.approx(4 + 2 * 0.8)
    assert found["a"].at(32) == pytest.approx(1 + 0.8)
    assert found["a"].at(64) == 0
    assert [found["b"].at(size) for size in (8, 16, 64)] == pytest.approx([3 * 0.8, 2 * 0.8, 0])


def test_where_nothing_is_lost_shares_are_even() -> None:
    found = evened({"a": Curve(((16, 0.0), (64, 0.0)))})
    assert found["a"].at(16) == pytest.approx(math.log(4))


@pytest.mark.parametrize("points", [(), ((1, 1.0), (1, 0.5)), ((2, 1.0), (1, 0.5)), ((1, 1.0), (2, 1.5))])
def test_points_out_of_order_are_refused(points: tuple[tuple[int, float], ...]) -> None:
    with pytest.raises(ValueError, match="points"):
        Curve(points)
