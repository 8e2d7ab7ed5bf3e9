"""From a wish (depth, gate sites, activation, each perhaps left open) to structures, from the smallest one upwards."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from adtn.arrangements import brick_wall
from adtn.sites import sites_for
from adtn.structure import Structure, as_activation

DEFAULT_DEPTH = 2
DEFAULT_GATE_SITES = 2
SMALLEST_DEPTH = 1
MAX_DEPTH = 8
MAX_GATE_SITES = 4

_wall = lru_cache(maxsize=4096)(brick_wall)  # a search plans again and again for the same sizes


@dataclass(frozen=True)
class StructureChoice:
    """What the user wants of a structure; None leaves a value to the planner.

    Args:
        depth: TN layers M.
        gate_sites: Sites of a gate.
        activation: What stands between TN layers.

    Raises:
        StructureError: The activation is not known.
    """

    depth: int | None = None
    gate_sites: int | None = None
    activation: str = "relu"

    def __post_init__(self) -> None:
        as_activation(self.activation)

    def structure(self, shape: Sequence[int]) -> Structure:
        """The brick-wall of this choice that holds a tensor of `shape`; what is open takes its default."""
        return _wall(
            sites_for(shape),
            DEFAULT_DEPTH if self.depth is None else self.depth,
            DEFAULT_GATE_SITES if self.gate_sites is None else self.gate_sites,
            as_activation(self.activation),
        )


def predicted_parameters(shape: Sequence[int], choice: StructureChoice | None = None) -> int:
    """Numbers that an ADTN for a tensor of `shape` stores when no target is set.

    Args:
        shape: Of the weight.
        choice: The wish; by default everything is open.

    Raises:
        StructureError: A value of the choice is out of range.
    """
    return default(shape, choice or StructureChoice()).structure(shape).parameters


def default(shape: Sequence[int], choice: StructureChoice) -> StructureChoice:
    """The choice when no target is set: the defaults, or depth 1 where those would not be smaller than the tensor."""
    filled = replace(
        choice,
        depth=choice.depth if choice.depth is not None else DEFAULT_DEPTH,
        gate_sites=choice.gate_sites if choice.gate_sites is not None else DEFAULT_GATE_SITES,
    )
    if choice.depth is None and filled.structure(shape).parameters >= math.prod(shape):
        return smallest(choice)
    return filled


def smallest(choice: StructureChoice) -> StructureChoice:
    """The choice with the fewest numbers that keeps what the user fixed."""
    return replace(
        choice,
        depth=choice.depth if choice.depth is not None else SMALLEST_DEPTH,
        gate_sites=choice.gate_sites if choice.gate_sites is not None else DEFAULT_GATE_SITES,
    )


def larger(current: StructureChoice, wish: StructureChoice, shape: Sequence[int]) -> StructureChoice | None:
    """The next larger choice after `current` that keeps what `wish` fixes, or None at the end of the road.

    Depth grows first: a TN layer more of 2-site gates adds few numbers. At the greatest depth the gates grow wider, in
    the fewest TN layers that have more numbers than before: as many as before would have a few times as many.

    Args:
        current: With depth and gate sites.
        wish: What is open may grow.
        shape: Of the tensor.
    """
    if wish.depth is None and current.depth is not None and current.depth < MAX_DEPTH:
        return replace(current, depth=current.depth + 1)
    if wish.gate_sites is None and current.gate_sites is not None and current.gate_sites < MAX_GATE_SITES:
        wider = replace(current, gate_sites=current.gate_sites + 1)
        if wish.depth is not None:
            return wider
        numbers = current.structure(shape).parameters
        depths = (replace(wider, depth=depth) for depth in range(SMALLEST_DEPTH, MAX_DEPTH))
        return next((choice for choice in depths if choice.structure(shape).parameters > numbers), wider)
    return None
