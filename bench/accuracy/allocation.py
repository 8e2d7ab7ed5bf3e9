"""How a budget is divided among the layers: the same rule for every method, whatever sizes its forms come in."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from bench.accuracy.factors import Form
from bench.accuracy.layers import Shapes

LEAST_USE = 0.85
"""Of the budget, where the sizes of the forms allow it."""
_KEPT = 150
"""Options of a layer that are combined with those of the others; the rest are further from its share."""
_UNUSED = 4.0
"""Weight of what is left of the budget, next to how far the layers are from their shares."""

Share = Callable[[Shapes], dict[str, float]]


class Unreachable(Exception):
    """A method has no form as small as a budget."""


@dataclass(frozen=True)
class Option:
    """A form that a layer may take.

    Args:
        form: Its numbers count.
        flaw: How much worse it is expected to be than another of about as many numbers; 0 by default.
    """

    form: Form
    flaw: float = 0.0


def by_root(power: float) -> Share:
    """Shares of the budget that grow with the entries of a weight to the power of 1 / `power`."""

    def share(shapes: Shapes) -> dict[str, float]:
        roots = {layer: math.prod(shape) ** (1 / power) for layer, shape in shapes.items()}
        return {layer: root / sum(roots.values()) for layer, root in roots.items()}

    return share


CUBE_ROOT = by_root(3)
SQUARE_ROOT = by_root(2)
SIXTH_ROOT = by_root(6)


def choose(options: Mapping[str, Iterable[Option]], budget: int, shares: Mapping[str, float]) -> dict[str, Form]:
    """One option for each layer, within the budget.

    Of all combinations that use at least 85 % of the budget (or else the most that any does), the one that is closest
    to the shares, has the least flaws and leaves the least unused.

    Args:
        options: For each layer, in any order.
        budget: Numbers of all layers together.
        shares: Of each layer, with a sum of 1.

    Raises:
        Unreachable: Even the smallest options are too large.
    """
    lists = {layer: _nearest(found, shares[layer] * budget, budget) for layer, found in options.items()}
    sizes = [np.array([option.form.numbers for option in found]) for found in lists.values()]
    scores = [
        np.array([_distance(option, shares[layer] * budget) for option in found]) for layer, found in lists.items()
    ]
    numbers, score = _outer(sizes), _outer(scores)
    if numbers.min() > budget:
        raise Unreachable(f"its smallest form has {numbers.min():,} numbers")
    fits = numbers <= budget
    least = min(LEAST_USE * budget, numbers[fits].max())
    score = np.where(fits & (numbers >= least), score + _UNUSED * (1 - numbers / budget) ** 2, np.inf)
    best = np.unravel_index(int(score.argmin()), score.shape)
    return {layer: found[i].form for (layer, found), i in zip(lists.items(), best, strict=True)}


def _nearest(options: Iterable[Option], target: float, budget: int) -> list[Option]:
    """The least flawed option of each size, those nearest to the target, and always the smallest of all."""
    best: dict[int, Option] = {}
    for option in options:
        size = option.form.numbers
        if size not in best or option.flaw < best[size].flaw:
            best[size] = option
    smallest = best[min(best)]
    fitting = [option for size, option in best.items() if size <= budget and option is not smallest]
    fitting.sort(key=lambda option: _distance(option, target))
    return [smallest, *fitting[: _KEPT - 1]]


def _distance(option: Option, target: float) -> float:
    return math.log(option.form.numbers / target) ** 2 + option.flaw


def _outer(vectors: list[np.ndarray]) -> np.ndarray:
    """The sums of all combinations, an axis a vector."""
    result = vectors[0]
    for vector in vectors[1:]:
        result = np.add.outer(result, vector)
    return result
