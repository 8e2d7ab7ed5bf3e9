"""The structure of a tensor network as plain data: its sites, and for each TN layer the span of sites of each gate.

`adtn.sites` splits a weight into sites, `adtn.arrangements` lays gates on them.

No torch here: whoever only counts parameters needs no tensors.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import mul
from typing import Any, Literal, cast, get_args

from adtn.errors import StructureError

Span = tuple[int, int]
"""The sites of a gate: the first one, and one past the last."""

Activation = Literal["none", "relu", "leaky_relu", "tanh", "gelu"]
"""What stands between two TN layers. Each maps 0 to 0: see `Structure`."""

ACTIVATIONS: tuple[str, ...] = get_args(Activation)

MOST_ENTRIES = 2**48
"""Of a tensor: more than any machine holds, and few enough that sizes in bytes and their sums fit 64 bits."""
MOST_PADDED = 16
"""Times the entries of a weight that a structure may hold, so that its shape tells what decoding takes. Enough for four
axes of which each is padded to a power of two; the structures that this library lays take at most twice the entries."""


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

    Sites are counted in the network's own order, in which a gate acts on neighbours. The indices of the tensor may
    stand in another: so gates can join sites that lie far apart in the tensor, such as those of its rows and columns.

    Args:
        dims: Dimension of each site, at least 2 (2 in the paper).
        tn_layers: One tuple of spans a TN layer; spans are contiguous, of any width, in any order, and may overlap.
        activation: f; "none" is the identity.
        order: `order[k]` is the site that is index k of the tensor, the slowest index first. () is the natural order,
            0, 1, 2, ...; it is replaced by it.

    Raises:
        StructureError: There is no site or more than `MOST_ENTRIES` entries, a span lies outside the sites, a TN layer
            is empty, no gate touches some site, or the order does not name each site once.

    Source: arXiv:2305.06058, with the redundant columns of first gates left out.
    """

    dims: tuple[int, ...]
    tn_layers: tuple[tuple[Span, ...], ...]
    activation: Activation = "relu"
    order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_dims(self.dims)
        _check_spans(self.tn_layers, len(self.dims))
        as_activation(self.activation)
        object.__setattr__(self, "order", tuple(self.order) or tuple(range(self.sites)))
        _check_order(self.order, self.sites)

    @property
    def terms(self) -> tuple["Structure", ...]:
        """The structure itself: a sum of one. With it a structure is read like a `Sum`."""
        return (self,)

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
    def shape(self) -> tuple[int, ...]:
        """Shape of the contracted tensor before it is flattened: a dimension a site, in `order`."""
        return tuple(self.dims[site] for site in self.order)

    @property
    def size(self) -> int:
        """Entries of the contracted tensor."""
        return math.prod(self.dims)

    @cached_property
    def gates(self) -> tuple[GateShape, ...]:
        """Every gate in order: TN layer by TN layer, as listed. In this order their numbers are stored."""
        return tuple(gates_of(self.dims, self.tn_layers))

    @property
    def gate_shapes(self) -> tuple[tuple[int, int], ...]:
        """The (out, in) matrix shape of every gate, in order."""
        return tuple((gate.out, gate.into) for gate in self.gates)

    @cached_property
    def parameters(self) -> int:
        """Numbers stored: the sum over the gates."""
        return sum(gate.parameters for gate in self.gates)

    def summary(self) -> dict[str, Any]:
        """The structure in four words, for reports: `to_json` has the whole."""
        return {
            "sites": self.sites,
            "depth": self.depth,
            "gate_sites": self.gate_sites,
            "activation": self.activation,
        }

    def to_json(self) -> dict[str, Any]:
        """The structure as JSON-compatible data; `order` only where it is not the natural one."""
        data: dict[str, Any] = {
            "dims": list(self.dims),
            "tn_layers": [[list(span) for span in layer] for layer in self.tn_layers],
            "activation": self.activation,
        }
        if self.order != tuple(range(self.sites)):
            data["order"] = list(self.order)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Structure":
        """The structure that `to_json` wrote.

        Raises:
            StructureError: A field is missing, unknown or of the wrong kind, or the structure is not valid.
        """
        required = {"dims", "tn_layers", "activation"}
        if not isinstance(data, Mapping) or set(data) - {"order"} != required:
            raise StructureError(
                f"structure: expected an object with {sorted(required)} and at most 'order' besides, got {_brief(data)}"
            )
        dims, tn_layers, order = data["dims"], data["tn_layers"], data.get("order", ())
        if not all(isinstance(value, Sequence) for value in (dims, tn_layers, order)):
            raise StructureError(f"structure: expected lists in dims, tn_layers and order, got {_brief(data)}")
        try:
            layers = tuple(tuple((start, stop) for start, stop in layer) for layer in tn_layers)
        except (TypeError, ValueError):
            raise StructureError(f"tn_layers: expected lists of [start, stop], got {_brief(tn_layers)}") from None
        return cls(tuple(dims), layers, data["activation"], tuple(order))


@dataclass(frozen=True)
class Sum:
    """A sum of tensor networks: entry k of its tensor is the sum of the terms' entries k.

    The gates of the terms are stored one after the other. Each term has sites, order and activation of its own.

    Args:
        terms: At least two, all of the same size.

    Raises:
        StructureError: There are fewer than two terms, or their sizes differ.
    """

    terms: tuple[Structure, ...]

    def __post_init__(self) -> None:
        if len(self.terms) < 2:
            raise StructureError(f"terms: expected at least 2, got {len(self.terms)}")
        size = self.size
        for i, term in enumerate(self.terms):
            if term.size != size:
                raise StructureError(f"terms[{i}]: expected the size of terms[0], {size}, got {term.size}")

    @property
    def size(self) -> int:
        """Entries of the tensor."""
        return self.terms[0].size

    @property
    def depth(self) -> int:
        """Number of TN layers of the deepest term."""
        return max(term.depth for term in self.terms)

    @cached_property
    def gates(self) -> tuple[GateShape, ...]:
        """Every gate in order: term by term, its span counted in the sites of its term."""
        return tuple(gate for term in self.terms for gate in term.gates)

    @property
    def gate_shapes(self) -> tuple[tuple[int, int], ...]:
        """The (out, in) matrix shape of every gate, in order."""
        return tuple((gate.out, gate.into) for gate in self.gates)

    @cached_property
    def parameters(self) -> int:
        """Numbers stored: the sum over the terms."""
        return sum(term.parameters for term in self.terms)

    def summary(self) -> dict[str, Any]:
        """The summary of each term."""
        return {"terms": [term.summary() for term in self.terms]}

    def to_json(self) -> dict[str, Any]:
        """The sum as JSON-compatible data."""
        return {"terms": [term.to_json() for term in self.terms]}


AnyStructure = Structure | Sum
"""What an ADTN is made of: one tensor network, or a sum of several. `terms` lists the networks of either."""


def structure_from_json(data: Mapping[str, Any]) -> AnyStructure:
    """The structure or the sum that `to_json` wrote.

    Raises:
        StructureError: It is neither, or is not valid.
    """
    if not isinstance(data, Mapping) or "terms" not in data:
        return Structure.from_json(data)
    terms = data["terms"]
    if set(data) != {"terms"} or not isinstance(terms, Sequence) or isinstance(terms, str):
        raise StructureError(f"structure: expected a list of terms and nothing else, got {_brief(data)}")
    read = []
    for i, term in enumerate(terms):
        try:
            read.append(Structure.from_json(term))
        except StructureError as error:
            raise StructureError(f"terms[{i}]: {error}") from None
    return Sum(tuple(read))


def gates_of(dims: Sequence[int], tn_layers: Sequence[Sequence[Span]], touched: bool = False) -> Iterator[GateShape]:
    """The gates in order: TN layer by TN layer, as listed.

    Args:
        dims: Dimension of each site.
        tn_layers: The span of each gate.
        touched: Whether every site has been touched before. Otherwise all of them are still the constant vector, and
            the first gate on a site sees dimension 1 there.
    """
    current = list(dims) if touched else [1] * len(dims)
    for layer in tn_layers:
        for start, stop in layer:
            yield GateShape((start, stop), math.prod(dims[start:stop]), math.prod(current[start:stop]))
            current[start:stop] = dims[start:stop]


def is_too_large(shape: Sequence[int]) -> bool:
    """Whether a tensor has more than `MOST_ENTRIES` entries. The product is not made beyond that.

    Args:
        shape: Of positive integers.
    """
    return any(entries > MOST_ENTRIES for entries in accumulate(shape, mul))


def _check_dims(dims: Sequence[int]) -> None:
    if not dims:
        raise StructureError("dims: expected at least one site, got none")
    for site, dim in enumerate(dims):
        if not _is_int(dim) or dim < 2:
            raise StructureError(f"dims[{site}]: expected an integer of at least 2, got {dim!r}")
    # This bounds the number of sites too, and so the work that each span makes.
    if is_too_large(dims):
        raise StructureError(f"dims: expected a product of at most 2^48, got {_brief(list(dims))}")


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


def _check_order(order: Sequence[int], sites: int) -> None:
    if not all(_is_int(site) for site in order) or sorted(order) != list(range(sites)):
        raise StructureError(f"order: expected each site of 0 .. {sites - 1} once, got {_brief(list(order))}")


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
