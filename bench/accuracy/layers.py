"""The shapes of the layers that are compressed."""

import math
from collections.abc import Mapping

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each layer's weight."""


def as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows (outputs) and columns (what a row is multiplied with) of a weight."""
    return shape[0], math.prod(shape[1:])
