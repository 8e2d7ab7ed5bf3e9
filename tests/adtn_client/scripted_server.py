"""A real HTTP server on a real socket whose answers a test writes down, broken ones included."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from adtn_client import Retry

NO_PAUSE = Retry(attempts=4, first_pause_s=0.001, longest_pause_s=0.01)


@dataclass
class Request:
    """What arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What is sent back. `cut_after` bytes of the body the connection breaks; -1 breaks it before anything is sent."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None


def json_answer(body: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})


def problem_answer(status: int, code: str, detail: str, **more: Any) -> Answer:
    body = {"type": "about:blank", "title": "A problem", "status": status, "detail": detail, "code": code, **more}
    headers = {"Content-Type": "application/problem+json", "Retry-After": "0"}
    return Answer(status, json.dumps(body).encode(), headers)


class ScriptedServer:
    """Gives the answers of `script` in order and keeps the requests; a function answers by what came."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.script: list[Answer | Callable[[Request], Answer]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        script, requests = self.script, self.requests

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Request(self.command, self.path, dict(self.headers.items()), body)
                requests.append(request)
                # The last answer stays, so that a client that asks too often is seen by the count of its requests.
                step = script.pop(0) if len(script) > 1 else script[0]
                # A client that has seen enough hangs up.
                with contextlib.suppress(ConnectionError):
                    send(self, step(request) if callable(step) else step)

            do_GET = do_POST = do_DELETE = do_HEAD = answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def send(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    if answer.cut_after != -1:
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        handler.wfile.write(answer.body[: answer.cut_after])
        handler.wfile.flush()
    if answer.cut_after is not None:
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)


def a_file(**changes: Any) -> dict[str, Any]:
    """A file as the API writes it."""
    file = {"id": "file_1", "object": "file", "filename": "m.safetensors", "purpose": "checkpoint", "bytes": 3}
    state = {"sha256": "0" * 64, "format": None, "status": "processing", "error": None, "summary": None}
    return {**file, **state, "created_at": "2026-01-31T12:00:00.000Z", "expires_at": None, **changes}


def a_job(**changes: Any) -> dict[str, Any]:
    """A job as the API writes it."""
    progress = {"fraction": 0.0, "stage": None, "stage_fraction": None, "eta_seconds": None, "message": None}
    job = {"id": "job_1", "object": "job", "status": "queued", "stage": None, "progress": progress, "attempt": 0}
    times = {"created_at": "2026-01-31T12:00:00.000Z", "started_at": None, "finished_at": None}
    rest = {"queue_position": 1, "error": None, "report": None, "artifacts": [], "retried_from": None}
    return {**job, **times, **rest, "request": {"checkpoint": f"file_{'0' * 32}"}, **changes}
