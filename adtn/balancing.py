"""Gates brought to a common size without a change of the tensor, so that few scales suffice for all of them."""

import torch
from torch import Tensor

from adtn.structure import AnyStructure, GateShape, Structure

HOMOGENEOUS = ("none", "relu", "leaky_relu")
"""Activations with f(c x) = c f(x) for every c > 0."""


def scale_groups(structure: AnyStructure) -> tuple[tuple[GateShape, ...], ...]:
    """The gates that share a scale, in order: factors within a group, of product 1, leave the tensor as it is.

    The tensor is linear in every gate. A positive factor moves from one gate to any other of the same TN layer, and
    through a homogeneous activation to those of the other TN layers: the group is then the whole network. "tanh" and
    "gelu" let no factor through, so each TN layer is a group. The terms of a sum have groups of their own.

    Args:
        structure: Whose gates.
    """
    return tuple(group for term in structure.terms for group in _groups_of_term(term))


def group_numbers(structure: AnyStructure) -> tuple[int, ...]:
    """How many numbers the gates of each group have; groups follow each other in the flat vector of gates.

    Args:
        structure: Whose gates.
    """
    return tuple(sum(gate.parameters for gate in group) for group in scale_groups(structure))


def balanced(gates: Tensor, structure: AnyStructure) -> Tensor:
    """Gates with the same root mean square within each group, which contract to the same tensor.

    An error of the same size in every number then disturbs the tensor least. Gates of zeros stay as they are.

    Args:
        gates: Flat (structure.parameters,); not changed.
        structure: Theirs.

    Returns:
        (structure.parameters,), without a gradient.
    """
    parts = torch.split(gates.detach().double(), [gate.parameters for gate in structure.gates])
    result: list[Tensor] = []
    for group in scale_groups(structure):
        own = parts[len(result) : len(result) + len(group)]
        logs = torch.stack([part.square().mean().sqrt().log() for part in own])
        alive = torch.isfinite(logs)  # the logarithm of 0 is not
        factors = torch.where(alive, (logs[alive].mean() - logs).exp(), 1.0)
        result += [part * factor for part, factor in zip(own, factors, strict=True)]
    return torch.cat(result).to(gates.dtype)


def _groups_of_term(term: Structure) -> list[tuple[GateShape, ...]]:
    """`scale_groups` of one network."""
    if term.activation in HOMOGENEOUS or term.depth == 1:  # no activation stands after the last TN layer
        return [term.gates]
    groups, start = [], 0
    for layer in term.tn_layers:
        groups.append(term.gates[start : start + len(layer)])
        start += len(layer)
    return groups
