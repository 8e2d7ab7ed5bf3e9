"""The common ways to apply a TN layer, each as its users would write it, under plain autograd.

Each takes a flat tensor (None is the constant product state), the gates (out, out, in, in) of one TN layer and the
layer, and returns the flat result.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import opt_einsum
import torch
from torch import Tensor
from torch.nn import functional

from bench.contraction.networks import TNLayer


def tensordot(state: Tensor | None, gates: Sequence[Tensor], layer: TNLayer) -> Tensor:
    """Gate by gate. A site that is still the constant vector has dimension 1, so the tensor grows only as it must."""
    tensor = gates[0].new_ones((1,) * layer.sites) if state is None else state.view((2,) * layer.sites)
    for gate, place in zip(gates, layer.gates, strict=True):
        sites = (place.first, place.first + 1)
        tensor = torch.tensordot(gate, tensor, dims=([2, 3], sites)).movedim((0, 1), sites)
    return tensor.reshape(-1)


def one_expression(state: Tensor | None, gates: Sequence[Tensor], layer: TNLayer) -> Tensor:
    """The whole TN layer as one expression of opt_einsum, on its greedy path, which is found once."""
    # An input of dimension 1 is no index of the network.
    operands = [gate.reshape([dim for dim in gate.shape if dim == 2]) for gate in gates]
    if state is not None:
        operands.insert(0, state.view((2,) * layer.sites))
    result: Tensor = _expression(layer, state is not None)(*operands)
    return result.reshape(-1)


@lru_cache
def _expression(layer: TNLayer, given: bool) -> Any:
    """The compiled expression of a TN layer."""
    wires: list[str] = [opt_einsum.get_symbol(site) if given else "" for site in range(layer.sites)]
    terms = ["".join(wires)] if given else []
    for i, gate in enumerate(layer.gates):
        sites = slice(gate.first, gate.first + 2)
        out = [opt_einsum.get_symbol(layer.sites + 2 * i + k) for k in range(2)]
        terms.append("".join([*out, *wires[sites]]))
        wires[sites] = out
    shapes = [(2,) * len(term) for term in terms]
    return opt_einsum.contract_expression(f"{','.join(terms)}->{''.join(wires)}", *shapes, optimize="greedy")


def quimb_circuit(state: Tensor | None, gates: Sequence[Tensor], layer: TNLayer) -> Tensor:
    """The dense circuit simulator of quimb, fed with raw gates that are not unitary, on torch tensors."""
    import quimb.tensor as qtn  # only the extra "bench" brings it

    if state is None:
        circuit = qtn.CircuitDense(layer.sites, psi0_dtype="float32")
        circuit.apply_to_arrays(lambda array: torch.as_tensor(array, device=gates[0].device))
    else:
        circuit = qtn.CircuitDense(psi0=qtn.Dense1D(state))
    for gate, place in zip(gates, layer.gates, strict=True):
        circuit.apply_gate_raw(full_gate(gate), (place.first, place.first + 1))
    result: Tensor = circuit.psi.to_dense()
    return result.reshape(-1)


def full_gate(gate: Tensor) -> Tensor:
    """The gate (2, 2, 2, 2) with the columns that the constant vector never selects, as zeros."""
    return functional.pad(gate, (0, 2 - gate.shape[3], 0, 2 - gate.shape[2]))
