"""Block TT, CP and Tucker of tensorly-torch, in the forms that its layers take by default.

A linear layer is a matrix with rows and columns split by `get_tensorized_shape` into up to three factors each, as
`FactorizedLinear.from_linear` does; the convolution keeps its four axes, as in `FactorizedConv.from_conv`, which has TT
in the place of block TT. The weight is what the factors reconstruct: the same function as the library's layers.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bench.accuracy.allocation import CUBE_ROOT, Option, choose
from bench.accuracy.factors import Factors, Form
from bench.accuracy.layers import Shapes

TENSORIZED_MODES = 3
"""Default of `FactorizedLinear.from_linear`."""
LARGEST_RANK = 128
_FRACTIONS = 400
"""Fractions of the dense weight that are asked of Tucker, which derives a rank for each mode from it."""

Modes = tuple[tuple[int, ...], ...]
"""The modes of each axis that is split, or of the whole tensor."""


class Decomposed(Factors):
    """A factorised tensor of tensorly-torch, reconstructed in the weight's shape."""

    def __init__(self, tensor: Any, shape: tuple[int, ...], last_axis_first: bool) -> None:
        super().__init__()
        self.tensor = tensor
        self.shape = shape
        self.last_axis_first = last_axis_first

    def forward(self) -> Tensor:
        """The dense weight."""
        dense: Tensor = self.tensor.to_tensor()
        return (dense.movedim(-1, 0) if self.last_axis_first else dense).reshape(self.shape)


@dataclass(frozen=True)
class TensorlyForm:
    """A factorisation of a weight.

    Args:
        shape: Of the weight.
        name: "BlockTT", "TT", "CP" or "Tucker".
        modes: Of the rows and of the columns; for a convolution one tuple with its axes.
        rank: As the library takes it.
        numbers: That it stores.
    """

    shape: tuple[int, ...]
    name: str
    modes: Modes
    rank: int | tuple[int, ...]
    numbers: int

    def describe(self) -> dict[str, Any]:
        """Name, modes and rank."""
        rank = self.rank if isinstance(self.rank, int) else list(self.rank)
        return {"form": self.name, "modes": [list(axis) for axis in self.modes], "rank": rank}

    def start(self, weight: Tensor, _moment: Tensor, seed: int) -> Decomposed:
        """The library's own decomposition of the weight, balanced."""
        from tltorch.factorized_tensors.core import FactorizedTensor, TensorizedTensor

        flat_modes = tuple(mode for axis in self.modes for mode in axis)
        dense = weight.detach().movedim(0, -1) if self.name == "TT" else weight.detach()
        if len(self.modes) == 1:
            tensor = FactorizedTensor.new(flat_modes, rank=self.rank, factorization=self.name)
        else:
            tensor = TensorizedTensor.new(self.modes, rank=self.rank, factorization=self.name)
        # More components than a mode has entries start from random numbers.
        options = {"random_state": seed} if self.name in ("CP", "Tucker") else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of those
            tensor.init_from_tensor(dense.reshape(flat_modes), **options)
        found = Decomposed(tensor, self.shape, last_axis_first=self.name == "TT")
        found.balance()
        return found


def block_tt(shapes: Shapes, budget: int) -> dict[str, Form]:
    """Block TT of the linear layers, TT of the convolution; one rank for all bonds of a layer."""
    return _choose(shapes, budget, _tt_forms)


def cp(shapes: Shapes, budget: int) -> dict[str, Form]:
    """CP, with the library's weight a component."""
    return _choose(shapes, budget, _cp_forms)


def tucker(shapes: Shapes, budget: int) -> dict[str, Form]:
    """Tucker, with the ranks that the library derives from a fraction of the dense weight's numbers."""
    return _choose(shapes, budget, _tucker_forms)


def _choose(
    shapes: Shapes, budget: int, forms: Callable[[tuple[int, ...], Modes], Iterator[TensorlyForm]]
) -> dict[str, Form]:
    options: Mapping[str, list[Option]] = {
        layer: [Option(form) for form in forms(shape, _modes(shape))] for layer, shape in shapes.items()
    }
    return choose(options, budget, CUBE_ROOT(shapes))


@cache
def _modes(shape: tuple[int, ...]) -> Modes:
    """The modes that the library takes for a linear layer, or the axes of a convolution."""
    from tltorch.utils import get_tensorized_shape

    if len(shape) > 2:
        return (shape,)
    rows, columns = shape
    split_columns, split_rows = get_tensorized_shape(columns, rows, order=TENSORIZED_MODES, verbose=False)
    return tuple(split_rows), tuple(split_columns)


def _tt_forms(shape: tuple[int, ...], modes: Modes) -> Iterator[TensorlyForm]:
    """One a rank; a bond is no larger than what it separates."""
    is_matrix = len(modes) == 2
    name, split = ("BlockTT", modes) if is_matrix else ("TT", ((*shape[1:], shape[0]),))
    sizes = [math.prod(indices) for indices in zip(*split, strict=True)]
    for rank in range(1, LARGEST_RANK + 1):
        inner = [min(rank, math.prod(sizes[:k]), math.prod(sizes[k:])) for k in range(1, len(sizes))]
        ranks = (1, *inner, 1)
        numbers = sum(ranks[k] * size * ranks[k + 1] for k, size in enumerate(sizes))
        yield TensorlyForm(shape, name, split, ranks, numbers)


def _cp_forms(shape: tuple[int, ...], modes: Modes) -> Iterator[TensorlyForm]:
    for rank in range(1, LARGEST_RANK + 1):
        yield TensorlyForm(shape, "CP", modes, rank, rank * (1 + sum(mode for axis in modes for mode in axis)))


def _tucker_forms(shape: tuple[int, ...], modes: Modes) -> Iterator[TensorlyForm]:
    flat = tuple(mode for axis in modes for mode in axis)
    for ranks in dict.fromkeys(_tucker_ranks(flat)):
        numbers = math.prod(ranks) + sum(mode * rank for mode, rank in zip(flat, ranks, strict=True))
        yield TensorlyForm(shape, "Tucker", modes, ranks, numbers)


@cache
def _tucker_ranks(modes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The ranks for fractions of the dense weight's numbers, from all of it down to next to nothing."""
    from tensorly.tucker_tensor import validate_tucker_rank

    fractions = torch.logspace(0, -6, _FRACTIONS, dtype=torch.float64).tolist()
    return [(1,) * len(modes), *(tuple(int(rank) for rank in validate_tucker_rank(modes, f)) for f in fractions)]
