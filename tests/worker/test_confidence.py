"""Intervals of accuracies, next to the definition that they invert."""

import math

import pytest

from worker.confidence import Z_95, noise_of_difference, wilson_interval


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
    assert noise_of_difference(0.98, 0.97, 360) > noise_of_difference(0.98, 0.97, 10_000)
    assert noise_of_difference(0.9, 0.9, 100_000) == pytest.approx(Z_95 * math.sqrt(2 * 0.9 * 0.1 / 1e5), rel=1e-2)
    assert noise_of_difference(0.97, 0.98, 360) == pytest.approx(noise_of_difference(0.98, 0.97, 360))
