"""Round numbers one after the other, while those that are still free make up for it."""

import math

import torch
from torch import Tensor


def settle(values: Tensor, steps: Tensor, highest: Tensor, inverse: Tensor, count: int) -> list[int]:
    """Fix numbers at whole multiples of their steps, the cheapest first.

    To second order, fixing number i at an error e costs e^2 / (2 H^-1_ii) of the loss, if all free numbers then move to
    where that is least, by -e / H^-1_ii times column i of H^-1.

    Args:
        values: (n,), changed: the fixed ones are multiples, the others have moved.
        steps: (n,) of each number's grid; 0 for those that are never fixed.
        highest: (n,) the largest multiple.
        inverse: H^-1, (n, n); changed to that of the numbers that stay free.
        count: How many to fix, at most as many as have steps.

    Returns:
        The places of the fixed numbers, in turn.

    Time O(count * n^2).
    Source: Frantar, Singh and Alistarh, "Optimal Brain Compression", arXiv:2208.11580.
    """
    may = steps > 0
    grid = torch.where(may, steps, torch.ones_like(steps))
    fixed = []
    for _ in range(count):
        nearest = (values / grid).round().clamp(-highest, highest) * grid
        errors = values - nearest
        costs = torch.where(may, errors.square() / inverse.diagonal(), math.inf)
        i = int(costs.argmin())
        column = inverse[:, i].clone()
        values.sub_(column, alpha=float(errors[i] / column[i]))
        values[i] = nearest[i]
        inverse.addr_(column, column, alpha=-1 / float(column[i]))
        inverse[i, i] = 1.0  # its row and column are zeros now; nothing is divided by them
        may[i] = False
        fixed.append(i)
    return fixed
