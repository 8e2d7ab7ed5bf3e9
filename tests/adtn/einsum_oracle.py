"""An independent contraction: every gate in its full form, one after the other, by opt_einsum."""

from collections.abc import Callable, Sequence

import opt_einsum
import torch
from torch import Tensor
from torch.nn import functional

from adtn.structure import AnyStructure, Structure

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": lambda x: x.clamp(min=0),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "tanh": lambda x: 1 - 2 / ((2 * x).exp() + 1),
    "gelu": functional.gelu,
}


def full_gates(flat: Tensor, structure: Structure) -> list[Tensor]:
    """Each gate as the paper has it: all its inputs, the columns that no constant vector selects filled with noise."""
    gates, start = [], 0
    untouched = set(range(structure.sites))
    for gate, (first, stop) in zip(structure.gates, [s for layer in structure.tn_layers for s in layer], strict=True):
        dims = structure.dims[first:stop]
        into = [1 if site in untouched else structure.dims[site] for site in range(first, stop)]
        full = torch.full((*dims, *dims), 1e3, dtype=flat.dtype)
        kept = (*(slice(None) for _ in dims), *(slice(n) for n in into))
        full[kept] = flat[start : start + gate.parameters].reshape(*dims, *into)
        gates.append(full)
        start += gate.parameters
        untouched -= set(range(first, stop))
    return gates


def einsum_contract(flat: Tensor, structure: AnyStructure) -> Tensor:
    """The sum over the terms of L(M) f( ... f( L(1) v x ... x v ) ), v = [1, 0, ...], indices in their order."""
    parts = flat.split([term.parameters for term in structure.terms])
    results = [einsum_term(part, term) for part, term in zip(parts, structure.terms, strict=True)]
    return torch.stack(results).sum(0)


def einsum_term(flat: Tensor, structure: Structure) -> Tensor:
    """One network."""
    return contract_full_gates(full_gates(flat, structure), structure)


def contract_full_gates(full: Sequence[Tensor], structure: Structure) -> Tensor:
    """Gates with all their inputs, applied to the full product state; indices in the structure's order, flat."""
    sites = structure.sites
    gates = iter(full)
    state = torch.zeros(structure.dims, dtype=full[0].dtype)
    state[(0,) * sites] = 1
    for m, layer in enumerate(structure.tn_layers):
        if m:
            state = ACTIVATIONS[structure.activation](state)
        for first, stop in layer:
            into = list(range(first, stop))
            out = [sites + site for site in into]
            result = [site + sites if first <= site < stop else site for site in range(sites)]
            state = opt_einsum.contract(next(gates), out + into, state, list(range(sites)), result)
    return opt_einsum.contract(state, list(range(sites)), list(structure.order)).reshape(-1)
