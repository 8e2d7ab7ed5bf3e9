"""Downloading to a file that appears whole and checked, or not at all."""

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import httpx

from adtn_client.errors import ConnectionFailed, IntegrityError
from adtn_client.transport import Transport

OnBytes = Callable[[int, int], None]
PARTIAL_CONTENT = 206


def download(
    transport: Transport, path: str, target: Path, *, sha256: str, size: int, on_bytes: OnBytes | None = None
) -> None:
    """Download to `target`, going on where a broken connection left off.

    The bytes go to a file beside the target, which takes the target's name once their sha256 is right.

    Args:
        transport: The server.
        path: What to download.
        target: An existing file is replaced.
        sha256: What the bytes must have, in hex.
        size: How many bytes there must be.
        on_bytes: Told the bytes received so far, and `size`.

    Raises:
        ConnectionFailed: The connection broke again and again without bringing anything new.
        IntegrityError: The bytes are not those expected.
        ProblemError: The server refused.
    """
    with _file_beside(target) as (file, partial):
        received = Received(file, size, on_bytes or (lambda _done, _size: None))
        _receive_all(transport, path, received)
        if received.sha256 != sha256:
            raise IntegrityError(
                f"{path}: expected {size} bytes with sha256 {sha256}, got {received.offset} with {received.sha256}"
            )
        file.flush()
        os.fsync(file.fileno())
        os.replace(partial, target)


class Received:
    """The bytes that have arrived, in a file and as a running sha256."""

    def __init__(self, file: BinaryIO, size: int, on_bytes: OnBytes) -> None:
        self.offset = 0
        self.etag: str | None = None
        self._file = file
        self._size = size
        self._on_bytes = on_bytes
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of what has arrived, in hex."""
        return self._hash.hexdigest()

    def headers(self) -> dict[str, str]:
        """Ask for the rest, or for everything if the bytes are no longer the same there."""
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if self.offset and self.etag:
            headers |= {"Range": f"bytes={self.offset}-", "If-Range": self.etag}
        return headers

    def read(self, answer: httpx.Response) -> None:
        """Take the body of an answer to a request with `headers`."""
        goes_on = answer.status_code == PARTIAL_CONTENT and answer.headers.get("Content-Range", "").startswith(
            f"bytes {self.offset}-"
        )
        if not goes_on:
            self._restart()
        self.etag = answer.headers.get("ETag")
        for piece in answer.iter_raw():
            self._file.write(piece)
            self._hash.update(piece)
            self.offset += len(piece)
            if self.offset > self._size:
                raise IntegrityError(f"{answer.request.url.path}: more than the expected {self._size} bytes came")
            self._on_bytes(self.offset, self._size)

    def _restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.offset = 0


def _receive_all(transport: Transport, path: str, received: Received) -> None:
    furthest = failures = 0
    while True:
        try:
            with transport.stream(path, headers=received.headers()) as answer:
                received.read(answer)
            return
        except httpx.TransportError as error:
            # Only new bytes count as headway: a server that always starts over must not keep us for ever.
            failures = 1 if received.offset > furthest else failures + 1
            furthest = max(furthest, received.offset)
            if failures >= transport.retry.attempts:
                raise ConnectionFailed(f"the download of {path} broke off again and again ({error})") from error
            time.sleep(transport.retry.pause_s(failures))


@contextlib.contextmanager
def _file_beside(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file in the folder of `target`, removed at the end if it is still there."""
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as file:
            yield file, partial
    finally:
        partial.unlink(missing_ok=True)
