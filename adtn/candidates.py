"""Which layers may be encoded, each with its ladder of structures, and which stay dense whatever the target.

No torch here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from adtn.ladder import ladder
from adtn.layer import Layer
from adtn.plan import Skipped, divide
from adtn.selection import Names
from adtn.structure import AnyStructure


@dataclass(frozen=True)
class Candidate:
    """A layer and the structures that make it smaller in a file, from few numbers to many; at least one."""

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
    chosen, skipped = divide(layers, names, _fewest)
    return Candidates(tuple(Candidate(layer, _rungs(layer)) for layer in chosen), skipped, may_stay_dense=names is None)


def _fewest(layer: Layer) -> int:
    """Numbers of the smallest structure; as many as the layer has entries if none is smaller."""
    return min((rung.parameters for rung in ladder(layer.shape)), default=layer.entries)


def _rungs(layer: Layer) -> tuple[AnyStructure, ...]:
    room = layer.room
    return tuple(rung for rung in ladder(layer.shape) if rung.parameters < room)
