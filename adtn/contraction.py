"""Contract a tensor network into the tensor it represents: T = L(M) f( ... f( L(1) v (x) ... (x) v ) ).

`adtn.passes` says in which passes, `adtn.sweeps` runs them forwards and backwards. See the README of this package.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from adtn import fused, native
from adtn.errors import ShapeError
from adtn.passes import Pass, balanced_passes
from adtn.structure import Activation, AnyStructure, Span
from adtn.sweeps import Runner, run, run_backward


def contract(
    gates: Tensor | Sequence[Tensor],
    structure: AnyStructure,
    entries: int | None = None,
    storage: torch.dtype | None = None,
) -> Tensor:
    """Contract the gates of `structure` into the dense tensor they represent.

    Args:
        gates: The numbers of all gates as one flat vector (structure.parameters,), or (batch, structure.parameters) for
            several tensor networks of one structure, or one tensor a gate in order, each with out * in entries (see
            `Structure.gate_shapes`). Any floating-point dtype and device.
        structure: Sites, spans of the gates, activation, order of the sites; or a sum of such.
        entries: How many entries of the result to return, from the first on; all by default.
        storage: Dtype of the tensor under construction and of the result: that of the gates by default. With bfloat16
            a GPU moves half the bytes; sums are still in float32.

    Returns:
        (structure.size,), or (batch, structure.size), or less as `entries` says; differentiable, also twice.

    Raises:
        ShapeError: The number of gates, or of numbers, or of entries, does not fit `structure`.

    Time O(gates * out * size). Memory of the result forward, and of one more where it has an order or is a sum; of four
    such tensors with the gradient, at any depth, where the gates have few numbers next to it.
    Source: arXiv:2305.06058.
    """
    flat = gates if isinstance(gates, Tensor) else _joined(gates, structure)
    if flat.ndim not in (1, 2) or flat.shape[-1] != structure.parameters:
        raise ShapeError(f"gates: expected shape ({structure.parameters},), got {tuple(flat.shape)}")
    entries = _checked(entries, structure)
    total: Tensor | None = None
    for part, network in _terms(flat.reshape(-1, structure.parameters), structure, entries):
        start = part.new_ones(len(part), dtype=storage or part.dtype)
        result = _contract(part, start, network)
        total = result if total is None else total + result
    assert total is not None
    return total.view(*flat.shape[:-1], entries)


@torch.no_grad()
def contract_vjp(gates: Tensor, structure: AnyStructure, entries: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Contract, and return with the tensor what brings a gradient of it back to the gates; autograd has no part in it.

    For small tensors, autograd's own work is more than that of the passes.

    Args:
        gates: (batch, structure.parameters).
        structure: See `contract`.
        entries: Likewise.

    Returns:
        (batch, entries); and the vector-Jacobian product, to be called at most once: from the gradient of that tensor
        to the gradient of the gates.

    Raises:
        ShapeError: As `contract`.
        RuntimeError: The vector-Jacobian product is asked for again; it has let go of what it needs.
    """
    if gates.ndim != 2 or gates.shape[1] != structure.parameters:
        raise ShapeError(f"gates: expected shape (batch, {structure.parameters}), got {tuple(gates.shape)}")
    total: Tensor | None = None
    terms: list[_Term] = []
    for part, network in _terms(gates.detach(), structure, _checked(entries, structure)):
        terms.append(_Term(part, network))
        result = terms[-1].run()
        total = result if total is None else total.add_(result)
    assert total is not None

    @torch.no_grad()
    def vjp(grad: Tensor) -> Tensor:
        if not terms:
            raise RuntimeError("expected one call of the vector-Jacobian product, got another")
        found = []
        while terms:
            found.append(terms.pop(0).vjp(grad))
        return torch.cat(found, dim=1)

    return total, vjp


def apply_tn_layers(
    state: Tensor,
    gates: Tensor,
    dims: tuple[int, ...],
    tn_layers: tuple[tuple[Span, ...], ...],
    activation: Activation = "none",
) -> Tensor:
    """Apply TN layers to a tensor, with the activation between them.

    Args:
        state: The tensor, (prod(dims),), of the dtype of the gates.
        gates: The numbers of all gates, flat. Each gate has prod(dims of its span) squared.
        dims: Dimension of each site.
        tn_layers: The span of each gate.
        activation: Between TN layers.

    Returns:
        (prod(dims),), differentiable with respect to both tensors, also twice.
    """
    order = tuple(range(len(dims)))
    network = _Network(dims, tn_layers, activation, order, state.numel(), touched=True)
    return _contract(gates.unsqueeze(0), state, network).squeeze(0)


@dataclass(frozen=True)
class _Network:
    """What is contracted, but for the numbers.

    Args:
        dims: Dimension of each site.
        tn_layers: The span of each gate.
        activation: Between TN layers.
        order: The site of each index of the result.
        entries: Of the result that are returned.
        alone: Whether it is no term of a sum.
        touched: Whether the tensor at the start has all its sites; otherwise it is the number 1.
    """

    dims: tuple[int, ...]
    tn_layers: tuple[tuple[Span, ...], ...]
    activation: Activation
    order: tuple[int, ...]
    entries: int
    alone: bool = True
    touched: bool = False

    @property
    def size(self) -> int:
        """Entries of the result."""
        return math.prod(self.dims)

    @property
    def is_natural(self) -> bool:
        """Whether the indices of the result stand in the order of the sites."""
        return all(a < b for a, b in pairwise(self.order))

    @property
    def keeps_last(self) -> bool:
        """Whether there is room to keep what the last pass reads: the result is the only other tensor of its size."""
        return self.alone and self.is_natural

    def passes(self, width: int) -> tuple[Pass, ...]:
        """Those that contract it."""
        return balanced_passes(self.dims, self.tn_layers, width, self.touched)


def _terms(gates: Tensor, structure: AnyStructure, entries: int) -> Iterator[tuple[Tensor, _Network]]:
    """The numbers (items, ...) of each network of a sum, and the network."""
    numbers = torch.split(gates, [term.parameters for term in structure.terms], dim=1)
    for part, term in zip(numbers, structure.terms, strict=True):
        alone = len(structure.terms) == 1
        yield part, _Network(term.dims, term.tn_layers, term.activation, term.order, entries, alone)


def _checked(entries: int | None, structure: AnyStructure) -> int:
    """How many entries are wanted."""
    if entries is None:
        return structure.size
    if not 0 < entries <= structure.size:
        raise ShapeError(f"entries: expected 1 to {structure.size}, got {entries}")
    return entries


class _Term:
    """One network of a sum in `contract_vjp`."""

    def __init__(self, gates: Tensor, network: _Network) -> None:
        self._items, self._network = len(gates), network
        self._start = gates.new_ones(len(gates))
        self._runner = _runner(gates, gates.dtype, network)
        self._kept: dict[int, Tensor] = {}

    def run(self) -> Tensor:
        """The result (items, entries), which nothing here holds on to."""
        result, self._kept = run(self._runner, self._start, self._items, True, self._network.keeps_last)
        return _in_order(result, self._network, self._items)

    def vjp(self, grad: Tensor) -> Tensor:
        """From the gradient of the result to that of the gates."""
        run_backward(self._runner, self._kept, *_out_of_order(self._runner, grad, self._network), self._items)
        return self._runner.gradient()


def _contract(gates: Tensor, state: Tensor, network: _Network) -> Tensor:
    """From gates (items, numbers) and a start (items * n,) to the first `network.entries` of each result."""
    if torch.compiler.is_compiling():  # whoever traces this wants operations that it knows
        return _plain(gates, state, network)
    result: Tensor = _Contract.apply(gates, state, network)  # type: ignore[no-untyped-call]
    return result


class _Contract(torch.autograd.Function):
    """`_contract`, with a gradient that stores little more than the arguments: see `adtn.sweeps`."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, state: Tensor, network: _Network) -> Tensor:
        ctx.save_for_backward(gates, state)
        ctx.network = network
        runner = _runner(gates, state.dtype, network)
        keep = any(ctx.needs_input_grad)
        result, ctx.kept = run(runner, state.contiguous(), len(gates), keep, network.keeps_last)
        return _in_order(result, network, len(gates))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        gates, state = ctx.saved_tensors
        (grad,) = grads  # (items, entries)
        if torch.is_grad_enabled():  # somebody will differentiate the gradient: by plain autograd then
            wanted = [tensor for tensor, needed in zip((gates, state), ctx.needs_input_grad, strict=False) if needed]
            found = iter(torch.autograd.grad(_plain(gates, state, ctx.network), wanted, grad, create_graph=True))
            both = [next(found) if needed else None for needed in ctx.needs_input_grad[:2]]
            return both[0], both[1], None
        runner = _runner(gates, state.dtype, ctx.network)
        grad_state = run_backward(runner, ctx.kept, *_out_of_order(runner, grad, ctx.network), len(gates))
        return runner.gradient(), grad_state, None


def _runner(gates: Tensor, storage: torch.dtype, network: _Network) -> Runner:
    if is_native(gates, storage):
        return native.NativePasses(network.passes(native.width_for(network.size)), gates, network.activation)
    return fused.FusedPasses(network.passes(fused.MAX_WIDTH), gates, network.activation, storage)


def is_native(gates: Tensor, storage: torch.dtype) -> bool:
    """Whether the compiled loops can run this."""
    return gates.device.type == "cpu" and gates.dtype == storage and storage in (torch.float32, torch.float64)


def _plain(gates: Tensor, state: Tensor, network: _Network) -> Tensor:
    """`_contract` of operations that autograd knows; it stores what every pass reads."""
    runner = fused.FusedPasses(network.passes(fused.MAX_WIDTH), gates, network.activation, state.dtype)
    for i in range(len(runner.passes)):
        state = runner.apply(i, state)
    return _in_order(state, network, len(gates))


def _in_order(state: Tensor, network: _Network, items: int) -> Tensor:
    """From the order of the sites (items * size,) to that of the tensor's indices, cut: (items, entries)."""
    if not network.is_natural:
        state = state.view(items, *network.dims).permute(0, *(1 + site for site in network.order)).reshape(-1)
    return state.view(items, -1)[:, : network.entries]


def _out_of_order(runner: Runner, grad: Tensor, network: _Network) -> tuple[Tensor, bool]:
    """The reverse of `_in_order` for a gradient (items, entries), and whether it is a copy."""
    if network.is_natural and network.entries == network.size:
        return grad.contiguous().view(-1), not grad.is_contiguous()
    ours = runner.empty(len(grad) * network.size)
    if network.entries < network.size:
        ours.zero_()
    if network.is_natural:
        ours.view(len(grad), -1)[:, : network.entries] = grad
    else:
        in_order = ours.view(len(grad), *network.dims).permute(0, *(1 + site for site in network.order))
        _write_first(grad, in_order)
    return ours, True


def _write_first(entries: Tensor, target: Tensor) -> None:
    """Write (items, n) into the first n entries of each item of (items, ...), the last index the fastest."""
    while entries.shape[1] > 0:
        inner = math.prod(target.shape[2:])
        count = entries.shape[1] // inner
        target[:, :count] = entries[:, : count * inner].reshape(len(entries), count, *target.shape[2:])
        entries, target = entries[:, count * inner :], target.select(1, min(count, target.shape[1] - 1))


def _joined(gates: Sequence[Tensor], structure: AnyStructure) -> Tensor:
    """One flat vector of all gates, each checked."""
    if len(gates) != len(structure.gates):
        raise ShapeError(f"gates: expected {len(structure.gates)} tensors, got {len(gates)}")
    for i, (gate, expected) in enumerate(zip(gates, structure.gates, strict=True)):
        if gate.numel() != expected.parameters:
            raise ShapeError(
                f"gates[{i}]: expected {expected.out} x {expected.into} numbers for sites {list(expected.span)}, "
                f"got shape {tuple(gate.shape)}"
            )
    return torch.cat([gate.reshape(-1) for gate in gates])
