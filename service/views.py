"""From what is stored to what is sent."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from fastapi import Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from jobs import records, workers
from jobs.files import FileInfo
from jobs.queue import FILES_QUEUE, JOBS_QUEUE
from jobs.schemas.common import Page
from jobs.schemas.files import File
from jobs.schemas.jobs import Artifact, Event, Job, JobProgress
from jobs.schemas.problems import Problem
from jobs.schemas.settings import JobSettings
from jobs.tables import ArtifactRecord, EventRow, JobRow


def file_view(file: FileInfo) -> File:
    """A file as it is sent."""
    return File(
        id=file.id,
        filename=file.filename,
        purpose=file.purpose,
        bytes=file.bytes,
        sha256=file.sha256,
        format=file.format,
        status=file.status,
        error=_problem(file.error),
        summary=file.summary,
        created_at=file.created_at,
        expires_at=file.expires_at,
    )


def job_views(session: Session, rows: Sequence[JobRow], worker_silence_s: float) -> list[Job]:
    """Jobs as they are sent; see `each_job_view`."""
    return list(each_job_view(session, rows, worker_silence_s))


def each_job_view(session: Session, rows: Sequence[JobRow], worker_silence_s: float) -> Iterator[Job]:
    """Jobs as they are sent, one after the other: the report of each is read when its turn comes.

    So who lets go of one before taking the next holds one report, which may have megabytes, and not all of them.

    Args:
        session: Reads what belongs to them.
        rows: The jobs.
        worker_silence_s: Age of the last heartbeat from which a worker counts as gone.
    """
    ids = [row.id for row in rows]
    artifacts = records.artifacts(session, ids)
    queued = [row for row in rows if row.status == "queued"]
    places = records.queue_positions(session, [row.id for row in queued]) if queued else {}
    messages = _queue_messages(session, queued, worker_silence_s) if queued else {}
    for row in rows:
        report = records.report(session, row.id) if row.status == "succeeded" else None
        yield _job(row, report, artifacts[row.id], places.get(row.id), messages.get(row.id, row.message))


def page_of_jobs(jobs: Iterable[Job], has_more: bool) -> Response:
    """A page of jobs as it is sent.

    Each job is turned into its text before the next is taken, since a report in memory takes several times its text.
    """
    start, end = Page[Job](data=[], has_more=has_more).model_dump_json().encode().split(b"[]")
    chunks = [start + b"["]
    for job in jobs:
        if len(chunks) > 1:
            chunks.append(b",")
        chunks.append(job.model_dump_json().encode())
    chunks.append(b"]" + end)
    length = sum(map(len, chunks))
    return StreamingResponse(_each(chunks), headers={"Content-Length": str(length)}, media_type="application/json")


async def _each(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def artifact_views(job_id: str, artifacts: Sequence[ArtifactRecord]) -> list[Artifact]:
    """Artifacts as they are sent."""
    return [
        Artifact(
            name=artifact.name,
            kind=artifact.kind,
            bytes=artifact.bytes,
            sha256=artifact.sha256,
            url=f"/v1/jobs/{job_id}/artifacts/{quote(artifact.name)}",
        )
        for artifact in artifacts
    ]


def event_view(row: EventRow) -> Event:
    """An event as it is sent."""
    return Event(id=row.id, sequence=row.sequence, type=row.type, created_at=row.created_at, data=row.data)


def _job(
    row: JobRow,
    report: dict[str, Any] | None,
    artifacts: Sequence[ArtifactRecord],
    place: int | None,
    message: str | None,
) -> Job:
    return Job(
        id=row.id,
        status=row.status,
        stage=row.stage,
        progress=JobProgress(
            fraction=row.fraction,
            stage=row.stage,
            stage_fraction=row.stage_fraction,
            eta_seconds=row.eta_seconds,
            message=message,
        ),
        queue_position=place,
        attempt=row.attempt,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        request=JobSettings.model_validate(row.settings, extra="ignore"),
        error=_problem(row.error),
        report=report,
        artifacts=artifact_views(row.id, artifacts),
        retried_from=row.retried_from,
    )


def _queue_messages(session: Session, rows: Sequence[JobRow], worker_silence_s: float) -> dict[str, str]:
    """What each queued job waits for."""
    unready = records.unready_files(session, rows)
    inspectors = workers.count(session, FILES_QUEUE, worker_silence_s) if unready else 0
    runners = workers.count(session, JOBS_QUEUE, worker_silence_s)
    messages = {}
    for row in rows:
        awaited = [file_id for file_id in (row.checkpoint_id, row.dataset_id) if file_id in unready]
        if awaited:
            nobody = "" if inspectors else ": no worker that inspects files is running"
            messages[row.id] = f"waiting for {awaited[0]} to be inspected{nobody}"
        elif not runners:
            messages[row.id] = "waiting for a worker: none is running"
        else:
            messages[row.id] = row.message or "waiting for a worker"
    return messages


def _problem(stored: dict[str, Any] | None) -> Problem | None:
    return None if stored is None else Problem(**stored)
