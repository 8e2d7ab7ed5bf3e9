"""Uploads: from the request's stream into the store, checked on the way."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from jobs import files, removals
from jobs.files import FileRecord
from jobs.ids import new_id
from jobs.problems import ProblemError
from jobs.states import Purpose
from service.formats import LOOKED_AT_BYTES, check_start
from service.resources import Resources


@dataclass(frozen=True)
class Upload:
    """Bytes that are in the store and belong to no file yet."""

    file_id: str
    bytes: int
    sha256: str


async def receive(resources: Resources, chunks: AsyncIterator[bytes]) -> Upload:
    """Put a stream into the store; on any error, and when the client goes away, nothing is left there.

    Raises:
        ProblemError: empty_file, unsupported_format, too_large or storage_full.
    """
    file_id = new_id("file")
    checked = _checked(chunks, resources.settings.max_upload_bytes)
    await run_in_threadpool(removals.reserve, resources.db, files.folder(file_id))
    try:
        stored = await resources.store.put_stream(files.upload_key(file_id), checked)
    except BaseException:
        await _give_up(resources, file_id)
        raise
    return Upload(file_id, stored.bytes, stored.sha256)


def add(session: Session, upload: Upload, *, owner: str, filename: str, purpose: Purpose) -> FileRecord:
    """Make a file of an upload.

    Args:
        session: The transaction.
        upload: What `receive` returned.
        owner: Whose it is.
        filename: Its sanitised name.
        purpose: What it is for.
    """
    removals.claim(session, files.folder(upload.file_id))
    return files.create(
        session,
        upload.file_id,
        owner=owner,
        filename=filename,
        purpose=purpose,
        size=upload.bytes,
        sha256=upload.sha256,
    )


async def discard(resources: Resources, uploads: list[Upload]) -> None:
    """Remove uploads; nothing happens to those that have become files."""
    for upload in uploads:
        await _give_up(resources, upload.file_id)


async def _give_up(resources: Resources, file_id: str) -> None:
    await run_in_threadpool(removals.give_up, resources.db, resources.store, files.folder(file_id))


async def _checked(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """The same bytes, of which the first are held back until there are enough to be looked at."""
    start, looked, size = b"", False, 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise ProblemError("too_large", f"expected a file of at most {limit} bytes")
        if looked:
            yield chunk
            continue
        start += chunk
        if len(start) >= LOOKED_AT_BYTES:
            check_start(start[:LOOKED_AT_BYTES])
            looked = True
            yield start
    if not looked:
        check_start(start)
        yield start
