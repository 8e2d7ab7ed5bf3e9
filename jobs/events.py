"""What happened to a job, in order: each event has the next number of its job."""

from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from jobs.database import Database, now
from jobs.ids import new_id
from jobs.problems import Fault, ProblemError
from jobs.tables import EventRow, JobRow

EventType = Literal[
    "job.queued",
    "job.started",
    "job.stage",
    "job.progress",
    "job.retried",
    "job.cancelling",
    "job.succeeded",
    "job.failed",
    "job.cancelled",
]


def append(session: Session, job_id: str, type: EventType, data: dict[str, Any]) -> None:
    """Add an event in the transaction of `session`: it is seen if, and only if, what it tells of is."""
    # The update locks the job's row, so two events never get the same number.
    number = session.scalars(
        update(JobRow).where(JobRow.id == job_id).values(events=JobRow.events + 1).returning(JobRow.events),
        execution_options={"synchronize_session": False},
    ).one()
    session.add(
        EventRow(job_id=job_id, sequence=number, id=new_id("evt"), type=type, data=data, created_at=now(session))
    )


def after(db: Database, job_id: str, sequence: int, limit: int) -> list[EventRow]:
    """At most `limit` events of a job that follow number `sequence`, in order."""
    with db.read() as session:
        return list(
            session.scalars(
                select(EventRow)
                .where(EventRow.job_id == job_id, EventRow.sequence > sequence)
                .order_by(EventRow.sequence)
                .limit(limit)
            )
        )


def sequence_of(db: Database, job_id: str, event_id: str) -> int:
    """The number of an event.

    Raises:
        ProblemError: validation_failed where the job has no such event.
    """
    with db.read() as session:
        found = session.scalars(
            select(EventRow.sequence).where(EventRow.job_id == job_id, EventRow.id == event_id)
        ).one_or_none()
    if found is None:
        fault = Fault("/after", f"there is no event {event_id!r} of this job", "unknown_cursor")
        raise ProblemError("validation_failed", fault.detail, [fault])
    return found
