"""The three layers of LeNet-5 that are compressed."""

import math
from collections.abc import Mapping

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each layer's weight."""

SHAPES: dict[str, tuple[int, ...]] = {"conv2": (16, 6, 5, 5), "fc1": (120, 400), "fc2": (84, 120)}


def as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows (outputs) and columns (what a row is multiplied with) of a weight."""
    return shape[0], math.prod(shape[1:])
