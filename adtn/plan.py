"""Which layers of a model are encoded, and by which structure: plain data and the rules that choose it.

No torch here: a service can answer with a plan before any tensor is read.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from heapq import heapify, heappop, heappush
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
    "divide",
    "make_plan",
    "nothing_to_compress",
    "predicted_parameters",
    "target_unreachable",
]

AUTO_MIN_ENTRIES = 2000
"""Layers with fewer entries are left dense unless named: they cost accuracy and save little."""
AUTO_MIN_RATIO = 2
"""So are layers that cannot be made at least this many times smaller, in bytes."""
IN_BYTES = "counted as 4 bytes for each number of the gates, in however many bits, and 2 for each entry of the weight"
"""What decides of half precision."""


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
        The plan. A layer asked for that stays dense stands in `skipped`: it would not get smaller, or a pattern means
        it and it cannot be encoded. Where `names` is None, so does every other layer of the model.

    Raises:
        PlanError: layer_not_found, layer_not_eligible, group_invalid, target_unreachable (with the smallest reachable
            size) or nothing_to_compress.
        StructureError: A value of `choice` is out of range.
    """
    wish = choice or StructureChoice()
    chosen, skipped = divide(layers, names, lambda layer: smallest(wish).structure(layer.shape).parameters)
    choices = [_default(layer, wish) for layer in chosen] if target is None else _grow(chosen, wish, target)
    entries = tuple(PlanEntry(layer, own.structure(layer.shape)) for layer, own in zip(chosen, choices, strict=True))
    return Plan(entries, skipped)


def divide(
    layers: Sequence[Layer], names: Names | None, fewest: Callable[[Layer], int]
) -> tuple[list[Layer], tuple[Skipped, ...]]:
    """Tell the layers that may be encoded from those that stay dense, and say why these do.

    Args:
        layers: All layers of the model.
        names: What the user asked for, or None: then all layers are looked at, and those encoded that are worth it.
        fewest: Numbers of the smallest structure for a layer; not called for a layer that stays dense whatever it is.

    Returns:
        The layers to encode, at least one; and those that stay dense.

    Raises:
        PlanError: layer_not_found, layer_not_eligible, group_invalid or nothing_to_compress.
    """
    asked = list(layers) if names is None else named_layers(layers, names)
    reasons = [_why_dense(layer, fewest, named=names is not None) for layer in asked]
    chosen = [layer for layer, reason in zip(asked, reasons, strict=True) if reason is None]
    if not chosen:
        raise PlanError("nothing_to_compress", nothing_to_compress(names, asked))
    pairs = zip(asked, reasons, strict=True)
    return chosen, tuple(Skipped(layer, reason) for layer, reason in pairs if reason is not None)


def _why_dense(layer: Layer, fewest: Callable[[Layer], int], *, named: bool) -> str | None:
    """Why a layer stays dense, or None if it need not."""
    if not layer.eligible:
        return layer.reason or "it cannot be encoded"
    if not named and layer.entries < AUTO_MIN_ENTRIES:
        return f"it has fewer than {AUTO_MIN_ENTRIES} entries, which would cost accuracy and save little"
    if fewest(layer) * (1 if named else AUTO_MIN_RATIO) < layer.room:
        return None
    if not named:
        return f"no structure allowed makes it more than {AUTO_MIN_RATIO} times smaller{_counted([layer])}"
    unit = "bytes" if layer.room < layer.entries else "numbers"
    return f"its smallest structure takes at least as many {unit} as the dense weight{_counted([layer])}"


def _counted(layers: Sequence[Layer]) -> str:
    """What to add where layers are, or one is, of half precision, so that fewer numbers need not be fewer bytes."""
    return f": {IN_BYTES}" if any(layer.room < layer.entries for layer in layers) else ""


def _default(layer: Layer, wish: StructureChoice) -> StructureChoice:
    """The choice when no target is set: one that makes the layer smaller, if the smallest does."""
    choice = default(layer.shape, wish)
    return choice if choice.structure(layer.shape).parameters < layer.room else smallest(wish)


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
    return f"layers: no named layer gets smaller with the structure asked for (named: {listed}){_counted(asked)}"


def _grow(layers: Sequence[Layer], wish: StructureChoice, target: Target) -> list[StructureChoice]:
    """The largest choices within the target, grown evenly.

    O(steps log(layers)), where a step makes one layer larger, and a structure for each choice and shape.
    """

    @cache  # models have few shapes
    def size_of(own: StructureChoice, shape: tuple[int, ...]) -> int:
        return own.structure(shape).parameters

    original = sum(layer.entries for layer in layers)
    limit = target.limit(original)
    choices = [smallest(wish)] * len(layers)
    sizes = [size_of(choices[0], layer.shape) for layer in layers]
    total = sum(sizes)
    if total > limit:
        raise PlanError("target_unreachable", target_unreachable(target, layers, total))
    growing = [(0, size / layers[i].entries, layers[i].key, i) for i, size in enumerate(sizes)]
    # The layer that grew the fewest times comes first, and of these the one that is stored best; of layers that are
    # alike the first by key, since files have them in other orders than models.
    heapify(growing)
    while growing:
        steps, _, key, i = heappop(growing)
        grown = larger(choices[i], wish, layers[i].shape)
        if grown is None:
            continue
        size = size_of(grown, layers[i].shape)
        # The total only grows, so what does not fit now will not fit later.
        if size < layers[i].room and total - sizes[i] + size <= limit:
            total += size - sizes[i]
            choices[i], sizes[i] = grown, size
            heappush(growing, (steps + 1, size / layers[i].entries, key, i))
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
