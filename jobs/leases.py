"""Leases: which worker runs a job. Every write of a worker is one statement guarded by the lease's attempt number.

A worker that was paused, cut off or declared lost holds an old number, so its writes change no row and raise
`LeaseLost`: whatever it computed cannot reach the job.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, case, func, or_, select, update
from sqlalchemy.orm import Session

from jobs import events
from jobs.database import Database, now
from jobs.events import EventType
from jobs.problems import ProblemError
from jobs.states import JobStatus, Stage, sources
from jobs.tables import ArtifactRecord, FileRow, JobRow

# Progress within a stage is an event each time the job is this much further, so a job has a few hundred events at most.
EVENT_FRACTION = 0.005

# The states in which a worker holds the job.
HELD: tuple[JobStatus, ...] = ("running", "cancelling")


class LeaseLost(Exception):
    """Another attempt holds the job, or it has ended: this worker must stop and may not write."""


@dataclass(frozen=True)
class Lease:
    """The right to run one attempt at a job."""

    job_id: str
    attempt: int
    owner: str


@dataclass(frozen=True)
class Progress:
    """How far an attempt is; fractions are 0 to 1."""

    stage: Stage
    stage_fraction: float
    fraction: float
    eta_seconds: float | None
    message: str


@dataclass(frozen=True)
class ArtifactRow:
    """A file that the worker has put into the store under `key`."""

    name: str
    kind: str
    bytes: int
    sha256: str
    key: str


def take(db: Database, job_id: str, *, owner: str, lease_s: float) -> Lease | None:
    """Take a job that is queued with all its files ready, or whose worker has been silent for too long.

    Args:
        db: The database.
        job_id: The job.
        owner: Names the worker.
        lease_s: Seconds until the lease ends if it is not renewed.

    Returns:
        The lease, or None if there is nothing to do: somebody else runs the job, or it has ended, or it is gone.
    """
    with db.begin() as session:
        time = now(session)
        lost = and_(JobRow.status == "running", JobRow.lease_until < time, JobRow.losses + 1 < JobRow.max_attempts)
        unready = select(FileRow.id).where(
            FileRow.id.in_([JobRow.checkpoint_id, JobRow.dataset_id]), FileRow.status != "ready"
        )
        attempt = session.scalars(
            update(JobRow)
            .where(JobRow.id == job_id, or_(JobRow.status == "queued", lost), ~unready.exists())
            .values(
                status="running",
                attempt=JobRow.attempt + 1,
                losses=JobRow.losses + case((JobRow.status == "running", 1), else_=0),
                lease_owner=owner,
                lease_until=time + timedelta(seconds=lease_s),
                started_at=func.coalesce(JobRow.started_at, time),
                stage=None,
                stage_fraction=None,
                fraction=0.0,
                eta_seconds=None,
                message="started",
            )
            .returning(JobRow.attempt),
            execution_options={"synchronize_session": False},
        ).one_or_none()
        if attempt is None:
            return None
        events.append(session, job_id, "job.started", {"attempt": attempt, "worker": owner})
        return Lease(job_id, attempt, owner)


def renew(db: Database, lease: Lease, *, lease_s: float) -> bool:
    """Extend a lease to `lease_s` seconds from now.

    Returns:
        True while the worker should go on, False when the job is to be cancelled.

    Raises:
        LeaseLost: Another attempt holds the job, or it has ended.
    """
    with db.begin() as session:
        until = now(session) + timedelta(seconds=lease_s)
        return _write(session, lease, HELD, lease_until=until) == "running"


def progress(db: Database, lease: Lease, progress: Progress) -> None:
    """Write how far the attempt is.

    Raises:
        LeaseLost: Another attempt holds the job, or it has ended.
    """
    with db.begin() as session:
        before = session.execute(
            select(JobRow.stage, JobRow.fraction).where(JobRow.id == lease.job_id, JobRow.attempt == lease.attempt)
        ).one_or_none()
        values = asdict(progress)
        _write(session, lease, HELD, **values)
        steps = [int(fraction / EVENT_FRACTION) for fraction in (before.fraction if before else 0.0, progress.fraction)]
        if before is None or before.stage != progress.stage or steps[0] != steps[1]:
            events.append(session, lease.job_id, "job.progress", values)


def note(db: Database, lease: Lease, type: EventType, data: dict[str, Any]) -> None:
    """Add an event.

    Raises:
        LeaseLost: Another attempt holds the job, or it has ended.
    """
    with db.begin() as session:
        _write(session, lease, HELD, attempt=lease.attempt)
        events.append(session, lease.job_id, type, data)


def succeed(db: Database, lease: Lease, report: dict[str, Any], artifacts: Sequence[ArtifactRow]) -> None:
    """End the job with its report and artifacts; a job that is being cancelled becomes `cancelled` instead.

    Raises:
        LeaseLost: Another attempt holds the job, or it has ended.
    """
    with db.begin() as session:
        if _cancelling(session, lease):
            return _cancel(session, lease)
        done = {"fraction": 1.0, "stage_fraction": 1.0, "eta_seconds": 0.0, "message": None}
        _end(session, lease, "succeeded", report=report, **done)
        session.add_all(ArtifactRecord(job_id=lease.job_id, **asdict(artifact)) for artifact in artifacts)
        names = [artifact.name for artifact in artifacts]
        events.append(session, lease.job_id, "job.succeeded", {"attempt": lease.attempt, "artifacts": names})
    return None


def fail(db: Database, lease: Lease, error: ProblemError) -> None:
    """End the job with an error; a job that is being cancelled becomes `cancelled` instead.

    Raises:
        LeaseLost: Another attempt holds the job, or it has ended.
    """
    with db.begin() as session:
        if _cancelling(session, lease):
            return _cancel(session, lease)
        problem = error.to_json()
        _end(session, lease, "failed", error=problem, eta_seconds=None, message=None)
        events.append(session, lease.job_id, "job.failed", {"attempt": lease.attempt, "error": problem})
    return None


def cancelled(db: Database, lease: Lease) -> None:
    """End a job that its owner cancelled, once nothing of it runs any more.

    Raises:
        LeaseLost: Another attempt holds the job, or it has ended.
    """
    with db.begin() as session:
        _cancel(session, lease)


def release(db: Database, lease: Lease, message: str) -> None:
    """Give the job back to the queue, as a worker does that shuts down; the caller publishes it.

    A job that is being cancelled becomes `cancelled` instead.

    Raises:
        LeaseLost: Another attempt holds the job, or it has ended.
    """
    with db.begin() as session:
        if _cancelling(session, lease):
            return _cancel(session, lease)
        _write(session, lease, ("running",), **back_in_queue(now(session), message))
        events.append(session, lease.job_id, "job.retried", {"attempt": lease.attempt, "reason": message})
    return None


def back_in_queue(time: datetime, message: str) -> dict[str, Any]:
    """The values of a row that is queued again."""
    return {
        "status": "queued",
        "queued_at": time,
        "published_at": None,
        "lease_owner": None,
        "lease_until": None,
        "eta_seconds": None,
        "message": message,
    }


def _write(session: Session, lease: Lease, statuses: tuple[JobStatus, ...], **values: Any) -> JobStatus:
    """Write to the job if the lease still holds and the status is one of `statuses`; the status afterwards."""
    status = session.scalars(
        update(JobRow)
        .where(JobRow.id == lease.job_id, JobRow.attempt == lease.attempt, JobRow.status.in_(statuses))
        .values(**values)
        .returning(JobRow.status),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    if status is None:
        raise LeaseLost(f"{lease.job_id}: attempt {lease.attempt} of {lease.owner} no longer holds the job")
    return status


def _end(session: Session, lease: Lease, status: JobStatus, **values: Any) -> None:
    ended = {"status": status, "finished_at": now(session), "lease_owner": None, "lease_until": None}
    _write(session, lease, tuple(held for held in HELD if held in sources(status)), **ended, **values)


def _cancelling(session: Session, lease: Lease) -> bool:
    """Whether the owner asked to cancel; locks the row, so that the answer holds until the transaction ends."""
    status = session.scalars(
        select(JobRow.status).where(JobRow.id == lease.job_id, JobRow.attempt == lease.attempt).with_for_update()
    ).one_or_none()
    return status == "cancelling"


def _cancel(session: Session, lease: Lease) -> None:
    _end(session, lease, "cancelled", eta_seconds=None, message=None)
    events.append(session, lease.job_id, "job.cancelled", {"attempt": lease.attempt})
