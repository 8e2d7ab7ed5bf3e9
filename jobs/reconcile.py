"""Heals what a lost message or a lost worker left behind. Run every few seconds; twice at once is harmless."""

import logging
from datetime import datetime, timedelta

from celery import Celery
from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from jobs import events, files, idempotency, queue, workers
from jobs.database import Database, now
from jobs.leases import back_in_queue
from jobs.problems import ProblemError
from jobs.publishing import try_publish_file, try_publish_job
from jobs.queue import QueueUnavailable
from jobs.records import ready_to_run
from jobs.tables import FileRow, JobRow

log = logging.getLogger(__name__)


def reconcile(db: Database, app: Celery, *, republish_s: float = 30.0, max_attempts: int = 3) -> None:
    """Look once at all that has not ended.

    Args:
        db: The database.
        app: Publishes.
        republish_s: Age from which a message that no worker has taken is looked for.
        max_attempts: How often an inspection is started before the file is rejected.
    """
    take_back_lost_jobs(db)
    give_up_inspections(db, max_attempts)
    idempotency.forget_old(db)
    workers.forget_old(db)
    try:
        republish(db, app, republish_s)
    except QueueUnavailable as error:
        log.warning("nothing is published: %s", error)


def take_back_lost_jobs(db: Database) -> None:
    """Queue jobs again whose lease has ended, or end them: cancelled where that was asked, failed after too many."""
    with db.read() as session:
        lost = list(session.scalars(select(JobRow).where(JobRow.lease_until < now(session))))
    for row in lost:
        with db.begin() as session:
            take_back(session, row)


def take_back(session: Session, row: JobRow) -> None:
    """Take one job back, unless its worker was heard of in the meantime."""
    time = now(session)
    losses = row.losses + 1
    lost = f"worker {row.lease_owner} was lost in attempt {row.attempt} of {row.max_attempts}"
    ended = {"finished_at": time, "lease_owner": None, "lease_until": None, "eta_seconds": None, "message": None}
    error = ProblemError("worker_lost", f"{lost}; it may have run out of memory").to_json()
    if row.status == "cancelling":
        written = _write(session, row, time, status="cancelled", **ended)
        event: tuple[events.EventType, dict[str, object]] = ("job.cancelled", {"attempt": row.attempt})
    elif losses >= row.max_attempts:
        written = _write(session, row, time, status="failed", losses=losses, error=error, **ended)
        event = ("job.failed", {"attempt": row.attempt, "error": error})
    else:
        written = _write(session, row, time, losses=losses, **back_in_queue(time, f"{lost}; trying again"))
        event = ("job.retried", {"attempt": row.attempt, "reason": lost})
    if written:
        log.warning("%s: %s", row.id, lost)
        events.append(session, row.id, *event)


def _write(session: Session, row: JobRow, time: datetime, **values: object) -> bool:
    """Write if the row is as it was read and its lease has ended."""
    written = session.scalars(
        update(JobRow)
        .where(
            JobRow.id == row.id,
            JobRow.attempt == row.attempt,
            JobRow.status == row.status,
            JobRow.lease_until < time,
        )
        .values(**values)
        .returning(JobRow.id),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    return written is not None


def give_up_inspections(db: Database, max_attempts: int) -> None:
    """Reject files on which inspections were lost again and again."""
    with db.begin() as session:
        hopeless = select(FileRow.id).where(
            FileRow.status == "processing",
            FileRow.inspections >= max_attempts,
            FileRow.inspected_until < now(session),
        )
        for file_id in list(session.scalars(hopeless)):
            error = ProblemError("worker_lost", f"the inspection of the file was lost {max_attempts} times")
            files.reject(session, file_id, error)


def republish(db: Database, app: Celery, republish_s: float) -> None:
    """Publish what was never published, and what no message asks for any more.

    Which messages are there is not known, only how many: a message can be lost only when the queue is empty and the
    row is still untouched. So a long queue is never filled with doubles.

    Raises:
        QueueUnavailable: Redis does not answer.
    """
    with db.read() as session:
        time = now(session)
        old = time - timedelta(seconds=republish_s)
        free = or_(FileRow.inspected_until.is_(None), FileRow.inspected_until < time)
        processing = select(FileRow.id).where(FileRow.status == "processing", free).order_by(FileRow.created_at)
        new_files = list(session.scalars(processing.where(FileRow.published_at.is_(None))))
        old_files = list(session.scalars(processing.where(FileRow.published_at < old)))
        new_jobs = list(session.scalars(ready_to_run().where(JobRow.published_at.is_(None))))
        old_jobs = list(session.scalars(ready_to_run().where(JobRow.published_at < old)))
    if old_files and queue.waiting(app, queue.FILES_QUEUE) == 0:
        new_files += old_files
    if old_jobs and queue.waiting(app, queue.JOBS_QUEUE) == 0:
        new_jobs += old_jobs
    # `all` stops at the first that fails: the others would fail too, each after a wait.
    all(try_publish_file(db, app, file_id) for file_id in new_files)
    all(try_publish_job(db, app, job_id) for job_id in new_jobs)
