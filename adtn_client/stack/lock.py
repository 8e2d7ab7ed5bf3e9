"""One stack a data directory."""

import fcntl
import os
from pathlib import Path

from adtn_client.errors import StackError


def take(path: Path) -> int:
    """Lock a file for as long as the descriptor, or a copy of it in a child process, is open.

    Returns:
        The open descriptor.

    Raises:
        StackError: Another process holds the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        raise StackError(f"adtn is already running on {path.parent} (process {holder}); stop it first") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
