"""A part of an open file as a stream of its own."""

import io
from typing import BinaryIO


class Section(io.RawIOBase):
    """Bytes `start` to `stop` of a seekable file; several sections may be read in turn."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file, self._position, self._stop = file, start, stop

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        """Read the next bytes into `buffer`."""
        self._file.seek(self._position)
        data = self._file.read(min(len(buffer), self._stop - self._position))
        self._position += len(data)
        buffer[: len(data)] = data
        return len(data)


def section(file: BinaryIO, start: int, stop: int) -> BinaryIO:
    """A stream of the bytes from `start` to `stop`."""
    return io.BufferedReader(Section(file, start, stop), 2**16)
