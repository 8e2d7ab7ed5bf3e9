"""Heals what a lost message or a lost worker left behind. Run every few seconds; twice at once is harmless."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from celery import Celery
from sqlalchemy import ColumnElement, Row, func, or_, select, update
from sqlalchemy.orm import Session

from jobs import events, files, idempotency, queue, workers
from jobs.database import Database, now
from jobs.leases import HELD, back_in_queue
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
        # Only these have a lease; said so, the index on `status` finds them.
        held = select(JobRow).where(JobRow.status.in_(HELD), JobRow.lease_until < now(session))
        lost = list(session.scalars(held))
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

    Which messages there are is not known, but how many are, and that a queue is first in, first out. So the message of
    an untouched row is taken for lost, by Redis or with the worker that it had been delivered to, if it is older than
    `republish_s` and

    - the queue is empty. Then younger rows have no message either, unless a worker is just being handed it: all are
      published, in their order, lest the young have to wait for whatever comes meanwhile; or
    - it was overtaken: something that was created after it was published has begun. Creation counts, not publication:
      what was published again may begin by an older message in an older place, as the broker puts that of a worker
      that ended back to the head of the queue, and would seem to have overtaken all. A job counts once it began
      `republish_s` ago: a worker that had been handed the overtaken message would have begun by then, too. Of files
      it is not known when they began.

    A message too many does no harm. There are few: a row that is published again can be overtaken anew only by what
    is created after that.

    Raises:
        QueueUnavailable: Redis does not answer.
    """
    with db.read() as session:
        time = now(session)
        old = time - timedelta(seconds=republish_s)
        free = or_(FileRow.inspected_until.is_(None), FileRow.inspected_until < time)
        processing = select(FileRow.id).where(FileRow.status == "processing", free).order_by(FileRow.created_at)
        file_rows = session.execute(processing.add_columns(FileRow.published_at)).all()
        job_rows = session.execute(ready_to_run().add_columns(JobRow.published_at)).all()
    last_file = partial(_last_begun, db, FileRow, FileRow.inspections > 0)
    last_job = partial(_last_begun, db, JobRow, JobRow.started_at < old)
    file_ids = _unasked(file_rows, old, partial(queue.waiting, app, queue.FILES_QUEUE), last_file)
    job_ids = _unasked(job_rows, old, partial(queue.waiting, app, queue.JOBS_QUEUE), last_job)
    # `all` stops at the first that fails: the others would fail too, each after a wait.
    all(try_publish_file(db, app, file_id) for file_id in file_ids)
    all(try_publish_job(db, app, job_id) for job_id in job_ids)


def _unasked(
    rows: Sequence[Row[str, datetime | None]],
    old: datetime,
    waiting: Callable[[], int],
    last_begun: Callable[[datetime], datetime | None],
) -> list[str]:
    """The ids of those rows that no message asks for.

    Args:
        rows: Id and time of publication of all that is untouched in one queue, in order.
        old: The message of what was published before may have been lost.
        waiting: How many messages the queue has.
        last_begun: When the last was created of what has begun, if that was after a time.
    """
    aged = [published for _, published in rows if published is not None and published < old]
    if not aged:
        return [id for id, published in rows if published is None]
    if waiting() == 0:
        return [id for id, _ in rows]
    last = last_begun(min(aged))
    return [id for id, published in rows if published is None or (last is not None and published < min(old, last))]


def _last_begun(
    db: Database, table: type[FileRow] | type[JobRow], begun: ColumnElement[bool], after: datetime
) -> datetime | None:
    """When the last row was created of those that have begun, if that was after a time.

    An index has the ids of the young. Without, SQLite would read every row whole, of which each may have megabytes.
    """
    young = select(table.id).where(table.created_at > after)
    with db.read() as session:
        return session.scalar(select(func.max(table.created_at)).where(table.id.in_(young), begun))
