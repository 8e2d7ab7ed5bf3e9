"""The object store: a local folder by default, S3 and others by URL. An object appears whole or not at all."""

import hashlib
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlparse

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from jobs.problems import ProblemError

# An upload holds this many parts of this size in memory, however large it is.
PART_BYTES = 5 * 1024**2
PARTS_IN_FLIGHT = 2
READ_BYTES = 1024**2
PAGE_OBJECTS = 1000

# ENOSPC, EDQUOT and EFBIG as the store's messages name them; it has no error class for a full disk.
FULL = ("os error 28", "os error 122", "os error 27")

# A local store writes an object in several parts under such a name, which it does not list, and then renames it.
UNFINISHED = re.compile(r".+#\d+")


@dataclass(frozen=True)
class Stored:
    """What was written."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Object:
    """What is in the store, and since when."""

    key: str
    modified: datetime


class Store:
    """Objects by key. Memory stays flat whatever their size."""

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> Stored:
        """Write an object from a stream; if the stream raises or is cancelled, nothing is left behind.

        Raises:
            ProblemError: storage_full.
        """
        digest = hashlib.sha256()
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        try:
            await obstore.put_async(
                self._store,
                key,
                counted(),
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_IN_FLIGHT,
            )
        except BaseException as error:
            self._remove_empty_folder(key)
            if isinstance(error, BaseError):
                raise _named(error) from error
            raise
        return Stored(size, digest.hexdigest())

    def put_file(self, key: str, path: Path) -> None:
        """Write an object from a local file.

        Raises:
            ProblemError: storage_full.
        """
        try:
            obstore.put(self._store, key, path, chunk_size=PART_BYTES, max_concurrency=PARTS_IN_FLIGHT)
        except BaseError as error:
            raise _named(error) from error

    def get_to_file(self, key: str, path: Path, *, missing_ok: bool = False) -> bool:
        """Copy an object into a local file; False if there is none and `missing_ok`.

        Raises:
            FileNotFoundError: There is no such object.
        """
        try:
            found = obstore.get(self._store, key)
        except (NotFoundError, FileNotFoundError):
            if missing_ok:
                return False
            raise FileNotFoundError(f"there is no object {key!r}") from None
        with path.open("wb") as file:
            for chunk in found.stream(min_chunk_size=READ_BYTES):
                file.write(chunk)
        return True

    async def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes `start` to `end` (exclusive) of an object.

        Raises:
            FileNotFoundError: There is no such object.
        """
        if start >= end:
            return
        try:
            found = await obstore.get_async(self._store, key, options={"range": (start, end)})
        except NotFoundError:
            raise FileNotFoundError(f"there is no object {key!r}") from None
        async for chunk in found.stream(min_chunk_size=READ_BYTES):
            yield bytes(chunk)

    def delete(self, prefix: str) -> None:
        """Remove every object under a prefix; none need be there."""
        for page in self.pages(prefix):
            self.remove([found.key for found in page])

    def pages(self, prefix: str) -> Iterator[list[Object]]:
        """All objects under a prefix, a few at a time, in any order."""
        for page in obstore.list(self._store, prefix, chunk_size=PAGE_OBJECTS):
            yield [Object(entry["path"], entry["last_modified"]) for entry in page]

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects; none need be there."""
        try:
            obstore.delete(self._store, keys)
        except (NotFoundError, FileNotFoundError):  # of a local store, where somebody else has just removed one
            for key in keys:
                with suppress(NotFoundError, FileNotFoundError):
                    obstore.delete(self._store, key)

    def remove_unfinished(self, prefix: str, before: datetime) -> None:
        """Remove what is left of objects under a prefix whose writer was killed and last wrote before a time.

        Of a local store only: a bucket removes it by a rule of its own (AbortIncompleteMultipartUpload).
        """
        if self._folder is None:
            return
        for folder, _, names in os.walk(self._folder / prefix, topdown=False):
            for path in (Path(folder, name) for name in names if UNFINISHED.fullmatch(name)):
                with suppress(FileNotFoundError):
                    if datetime.fromtimestamp(path.stat().st_mtime, UTC) < before:
                        path.unlink()
                        self._remove_empty_folder(path.relative_to(self._folder).as_posix())

    def size(self, key: str) -> int:
        """The bytes of an object.

        Raises:
            FileNotFoundError: There is no such object.
        """
        try:
            return obstore.head(self._store, key)["size"]
        except NotFoundError:
            raise FileNotFoundError(f"there is no object {key!r}") from None

    def _remove_empty_folder(self, key: str) -> None:
        """A local store makes an object's folder before the object, and leaves it when there comes none."""
        if self._folder is not None:
            with suppress(OSError):
                (self._folder / key).parent.rmdir()

    def check(self) -> None:
        """Raise if the store cannot be reached."""
        obstore.list_with_delimiter(self._store, "health")


def open_store(url: str) -> Store:
    """Open the store behind `file:///folder`, `s3://bucket/prefix` or what else obstore reads."""
    parsed = urlparse(url)
    if parsed.scheme == "file":
        if parsed.query or parsed.fragment:
            raise ValueError(f"expected a folder with ? and # as %3F and %23, got {url!r}")
        folder = Path(unquote(parsed.path))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Store(LocalStore(folder, mkdir=True, automatic_cleanup=True), folder)
    return Store(from_url(url))


def _named(error: BaseError) -> Exception:
    """A full disk as a problem, other errors as they are."""
    if any(code in str(error) for code in FULL):
        return ProblemError("storage_full", "there is no space left for the file; nothing of it was kept")
    return error
