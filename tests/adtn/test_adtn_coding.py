import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adtn.coding import MOST_PER_BYTE, max_bytes, most, pack, unpack
from adtn.errors import FormatError
from adtn.range_coder import MAX_TOTAL, Decoder, Encoder


@st.composite
def numbers_of_bits(draw: st.DrawFn) -> tuple[list[int], int]:
    bits = draw(st.integers(2, 8))
    highest = 2 ** (bits - 1) - 1
    return draw(st.lists(st.integers(-highest, highest), max_size=400)), bits


def bell(count: int, bits: int, sigma: float, seed: int = 0) -> list[int]:
    """Rounded and clipped normal numbers, as gates are."""
    generator = random.Random(seed)
    highest = 2 ** (bits - 1) - 1
    return [max(-highest, min(highest, round(generator.gauss(0, sigma)))) for _ in range(count)]


def ideal_bytes(numbers: Sequence[int], bits: int) -> float:
    """The least code length of any discretised normal distribution, computed with floats and independently."""
    highest = 2 ** (bits - 1) - 1

    def bits_needed(sigma: float) -> float:
        weights = [math.exp(-(k**2) / (2 * sigma**2)) + 1e-12 for k in range(-highest, highest + 1)]
        total = sum(weights)
        return -sum(math.log2(weights[number + highest] / total) for number in numbers)

    return min(bits_needed(0.4 * 1.02**i) for i in range(400)) / 8


@given(numbers_of_bits())
@settings(deadline=None, max_examples=200)
def test_integers_survive(drawn: tuple[list[int], int]) -> None:
    numbers, bits = drawn
    data = pack(numbers, bits)
    assert unpack(data, len(numbers), bits) == numbers
    assert pack(numbers, bits) == data


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("count", [300, 1_000, 10_000])
@pytest.mark.parametrize("width", [0.25, 0.4])
def test_bell_shaped_integers_take_a_few_bytes_more_than_is_possible(count: int, bits: int, width: float) -> None:
    numbers = bell(count, bits, width * 2 ** (bits - 1))
    code_length = len(pack(numbers, bits))
    ideal = ideal_bytes(numbers, bits)
    # A byte for the parameter, one for the end, one to end the range; and what a parameter of 8 bits and frequencies
    # of 15 bits lose.
    assert ideal - 0.5 <= code_length <= ideal * 1.003 + 3.5
    assert unpack(pack(numbers, bits), count, bits) == numbers


@given(numbers_of_bits())
@settings(deadline=None, max_examples=200)
def test_no_integers_take_more_than_their_bits(drawn: tuple[list[int], int]) -> None:
    numbers, bits = drawn
    assert len(pack(numbers, bits)) <= max_bytes(len(numbers), bits) == math.ceil(len(numbers) * bits / 8) + 3


@pytest.mark.parametrize("number", [0, 1, -127, 127])
def test_equal_integers_survive(number: int) -> None:
    numbers = [number] * 5_000
    assert unpack(pack(numbers, 8), 5_000, 8) == numbers


def test_the_code_is_the_same_on_every_machine() -> None:
    """Written down, so that a change of the format does not pass unseen."""
    assert pack([0, 1, -1, 3, -7, 7, 2, 0], 4).hex() == "4581e3edb6c3"


GOOD = bell(500, 4, 2.0)


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_truncated_code_is_refused(cut: int) -> None:
    with pytest.raises(FormatError):
        unpack(pack(GOOD, 4)[:-cut], len(GOOD), 4)


@pytest.mark.parametrize("more", [b"\0", b"\1", b"\xff", b"\0" * 100])
def test_bytes_too_many_are_refused(more: bytes) -> None:
    with pytest.raises(FormatError, match=r"expected \d+ bytes, got"):
        unpack(pack(GOOD, 4) + more, len(GOOD), 4)


@pytest.mark.parametrize("count", [0, 1, 499, 501, 10**12, 2**2000])
def test_another_count_is_refused(count: int) -> None:
    with pytest.raises(FormatError):
        unpack(pack(GOOD, 4), count, 4)


def test_no_bytes_are_refused() -> None:
    with pytest.raises(FormatError, match="expected at least 2 bytes for 3 integers, got 0"):
        unpack(b"", 3, 4)


def test_no_byte_holds_more_integers_than_one_of_the_narrowest_distribution() -> None:
    assert 100_000 / len(pack([0] * 100_000, 2)) < MOST_PER_BYTE
    with pytest.raises(FormatError, match="expected at least 31250000001 bytes"):
        unpack(bytes(100), 10**12, 2)
    with pytest.raises(FormatError, match=r"expected at least 31250000002 bytes"):
        unpack(bytes(100), 10**12 + 1, 2)


def test_the_largest_integers_are_those_of_the_specification() -> None:
    assert [most(bits) for bits in range(2, 9)] == [1, 3, 7, 15, 31, 63, 127]


@given(data=st.binary(max_size=300), count=st.integers(0, 10**9), bits=st.integers(2, 8))
@settings(deadline=1000, max_examples=300)
def test_any_bytes_are_an_error_or_the_only_code_of_their_integers(data: bytes, count: int, bits: int) -> None:
    try:
        numbers = unpack(data, count, bits)
    except FormatError:
        return
    assert len(numbers) == count


@given(position=st.integers(0, 10**6), value=st.integers(1, 255))
@settings(deadline=None, max_examples=200)
def test_a_changed_byte_never_passes_for_the_same_integers(position: int, value: int) -> None:
    data = bytearray(pack(GOOD, 4))
    data[position % len(data)] ^= value
    try:
        numbers = unpack(bytes(data), len(GOOD), 4)
    except FormatError:
        return
    assert numbers != GOOD or position % len(data) == 0


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=20), st.data())
@settings(deadline=None, max_examples=200)
def test_the_range_coder_keeps_symbols_of_any_frequencies(frequencies: list[int], data: st.DataObject) -> None:
    symbols = data.draw(st.lists(st.integers(0, len(frequencies) - 1), max_size=200))
    starts = [sum(frequencies[:i]) for i in range(len(frequencies) + 1)]
    encoder = Encoder()
    for symbol in symbols:
        encoder.write(starts[symbol], frequencies[symbol], starts[-1])
    code = encoder.finished()
    decoder = Decoder(code)
    for symbol in symbols:
        position = decoder.peek(starts[-1])
        assert starts[symbol] <= position < starts[symbol + 1]
        decoder.take(starts[symbol], frequencies[symbol], starts[-1])
    decoder.finish()
    ideal = sum(math.log2(starts[-1] / frequencies[symbol]) for symbol in symbols) / 8
    assert ideal - 1e-6 <= len(code) <= ideal + 1.1


def test_a_carry_runs_through_bytes_that_are_full() -> None:
    """The highest symbol over and over keeps the low end just below a carry."""
    total = MAX_TOTAL
    for count in (1, 10, 1_000):
        encoder = Encoder()
        for _ in range(count):
            encoder.write(total - 1, 1, total)
        encoder.write(0, 1, 2)
        decoder = Decoder(encoder.finished())
        for _ in range(count):
            assert decoder.peek(total) == total - 1
            decoder.take(total - 1, 1, total)
        assert decoder.peek(2) == 0
