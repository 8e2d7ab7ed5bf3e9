"""Zip, tar and gzip as containers of untrusted members: what is in them is checked before a byte is expanded."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from jobs.problems import ProblemError
from worker.sandbox.formats import GZIP_MAGIC
from worker.sandbox.tensor_file import quoted

MAX_MEMBERS = 200_000
ENCRYPTED = 0x1
LOCAL_HEADER_BYTES = 30


@dataclass(frozen=True)
class Member:
    """A regular file in an archive: its name, its size there, and a function that opens it for reading."""

    name: str
    bytes: int
    open: Callable[[], BinaryIO]

    @property
    def path(self) -> PurePosixPath | None:
        """The name as a path; None for one that leads out of the archive, which no reader looks at."""
        path = PurePosixPath(self.name)
        return None if path.is_absolute() or ".." in path.parts else path


class Capped(io.RawIOBase):
    """A readable, seekable stream that raises `resource_limit` once it is read past `limit` bytes."""

    def __init__(self, stream: BinaryIO, limit: int, what: str) -> None:
        self._stream, self._limit, self._what = stream, limit, what

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """As the stream below."""
        return self._stream.seekable()

    def tell(self) -> int:
        """Position in the expanded bytes."""
        return self._stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, which for a compressed stream expands everything up to there."""
        if whence == io.SEEK_END or (offset if whence == io.SEEK_SET else self.tell() + offset) > self._limit:
            raise self._problem()
        return self._stream.seek(offset, whence)

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        """Read the next bytes into `buffer`."""
        data = self._stream.read(len(buffer))
        if self._stream.tell() > self._limit:
            raise self._problem()
        buffer[: len(data)] = data
        return len(data)

    def _problem(self) -> ProblemError:
        return ProblemError("resource_limit", f"{self._what} expands to more than {self._limit} bytes")


def capped(stream: BinaryIO, limit: int, what: str) -> BinaryIO:
    """`stream`, which may be read up to `limit` bytes and not further."""
    return io.BufferedReader(Capped(stream, limit, what), 2**16)


def checked_zip(file: BinaryIO, size: int, invalid: str) -> zipfile.ZipFile:
    """Open a zip archive after checking its directory.

    Args:
        file: Seekable.
        size: Its bytes.
        invalid: Code of the problem for what is well formed but not acceptable.

    Raises:
        ProblemError: `truncated_file` without a directory; `invalid` for repeated, overlapping, encrypted or too many
            members, or a compression other than deflate.
    """
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError) as error:
        raise ProblemError("truncated_file", "the zip archive is cut short: its directory cannot be read") from error
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise ProblemError(invalid, f"expected at most {MAX_MEMBERS} members in the zip, got {len(members)}")
    seen: set[str] = set()
    for member in members:
        where = f"zip member {quoted(member.filename)}"
        if member.filename in seen:
            raise ProblemError(invalid, f"{where} is there more than once")
        seen.add(member.filename)
        if member.flag_bits & ENCRYPTED:
            raise ProblemError(invalid, f"{where} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ProblemError(invalid, f"{where}: expected it stored or deflated, got method {member.compress_type}")
        if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
            raise ProblemError(invalid, f"{where}: it is stored, but its two sizes differ")
    _require_apart(members, size, invalid)
    return archive


def require_stored(archive: zipfile.ZipFile, invalid: str) -> None:
    """Refuse compressed members.

    Raises:
        ProblemError: `invalid`.
    """
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED:
            raise ProblemError(
                invalid,
                f"zip member {quoted(member.filename)}: expected it stored without compression, got it deflated",
            )


def _require_apart(members: list[zipfile.ZipInfo], size: int, invalid: str) -> None:
    """Refuse members that share bytes, the trick of the densest zip bombs, or lie outside the file."""
    free_from = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < free_from:
            raise ProblemError(invalid, f"zip member {quoted(member.filename)} overlaps the one before it")
        free_from = member.header_offset + LOCAL_HEADER_BYTES + member.compress_size
    if free_from > size:
        raise ProblemError("truncated_file", f"the zip's members need {free_from} bytes, the file has {size}")


def zip_members(archive: zipfile.ZipFile) -> list[Member]:
    """The regular files of a checked zip archive."""

    def opener(info: zipfile.ZipInfo) -> Callable[[], BinaryIO]:
        return lambda: archive.open(info)  # type: ignore[return-value]

    infos = [info for info in archive.infolist() if not info.is_dir() and not _is_link(info)]
    return [Member(info.filename, info.file_size, opener(info)) for info in infos]


def _is_link(info: zipfile.ZipInfo) -> bool:
    """Whether a member is a Unix symbolic link: the type is in the upper half of its attributes."""
    return (info.external_attr >> 28) == 0o12


def tar_members(file: BinaryIO, limit: int, invalid: str) -> list[Member]:
    """The regular files of a tar archive, gzipped or not; links, devices and sparse files are left out.

    Args:
        file: Seekable, at its start.
        limit: Bytes that it may expand to.
        invalid: Code of the problem for too many members.

    Raises:
        ProblemError: `resource_limit`, `truncated_file` or `invalid`; `unsupported_format` for another gzip.
    """
    gzipped = file.read(2) == GZIP_MAGIC
    file.seek(0)
    stream = gzip.GzipFile(fileobj=file) if gzipped else file
    expanded = capped(stream, limit, "the archive")  # type: ignore[arg-type]
    if gzipped:
        _require_tar(expanded)
    archive = tarfile.TarFile(fileobj=expanded)

    def opener(info: tarfile.TarInfo) -> Callable[[], BinaryIO]:
        return lambda: archive.extractfile(info)  # type: ignore[return-value]

    members = []
    for count, info in enumerate(archive):
        if count >= MAX_MEMBERS:
            raise ProblemError(invalid, f"expected at most {MAX_MEMBERS} members in the tar")
        if info.isreg() and not info.issparse():
            members.append(Member(info.name, info.size, opener(info)))
    expanded.seek(archive.offset)
    if expanded.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        # tarfile takes the end of the bytes for the end of the archive.
        raise ProblemError("truncated_file", "the tar is cut short: it has no end mark")
    return members


def _require_tar(expanded: BinaryIO) -> None:
    """Refuse a gzip that does not begin as a tar does: it may well be whole."""
    header = expanded.read(tarfile.BLOCKSIZE)
    expanded.seek(0)
    try:
        tarfile.TarInfo.frombuf(header, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        if any(header) and header[257:262] != b"ustar":  # zeros are a tar of nothing
            detail = "expected a tar archive in the gzip, got another file; several files belong into one zip or tar"
            raise ProblemError("unsupported_format", detail) from None
