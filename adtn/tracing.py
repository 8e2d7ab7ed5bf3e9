"""A compressed model whose weights are decoded by ordinary operators: it can be traced and leave this package.

The contraction of `adtn.contraction` is made for speed and for its gradient, by compiled loops and operations in place.
Here every gate, or the product of several, is one matrix product, which any runtime knows.
"""

import copy
from collections.abc import Callable, Iterator
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from adtn.circle import Circle, circle_of
from adtn.fused import FUNCTIONS
from adtn.module import ADTN
from adtn.packing import pack, unpack
from adtn.quantising import from_integers, integers
from adtn.sharing import Share
from adtn.start import is_half
from adtn.structure import AnyStructure, Structure


class PlainADTN(nn.Module):
    """The weight of an ADTN, decoded by ordinary operators each time.

    Args:
        adtn: Its numbers are copied.

    Attributes:
        gates: The numbers of all gates in order, flat (structure.parameters,); None with bits.
        packed: With bits, the integers as bytes: see `adtn.packing`. Else None.
        scales: With bits, one a group of gates. Else None.
    """

    def __init__(self, adtn: ADTN) -> None:
        super().__init__()
        self.shape, self.dtype, self.structure, self.bits = adtn.shape, adtn.dtype, adtn.structure, adtn.bits
        self.gates: nn.Parameter | None = None
        self.packed: Tensor | None
        self.scales: Tensor | None
        packed = scales = None
        if adtn.bits is None or adtn.scales is None:
            self.gates = nn.Parameter(adtn.gates.detach().clone())
        else:
            packed = pack(integers(adtn.gates, adtn.scales, adtn.structure, adtn.bits), adtn.bits)
            scales = adtn.scales.clone()
        self.register_buffer("packed", packed)
        self.register_buffer("scales", scales)

    def forward(self) -> Tensor:
        """The decoded weight, of the ADTN's shape and the gates' dtype; its numbers are those of its own dtype."""
        weight = contract_plainly(self._numbers(), self.structure)[: self.shape.numel()].view(self.shape)
        return weight.to(self.dtype).to(weight.dtype) if is_half(self.dtype) else weight

    def _numbers(self) -> Tensor:
        """Of all gates, (structure.parameters,)."""
        if self.bits is None or self.packed is None or self.scales is None:
            assert self.gates is not None
            return self.gates
        numbers = unpack(self.packed, self.structure.parameters, self.bits, self.scales.dtype)
        return from_integers(numbers, self.scales, self.structure)


def traceable(model: nn.Module, stand_in: Callable[[ADTN], nn.Module] = PlainADTN) -> nn.Module:
    """A copy of a compressed model that `torch.export` and what builds on it can trace.

    The weights are decoded in the graph, each time that it runs. What it holds are the gates: floats, or with bits one
    integer or more in each byte.

    Args:
        model: With encoded weights or without; not changed.
        stand_in: Makes what takes the place of each ADTN: a module whose output, without inputs, is the weight.

    Returns:
        In evaluation mode, on the CPU, its floating-point numbers float32.
    """
    copied = copy.deepcopy(model)
    made: dict[ADTN, nn.Module] = {}

    def in_place_of(adtn: ADTN) -> nn.Module:
        if adtn not in made:
            made[adtn] = stand_in(adtn)
        return made[adtn]

    for module in copied.modules():
        if not parametrize.is_parametrized(module):
            continue
        assert isinstance(module.parametrizations, nn.ModuleDict)
        for chain in module.parametrizations.values():
            assert isinstance(chain, parametrize.ParametrizationList)
            held = chain[0]
            if isinstance(held, ADTN):
                chain[0] = in_place_of(held)
            elif isinstance(held, Share) and isinstance(held.adtn, ADTN):  # else it was met before, in a tie
                held._modules["adtn"] = in_place_of(held.adtn)
    return copied.cpu().float().eval()


def contract_plainly(gates: Tensor, structure: AnyStructure) -> Tensor:
    """What `adtn.contract` computes, up to the rounding of floats.

    Args:
        gates: The numbers of all gates, flat (structure.parameters,).
        structure: Theirs.

    Returns:
        (structure.size,), differentiable; all tensors in between are stored for the gradient.
    """
    numbers = torch.split(gates, [term.parameters for term in structure.terms])
    return reduce(torch.add, map(_contract_term, numbers, structure.terms))


def _contract_term(gates: Tensor, structure: Structure) -> Tensor:
    """One network, (structure.size,)."""
    parts = iter(torch.split(gates, [gate.parameters for gate in structure.gates]))
    state = _run(circle_of(structure), parts, FUNCTIONS[structure.activation])
    if structure.order != tuple(range(structure.sites)):
        state = state.reshape(structure.dims).permute(structure.order)
    return state.reshape(-1)


def _run(circle: Circle, parts: Iterator[Tensor], activation: Callable[[Tensor], Tensor]) -> Tensor:
    """What the steps of a circle make of the next gates; its shape does not matter, it counts as flat."""
    state: Tensor | None = None
    for step in circle.steps:
        part = next(parts) if step.window is None else _run(step.window, parts, activation)
        matrix = part.reshape(step.rows, step.columns)
        if state is None:
            state = torch.eye(circle.start, dtype=part.dtype, device=part.device)
        if step.activate:
            state = activation(state)
        own = _turned(state, step.turn).reshape(step.columns, -1).T  # (other sites, own sites)
        state = functional.linear(own, matrix)  # (other sites, own sites)
    assert state is not None
    return _turned(state, circle.turn)


def _turned(state: Tensor, turn: int) -> Tensor:
    """With so many entries of the slowest sites taken to the back."""
    return state if turn == 1 else state.view(turn, -1).T
