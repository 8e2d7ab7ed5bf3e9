"""`Idempotency-Key` over HTTP."""

import threading
from typing import Any
from uuid import uuid4

import httpx
import pytest
from service_support import SAFETENSORS, Server, problem


@pytest.fixture
def key() -> dict[str, str]:
    return {"Idempotency-Key": uuid4().hex}


def jobs(api: httpx.Client) -> int:
    return len(api.get("/v1/jobs", params={"limit": 100}).json()["data"])


def test_the_same_request_gets_the_same_answer_and_makes_one_job(
    key: dict[str, str], checkpoint: str, api: httpx.Client
) -> None:
    first = api.post("/v1/jobs", json={"checkpoint": checkpoint, "seed": 3}, headers=key)
    before = jobs(api)
    api.post(f"/v1/jobs/{first.json()['id']}/cancel")
    # Other spellings of the same settings are the same request.
    second = api.post("/v1/jobs", json={"seed": 3, "fit": {}, "checkpoint": checkpoint}, headers=key)
    assert (second.status_code, second.content) == (202, first.content)
    assert second.headers["location"] == first.headers["location"]
    assert (first.headers.get("idempotent-replayed"), second.headers["idempotent-replayed"]) == (None, "true")
    assert jobs(api) == before


def test_the_key_for_another_request_is_refused(key: dict[str, str], checkpoint: str, api: httpx.Client) -> None:
    api.post("/v1/jobs", json={"checkpoint": checkpoint}, headers=key)
    problem(
        api.post("/v1/jobs", json={"checkpoint": checkpoint, "seed": 1}, headers=key), 422, "idempotency_key_reused"
    )


def test_a_refused_request_leaves_its_key_free(key: dict[str, str], checkpoint: str, api: httpx.Client) -> None:
    wrong = {"checkpoint": checkpoint, "compression": {"layers": ["fc9"]}}
    problem(api.post("/v1/jobs", json=wrong, headers=key), 422, "layer_not_found")
    assert api.post("/v1/jobs", json={"checkpoint": checkpoint}, headers=key).status_code == 202


def test_requests_that_race_make_one_job(key: dict[str, str], checkpoint: str, api: httpx.Client) -> None:
    before = jobs(api)
    answers: list[httpx.Response] = []

    def send() -> None:
        answers.append(api.post("/v1/jobs", json={"checkpoint": checkpoint}, headers=key))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert len(made) == 1
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert jobs(api) == min(100, before + 1)


def test_a_form_is_compared_by_the_content_of_its_files(key: dict[str, str], server: Server, api: httpx.Client) -> None:
    def send(content: bytes) -> httpx.Response:
        form: Any = {"checkpoint": ("m.safetensors", content), "settings": (None, '{"seed": 5}')}
        return api.post("/v1/jobs", files=form, headers=key)

    first = send(SAFETENSORS)
    stored = server.objects
    assert send(SAFETENSORS).content == first.content
    problem(send(SAFETENSORS + b" "), 422, "idempotency_key_reused")
    assert server.objects == stored


@pytest.mark.parametrize("value", ["", "x" * 256])
def test_a_key_of_a_wrong_length_is_refused(value: str, checkpoint: str, api: httpx.Client) -> None:
    answer = api.post("/v1/jobs", json={"checkpoint": checkpoint}, headers={"Idempotency-Key": value})
    assert problem(answer, 422, "validation_failed")["errors"][0]["pointer"] == "/idempotency-key"
