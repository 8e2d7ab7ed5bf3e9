"""A weight tensor of a model as the planner sees it: a name, a kind, a shape."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MIN_ENTRIES = 64
"""A tensor with fewer entries is not worth an ADTN: the smallest sensible structure has nearly as many numbers."""
GROUP = "group"
"""Kind of several layers that share an ADTN."""
DEFAULT_DTYPE = "float32"
"""Of layers that were stored before their dtype was."""
HALF_PRECISION = frozenset({"float16", "bfloat16"})
"""Dtypes of weights with half as many bytes a number as their gates, which are float32 (see `adtn.start`)."""


@dataclass(frozen=True)
class Layer:
    """A weight tensor that might be encoded.

    Args:
        name: What users call it: the module's dotted name ("fc1"), or the parameter's own ("tokens").
        key: Its key in the state_dict ("fc1.weight").
        kind: linear, conv1d, conv2d, conv3d, conv_transpose1d.., embedding, recurrent or parameter.
        shape: Of the tensor.
        eligible: Whether it can be encoded.
        reason: Why not.
        parts: Of a group, the layers that one ADTN is to hold: see `Layer.group`. Else none.
        dtype: Of its numbers, as torch names it: "float32". That of a group stands in its parts.
    """

    name: str
    key: str
    kind: str
    shape: tuple[int, ...]
    eligible: bool = True
    reason: str | None = None
    parts: tuple["Layer", ...] = ()
    dtype: str = DEFAULT_DTYPE

    @classmethod
    def group(cls, parts: Sequence["Layer"]) -> "Layer":
        """Several layers as one: their weights, flattened and joined, are held by one ADTN.

        Args:
            parts: At least two.
        """
        names, keys = (" + ".join(words) for words in zip(*((part.name, part.key) for part in parts), strict=True))
        return cls(names, keys, GROUP, (sum(part.entries for part in parts),), parts=tuple(parts))

    @property
    def weights(self) -> tuple["Layer", ...]:
        """The layers of a group, or the layer itself: each has a weight of its own in the model."""
        return self.parts or (self,)

    @property
    def entries(self) -> int:
        """Numbers of the dense weight."""
        return math.prod(self.shape)

    @property
    def room(self) -> float:
        """Numbers of gates that take as many bytes in a file as the dense weight: with fewer, the file gets smaller.

        As many as it has entries, but for an entry of half precision only a half; gates of float64 weights are float64
        too. Gates in few bits (`gate_bits` of a job) take less, and more of them would do: planners do not know of
        bits, and so keep to the safe side.
        """
        return sum(part.entries / (2 if part.dtype in HALF_PRECISION else 1) for part in self.weights)

    def to_json(self) -> dict[str, Any]:
        """The layer as JSON-compatible data."""
        data = {
            "name": self.name,
            "key": self.key,
            "kind": self.kind,
            "shape": list(self.shape),
            "eligible": self.eligible,
            "reason": self.reason,
            "dtype": self.dtype,
        }
        return data | {"parts": [part.to_json() for part in self.parts]} if self.parts else data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Layer":
        """The layer that `to_json` wrote."""
        parts = tuple(cls.from_json(part) for part in data.get("parts", ()))
        return cls(
            data["name"],
            data["key"],
            data["kind"],
            tuple(data["shape"]),
            data["eligible"],
            data["reason"],
            parts,
            data.get("dtype", DEFAULT_DTYPE),
        )


def ineligible_reason(shape: Sequence[int], floating: bool) -> str | None:
    """Why a tensor of this shape cannot be encoded, or None if it can.

    Args:
        shape: Of the tensor.
        floating: Whether its numbers are floating-point, of 16 to 64 bits.
    """
    entries = math.prod(shape)
    if not floating:
        return "its numbers are not floating-point of 16 to 64 bits"
    if entries < MIN_ENTRIES:
        return f"it has {entries} entries, fewer than {MIN_ENTRIES}"
    return None
