"""How much is lost when a layer's weight is held in fewer numbers: the basis on which a planner spends them.

No torch here.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Curve:
    """Loss over the number of numbers stored: known at a few sizes, a line over their logarithm in between.

    Args:
        points: (parameters, loss), parameters ascending, the loss never rising.

    Raises:
        ValueError: There is no point, or they are in another order.
    """

    points: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        rising = any(b[0] <= a[0] or b[1] > a[1] for a, b in pairwise(self.points))
        if not self.points or rising:
            raise ValueError(f"points: expected more numbers and no more loss from each to the next, got {self.points}")

    def at(self, parameters: int) -> float:
        """The loss at a size; outside the known sizes that of the nearest."""
        position = bisect_left(self.points, parameters, key=lambda point: point[0])
        if position == 0:
            return self.points[0][1]
        if position == len(self.points):
            return self.points[-1][1]
        (size, loss), (next_size, next_loss) = self.points[position - 1 : position + 1]
        share = math.log(parameters / size) / math.log(next_size / size)
        return loss + share * (next_loss - loss)


def measured(points: Iterable[tuple[int, float]], entries: int) -> Curve:
    """The curve nearest to measurements of which some contradict each other; the dense weight loses nothing.

    Where a structure measures worse than a smaller one, both are taken at their mean: one lucky measurement then does
    not speak for all that are larger.

    Args:
        points: (parameters, loss) in any order, each size once; the loss at least 0.
        entries: Of the dense weight, more than any of the sizes.

    Source: pool adjacent violators, Ayer et al. (1955), doi:10.1214/aoms/1177728423.
    """
    sizes, losses = zip(*sorted(points), (entries, 0.0), strict=True)
    pools: list[tuple[float, int]] = []  # (mean, how many measurements)
    for loss in losses:
        mean, count = loss, 1
        while pools and pools[-1][0] < mean:
            earlier, more = pools.pop()
            mean, count = (mean * count + earlier * more) / (count + more), count + more
        pools.append((mean, count))
    return Curve(tuple(zip(sizes, (mean for mean, count in pools for _ in range(count)), strict=True)))


def evened(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Measured curves with as much again of `even`: a layer that measures well in few numbers still gets its share.

    What is measured before any training exaggerates: a layer whose loss is the same in 30 and in 100 numbers would get
    30, and fine-tuning would miss the others. Both parts have the same weight in all layers together, from their
    smallest sizes to their dense weights.

    Args:
        curves: By the layer's key, from `measured`: each ends with its dense weight.
    """
    lost = sum(curve.points[0][1] - curve.points[-1][1] for curve in curves.values())
    shrinkage = sum(_shrinkage(curve, curve.points[0][0]) for curve in curves.values())
    weight = lost / shrinkage if lost > 0 else 1.0
    return {
        key: Curve(tuple((size, loss + weight * _shrinkage(curve, size)) for size, loss in curve.points))
        for key, curve in curves.items()
    }


def even(entries: int) -> Curve:
    """The curve where nothing is measured: the logarithm of how many times smaller the weight gets.

    A number more is then worth as much as the layer has few, so that numbers are shared evenly over the layers.

    Args:
        entries: Of the dense weight.
    """
    return Curve(((1, math.log(entries)), (entries, 0.0)))


def _shrinkage(curve: Curve, size: int) -> float:
    """The logarithm of how many times smaller than its last point a size is."""
    return math.log(curve.points[-1][0] / size)
