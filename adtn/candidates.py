"""Which layers may be encoded, each with its ladder of structures, and which stay dense whatever the target.

No torch here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from adtn.errors import PlanError
from adtn.ladder import ladder
from adtn.layer import Layer
from adtn.plan import AUTO_MIN_ENTRIES, AUTO_MIN_RATIO, NOT_SMALLER, Skipped, nothing_to_compress
from adtn.selection import Names, named_layers
from adtn.structure import AnyStructure


@dataclass(frozen=True)
class Candidate:
    """A layer and the structures that may hold its weight, from few numbers to many; at least one."""

    layer: Layer
    rungs: tuple[AnyStructure, ...]


@dataclass(frozen=True)
class Candidates:
    """The layers among which numbers are shared out.

    Args:
        items: In the order of the model's layers.
        skipped: Layers that stay dense, and why.
        may_stay_dense: Whether a layer of `items` may stay dense too, where that fits the target: so if none was named.
    """

    items: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    may_stay_dense: bool

    @property
    def original(self) -> int:
        """Dense entries of all candidates."""
        return sum(item.layer.entries for item in self.items)

    @property
    def smallest(self) -> int:
        """The fewest numbers that can hold all candidates."""
        return sum(item.rungs[0].parameters for item in self.items)


def candidates(layers: Sequence[Layer], names: Names | None = None) -> Candidates:
    """Find the layers that may be encoded.

    Args:
        layers: All layers of the model.
        names: Names, keys or glob patterns, or lists of them for groups; None takes every layer that is worth it, and
            says why others are not.

    Raises:
        PlanError: layer_not_found, layer_not_eligible, group_invalid or nothing_to_compress.
    """
    asked = list(layers) if names is None else named_layers(layers, names)
    rungs = {layer.key: tuple(ladder(layer.shape)) if layer.eligible else () for layer in asked}
    reasons = {
        layer.key: _not_worth_it(layer, rungs[layer.key]) if names is None else _not_smaller(rungs[layer.key])
        for layer in asked
    }
    items = tuple(Candidate(layer, rungs[layer.key]) for layer in asked if reasons[layer.key] is None)
    if not items:
        raise PlanError("nothing_to_compress", nothing_to_compress(names, asked))
    skipped = tuple(Skipped(layer, reason) for layer in asked if (reason := reasons[layer.key]) is not None)
    return Candidates(items, skipped, may_stay_dense=names is None)


def _not_smaller(rungs: Sequence[AnyStructure]) -> str | None:
    return None if rungs else NOT_SMALLER


def _not_worth_it(layer: Layer, rungs: Sequence[AnyStructure]) -> str | None:
    """Why a layer that nobody named stays dense, or None if it need not."""
    if not layer.eligible:
        return layer.reason or "it cannot be encoded"
    if layer.entries < AUTO_MIN_ENTRIES:
        return f"it has {layer.entries} entries; fewer than {AUTO_MIN_ENTRIES} cost accuracy and save little"
    if not rungs or rungs[0].parameters * AUTO_MIN_RATIO >= layer.entries:
        return f"no structure makes it more than {AUTO_MIN_RATIO} times smaller"
    return None
