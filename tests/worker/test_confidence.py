"""Intervals of accuracies, next to the definition that they invert, and of changes, next to tests by counting."""

import math
import statistics

import pytest

from worker.confidence import Z_95, Change, noise_of_difference, wilson_interval


def end_by_bisection(accuracy: float, samples: int, towards: float) -> float:
    """The furthest true accuracy whose own noise still reaches the one that was seen."""
    near, far = accuracy, towards
    for _ in range(200):
        middle = (near + far) / 2
        if abs(middle - accuracy) <= Z_95 * math.sqrt(middle * (1 - middle) / samples):
            near = middle
        else:
            far = middle
    return near


@pytest.mark.parametrize("samples", [1, 10, 360, 10_000])
@pytest.mark.parametrize("accuracy", [0.0, 0.1, 0.5, 0.97, 1.0])
def test_interval_holds_every_accuracy_that_the_samples_do_not_rule_out(accuracy: float, samples: int) -> None:
    low, high = wilson_interval(accuracy, samples)
    assert low == pytest.approx(end_by_bisection(accuracy, samples, 0.0), abs=1e-9)
    assert high == pytest.approx(end_by_bisection(accuracy, samples, 1.0), abs=1e-9)


def test_noise_falls_with_the_samples_and_has_the_known_size() -> None:
    few, many = (360, 360), (10_000, 10_000)
    assert noise_of_difference(0.98, 0.97, few) > noise_of_difference(0.98, 0.97, many)
    known = Z_95 * math.sqrt(2 * 0.9 * 0.1 / 1e5)
    assert noise_of_difference(0.9, 0.9, (100_000, 100_000)) == pytest.approx(known, rel=1e-2)
    assert noise_of_difference(0.97, 0.98, few) == pytest.approx(noise_of_difference(0.98, 0.97, few))


def test_each_accuracy_brings_the_noise_of_its_own_samples() -> None:
    known = Z_95 * math.sqrt(0.9 * 0.1 / 1e5 + 0.8 * 0.2 / 2e4)
    assert noise_of_difference(0.9, 0.8, (100_000, 20_000)) == pytest.approx(known, rel=1e-2)
    swapped = noise_of_difference(0.8, 0.9, (20_000, 100_000))
    assert swapped == pytest.approx(noise_of_difference(0.9, 0.8, (100_000, 20_000)))


def exact_p(lost: int, won: int) -> float:
    """McNemar's exact test: how often a fair coin splits the changed samples at least as unevenly."""
    changed = lost + won
    tail = sum(math.comb(changed, k) for k in range(min(lost, won) + 1)) / 2**changed
    return min(1.0, 2 * tail)


@pytest.mark.parametrize(("samples", "lost", "won"), [(360, 5, 2), (360, 0, 9), (1000, 300, 500), (40, 39, 0)])
def test_interval_of_a_change_is_that_of_a_mean_with_one_more_lost_and_one_more_won(
    samples: int, lost: int, won: int
) -> None:
    changes = [-1] * lost + [1] * won + [0] * (samples - lost - won)
    change = Change(samples, lost, won)
    assert change.share == pytest.approx(statistics.fmean(changes))
    more = [*changes, -1, 1]
    half = Z_95 * statistics.pstdev(more) / math.sqrt(len(more))
    assert change.interval == pytest.approx((max(-1, statistics.fmean(more) - half), statistics.fmean(more) + half))


@pytest.mark.parametrize(
    ("lost", "won"),
    [(30, 8), (8, 30), (20, 12), (110, 90), (130, 90), (12, 0), (2, 0), (7, 7), (4, 0), (5, 0), (6, 0), (7, 1), (9, 2)],
)
def test_a_change_is_beyond_noise_where_mcnemars_test_says_so(lost: int, won: int) -> None:
    change = Change(10_000, lost, won)
    assert change.is_noise == (exact_p(lost, won) >= 0.05)
    assert change.is_fall == (lost > won and exact_p(lost, won) < 0.05)


def test_thirty_lost_and_eight_won_of_ten_thousand_are_no_chance_though_unpaired_they_would_be() -> None:
    change = Change(10_000, lost=30, won=8)
    assert exact_p(30, 8) == pytest.approx(0.0005, abs=5e-5)
    assert change.share == pytest.approx(-0.0022)
    # -22 and 1.96 * sqrt(40 - 484 / 10,002) of 10,002
    assert change.interval == pytest.approx((-0.003438, -0.000961), abs=1e-6)
    assert noise_of_difference(0.9822, 0.98, (10_000, 10_000)) > 0.0022


@pytest.mark.parametrize(("samples", "lost"), [(100, 0), (100, 1), (100, 100), (1, 1), (1, 0)])
def test_no_number_of_samples_is_without_noise(samples: int, lost: int) -> None:
    low, high = Change(samples, lost, 0).interval
    assert -1 <= low < -lost / samples + 1e-9
    assert low < high <= 1


@pytest.mark.parametrize("samples", [100, 1000])
def test_what_no_sample_shows_may_still_happen_about_as_often_as_the_interval_says(samples: int) -> None:
    _, high = Change(samples, 0, 0).interval
    assert 0.04 < (1 - high) ** samples < 0.07  # how often changes of one kind, at such a rate, would show nothing
