"""The tensor networks that are measured: brick-walls of 2-site gates on binary sites, and their seeded numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gate:
    """A gate on the sites `first` and `first` + 1.

    Args:
        first: The first of the two.
        into: Dimension of each before the gate: 1 where the site is still the constant vector, else 2.
    """

    first: int
    into: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(out, out, in, in)."""
        return (2, 2, *self.into)


@dataclass(frozen=True)
class TNLayer:
    """One TN layer.

    Args:
        sites: Of the tensor that it acts on.
        gates: In the order in which they are applied.
    """

    sites: int
    gates: tuple[Gate, ...]


@dataclass(frozen=True)
class Network:
    """TN layers with ReLU between them.

    Args:
        sites: Of the tensor, which has 2**sites entries.
        depth: Number of TN layers.
        given: Whether the first TN layer acts on a given dense tensor, as one inside of a network does; else it acts
            on the constant product state.
    """

    sites: int
    depth: int = 1
    given: bool = False

    @property
    def name(self) -> str:
        """What the tables call it."""
        if self.given:
            return "inner layer"
        return "first layer" if self.depth == 1 else f"network of {self.depth}"

    @property
    def entries(self) -> int:
        """Of the tensor."""
        return 1 << self.sites

    @property
    def least_moves(self) -> int:
        """How often forward + backward at least read or write a tensor of full size.

        The first TN layer writes one, and reads its gradient; an inner one reads one and writes one, reads both the
        gradient and what it had read (for the gates), and writes a gradient.
        """
        return 5 * self.depth if self.given else 2 + 5 * (self.depth - 1)

    @cached_property
    def layers(self) -> tuple[TNLayer, ...]:
        """The TN layers, in order."""
        current = [2 if self.given else 1] * self.sites
        return tuple(TNLayer(self.sites, tuple(_brick_wall(current))) for _ in range(self.depth))

    @property
    def parameters(self) -> int:
        """Numbers of all gates."""
        return sum(4 * gate.into[0] * gate.into[1] for layer in self.layers for gate in layer.gates)

    def split(self, flat: Tensor) -> list[list[Tensor]]:
        """The gates (out, out, in, in) of every TN layer, as views of the flat vector (parameters,) that holds them."""
        shapes = [[gate.shape for gate in layer.gates] for layer in self.layers]
        sizes = [4 * shape[2] * shape[3] for layer in shapes for shape in layer]
        parts = iter(torch.split(flat, sizes))
        return [[next(parts).view(shape) for shape in layer] for layer in shapes]


@dataclass(frozen=True)
class Inputs:
    """What is decoded.

    Args:
        gates: The numbers of all gates, flat.
        state: The given dense tensor, flat; None where the network starts from the product state.
    """

    gates: Tensor
    state: Tensor | None

    @property
    def leaves(self) -> Sequence[Tensor]:
        """The tensors with respect to which gradients are taken."""
        return [self.gates] if self.state is None else [self.gates, self.state]


def draw(network: Network, seed: int, device: str = "cpu") -> Inputs:
    """Random float32 inputs that require gradients; on average a gate keeps the norm of the tensor."""
    generator = torch.Generator().manual_seed(seed)
    gates = (torch.randn(network.parameters, generator=generator) / 2).to(device).requires_grad_()
    state = torch.randn(network.entries, generator=generator).to(device).requires_grad_() if network.given else None
    return Inputs(gates, state)


def _brick_wall(current: list[int]) -> Iterator[Gate]:
    """The gates of one TN layer; `current` (each site's dimension so far) is brought up to date."""
    for row in (0, 1):
        for first in range(row, len(current) - 1, 2):
            yield Gate(first, (current[first], current[first + 1]))
            current[first : first + 2] = 2, 2
