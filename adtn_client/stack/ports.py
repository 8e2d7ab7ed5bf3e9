"""TCP ports of the embedded API."""

import socket

from adtn_client.errors import StackError


def usable_port(host: str, port: int) -> int:
    """Check that a port can be bound; 0 picks a free one.

    Raises:
        StackError: The port is taken, or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the API binds it: connections in TIME_WAIT do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StackError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
        return int(probe.getsockname()[1])


def url_of(host: str, port: int) -> str:
    """The URL of a server, as printed."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def local_url_of(host: str, port: int) -> str:
    """The URL that reaches a server on this machine, also when it listens on every address."""
    return url_of({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
