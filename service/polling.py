"""Waiting for a job without holding a thread: the row is read again and again until it has changed.

A look reads the few columns that are compared, and no report: it is repeated four times a second for each client.
"""

import asyncio
import hashlib
import time

from fastapi import Response
from fastapi.concurrency import run_in_threadpool

from jobs import records
from jobs.schemas.jobs import Job
from jobs.states import TERMINAL, JobStatus, Stage
from service.downloads import matches
from service.resources import Resources
from service.views import job_views

# Between two looks at a row, of a long poll or an event stream.
LOOK_S = 0.25


async def changed_job(resources: Resources, owner: str, job_id: str, wait_s: float, if_none_match: str | None) -> Job:
    """A job, as soon as its status or stage is another than now; after `wait_s` seconds as it is then.

    Args:
        resources: The database.
        owner: Whose job it must be.
        job_id: The job.
        wait_s: Longest wait; 0 answers at once.
        if_none_match: What the client has; where the job is already another, the answer comes at once.

    Raises:
        ProblemError: not_found.
    """
    deadline = time.monotonic() + wait_s
    job = await run_in_threadpool(_load, resources, owner, job_id)
    known = if_none_match is None or matches(if_none_match, _etag(_body(job)))
    if wait_s == 0 or job.status in TERMINAL or not known:
        return job
    seen = first = (job.status, job.stage)
    while seen == first and time.monotonic() < deadline and not resources.stopping.is_set():
        await asyncio.sleep(min(LOOK_S, max(0.0, deadline - time.monotonic())))
        seen = await run_in_threadpool(_look, resources, owner, job_id)
    return await run_in_threadpool(_load, resources, owner, job_id)


def job_response(job: Job, if_none_match: str | None) -> Response:
    """The job with its ETag, or 304 where the client has it."""
    body = _body(job)
    headers = {"ETag": _etag(body), "Cache-Control": "no-cache"}
    if job.status not in TERMINAL:
        headers["Retry-After"] = "1"
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def _look(resources: Resources, owner: str, job_id: str) -> tuple[JobStatus, Stage | None]:
    found = records.standing(resources.db, owner, job_id)
    return found.status, found.stage


def _load(resources: Resources, owner: str, job_id: str) -> Job:
    with resources.db.read() as session:
        row = records.find(session, owner, job_id)
        return job_views(session, [row], resources.settings.worker_silence_s)[0]


def _body(job: Job) -> bytes:
    return job.model_dump_json().encode()


def _etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'
