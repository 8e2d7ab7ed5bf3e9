"""Files on the server: uploading, listing, deleting."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from adtn_client.digests import repr_digest, sha256_of
from adtn_client.errors import IntegrityError, LocalError, WaitTimeout
from adtn_client.patience import Patience
from adtn_client.transport import Transport, read_as
from jobs.schemas.common import Page
from jobs.schemas.files import File, FileLayer
from jobs.states import Purpose

PIECE_BYTES = 1024 * 1024
POLL_S = 0.25
# The server may have to move or copy what it has received before it answers.
STORING_S = 300.0


class Files:
    """Calls about files."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(
        self,
        path: Path,
        purpose: Purpose,
        *,
        filename: str | None = None,
        on_bytes: Callable[[int, int], None] | None = None,
    ) -> File:
        """Stream a file from disk; memory stays flat. It is not tried again if the connection breaks.

        Args:
            path: The file.
            purpose: What it is.
            filename: What the server calls it; by default the name it has here.
            on_bytes: Told the bytes sent so far, and the size.

        Returns:
            The file, `processing` until a worker has inspected it.

        Raises:
            LocalError: The file cannot be read.
            IntegrityError: The server has stored other bytes.
            ConnectionFailed, ProblemError, UnexpectedAnswer: See `Transport.request`.
        """
        try:
            size, sha256 = path.stat().st_size, sha256_of(path)
        except OSError as error:
            raise LocalError(f"cannot read {path}: {error.strerror}") from error
        answer = self._transport.send_once(
            "POST",
            "/v1/files",
            params={"purpose": purpose, "filename": filename or path.name},
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(size),
                "Repr-Digest": repr_digest(sha256),
            },
            content=_pieces(path, size, on_bytes),
            wait_s=STORING_S,
        )
        file = read_as(File, answer)
        if file.sha256 != sha256:
            raise IntegrityError(f"{path}: sent bytes with sha256 {sha256}, the server stored {file.sha256}")
        return file

    def wait(self, file_id: str, *, timeout_s: float | None = None) -> File:
        """Wait until a file was inspected: `ready`, or `rejected` with a problem in `error`.

        Raises:
            WaitTimeout: It is still `processing` after `timeout_s` seconds.
            ConnectionFailed, ProblemError, UnexpectedAnswer: See `Transport.request`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        patience = Patience()
        while True:
            file = patience.ask(lambda: self.get(file_id))
            if file.status != "processing":
                return file
            if deadline is not None and time.monotonic() > deadline:
                raise WaitTimeout(f"{file_id} was not inspected within {timeout_s:g} s")
            time.sleep(POLL_S)

    def get(self, file_id: str) -> File:
        """One file."""
        return read_as(File, self._transport.request("GET", f"/v1/files/{file_id}"))

    def list(self) -> Iterator[File]:
        """Every file, newest first, fetched page by page."""
        return self._transport.pages("/v1/files", Page[File])

    def delete(self, file_id: str) -> None:
        """Delete a file; refused with `file_in_use` while a job needs it."""
        self._transport.request("DELETE", f"/v1/files/{file_id}")

    def layers(self, file_id: str) -> Sequence[FileLayer]:
        """The compressible layers of a checkpoint that is `ready`."""
        return read_as(Page[FileLayer], self._transport.request("GET", f"/v1/files/{file_id}/layers")).data


def _pieces(path: Path, size: int, on_bytes: Callable[[int, int], None] | None) -> Iterator[bytes]:
    sent = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
            sent += len(piece)
            if on_bytes is not None:
                on_bytes(sent, size)
