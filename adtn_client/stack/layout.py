"""Where the embedded stack keeps what: everything lies below one data directory."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from adtn_client.errors import StackError
from jobs.settings import NOT_IN_URLS

# sun_path holds 108 bytes with the closing zero.
MAX_SOCKET_PATH_BYTES = 107


@dataclass(frozen=True)
class Layout:
    """Paths below `data_dir`, which is absolute. The Redis socket may lie elsewhere: see `socket_path`."""

    data_dir: Path

    @property
    def lock(self) -> Path:
        """Locked while a stack runs here."""
        return self.data_dir / "up.lock"

    @property
    def logs(self) -> Path:
        """One log a child process."""
        return self.data_dir / "logs"

    @property
    def redis(self) -> Path:
        """Redis' append-only file."""
        return self.data_dir / "redis"

    @property
    def objects(self) -> Path:
        """The object store."""
        return self.data_dir / "objects"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.data_dir / "adtn.db"

    @property
    def redis_socket(self) -> Path:
        """The unix socket of Redis."""
        return socket_path(self.data_dir)

    def create(self) -> None:
        """Make the folders, for this user alone: uploads and logs are nobody else's business.

        Raises:
            StackError: A folder cannot be made or used, or files in it could not be found by URLs.
        """
        if set(str(self.data_dir)) & set(NOT_IN_URLS):
            raise StackError(f"expected a data directory without any of {NOT_IN_URLS} in its path, got {self.data_dir}")
        try:
            for folder in (self.data_dir, self.logs, self.redis, self.objects, self.redis_socket.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(f"cannot use the data directory {self.data_dir}: {error}") from error
        owner = self.redis_socket.parent.stat().st_uid
        if owner != os.getuid():
            raise StackError(f"{self.redis_socket.parent} belongs to another user (id {owner}); remove it")


def socket_path(data_dir: Path) -> Path:
    """Where the Redis socket of a data directory lies: in it, or in a temporary folder if that path is too long."""
    path = data_dir / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"adtn-{os.getuid()}-{name}" / "redis.sock"
