"""Numbers in few bits: whole multiples of a scale, and the gradient through the rounding."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adtn.balancing import group_numbers
from adtn.coding import most
from adtn.errors import ShapeError
from adtn.structure import AnyStructure

MIN_BITS, MAX_BITS = 2, 8
_TRIED = 200
"""Scales among which the best one is looked for."""


def check_bits(bits: object) -> int:
    """The bits, if they can be used.

    Raises:
        ShapeError: They are not an integer of 2 to 8.
    """
    if not isinstance(bits, int) or isinstance(bits, bool) or not MIN_BITS <= bits <= MAX_BITS:
        raise ShapeError(f"bits: expected an integer from {MIN_BITS} to {MAX_BITS}, got {bits!r}")
    return bits


def integers(gates: Tensor, scales: Tensor, structure: AnyStructure, bits: int) -> Tensor:
    """The nearest multiples of the scales that `bits` bits can hold, as integers.

    Args:
        gates: Flat (structure.parameters,), finite.
        scales: One a group of `adtn.balancing.scale_groups`, positive.
        structure: Theirs.
        bits: Of each integer.

    Returns:
        int8 (structure.parameters,).
    """
    return _rounded(gates.detach() / spread(scales, structure), most(bits)).to(torch.int8)


def from_integers(numbers: Tensor, scales: Tensor, structure: AnyStructure) -> Tensor:
    """The gates that integers stand for, in the dtype of the scales.

    Args:
        numbers: Flat (structure.parameters,).
        scales: One a group.
        structure: Theirs.
    """
    return numbers.to(scales.dtype) * spread(scales, structure)


def quantised(gates: Tensor, scales: Tensor, structure: AnyStructure, bits: int) -> Tensor:
    """Gates as they are stored: `from_integers` of their `integers`, to the last bit.

    The gradient passes the rounding as if it were not there. It is 0 for a number that is clipped: more than half a
    step beyond the range.

    Args:
        gates: Flat (structure.parameters,).
        scales: One a group; no gradient is given to them.
        structure: Theirs.
        bits: Of each integer.

    Source: the straight-through estimator, arXiv:1308.3432.
    """
    rounded: Tensor = _StraightThrough.apply(gates / spread(scales, structure), most(bits))  # type: ignore[no-untyped-call]
    return rounded * spread(scales, structure)


def best_scales(gates: Tensor, structure: AnyStructure, bits: int) -> Tensor:
    """For each group the scale with which rounding changes the numbers least, in the sum of squares.

    It lets the largest numbers be clipped where that makes the steps for all others finer. A group of zeros gets 1.
    Every scale is a bfloat16 number: two bytes say it.

    Args:
        gates: Flat (structure.parameters,).
        structure: Theirs.
        bits: Of each integer.

    Returns:
        (groups,), of the dtype and device of the gates.
    """
    parts = torch.split(gates.detach(), list(group_numbers(structure)))
    return torch.stack([_best_scale(part, most(bits)) for part in parts])


def _best_scale(numbers: Tensor, highest: int) -> Tensor:
    """The best of many scales, the largest of which hardly clips."""
    widest = numbers.abs().max() / highest
    if widest == 0:
        return torch.ones_like(widest)
    scales = widest * torch.linspace(1, 1 / _TRIED, _TRIED, dtype=numbers.dtype, device=numbers.device)
    scales = scales.bfloat16().to(numbers.dtype)
    # One after the other: together they would need so many times the memory of the gates.
    errors = [(_rounded(numbers / scale, highest) * scale - numbers).square().sum() for scale in scales]
    return scales[torch.stack(errors).argmin()]


def _rounded(ratios: Tensor, highest: int) -> Tensor:
    return ratios.round().clamp(-highest, highest)


def spread(scales: Tensor, structure: AnyStructure) -> Tensor:
    """A scale for every number, (structure.parameters,), or (1,) where there is a single one.

    Args:
        scales: One a group of `adtn.balancing.scale_groups`.
        structure: Whose groups.
    """
    numbers: Sequence[int] = group_numbers(structure)
    if len(numbers) == 1:
        return scales
    return torch.cat([scale.expand(count) for scale, count in zip(scales, numbers, strict=True)])


class _StraightThrough(torch.autograd.Function):
    """Round to the nearest integer within the range."""

    @staticmethod
    def forward(ctx: Any, ratios: Tensor, highest: int) -> Tensor:
        ctx.save_for_backward(ratios.abs() <= highest + 0.5)
        return _rounded(ratios, highest)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None
