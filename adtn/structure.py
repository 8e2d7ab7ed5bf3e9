"""The structure of a tensor network as plain data: its sites, and for each TN layer the span of sites of each gate.

No torch here: whoever only counts parameters needs no tensors.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast, get_args

from adtn.errors import StructureError

Span = tuple[int, int]
"""The sites of a gate: the first one, and one past the last."""

Activation = Literal["none", "relu", "leaky_relu", "tanh", "gelu"]
"""What stands between two TN layers. Each maps 0 to 0: see `Structure`."""

ACTIVATIONS: tuple[str, ...] = get_args(Activation)


@dataclass(frozen=True)
class GateShape:
    """One gate: its span, and the sizes of the matrix that it multiplies with, (out, in)."""

    span: Span
    out: int
    into: int

    @property
    def parameters(self) -> int:
        """Numbers stored for this gate."""
        return self.out * self.into


@dataclass(frozen=True)
class Structure:
    """A deep tensor network: T = L(M) f( ... f( L(1) v (x) v (x) ... (x) v ) ), v = [1, 0, ...].

    A TN layer L(m) applies its gates in the order in which they are listed; f stands between TN layers. Every site
    starts in the constant vector v, so of a gate that is the first to touch a site only the columns of index 0 on that
    site matter: those are the ones stored, and the gate's input dimension there is 1. A site that no gate has touched
    yet may stay the constant vector across an activation because f(0) = 0: f(A (x) v) = f(A) (x) v.

    Args:
        dims: Dimension of each site, at least 2 (2 in the paper). The first site is the slowest index of the tensor.
        tn_layers: One tuple of spans a TN layer; spans are contiguous, of any width, in any order, and may overlap.
        activation: f; "none" is the identity.

    Raises:
        StructureError: A span lies outside the sites, a TN layer is empty, or no gate touches some site.

    Source: arXiv:2305.06058, with the redundant columns of first gates left out.
    """

    dims: tuple[int, ...]
    tn_layers: tuple[tuple[Span, ...], ...]
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        _check_dims(self.dims)
        _check_spans(self.tn_layers, len(self.dims))
        as_activation(self.activation)

    @property
    def sites(self) -> int:
        """Number of sites Q."""
        return len(self.dims)

    @property
    def depth(self) -> int:
        """Number of TN layers M."""
        return len(self.tn_layers)

    @property
    def gate_sites(self) -> int:
        """Width of the widest gate."""
        return max(stop - start for layer in self.tn_layers for start, stop in layer)

    @property
    def size(self) -> int:
        """Entries of the contracted tensor."""
        return math.prod(self.dims)

    @cached_property
    def gates(self) -> tuple[GateShape, ...]:
        """Every gate in order: TN layer by TN layer, as listed. In this order their numbers are stored."""
        return tuple(_gate_shapes(self.dims, self.tn_layers))

    @property
    def gate_shapes(self) -> tuple[tuple[int, int], ...]:
        """The (out, in) matrix shape of every gate, in order."""
        return tuple((gate.out, gate.into) for gate in self.gates)

    @cached_property
    def parameters(self) -> int:
        """Numbers stored: the sum over the gates."""
        return sum(gate.parameters for gate in self.gates)

    def to_json(self) -> dict[str, Any]:
        """The structure as JSON-compatible data."""
        return {
            "dims": list(self.dims),
            "tn_layers": [[list(span) for span in layer] for layer in self.tn_layers],
            "activation": self.activation,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Structure":
        """The structure that `to_json` wrote.

        Raises:
            StructureError: A field is missing, unknown or of the wrong kind, or the structure is not valid.
        """
        expected = {"dims", "tn_layers", "activation"}
        if not isinstance(data, Mapping) or set(data) != expected:
            raise StructureError(f"structure: expected an object with {sorted(expected)}, got {_brief(data)}")
        dims, tn_layers = data["dims"], data["tn_layers"]
        if not isinstance(dims, Sequence) or not isinstance(tn_layers, Sequence):
            raise StructureError(f"structure: expected lists in dims and tn_layers, got {_brief(data)}")
        try:
            layers = tuple(tuple((start, stop) for start, stop in layer) for layer in tn_layers)
        except (TypeError, ValueError):
            raise StructureError(f"tn_layers: expected lists of [start, stop], got {_brief(tn_layers)}") from None
        return cls(tuple(dims), layers, data["activation"])


def brick_wall(
    sites: int | Sequence[int], depth: int = 2, gate_sites: int = 2, activation: Activation = "relu"
) -> Structure:
    """The paper's layout: in each TN layer a row of gates side by side, then a row shifted by half a gate.

    For gate_sites=2: (0,1), (2,3), ..., then (1,2), (3,4), .... A gate that would stick out at the end is clipped, and
    left out if only one site remains (the other row touches it). With no more sites than gate_sites, a TN layer is one
    gate over all sites.

    Args:
        sites: Their number (of dimension 2), or the dimension of each.
        depth: Number of TN layers M, at least 1.
        gate_sites: Sites of a gate, at least 2.
        activation: What stands between TN layers.

    Raises:
        StructureError: A number is out of range.

    Example:
        >>> brick_wall(sites=16, depth=2).parameters
        384
    """
    dims = (2,) * sites if isinstance(sites, int) else tuple(sites)
    if not dims:
        raise StructureError("sites: expected at least 1, got 0")
    if depth < 1:
        raise StructureError(f"depth: expected at least 1, got {depth}")
    if gate_sites < 2:
        raise StructureError(f"gate_sites: expected at least 2, got {gate_sites}")
    if len(dims) <= gate_sites:
        return Structure(dims, (((0, len(dims)),),) * depth, activation)
    layer = (*_row(0, len(dims), gate_sites), *_row(gate_sites // 2, len(dims), gate_sites))
    return Structure(dims, (layer,) * depth, activation)


def sites_for(shape: Sequence[int]) -> int:
    """How many sites of dimension 2 hold a tensor of this shape: ceil(log2(entries)), at least 1.

    Raises:
        StructureError: The shape holds no entries.
    """
    entries = math.prod(shape)
    if entries < 1:
        raise StructureError(f"shape: expected at least one entry, got {tuple(shape)}")
    return max(1, (entries - 1).bit_length())


def _row(first: int, sites: int, width: int) -> Iterator[Span]:
    """Gates side by side from site `first` on; one that would hold a single site is left out."""
    for start in range(first, sites - 1, width):
        yield start, min(start + width, sites)


def _gate_shapes(dims: Sequence[int], tn_layers: Sequence[Sequence[Span]]) -> Iterator[GateShape]:
    """Follow which sites are still the constant vector; a first gate sees dimension 1 there."""
    current = [1] * len(dims)
    for layer in tn_layers:
        for start, stop in layer:
            yield GateShape((start, stop), math.prod(dims[start:stop]), math.prod(current[start:stop]))
            current[start:stop] = dims[start:stop]


def _check_dims(dims: Sequence[int]) -> None:
    if not dims:
        raise StructureError("dims: expected at least one site, got none")
    for site, dim in enumerate(dims):
        if not _is_int(dim) or dim < 2:
            raise StructureError(f"dims[{site}]: expected an integer of at least 2, got {dim!r}")


def _check_spans(tn_layers: Sequence[Sequence[Span]], sites: int) -> None:
    if not tn_layers:
        raise StructureError("tn_layers: expected at least one TN layer, got none")
    touched: set[int] = set()
    for m, layer in enumerate(tn_layers):
        if not layer:
            raise StructureError(f"tn_layers[{m}]: expected at least one gate, got none")
        for i, (start, stop) in enumerate(layer):
            if not (_is_int(start) and _is_int(stop) and 0 <= start < stop <= sites):
                where = f"tn_layers[{m}][{i}]"
                raise StructureError(f"{where}: expected 0 <= start < stop <= {sites}, got [{start!r}, {stop!r}]")
            touched.update(range(start, stop))
    if len(touched) < sites:
        missing = sorted(set(range(sites)) - touched)
        raise StructureError(f"tn_layers: expected every site to be touched by a gate, none touches {missing}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _brief(value: object) -> str:
    """A value for a message, shortened."""
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def as_activation(name: str) -> Activation:
    """The name as an `Activation`.

    Raises:
        StructureError: It is not one.
    """
    if name not in ACTIVATIONS:
        raise StructureError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return cast(Activation, name)
