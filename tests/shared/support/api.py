"""Plain calls of the HTTP API, as any client would make them."""

import json
import time
from pathlib import Path
from typing import Any

import httpx

FINISHED = {"succeeded", "failed", "cancelled"}


def upload(api: httpx.Client, path: Path, purpose: str = "checkpoint") -> dict[str, Any]:
    """Send a file and wait until it is inspected."""
    answer = api.post("/v1/files", params={"purpose": purpose, "filename": path.name}, content=path.read_bytes())
    assert answer.status_code == 201, answer.text
    return inspected(api, answer.json())


def inspected(api: httpx.Client, file: dict[str, Any]) -> dict[str, Any]:
    """Wait until a file is inspected."""
    for _ in range(1200):
        if file["status"] != "processing":
            return file
        time.sleep(0.05)
        file = api.get(f"/v1/files/{file['id']}").json()
    raise AssertionError(f"a file was not inspected within a minute: {json.dumps(file)}")


def create(api: httpx.Client, **settings: Any) -> dict[str, Any]:
    """Submit a job that is accepted."""
    answer = api.post("/v1/jobs", json=settings)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def finished(api: httpx.Client, job_id: str, within_s: float = 120) -> dict[str, Any]:
    """Wait until a job has ended."""
    deadline = time.monotonic() + within_s
    job: dict[str, Any] = {}
    while time.monotonic() < deadline:
        job = api.get(f"/v1/jobs/{job_id}", params={"wait": 5}).json()
        if job["status"] in FINISHED:
            return job
    raise AssertionError(f"{job_id} did not end within {within_s} s: {json.dumps(job)}")


def succeeded(api: httpx.Client, job_id: str, within_s: float = 120) -> dict[str, Any]:
    """Wait until a job has succeeded."""
    job = finished(api, job_id, within_s)
    assert job["status"] == "succeeded", json.dumps(job["error"])
    return job


def artifact(api: httpx.Client, job_id: str, name: str) -> bytes:
    """The bytes of an artifact."""
    answer = api.get(f"/v1/jobs/{job_id}/artifacts/{name}")
    assert answer.status_code == 200, answer.text
    return answer.content
