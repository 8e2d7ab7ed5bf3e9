"""The integers of an ADTN's gates as few bytes: a distribution whose width is stored, and a range coder.

The README of this package specifies the format. No torch here; what is read depends on integer arithmetic alone.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from math import log2

from adtn.errors import FormatError
from adtn.range_coder import Decoder, Encoder

END = 2**8
"""After the last integer stands the first of so many equal symbols: bytes that say something else are damaged."""

MOST_PER_BYTE = 32
"""Integers: each takes over a quarter of a bit, as even the narrowest distribution gives it a frequency below 0.82."""

_ONE = 2**32
_SPREAD = 2**15
"""What the frequencies add up to, but for the 1 that each has at least."""


def most(bits: int) -> int:
    """The largest integer of `bits` bits, symmetric about 0: 1, 3, 7, ... 127 for 2, 3, 4, ... 8 bits."""
    return (1 << bits - 1) - 1


def pack(numbers: Sequence[int], bits: int) -> bytes:
    """Write integers.

    Args:
        numbers: Each at most `most(bits)` in size.
        bits: 2 to 8.

    Returns:
        One byte that says which distribution has the shortest result, and the code.
    """
    highest = most(bits)
    parameter = _best_parameter(numbers, highest)
    starts = _starts(parameter, highest)
    encoder = Encoder()
    for number in numbers:
        symbol = number + highest
        encoder.write(starts[symbol], starts[symbol + 1] - starts[symbol], starts[-1])
    encoder.write(0, 1, END)
    return bytes([parameter]) + encoder.finished()


def max_bytes(count: int, bits: int) -> int:
    """Bytes that `pack` never exceeds: those of plain bits, and three that say how to read them and that they end.

    Args:
        count: How many integers.
        bits: 2 to 8.
    """
    return -(-count * bits // 8) + 3  # rounded up


def unpack(data: bytes, count: int, bits: int) -> list[int]:
    """Read the integers that `pack` wrote.

    Time and memory are bounded by the size of the data, however many integers are asked for.

    Args:
        data: The bytes.
        count: How many integers.
        bits: 2 to 8.

    Raises:
        FormatError: The bytes are not those of `count` integers.
    """
    least = -(-count // MOST_PER_BYTE) + 1  # rounded up in integers: a hostile count is no float
    if len(data) < least:
        raise FormatError(f"expected at least {least} bytes for {count} integers, got {len(data)}")
    highest = most(bits)
    starts = _starts(data[0], highest)
    decoder = Decoder(data[1:])
    numbers = []
    for _ in range(count):
        symbol = bisect_right(starts, decoder.peek(starts[-1])) - 1
        decoder.take(starts[symbol], starts[symbol + 1] - starts[symbol], starts[-1])
        numbers.append(symbol - highest)
    if decoder.peek(END) != 0:
        raise FormatError(f"expected the end after {count} integers, got another one")
    decoder.take(0, 1, END)
    decoder.finish()
    return numbers


def _best_parameter(numbers: Sequence[int], highest: int) -> int:
    """The parameter with the shortest code."""
    counts = Counter(numbers)

    def length(parameter: int) -> float:
        starts = _starts(parameter, highest)
        return sum(
            count * log2(starts[-1] / (starts[number + highest + 1] - starts[number + highest]))
            for number, count in counts.items()
        )

    return min(range(256), key=length)


@lru_cache(maxsize=1024)
def _starts(parameter: int, highest: int) -> tuple[int, ...]:
    """For the integers from -highest to highest, the frequencies of all before it, added up; then those of all.

    The frequency of k is close to exp(-k^2 / 2 sigma^2), with sigma about m / 64: from 1/2 to much more than `highest`.
    """
    m = (16 + parameter % 16) << parameter // 16
    ratio = _ONE * m * m // (m * m + 2048)
    twice = ratio * ratio // _ONE
    weights = [_ONE]
    for _ in range(highest):
        weights.append(weights[-1] * ratio // _ONE)
        ratio = ratio * twice // _ONE
    total = 2 * sum(weights) - weights[0]
    frequencies = [1 + weight * _SPREAD // total for weight in weights]
    return tuple(accumulate([*frequencies[:0:-1], *frequencies], initial=0))
