"""A real server process, a stand-in for the workers, and what the tests of the service share."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import httpx

from jobs import files, leases, workers
from jobs.database import Database, open_database
from jobs.leases import ArtifactRow, Lease
from jobs.store import open_store

# The start of a safetensors file: a length, then JSON.
SAFETENSORS = b"\x10\x00\x00\x00\x00\x00\x00\x00{}" + b" " * 600


@dataclass
class Server:
    """A running `python -m service`."""

    url: str
    data_dir: Path
    process: subprocess.Popen[bytes]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def objects(self) -> list[str]:
        """Everything in the store, half-written objects too."""
        folder = self.data_dir / "objects"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    @property
    def log(self) -> str:
        return (self.data_dir / "log").read_text()


def start_server(data_dir: Path, broker_url: str, **environment: str) -> Server:
    """Start a server on a free port and wait until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    data_dir.mkdir(parents=True, exist_ok=True)
    variables = {
        "ADTN_DATA_DIR": str(data_dir),
        "ADTN_BROKER_URL": broker_url,
        "ADTN_PORT": port,
        "ADTN_RECONCILE_S": "0.2",
        **environment,
    }
    with (data_dir / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "error::ResourceWarning", "-m", "service"],
            env=os.environ | variables,
            stdout=log,
            stderr=log,
        )
    server = Server(f"http://127.0.0.1:{port}", data_dir, process, variables)
    for _ in range(600):
        try:
            if httpx.get(f"{server.url}/livez").status_code == 200:
                return server
        except httpx.TransportError:
            time.sleep(0.05)
        assert process.poll() is None, server.log
    raise AssertionError(server.log)


def stop_server(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(timeout=30)


class Worker:
    """Writes into the server's database and store what workers would write."""

    def __init__(self, server: Server) -> None:
        self.db: Database = open_database(f"sqlite:///{server.data_dir}/adtn.db")
        self.store = open_store(f"file://{server.data_dir}/objects")

    def inspect(self, file_id: str, layers: list[dict[str, Any]] | None = None, **summary: Any) -> None:
        files.mark_ready(
            self.db,
            file_id,
            format="safetensors",
            summary={"parameters": 61706, "layers": 5} | summary,
            layers=layers or [],
            aliases={},
            checked_key=f"files/{file_id}/checked.safetensors",
        )

    def take(self, job_id: str) -> Lease:
        lease = leases.take(self.db, job_id, owner="w1", lease_s=600)
        assert lease is not None
        return lease

    def succeed(self, lease: Lease, folder: Path, report: dict[str, Any], **artifacts: bytes) -> None:
        rows = []
        for name, content in artifacts.items():
            path = folder / name
            path.write_bytes(content)
            key = f"jobs/{lease.job_id}/{lease.attempt}/{name}"
            self.store.put_file(key, path)
            rows.append(ArtifactRow(name, "test", len(content), hashlib.sha256(content).hexdigest(), key))
        leases.succeed(self.db, lease, report, rows)

    def beat(self, *queues: str) -> None:
        workers.beat(self.db, "w1", queues=queues, hostname="here")


def layer(name: str, *shape: int, kind: str = "linear", eligible: bool = True) -> dict[str, Any]:
    """A layer as the inspection lists it."""
    return {
        "name": name,
        "key": f"{name}.weight",
        "kind": kind,
        "shape": list(shape),
        "dtype": "float32",
        "parameters": prod(shape),
        "eligible": eligible,
        "reason": None if eligible else "it has 3 entries, fewer than 64",
    }


LENET = [
    layer("conv1", 6, 1, 5, 5, kind="conv2d"),
    layer("conv2", 16, 6, 5, 5, kind="conv2d"),
    layer("fc1", 120, 400),
    layer("fc2", 84, 120),
    layer("fc3", 10, 84),
    layer("tiny", 1, 3, eligible=False),
]


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a whole problem, and return it."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body: dict[str, Any] = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}
    assert (body["status"], body["code"], body["request_id"]) == (status, code, answer.headers["x-request-id"])
    assert body["instance"] == answer.request.url.path
    return body
