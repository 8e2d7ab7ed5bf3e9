"""How the numbers of trained factors can be stored: bytes, and what is read back."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adtn.storing import stored_bytes
from bench.accuracy.factors import Factors, Gates

_LARGEST = 127
_SCALE_BYTES = 2
"""A scale is a half-precision number: of peers in float16, of gates in few bits in bfloat16."""


@dataclass(frozen=True)
class Storage:
    """A form of storage.

    Args:
        name: What the tables call it.
        apply: Makes the factors of a layer what would be read back from them, and returns the bytes stored.
    """

    name: str
    apply: Callable[[Factors], int]


def part_by_part(store: Callable[[Tensor], tuple[Tensor, int]]) -> Callable[[Factors], int]:
    """A storage that treats each matrix of a layer for itself.

    Args:
        store: From a part to what is read back, and the bytes.
    """

    @torch.no_grad()
    def apply(factors: Factors) -> int:
        stored = 0
        for part in factors.parts():
            read, count = store(part)
            part.copy_(read)
            stored += count
        return stored

    return apply


def fp32(part: Tensor) -> tuple[Tensor, int]:
    """As trained."""
    return part, 4 * part.numel()


def fp16(part: Tensor) -> tuple[Tensor, int]:
    """Half precision."""
    return part.half().to(part.dtype), 2 * part.numel()


def int8(part: Tensor) -> tuple[Tensor, int]:
    """Whole numbers from -127 to 127, times one scale."""
    scale = (part.abs().max() / _LARGEST).half().to(part.dtype)
    if scale == 0:
        return torch.zeros_like(part), part.numel() + _SCALE_BYTES
    return (part / scale).round().clamp(-_LARGEST, _LARGEST) * scale, part.numel() + _SCALE_BYTES


def in_bits(bits: int) -> Storage:
    """Gates that were trained as integers of so many bits, as a file holds them: entropy-coded, with their scales."""

    def apply(factors: Factors) -> int:
        assert isinstance(factors, Gates)
        assert factors.adtn.scales is not None
        return stored_bytes(factors.adtn) + _SCALE_BYTES * factors.adtn.scales.numel()

    return Storage(f"{bits} bits, trained", apply)


COMMON = (
    Storage("fp32", part_by_part(fp32)),
    Storage("fp16", part_by_part(fp16)),
    Storage("int8", part_by_part(int8)),
)
"""What every method is stored as: each matrix (of a network: each gate) has its scale."""
