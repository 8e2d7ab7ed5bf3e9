"""With Redis down nothing is refused and nothing is lost.

A message may come twice, from the request and from the reconciler that looks just then: workers find nothing to do.
"""

from collections.abc import Callable
from typing import Any

import httpx
from service_support import SAFETENSORS, Server, Worker, problem
from support.waiting import wait_until


def messages(redis_process: Any, queue: str) -> int:
    with redis_process.client() as client:
        return int(client.llen(queue))


def test_what_is_posted_while_redis_is_down_is_published_when_it_is_back(
    redis_process: Any, make_server: Callable[..., Server]
) -> None:
    server = make_server(redis_process.url)
    worker = Worker(server)
    with httpx.Client(base_url=server.url, timeout=60) as api:
        assert api.get("/readyz").status_code == 200
        redis_process.stop()

        ready = problem(api.get("/readyz"), 503, "not_ready")
        assert [fault["pointer"] for fault in ready["errors"]] == ["queue"]
        assert "Redis" in ready["detail"]
        assert api.get("/livez").status_code == 200

        file = api.post("/v1/files", params={"purpose": "checkpoint"}, content=SAFETENSORS)
        other = api.post("/v1/files", params={"purpose": "checkpoint"}, content=SAFETENSORS)
        worker.inspect(file.json()["id"])
        job = api.post("/v1/jobs", json={"checkpoint": other.json()["id"], "seed": 1})
        worker.inspect(other.json()["id"])
        assert (file.status_code, other.status_code, job.status_code) == (201, 201, 202)
        assert job.json()["status"] == "queued"
        # The answer to a repeated request does not depend on Redis either.
        assert api.get(job.headers["location"]).json()["status"] == "queued"

        redis_process.start()
        wait_until(lambda: messages(redis_process, "jobs") >= 1, within_s=20)
        assert api.get("/readyz").status_code == 200
    worker.db.close()


def test_a_server_starts_while_redis_is_down(redis_process: Any, make_server: Callable[..., Server]) -> None:
    redis_process.stop()
    server = make_server(redis_process.url)
    with httpx.Client(base_url=server.url) as api:
        problem(api.get("/readyz"), 503, "not_ready")
        api.post("/v1/files", params={"purpose": "checkpoint"}, content=SAFETENSORS)
    redis_process.start()
    wait_until(lambda: messages(redis_process, "files") >= 1, within_s=20)


def test_messages_that_redis_forgot_are_published_again(redis_process: Any, make_server: Callable[..., Server]) -> None:
    server = make_server(redis_process.url, ADTN_REPUBLISH_S="0.5")
    with httpx.Client(base_url=server.url) as api:
        api.post("/v1/files", params={"purpose": "checkpoint"}, content=SAFETENSORS)
    wait_until(lambda: messages(redis_process, "files") >= 1, within_s=20)
    with redis_process.client() as client:
        client.flushall()
    wait_until(lambda: messages(redis_process, "files") >= 1, within_s=20)
