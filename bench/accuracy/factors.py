"""What every method is to the rest of the benchmark: a form of a weight, and the module that holds its numbers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import adtn
from adtn.start import scale_gates
from adtn.structure import AnyStructure

_START_ATTEMPTS = 16


class Factors(nn.Module, ABC):
    """A weight as the product of smaller tensors, its parameters; stands in the weight's place by `parametrize`.

    As it is, for a weight that is linear in each of the parameters.
    """

    @abstractmethod
    def forward(self) -> Tensor:
        """The dense weight, differentiable."""

    def right_inverse(self, _weight: Tensor) -> tuple[Tensor, ...]:
        """Tell `parametrize` that no dense original is stored."""
        return ()

    def parts(self) -> list[Tensor]:
        """The stored matrices and tensors, as views of the parameters."""
        return [parameter.detach() for parameter in self.parameters()]

    @property
    def numbers(self) -> int:
        """Numbers stored."""
        return sum(parameter.numel() for parameter in self.parameters())

    def scale(self, factor: float) -> None:
        """Make the weight `factor` times as large."""
        parts = self.parts()
        for i, part in enumerate(parts):
            part.mul_(math.copysign(1, factor if i == 0 else 1) * abs(factor) ** (1 / len(parts)))

    def balance(self) -> None:
        """Give the entries of all parameters the same size on average, without changing the weight.

        A step of Adam changes all numbers by about as much. What a decomposition returns is often one large tensor and
        others that are orthonormal, of which such a step would destroy one and hardly change the other.
        """
        parts = self.parts()
        sizes = [float(part.square().mean().sqrt()) for part in parts]
        if min(sizes) > 0:
            mean = math.exp(sum(map(math.log, sizes)) / len(sizes))
            for part, size in zip(parts, sizes, strict=True):
                part.mul_(mean / size)


class Form(Protocol):
    """How one weight is factorised."""

    @property
    def numbers(self) -> int:
        """Numbers stored."""

    def describe(self) -> dict[str, Any]:
        """The form as JSON-compatible data."""

    def start(self, weight: Tensor, moment: Tensor, seed: int) -> Factors:
        """Factors from which a fit to the weight may start.

        Args:
            weight: In its own shape.
            moment: The second moment of the layer's inputs, (row, row).
            seed: Of what is random.
        """


class Gates(Factors):
    """The gates of an ADTN."""

    def __init__(self, encoded: adtn.ADTN) -> None:
        super().__init__()
        self.adtn = encoded

    def forward(self) -> Tensor:
        """The dense weight."""
        weight: Tensor = self.adtn()
        return weight

    def parts(self) -> list[Tensor]:
        """A matrix a gate."""
        shapes = self.adtn.structure.gate_shapes
        flat = torch.split(self.adtn.gates.detach(), [out * into for out, into in shapes])
        return [part.view(shape) for part, shape in zip(flat, shapes, strict=True)]

    def scale(self, factor: float) -> None:
        """A sum, or a network with an activation, is not linear in every gate; the last TN layer of each term is."""
        gates = self.adtn.gates.detach()
        gates.copy_(scale_gates(gates, self.adtn.structure, factor))


@dataclass(frozen=True)
class GatesForm:
    """An ADTN of a structure, from orthogonal gates.

    Args:
        structure: Of the network.
    """

    structure: AnyStructure

    @property
    def numbers(self) -> int:
        """Numbers stored."""
        return self.structure.parameters

    def describe(self) -> dict[str, Any]:
        """The whole structure."""
        return self.structure.to_json()

    def start(self, weight: Tensor, _moment: Tensor, seed: int) -> Gates:
        """Orthogonal gates; drawn anew where ReLU makes all entries zero."""
        generator = torch.Generator().manual_seed(seed)
        for _ in range(_START_ATTEMPTS):
            encoded = adtn.ADTN(weight.shape, self.structure, weight.dtype, generator)
            if encoded.decode().any():
                break
        return Gates(encoded)


def total(forms: Sequence[Form]) -> int:
    """Numbers of several forms together."""
    return sum(form.numbers for form in forms)
