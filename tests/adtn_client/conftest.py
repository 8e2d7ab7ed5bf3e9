"""A client and the scripted server that it talks to."""

from collections.abc import Iterator

import pytest
from scripted_server import NO_PAUSE, ScriptedServer

from adtn_client import Client


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    running = ScriptedServer()
    yield running
    running.stop()


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[Client]:
    with Client(server.url, retry=NO_PAUSE) as connected:
        yield connected
