"""Events, report and artifacts over HTTP."""

import base64
import hashlib
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse
from service_support import SAFETENSORS, Server, Worker, problem

from jobs import leases, records

CONTENT = random.Random(0).randbytes(3_000_000)
ETAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
REPORT = {"seed": 0, "accuracy": {"final": 0.5}, "verified": {"fresh_process": True}}


@pytest.fixture
def queued(checkpoint: str, api: httpx.Client) -> str:
    return str(api.post("/v1/jobs", json={"checkpoint": checkpoint}).json()["id"])


@pytest.fixture
def finished(queued: str, worker: Worker, tmp_path: Path) -> str:
    worker.succeed(worker.take(queued), tmp_path, REPORT, **{"model.bin": CONTENT, "report.json": b"{}\n"})
    return queued


def stream(api: httpx.Client, job_id: str, last: str | None = None) -> list[ServerSentEvent]:
    headers = {} if last is None else {"Last-Event-ID": last}
    with connect_sse(api, "GET", f"/v1/jobs/{job_id}/events", headers=headers) as source:
        return list(source.iter_sse())


def test_events_are_listed_in_order_page_by_page(finished: str, api: httpx.Client) -> None:
    url = f"/v1/jobs/{finished}/events"
    events = api.get(url).json()["data"]
    assert [(event["sequence"], event["type"]) for event in events] == [
        (1, "job.queued"),
        (2, "job.started"),
        (3, "job.succeeded"),
    ]
    assert events[1]["data"] == {"attempt": 1, "worker": "w1"}
    first = api.get(url, params={"limit": 2}).json()
    assert (first["data"], first["has_more"]) == (events[:2], True)
    second = api.get(url, params={"limit": 2, "after": events[1]["id"]}).json()
    assert (second["data"], second["has_more"]) == (events[2:], False)
    problem(api.get(url, params={"after": "evt_none"}), 422, "validation_failed")


def test_a_stream_follows_a_job_to_its_end(queued: str, worker: Worker, api: httpx.Client, tmp_path: Path) -> None:
    def work() -> None:
        lease = worker.take(queued)
        leases.note(worker.db, lease, "job.stage", {"stage": "fit"})
        worker.succeed(lease, tmp_path, REPORT)

    timer = threading.Timer(0.5, work)
    timer.start()
    events = stream(api, queued)
    timer.join()
    told = [event for event in events if event.event != "message"]
    assert [(event.id, event.event) for event in told] == [
        ("1", "job.queued"),
        ("2", "job.started"),
        ("3", "job.stage"),
        ("4", "job.succeeded"),
    ]
    assert [event.json() for event in told] == api.get(f"/v1/jobs/{queued}/events").json()["data"]


def test_a_stream_goes_on_after_the_last_event_that_arrived(finished: str, api: httpx.Client) -> None:
    assert [event.id for event in stream(api, finished, last="1") if event.data] == ["2", "3"]
    first = api.get(f"/v1/jobs/{finished}/events").json()["data"][0]["id"]
    assert [event.id for event in stream(api, finished, last=first) if event.data] == ["2", "3"]


def test_who_has_all_events_of_an_ended_job_is_told_not_to_come_back(finished: str, api: httpx.Client) -> None:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "3"}
    assert api.get(f"/v1/jobs/{finished}/events", headers=headers).status_code == 204


@pytest.mark.parametrize("last", ["x", "-1", "9" * 40, "evt_none"])
def test_a_last_event_id_that_is_none_is_refused(last: str, finished: str, api: httpx.Client) -> None:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
    problem(api.get(f"/v1/jobs/{finished}/events", headers=headers), 422, "validation_failed")


def test_a_stream_of_a_job_that_is_deleted_ends(queued: str, worker: Worker, api: httpx.Client) -> None:
    def delete() -> None:
        records.cancel(worker.db, "local", queued)
        records.delete(worker.db, worker.store, "local", queued)

    timer = threading.Timer(0.5, delete)
    timer.start()
    assert next(event.event for event in stream(api, queued) if event.data) == "job.queued"
    timer.join()


def test_the_report_is_what_the_worker_wrote(finished: str, api: httpx.Client) -> None:
    assert api.get(f"/v1/jobs/{finished}/report").json() == REPORT
    assert api.get(f"/v1/jobs/{finished}").json()["report"] == REPORT


def test_there_is_no_report_before_success(queued: str, api: httpx.Client) -> None:
    url = f"/v1/jobs/{queued}/report"
    problem(api.get(url), 409, "job_not_finished")
    api.post(f"/v1/jobs/{queued}/cancel")
    assert "been cancelled" in problem(api.get(url), 404, "not_found")["detail"]


def test_a_report_of_another_kind_is_refused(finished: str, api: httpx.Client) -> None:
    problem(api.get(f"/v1/jobs/{finished}/report", headers={"Accept": "image/png"}), 406, "not_acceptable")


def test_artifacts_are_listed_with_where_they_are(finished: str, queued: str, api: httpx.Client) -> None:
    listed = api.get(f"/v1/jobs/{finished}/artifacts").json()["data"]
    assert listed[0] == {
        "name": "model.bin",
        "kind": "test",
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "url": f"/v1/jobs/{finished}/artifacts/model.bin",
    }
    assert api.get(f"/v1/jobs/{finished}").json()["artifacts"] == listed
    assert api.head(f"/v1/jobs/{finished}/artifacts").status_code == 200


def test_an_artifact_is_downloaded_whole(finished: str, api: httpx.Client) -> None:
    answer = api.get(f"/v1/jobs/{finished}/artifacts/model.bin")
    assert answer.content == CONTENT
    assert {name: answer.headers[name] for name in answer.headers if name not in ("date", "x-request-id")} == {
        "accept-ranges": "bytes",
        "content-disposition": 'attachment; filename="model.bin"',
        "content-length": str(len(CONTENT)),
        "content-type": "application/octet-stream",
        "etag": ETAG,
        "repr-digest": f"sha-256=:{base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()}:",
        "x-content-type-options": "nosniff",
    }
    assert api.get(f"/v1/jobs/{finished}/artifacts/report.json").headers["content-type"] == "application/json"


def test_a_head_tells_all_but_the_bytes(finished: str, api: httpx.Client) -> None:
    url = f"/v1/jobs/{finished}/artifacts/model.bin"
    head, get = api.head(url), api.get(url)
    names = set(get.headers) - {"date", "x-request-id"}
    assert (head.status_code, head.content) == (200, b"")
    assert {name: head.headers[name] for name in names} == {name: get.headers[name] for name in names}
    assert api.head(url, headers={"Range": "bytes=0-9"}).headers["content-length"] == "10"


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1000000-1999999", 1_000_000, 2_000_000),
        ("bytes=2999990-", 2_999_990, 3_000_000),
        ("bytes=2999990-9999999", 2_999_990, 3_000_000),
        ("bytes=-7", 2_999_993, 3_000_000),
        ("bytes=-9999999", 0, 3_000_000),
    ],
)
def test_a_range_is_downloaded(asked: str, start: int, end: int, finished: str, api: httpx.Client) -> None:
    answer = api.get(f"/v1/jobs/{finished}/artifacts/model.bin", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, CONTENT[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/3000000"


@pytest.mark.parametrize("asked", ["bytes=3000000-", "bytes=-0", "bytes=9999999-99999999"])
def test_a_range_outside_is_refused(asked: str, finished: str, api: httpx.Client) -> None:
    answer = api.get(f"/v1/jobs/{finished}/artifacts/model.bin", headers={"Range": asked})
    problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == "bytes */3000000"


@pytest.mark.parametrize(
    "asked",
    ["bytes=5-2", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,5-6", "bytes=0-0,", f"bytes={'9' * 5000}-"],
    ids=lambda asked: asked[:20],
)
def test_a_range_that_is_not_understood_gives_the_whole(asked: str, finished: str, api: httpx.Client) -> None:
    answer = api.get(f"/v1/jobs/{finished}/artifacts/model.bin", headers={"Range": asked})
    assert (answer.status_code, len(answer.content)) == (200, len(CONTENT))


@pytest.mark.parametrize(
    ("if_range", "status"),
    [(ETAG, 206), ('"other"', 200), (f"W/{ETAG}", 200), ("Tue, 24 Nov 2026 07:00:00 GMT", 200)],
)
def test_a_range_of_other_bytes_gives_the_whole(if_range: str, status: int, finished: str, api: httpx.Client) -> None:
    headers = {"Range": "bytes=0-9", "If-Range": if_range}
    assert api.get(f"/v1/jobs/{finished}/artifacts/model.bin", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("known", "status"), [(ETAG, 304), (f'"a", W/{ETAG}', 304), ("*", 304), ('"other"', 200), (ETAG.strip('"'), 200)]
)
def test_bytes_that_the_client_has_are_not_sent(known: str, status: int, finished: str, api: httpx.Client) -> None:
    answer = api.get(f"/v1/jobs/{finished}/artifacts/model.bin", headers={"If-None-Match": known})
    assert (answer.status_code, answer.headers["etag"]) == (status, ETAG)
    assert len(answer.content) == (0 if status == 304 else len(CONTENT))


@pytest.mark.parametrize("name", ["none", "..%2f..%2fadtn.db", "model.bin%00"])
def test_a_name_that_is_no_artifact_is_not_found(name: str, finished: str, api: httpx.Client) -> None:
    problem(api.get(f"/v1/jobs/{finished}/artifacts/{name}"), 404, "not_found")


def test_bytes_that_the_store_lost_are_an_error_and_not_half_an_answer(make_server: Callable[..., Server]) -> None:
    own = make_server()
    with httpx.Client(base_url=own.url) as api:
        file = api.post("/v1/files", params={"purpose": "checkpoint"}, content=SAFETENSORS).json()
        shutil.rmtree(own.data_dir / "objects")
        answer = api.get(f"/v1/files/{file['id']}/content")
    problem(answer, 500, "internal_error")
    assert "Traceback" not in answer.text
    # The operator finds the request by its id, the client learns nothing of the inside.
    assert "FileNotFoundError" in own.log
    assert answer.headers["x-request-id"] in own.log
