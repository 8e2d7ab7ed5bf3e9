"""The application as a whole: errors, probes, description, start and end."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_support import SAFETENSORS, Server, problem
from support.waiting import wait_until

IMPORTS = """
import json, sys
import service.main
print(json.dumps([name for name in ("torch", "numpy", "adtn.contraction", "safetensors") if name in sys.modules]))
"""


def test_the_service_loads_neither_torch_nor_numpy() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == []


def test_a_path_that_is_not_there_is_a_problem(api: httpx.Client) -> None:
    problem(api.get("/v1/nothing"), 404, "not_found")
    problem(api.get("/v1/jobs/"), 404, "not_found")


def test_a_method_that_is_not_allowed_is_a_problem(api: httpx.Client) -> None:
    answer = api.put("/v1/jobs")
    problem(answer, 405, "method_not_allowed")
    assert "allow" in answer.headers


def test_a_request_keeps_its_id_or_gets_one(api: httpx.Client) -> None:
    assert api.get("/livez", headers={"X-Request-ID": "abc-123"}).headers["x-request-id"] == "abc-123"
    generated = api.get("/livez", headers={"X-Request-ID": "a b<script>"}).headers["x-request-id"]
    assert len(generated) == 32


def test_what_is_known_by_name_is_listed(api: httpx.Client) -> None:
    architectures = {known["name"]: known for known in api.get("/v1/architectures").json()["data"]}
    assert set(architectures) == {"fc2", "lenet5", "alexnet", "zfnet", "vgg16"}
    assert "features.28.weight" in architectures["vgg16"]["keys"]
    assert architectures["fc2"]["keys"] == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert [known["name"] for known in api.get("/v1/datasets").json()["data"]] == ["digits"]


def test_probes_and_version_answer(api: httpx.Client) -> None:
    assert api.get("/livez").json() == api.get("/readyz").json() == {"status": "ok"}
    assert api.get("/version").json()["api"] == "v1"
    assert api.get("/").headers["location"] == "/docs"
    assert "swagger" in api.get("/docs").text


def test_metrics_count_jobs_and_requests_without_ids(checkpoint: str, api: httpx.Client) -> None:
    job = api.post("/v1/jobs", json={"checkpoint": checkpoint}).json()
    api.get(f"/v1/jobs/{job['id']}")
    text = api.get("/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values['adtn_jobs{status="queued"}']) == float(values["adtn_queue_depth"]) >= 1
    assert float(values["adtn_queue_oldest_seconds"]) >= 0
    series = 'adtn_http_request_seconds_count{method="GET",route="/v1/jobs/{job_id}",status="200"}'
    assert float(values[series]) >= 1
    assert job["id"] not in text


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return found.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_the_description_is_whole_and_names_every_error(api: httpx.Client) -> None:
    page = api.get("/openapi.json").json()
    schemas = page["components"]["schemas"]
    assert {reference.removeprefix("#/components/schemas/") for reference in references(page)} <= set(schemas)
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)
    assert schemas["JobSettings"]["additionalProperties"] is False
    assert schemas["JobSettings"]["required"] == ["checkpoint"]
    for path, operations in page["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/v1/"):
                assert "422" in operation["responses"], (method, path)
                assert "401" in operation["responses"], (method, path)
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert set(response["content"]) == {"application/problem+json"}, (method, path, status)
    identities = [op["operationId"] for operations in page["paths"].values() for op in operations.values()]
    assert len(identities) == len(set(identities))


@pytest.mark.parametrize("path", ["events", "wait"])
def test_a_server_that_is_told_to_end_does_not_wait_for_who_waits_on_it(
    path: str, make_server: Callable[..., Server]
) -> None:
    server = make_server()
    with httpx.Client(base_url=server.url, timeout=60) as api:
        file = api.post("/v1/files", params={"purpose": "checkpoint"}, content=SAFETENSORS).json()
        url = api.post("/v1/jobs", json={"checkpoint": file["id"]}).headers["location"]
        begun = threading.Event()

        def follow() -> None:
            if path == "wait":
                begun.set()
                api.get(url, params={"wait": 30})
                return
            with api.stream("GET", f"{url}/events", headers={"Accept": "text/event-stream"}) as answer:
                for _ in answer.iter_lines():
                    begun.set()

        thread = threading.Thread(target=follow)
        thread.start()
        begun.wait(timeout=20)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=25)
        thread.join()
    assert "Traceback" not in server.log
    assert "graceful shutdown exceeded" not in server.log


def test_what_nobody_needs_leaves_the_store(make_server: Callable[..., Server], tmp_path: Path) -> None:
    old_fit = tmp_path / "server0" / "objects" / "fits" / "0.safetensors"
    old_fit.parent.mkdir(parents=True)
    old_fit.write_bytes(SAFETENSORS)
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(old_fit, (two_days_ago, two_days_ago))
    make_server(ADTN_FITS_KEPT_S="100000")
    wait_until(lambda: not old_fit.exists(), within_s=30)


def test_made_up_methods_make_one_series(api: httpx.Client) -> None:
    for number in range(3):
        assert api.request(f"MADEUP{number}", "/v1/jobs").status_code == 405
    text = api.get("/metrics").text
    assert "MADEUP" not in text
    assert 'method="other",route="none",status="405"' in text or 'method="other",route="/v1/jobs",status="405"' in text


def test_no_text_with_a_nul_is_looked_for(make_server: Callable[..., Server], migrated_postgres: str) -> None:
    server = make_server(ADTN_DATABASE_URL=migrated_postgres)
    for path in ("/v1/jobs/%00", "/v1/files/%00", "/v1/jobs?after=%00"):
        problem(httpx.get(f"{server.url}{path}"), 422, "validation_failed")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/jobs?limt=5", "expected limit, after"),
        ("POST", "/v1/jobs?dry_run=true", "expected none"),
        ("GET", "/v1/architectures?x=", "expected none"),
        ("HEAD", "/v1/files/file_0/content?x=1", None),
    ],
)
def test_query_parameters_that_nobody_reads_are_refused(
    method: str, path: str, expected: str | None, api: httpx.Client
) -> None:
    answer = api.request(method, path)
    if expected is None:  # an answer without a body
        assert answer.status_code == 422
        return
    body = problem(answer, 422, "validation_failed")
    assert expected in body["detail"]
    assert [fault["code"] for fault in body["errors"]] == ["extra_forbidden"]
