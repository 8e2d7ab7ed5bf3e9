"""A range coder: symbols to bytes and back, each symbol in about log2(total / frequency) bits.

Integers only, so every machine writes the same bytes and reads them. A decoder keeps 32 bits.

Source: G. N. N. Martin, "Range encoding: an algorithm for removing redundancy from a digitised message", 1979.
"""

from adtn.errors import FormatError

MAX_TOTAL = 2**16
"""Of the frequencies; more of it would cost precision."""

_FULL = 2**32
_LEAST = 2**24
"""The range is kept at least so wide, by writing its highest byte."""


class Encoder:
    """Writes symbols. After the last one, `finished` is the bytes."""

    def __init__(self) -> None:
        self._low = 0
        self._range = _FULL - 1
        self._written = bytearray()

    def write(self, start: int, frequency: int, total: int) -> None:
        """Write a symbol.

        Args:
            start: The frequencies of all symbols before it, added up.
            frequency: Its own, at least 1.
            total: Those of all symbols, at most `MAX_TOTAL`.
        """
        unit = self._range // total
        self._low += unit * start
        self._range = unit * frequency
        self._carry()
        while self._range < _LEAST:
            self._shift()
            self._range <<= 8

    def finished(self) -> bytes:
        """All bytes: one more makes sure of the last symbols, as the range holds a multiple of `_LEAST`."""
        self._low += _LEAST - 1
        self._carry()
        self._shift()
        return bytes(self._written)

    def _shift(self) -> None:
        self._written.append(self._low >> 24)
        self._low = self._low << 8 & _FULL - 1

    def _carry(self) -> None:
        """Bring what `_low` has beyond 32 bits to the bytes that are written."""
        if self._low < _FULL:
            return
        self._low -= _FULL
        i = len(self._written) - 1
        while self._written[i] == 255:
            self._written[i] = 0
            i -= 1
        self._written[i] += 1


class Decoder:
    """Reads symbols: for each, `peek` where it lies, then `take` it.

    Args:
        data: What an `Encoder` wrote.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._range = _FULL - 1
        self._code = 0  # relative to the encoder's low
        for _ in range(4):
            self._shift()

    def peek(self, total: int) -> int:
        """A number that is at least the start of the next symbol and less than its start plus its frequency.

        Args:
            total: Of the frequencies of all symbols.

        Raises:
            FormatError: No encoder writes these bytes.
        """
        position = self._code // (self._range // total)
        if position >= total:
            raise FormatError("range coder: expected the bytes of an encoder, got other ones")
        return position

    def take(self, start: int, frequency: int, total: int) -> None:
        """Go on to the symbol after this one.

        Raises:
            FormatError: The bytes have ended.
        """
        unit = self._range // total
        self._code -= unit * start
        self._range = unit * frequency
        while self._range < _LEAST:
            self._shift()
            self._range <<= 8

    def finish(self) -> None:
        """Check that the bytes are those that an encoder writes for the symbols taken.

        Raises:
            FormatError: There are more or fewer bytes, or other ones.
        """
        # An encoder has then written all bytes but the last three that are held here; those were read as zeros.
        if self._position - 3 != len(self._data) or self._code >= _LEAST:
            raise FormatError(f"range coder: expected {self._position - 3} bytes, got {len(self._data)} or other ones")

    def _shift(self) -> None:
        """Take in one more byte; up to three past the end are zeros."""
        if self._position >= len(self._data) + 3:
            raise FormatError(f"range coder: expected more than {len(self._data)} bytes")
        byte = self._data[self._position] if self._position < len(self._data) else 0
        self._code = self._code << 8 | byte
        self._position += 1
