"""Integers of a few bits in bytes, and back by plain arithmetic."""

import pytest
import torch

from adtn import ADTN, brick_wall, stored_bytes
from adtn.packing import numbers_per_byte, pack, unpack
from adtn.quantising import integers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bits", range(2, 9))
def test_every_content_of_a_byte_comes_back(bits: int, dtype: torch.dtype) -> None:
    highest, per_byte = 2 ** (bits - 1) - 1, numbers_per_byte(bits)
    values = torch.arange(-highest, highest + 1)
    integers = torch.cartesian_prod(*[values] * per_byte).reshape(-1)
    packed = pack(integers, bits)
    assert (packed.dtype, len(packed)) == (torch.uint8, len(integers) / per_byte)
    assert len(packed.unique()) == len(packed)
    assert torch.equal(unpack(packed, len(integers), bits, dtype), integers.to(dtype))


@pytest.mark.parametrize("count", range(1, 12))
def test_a_last_byte_that_is_not_full_holds_the_last_numbers(count: int) -> None:
    integers = torch.arange(count) % 3 - 1
    packed = pack(integers, 2)
    assert len(packed) == -(-count // 5)
    assert torch.equal(unpack(packed, count, 2, torch.float32), integers.float())


@pytest.mark.parametrize("bits", range(2, 9))
def test_bytes_are_within_those_of_the_range_code_that_the_documentation_says(bits: int) -> None:
    adtn = ADTN((120, 400), brick_wall(16, 6))
    with torch.no_grad():
        adtn.gates.normal_(generator=torch.Generator().manual_seed(1))
    adtn.quantise(bits)
    packed = pack(integers(adtn.gates, adtn.scales, adtn.structure, bits), bits)
    assert len(packed) <= (1.1 if bits in (2, 4, 8) else 1.75) * stored_bytes(adtn)


def test_as_many_numbers_as_fit_are_in_a_byte() -> None:
    assert [numbers_per_byte(bits) for bits in range(2, 9)] == [5, 2, 2, 1, 1, 1, 1]
