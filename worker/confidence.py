"""What a number of samples can tell about an accuracy."""

import math
from dataclasses import dataclass

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


def noise_of_difference(first: float, second: float, samples: tuple[int, int]) -> float:
    """Below which a difference of two accuracies is within noise, at 95 %, if each has samples of its own.

    On the same samples it is usually less: `Change` says how far, once it is known which of them are right.

    Args:
        first: An accuracy.
        second: Another.
        samples: The number of samples of each, at least 1.

    Returns:
        A share, as accuracies are.

    Source: Newcombe (1998), method 10, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I.
    """
    low_first, high_first = wilson_interval(first, samples[0])
    low_second, high_second = wilson_interval(second, samples[1])
    if first < second:
        return math.hypot(high_first - first, second - low_second)
    return math.hypot(first - low_first, high_second - second)


@dataclass(frozen=True)
class Change:
    """How an accuracy changed from one model to another on the same samples.

    Samples that both answer rightly, or both wrongly, say nothing about a difference of the models.

    Attributes:
        samples: How many there are, at least 1.
        lost: How many of them only the first model answers rightly.
        won: How many of them only the second model answers rightly.
    """

    samples: int
    lost: int
    won: int

    @property
    def share(self) -> float:
        """By how much the accuracy rose: the second model's less the first one's."""
        return (self.won - self.lost) / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """Between which changes the true one lies with 95 % confidence.

        Wald's interval as if one more sample had been lost and one more won: without these, few changed samples would
        make it too narrow, and none would leave it without any width.

        Source: Bonett and Price (2012), doi:10.3102/1076998611411915.
        """
        samples, lost, won = self.samples + 2, self.lost + 1, self.won + 1
        centre = (won - lost) / samples
        half = Z_95 * math.sqrt(((lost + won) / samples - centre**2) / samples)
        return max(-1.0, centre - half), min(1.0, centre + half)

    @property
    def is_fall(self) -> bool:
        """Whether the second model is worse beyond noise."""
        return self.interval[1] < 0

    @property
    def is_noise(self) -> bool:
        """Whether the models may be equally good."""
        low, high = self.interval
        return low <= 0 <= high
