"""Low rank: a weight as the product of two matrices."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.accuracy.allocation import CUBE_ROOT, Option, choose
from bench.accuracy.factors import Factors, Form
from bench.accuracy.layers import Shapes, as_matrix


class Product(Factors):
    """W = left @ right, in the weight's shape."""

    def __init__(self, left: Tensor, right: Tensor, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.left = nn.Parameter(left)  # (rows, rank)
        self.right = nn.Parameter(right)  # (rank, columns)
        self.shape = shape

    def forward(self) -> Tensor:
        """The dense weight."""
        return (self.left @ self.right).view(self.shape)


@dataclass(frozen=True)
class LowRank:
    """A rank for a weight of some shape."""

    shape: tuple[int, ...]
    rank: int

    @property
    def numbers(self) -> int:
        """Numbers stored."""
        return self.rank * sum(as_matrix(self.shape))

    def describe(self) -> dict[str, Any]:
        """The rank."""
        return {"rank": self.rank}

    def start(self, weight: Tensor, moment: Tensor, _seed: int) -> Product:
        """The best product of this rank in the norm of the layer's outputs.

        With U the first left singular vectors of W C^(1/2), that is U U^T W: a truncated SVD of the outputs.
        """
        matrix = weight.detach().flatten(1).double()
        values, vectors = torch.linalg.eigh(moment.double())
        outputs = (matrix @ vectors) * values.clamp(min=0).sqrt()
        left = torch.linalg.svd(outputs, full_matrices=False)[0][:, : self.rank]
        product = Product(left.to(weight.dtype), (left.T @ matrix).to(weight.dtype), self.shape)
        product.balance()
        return product


def low_rank(shapes: Shapes, budget: int) -> dict[str, Form]:
    """A rank for each layer."""
    options = {
        layer: [Option(LowRank(shape, rank)) for rank in range(1, min(as_matrix(shape)) + 1)]
        for layer, shape in shapes.items()
    }
    return choose(options, budget, CUBE_ROOT(shapes))
