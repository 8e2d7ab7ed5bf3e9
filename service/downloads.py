"""Downloads: bytes of the store with strong ETag, Range, If-Range, 304 and 416 (RFC 9110)."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from jobs.problems import ProblemError
from jobs.store import Store
from service.digests import repr_digest
from service.errors import problem_response
from service.names import attachment

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
"""Positions of any file; a header may hold numbers of thousands of digits."""
MEDIA_TYPES = {".json": "application/json", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Download:
    """What can be downloaded.

    Attributes:
        key: Where the store has it.
        name: Under which the client should save it.
        bytes: Its size.
        sha256: Its digest, in hexadecimal.
    """

    key: str
    name: str
    bytes: int
    sha256: str

    @property
    def etag(self) -> str:
        """The strong ETag."""
        return f'"{self.sha256}"'


async def respond(request: Request, store: Store, download: Download) -> Response:
    """Answer a GET or HEAD.

    Raises:
        FileNotFoundError: The store has lost the object.
    """
    headers = _headers(download)
    if matches(request.headers.get("if-none-match"), download.etag):
        return Response(status_code=304, headers=headers)
    try:
        span = _asked_range(request, download)
    except ProblemError as error:
        return problem_response(request, error, {"Content-Range": f"bytes */{download.bytes}"})
    start, end = span or (0, download.bytes)
    headers["Content-Length"] = str(end - start)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{download.bytes}"
    status = 200 if span is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    body = await _begun(store.read(download.key, start, end))
    return StreamingResponse(body, status_code=status, headers=headers)


def matches(header: str | None, etag: str) -> bool:
    """Whether `If-None-Match` names the ETag: then the client has it already."""
    if header is None:
        return False
    return header.strip() == "*" or etag in [item.strip().removeprefix("W/") for item in header.split(",")]


def _headers(download: Download) -> dict[str, str]:
    media_type = next((kind for end, kind in MEDIA_TYPES.items() if download.name.endswith(end)), None)
    return {
        "Accept-Ranges": "bytes",
        "Content-Disposition": attachment(download.name),
        "Content-Type": media_type or "application/octet-stream",
        "ETag": download.etag,
        "Repr-Digest": repr_digest(download.sha256),
        "X-Content-Type-Options": "nosniff",
    }


def _asked_range(request: Request, download: Download) -> tuple[int, int] | None:
    """The first byte and one past the last, or None where the whole is to be sent."""
    header = request.headers.get("range")
    if_range = request.headers.get("if-range")
    if header is None or (if_range is not None and if_range.strip() != download.etag):
        return None
    match = _RANGE.fullmatch(header.strip())
    # What cannot be read is ignored, and so are several ranges: the whole is a right answer to both.
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, download.bytes - int(last))
    end = min(download.bytes, int(last) + 1) if first and last else download.bytes
    if start >= end:
        raise ProblemError("range_not_satisfiable", f"expected a range within {download.bytes} bytes")
    return start, end


async def _begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks, of which the first is there: an object that cannot be read fails before an answer begins."""
    first = await anext(chunks, b"")

    async def all_of_them() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return all_of_them()
