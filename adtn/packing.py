"""Integers of a few bits, several to a byte, so that plain arithmetic on whole tensors unpacks them.

A graph that runs without this package cannot hold a range coder: this is the shortest form that it can.
"""

import torch
from torch import Tensor

from adtn.coding import most


def numbers_per_byte(bits: int) -> int:
    """How many fit: 5 of 2 bits, 2 of 3 or 4 bits, else 1.

    Args:
        bits: Of each integer, 2 to 8.
    """
    values, count = _values(bits), 1
    while values ** (count + 1) <= 256:
        count += 1
    return count


def pack(integers: Tensor, bits: int) -> Tensor:
    """Write integers as the digits of bytes, the first the lowest, in the base of as many values as they can have.

    Args:
        integers: (count,), each at most 2^(bits - 1) - 1 in size.
        bits: 2 to 8.

    Returns:
        uint8 (bytes,); the last byte is filled up with digits 0.
    """
    count = numbers_per_byte(bits)
    digits = torch.zeros(-(-len(integers) // count) * count, dtype=torch.int64)
    digits[: len(integers)] = integers.cpu().long() + most(bits)
    places = _values(bits) ** torch.arange(count)
    return (digits.view(-1, count) @ places).to(torch.uint8)  # (bytes, count) -> (bytes,)


def unpack(packed: Tensor, count: int, bits: int, dtype: torch.dtype) -> Tensor:
    """The integers that `pack` took, as floating-point numbers.

    Only operators that every runtime knows and folds: the quotients of numbers below 256 are far enough from the next
    integer for the division of floats to be exact.

    Args:
        packed: uint8 (bytes,).
        count: Of the integers.
        bits: Of each.
        dtype: Of the result, float32 or float64.

    Returns:
        (count,).
    """
    values, digits = _values(bits), []
    rest = packed.to(dtype)
    for _ in range(numbers_per_byte(bits) - 1):
        quotient = torch.floor(rest / values)
        digits.append(rest - values * quotient)
        rest = quotient
    digits.append(rest)
    return torch.stack(digits, dim=1).reshape(-1)[:count] - most(bits)  # (bytes, numbers) -> (count,)


def _values(bits: int) -> int:
    """How many values an integer can have: they are symmetric about 0."""
    return 2 * most(bits) + 1
