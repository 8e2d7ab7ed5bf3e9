"""Multipart bodies, part by part as they arrive: nothing is gathered in memory or in temporary files."""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from jobs.problems import ProblemError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS = 16

# What the parser finds in a chunk: the headers of a part, bytes of it, or its end.
_Headers = dict[str, str]
_Found = _Headers | bytearray | None


@dataclass(frozen=True)
class Part:
    """One part. Its bytes must be read before the next part is asked for.

    Attributes:
        name: Of the form field.
        filename: Where it is a file.
        chunks: Its bytes.
    """

    name: str
    filename: str | None
    chunks: AsyncIterator[bytes]


async def parts(content_type: str, body: AsyncIterator[bytes]) -> AsyncIterator[Part]:
    """The parts of a multipart body, in order.

    Args:
        content_type: The request's, with the boundary.
        body: The request's.

    Raises:
        ProblemError: malformed_request.
    """
    found = _found(content_type, body)
    count = 0
    async for item in found:
        if not isinstance(item, dict):
            continue
        count += 1
        if count > MAX_PARTS:
            raise ProblemError("malformed_request", f"expected at most {MAX_PARTS} parts")
        _, options = parse_options_header(item.get("content-disposition", ""))
        name = options.get(b"name")
        if name is None:
            raise ProblemError("malformed_request", "a part of the multipart body has no name")
        filename = options.get(b"filename")
        yield Part(
            name.decode("utf-8", "replace"),
            None if filename is None else filename.decode("utf-8", "replace"),
            _data(found),
        )


async def text(part: Part, limit: int) -> str:
    """The content of a short part.

    Raises:
        ProblemError: too_large, or malformed_request where it is not UTF-8.
    """
    content = b""
    async for chunk in part.chunks:
        content += chunk
        if len(content) > limit:
            raise ProblemError("too_large", f"{part.name}: expected at most {limit} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ProblemError("malformed_request", f"{part.name}: expected UTF-8") from None


async def _data(found: AsyncIterator[_Found]) -> AsyncIterator[bytes]:
    async for item in found:
        if item is None:
            return
        assert isinstance(item, bytearray)
        yield bytes(item)


async def _found(content_type: str, body: AsyncIterator[bytes]) -> AsyncIterator[_Found]:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise ProblemError("malformed_request", "the multipart body has no boundary")
    listener = _Listener()
    try:
        parser = MultipartParser(boundary, listener.callbacks())
        async for chunk in body:
            parser.write(chunk)
            while listener.found:
                yield listener.found.popleft()
        parser.finalize()
    except FormParserError as error:
        raise ProblemError("malformed_request", f"the multipart body cannot be read: {error}") from error
    if not listener.ended:
        raise ProblemError("malformed_request", "the multipart body is cut short")


class _Listener:
    """Collects what the parser finds."""

    def __init__(self) -> None:
        self.found: deque[_Found] = deque()
        self.ended = False
        self._headers: _Headers = {}
        self._field = b""
        self._value = b""

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._headers_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": lambda: self.found.append(self._headers),
            "on_part_data": self._part_data,
            "on_part_end": lambda: self.found.append(None),
            "on_end": self._end,
        }

    def _headers_begin(self) -> None:
        self._headers = {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._field.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._field = self._value = b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        # The parser cuts at every byte that might begin a boundary; whoever reads wants few large pieces.
        if self.found and isinstance(self.found[-1], bytearray):
            self.found[-1] += data[start:end]
        else:
            self.found.append(bytearray(data[start:end]))

    def _end(self) -> None:
        self.ended = True
