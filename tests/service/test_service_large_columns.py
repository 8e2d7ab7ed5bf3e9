"""Answers that have no layers and no report are made without reading them: here what is stored there cannot be read."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_support import Server, Worker
from sqlalchemy import event, text

from jobs import leases
from jobs.leases import Progress
from jobs.schemas.common import Page
from jobs.schemas.jobs import Job
from jobs.settings import Settings
from service.polling import changed_job
from service.resources import open_resources

REPORT = {
    "seed": 0,
    "texts": ["é ß 漢 😀", 'a "quote"', "\u2028\x7f"],
    "numbers": [1e-07, 0.1, 1e22, 2**70, -0.0, 3.0],
    "nested": {"a": [{}, [], None, True]},
}


@pytest.fixture
def make_job(api: httpx.Client, checkpoint: str) -> Callable[[], str]:
    return lambda: str(api.post("/v1/jobs", json={"checkpoint": checkpoint}).json()["id"])


def spoil(worker: Worker, table: str, row_id: str, *columns: str) -> None:
    """Put what is no JSON where JSON is stored: who reads it fails."""
    values = ", ".join(f"{column} = '{{'" for column in columns)
    with worker.db.begin() as session:
        session.execute(text(f"UPDATE {table} SET {values} WHERE id = :id"), {"id": row_id})


def events_of(answer: httpx.Response) -> list[str]:
    return [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]


def test_files_are_listed_shown_downloaded_and_deleted_without_their_layers(
    checkpoint: str, worker: Worker, api: httpx.Client
) -> None:
    paths = ("/v1/files?limit=1", f"/v1/files/{checkpoint}", f"/v1/files/{checkpoint}/content")
    before = [api.get(path).content for path in paths]
    spoil(worker, "files", checkpoint, "layers", "aliases")
    assert [api.get(path).content for path in paths] == before
    assert json.loads(before[0])["data"] == [json.loads(before[1])]
    assert api.delete(f"/v1/files/{checkpoint}").status_code == 204


def test_what_happened_to_a_job_is_told_without_its_report_and_settings(
    make_job: Callable[[], str], worker: Worker, api: httpx.Client, tmp_path: Path
) -> None:
    job_id = make_job()
    worker.succeed(worker.take(job_id), tmp_path, REPORT)
    spoil(worker, "jobs", job_id, "report", "settings")
    url = f"/v1/jobs/{job_id}/events"
    assert [item["type"] for item in api.get(url).json()["data"]] == ["job.queued", "job.started", "job.succeeded"]
    stream = {"Accept": "text/event-stream"}
    assert events_of(api.get(url, headers=stream)) == ["job.queued", "job.started", "job.succeeded"]
    assert api.get(url, headers={**stream, "Last-Event-ID": "3"}).status_code == 204


def test_a_stream_follows_a_job_without_its_settings(
    make_job: Callable[[], str], worker: Worker, api: httpx.Client, tmp_path: Path
) -> None:
    job_id = make_job()
    spoil(worker, "jobs", job_id, "settings")
    timer = threading.Timer(0.6, lambda: worker.succeed(worker.take(job_id), tmp_path, REPORT))
    timer.start()
    answer = api.get(f"/v1/jobs/{job_id}/events", headers={"Accept": "text/event-stream"})
    timer.join()
    assert events_of(answer)[-1] == "job.succeeded"


def test_artifacts_are_listed_and_downloaded_without_the_report(
    make_job: Callable[[], str], worker: Worker, api: httpx.Client, tmp_path: Path
) -> None:
    job_id = make_job()
    worker.succeed(worker.take(job_id), tmp_path, REPORT, **{"model.bin": b"abc"})
    spoil(worker, "jobs", job_id, "report")
    assert [item["name"] for item in api.get(f"/v1/jobs/{job_id}/artifacts").json()["data"]] == ["model.bin"]
    assert api.get(f"/v1/jobs/{job_id}/artifacts/model.bin").content == b"abc"
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204


def test_a_list_of_jobs_reads_the_reports_that_it_sends_alone(
    make_job: Callable[[], str], worker: Worker, api: httpx.Client, tmp_path: Path
) -> None:
    older, done, running = make_job(), make_job(), make_job()
    for job_id in (older, done):
        worker.succeed(worker.take(job_id), tmp_path, REPORT)
    worker.take(running)
    spoil(worker, "jobs", older, "report")  # looked at to know whether there is more
    spoil(worker, "jobs", running, "report")  # has none yet, and is not asked for one
    page = api.get("/v1/jobs", params={"limit": 2}).json()
    assert [(job["id"], job["report"]) for job in page["data"]] == [(running, None), (done, REPORT)]
    assert page["has_more"]
    assert api.get(f"/v1/jobs/{running}", params={"wait": 0.6}).json() == page["data"][0]


@pytest.mark.parametrize(("number", "status"), [(0, "cancelling"), (1, "succeeded"), (3, "succeeded")])
def test_a_list_of_jobs_is_sent_as_its_schema_is_written(
    number: int, status: str, make_job: Callable[[], str], worker: Worker, api: httpx.Client, tmp_path: Path
) -> None:
    for _ in range(number):
        worker.succeed(worker.take(make_job()), tmp_path, REPORT, **{"model.bin": b"abc"})
    answer = api.get("/v1/jobs", params={"limit": number or 20, "status": status})
    page = Page[Job].model_validate(answer.json())
    assert [job.report for job in page.data] == [REPORT] * number
    assert answer.content == page.model_dump_json().encode()
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.content))


def test_a_wait_looks_at_status_and_stage_and_loads_the_job_twice(
    server: Server, make_job: Callable[[], str], worker: Worker
) -> None:
    job_id = make_job()
    lease = worker.take(job_id)
    resources = open_resources(Settings(data_dir=server.data_dir, broker_url=server.environment["ADTN_BROKER_URL"]))
    statements: list[str] = []
    progress = Progress("plan", 0, 0.05, None, "planning")
    timer = threading.Timer(0.9, leases.progress, (worker.db, lease, progress))

    def note(_connection: object, _cursor: object, statement: str, *_more: Any) -> None:
        if "FROM jobs" in statement:
            statements.append(statement.split("FROM")[0])

    event.listen(resources.db.engine, "before_cursor_execute", note)
    timer.start()
    job = asyncio.run(changed_job(resources, "local", job_id, 20, None))
    timer.join()
    resources.db.close()
    assert (job.status, job.stage, job.progress.message) == ("running", "plan", "planning")
    assert not any("report" in statement for statement in statements)
    first, *looks, last = statements
    assert "jobs.settings" in first
    assert first == last
    assert len(looks) >= 2
    assert {tuple(look.removeprefix("SELECT").replace(",", " ").split()) for look in looks} == {
        ("jobs.status", "jobs.stage", "jobs.events")
    }
