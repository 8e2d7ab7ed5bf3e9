"""Fixtures of the service's tests: servers, a client, and a stand-in for the workers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_support import LENET, SAFETENSORS, Server, Worker, start_server, stop_server


@pytest.fixture(scope="module")
def server(shared_redis: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without workers, shared by the tests of a file; it ends before others use its queue."""
    running = start_server(tmp_path_factory.mktemp("service"), shared_redis.url)
    yield running
    stop_server(running)
    assert "Traceback" not in running.log


@pytest.fixture
def make_server(tmp_path: Path, redis_url: str) -> Iterator[Callable[..., Server]]:
    """Starts servers of the test's own."""
    started: list[Server] = []

    def make(broker_url: str = redis_url, **environment: str) -> Server:
        started.append(start_server(tmp_path / f"server{len(started)}", broker_url, **environment))
        return started[-1]

    yield make
    for running in started:
        stop_server(running)


@pytest.fixture
def api(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
def worker(server: Server) -> Iterator[Worker]:
    stand_in = Worker(server)
    yield stand_in
    stand_in.db.close()


@pytest.fixture
def upload(api: httpx.Client) -> Callable[..., str]:
    """Uploads a few bytes and returns the file's id."""

    def send(purpose: str = "checkpoint", content: bytes = SAFETENSORS) -> str:
        answer = api.post("/v1/files", params={"purpose": purpose, "filename": "m.safetensors"}, content=content)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    return send


@pytest.fixture
def checkpoint(upload: Callable[..., str], worker: Worker) -> str:
    """A LeNet-5 that is inspected."""
    file_id = upload()
    worker.inspect(file_id, LENET)
    return file_id
