"""What a number of samples can tell about an accuracy."""

import math

Z_95 = 1.959963984540054
"""The normal distribution has 95 % of its weight within this many standard deviations of its mean."""


def wilson_interval(accuracy: float, samples: int) -> tuple[float, float]:
    """The 95 % confidence interval of an accuracy.

    Args:
        accuracy: The share of the samples that are right.
        samples: Their number, at least 1.

    Returns:
        Lower and upper end, within 0 and 1.

    Example:
        >>> [round(end, 3) for end in wilson_interval(0.9, 100)]
        [0.826, 0.945]

    Source: Wilson (1927), doi:10.1080/01621459.1927.10502953.
    """
    spread = Z_95**2 / samples
    centre = (accuracy + spread / 2) / (1 + spread)
    half = math.sqrt(accuracy * (1 - accuracy) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def noise_of_difference(first: float, second: float, samples: int) -> float:
    """Below which a difference of two accuracies on `samples` samples is within noise, at 95 %.

    Taken as if each had been measured on samples of its own. On the same ones the noise is smaller; by how much, the
    two numbers do not say.

    Source: Newcombe (1998), method 10, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I.
    """
    low_first, high_first = wilson_interval(first, samples)
    low_second, high_second = wilson_interval(second, samples)
    if first < second:
        return math.hypot(high_first - first, second - low_second)
    return math.hypot(first - low_first, high_second - second)
