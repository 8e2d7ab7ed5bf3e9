"""Which layers of a model are encoded, and by which structure: plain data and the rules that choose it.

No torch here: a service can answer with a plan before any tensor is read.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adtn.errors import PlanError
from adtn.growth import StructureChoice, default, larger, predicted_parameters, smallest
from adtn.layer import MIN_ENTRIES, Layer
from adtn.selection import Names, named_layers
from adtn.structure import AnyStructure, structure_from_json

__all__ = [
    "AUTO_MIN_ENTRIES",
    "MIN_ENTRIES",
    "Layer",
    "Plan",
    "PlanEntry",
    "Skipped",
    "StructureChoice",
    "Target",
    "make_plan",
    "nothing_to_compress",
    "predicted_parameters",
    "target_unreachable",
]

AUTO_MIN_ENTRIES = 2000
"""Layers with fewer entries are left dense unless named: they cost accuracy and save little."""
AUTO_MIN_RATIO = 2
"""So are layers that cannot be made at least this many times smaller."""
NOT_SMALLER = "its smallest structure has at least as many numbers as the dense weight"


@dataclass(frozen=True)
class Target:
    """The size to reach, of the encoded layers together: exactly one of the two.

    Args:
        parameters: Numbers stored, at most.
        ratio: Dense entries / numbers stored, at least.

    Raises:
        ValueError: None or both are given, or a value is not positive and finite.
    """

    parameters: int | None = None
    ratio: float | None = None

    def __post_init__(self) -> None:
        if (self.parameters is None) == (self.ratio is None):
            raise ValueError("target: expected exactly one of parameters and ratio")
        value = self.parameters if self.parameters is not None else self.ratio
        if value is None or not math.isfinite(value) or value <= 0:
            raise ValueError(f"target: expected a positive number, got {value}")

    def limit(self, original: int) -> int:
        """Numbers allowed for layers of `original` entries together."""
        if self.parameters is not None:
            return self.parameters
        assert self.ratio is not None
        return math.floor(original / self.ratio)


@dataclass(frozen=True)
class PlanEntry:
    """A layer and the structure that will hold its weight."""

    layer: Layer
    structure: AnyStructure

    @property
    def original(self) -> int:
        """Entries of the dense weight."""
        return self.layer.entries

    @property
    def parameters(self) -> int:
        """Numbers that the ADTN stores."""
        return self.structure.parameters


@dataclass(frozen=True)
class Skipped:
    """A layer that was asked for and stays dense, and why."""

    layer: Layer
    reason: str


@dataclass(frozen=True)
class Plan:
    """What to encode, in the order of the model's layers, and what was asked for but stays dense."""

    entries: tuple[PlanEntry, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def original(self) -> int:
        """Dense entries of the encoded layers together."""
        return sum(entry.original for entry in self.entries)

    @property
    def parameters(self) -> int:
        """Numbers stored for the encoded layers together."""
        return sum(entry.parameters for entry in self.entries)

    @property
    def saved(self) -> int:
        """By how many numbers the model gets smaller."""
        return self.original - self.parameters

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON-compatible data."""
        return {
            "entries": [{"layer": e.layer.to_json(), "structure": e.structure.to_json()} for e in self.entries],
            "skipped": [{"layer": s.layer.to_json(), "reason": s.reason} for s in self.skipped],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Plan":
        """The plan that `to_json` wrote."""
        return cls(
            tuple(
                PlanEntry(Layer.from_json(entry["layer"]), structure_from_json(entry["structure"]))
                for entry in data["entries"]
            ),
            tuple(Skipped(Layer.from_json(item["layer"]), item["reason"]) for item in data["skipped"]),
        )


def make_plan(
    layers: Sequence[Layer],
    names: Names | None = None,
    choice: StructureChoice | None = None,
    target: Target | None = None,
) -> Plan:
    """Choose the layers and a structure for each.

    Without a target each layer gets the choice, with defaults for what is open. With one, each starts at its smallest
    structure; then the shallowest layer (of several the one that is compressed most) is made deeper, again and again,
    while the total stays within: a shallow layer among deep ones costs more accuracy than it saves numbers.

    Args:
        layers: All layers of the model.
        names: Names, keys or glob patterns, or lists of them for groups; None takes every layer that is worth it.
        choice: What the user fixes of the structures.
        target: Size of the encoded layers together.

    Returns:
        The plan. A layer asked for that would not get smaller stays dense and stands in `skipped`.

    Raises:
        PlanError: layer_not_found, layer_not_eligible, group_invalid, target_unreachable (with the smallest reachable
            size) or nothing_to_compress.
        StructureError: A value of `choice` is out of range.
    """
    wish = choice or StructureChoice()
    asked = _worthwhile(layers, wish) if names is None else named_layers(layers, names)
    chosen = [layer for layer in asked if _shrinks(layer, smallest(wish) if target else default(layer.shape, wish))]
    if not chosen:
        raise PlanError("nothing_to_compress", nothing_to_compress(names, asked))
    choices = [default(layer.shape, wish) for layer in chosen] if target is None else _grow(chosen, wish, target)
    entries = tuple(PlanEntry(layer, own.structure(layer.shape)) for layer, own in zip(chosen, choices, strict=True))
    return Plan(entries, tuple(Skipped(layer, NOT_SMALLER) for layer in asked if layer not in chosen))


def _worthwhile(layers: Sequence[Layer], wish: StructureChoice) -> list[Layer]:
    """The layers encoded when none is named."""
    return [
        layer
        for layer in layers
        if layer.eligible
        and layer.entries >= AUTO_MIN_ENTRIES
        and smallest(wish).structure(layer.shape).parameters * AUTO_MIN_RATIO < layer.entries
    ]


def _shrinks(layer: Layer, choice: StructureChoice) -> bool:
    return choice.structure(layer.shape).parameters < layer.entries


def nothing_to_compress(names: Names | None, asked: Sequence[Layer]) -> str:
    """What to say where no layer would get smaller.

    Args:
        names: What the user asked for, or None.
        asked: The layers that this means.
    """
    if names is None:
        return (
            f"layers: no layer of the model has at least {AUTO_MIN_ENTRIES} entries and gets "
            f"at least {AUTO_MIN_RATIO} times smaller"
        )
    listed = ", ".join(layer.name for layer in asked) or "none"
    return f"layers: no named layer gets smaller with the structure asked for (named: {listed})"


def _grow(layers: Sequence[Layer], wish: StructureChoice, target: Target) -> list[StructureChoice]:
    """The largest choices within the target, grown evenly."""
    original = sum(layer.entries for layer in layers)
    limit = target.limit(original)
    choices = [smallest(wish)] * len(layers)
    sizes = [own.structure(layer.shape).parameters for layer, own in zip(layers, choices, strict=True)]
    if sum(sizes) > limit:
        raise PlanError("target_unreachable", target_unreachable(target, layers, sum(sizes)))
    growing = set(range(len(layers)))
    steps = [0] * len(layers)
    while growing:
        i = min(growing, key=lambda k: (steps[k], sizes[k] / layers[k].entries, k))
        grown = larger(choices[i], wish)
        size = grown.structure(layers[i].shape).parameters if grown else 0
        # The total only grows, so what does not fit now will not fit later.
        if grown is None or size >= layers[i].entries or sum(sizes) - sizes[i] + size > limit:
            growing.remove(i)
        else:
            choices[i], sizes[i], steps[i] = grown, size, steps[i] + 1
    return choices


def target_unreachable(target: Target, layers: Sequence[Layer], reachable: int) -> str:
    """What to say where a target is too small.

    Args:
        target: What was asked for.
        layers: The layers that would be encoded.
        reachable: The fewest numbers that hold them.
    """
    original = sum(layer.entries for layer in layers)
    names = ", ".join(layer.name for layer in layers)
    if target.parameters is not None:
        asked = f"expected at most {target.parameters} numbers"
    else:
        asked = f"expected a ratio of at least {target.ratio:g}"
    ratio = math.floor(100 * original / reachable) / 100
    return (
        f"target: {asked} for {names} ({original} entries), but the smallest reachable is {reachable} numbers "
        f"(a ratio of {ratio:g})"
    )
