"""Jobs: created, listed, cancelled, retried and deleted by their owner; loaded by the worker that holds the lease."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, or_, select, update
from sqlalchemy.orm import Session, undefer

from jobs import events, files, removals
from jobs.database import Database, now
from jobs.files import FileRecord
from jobs.ids import new_id
from jobs.pages import page
from jobs.problems import Fault, ProblemError
from jobs.schemas.settings import JobSettings
from jobs.states import TERMINAL, JobStatus, Purpose, Stage
from jobs.store import Store
from jobs.tables import ArtifactRecord, FileRow, JobRow


@dataclass(frozen=True)
class JobRecord:
    """A job as the worker that runs it needs it; `dataset` is None where the settings name none or a known one."""

    id: str
    owner: str
    attempt: int
    settings: JobSettings
    checkpoint: FileRecord
    dataset: FileRecord | None


@dataclass(frozen=True)
class Standing:
    """What is looked at several times a second by those who wait for a job; `events` counts those that it has."""

    status: JobStatus
    stage: Stage | None
    events: int


def is_file_id(name: str) -> bool:
    """Whether a data set is a file rather than known by name."""
    return name.startswith("file_")


def create(
    session: Session, *, owner: str, settings: JobSettings, max_attempts: int, retried_from: str | None = None
) -> JobRow:
    """Queue a job.

    Raises:
        ProblemError: not_found, wrong_purpose or file_rejected, for a file that the settings name.
    """
    checkpoint = _usable(session, owner, settings.checkpoint, "checkpoint")
    dataset = None
    if settings.dataset is not None and is_file_id(settings.dataset):
        dataset = _usable(session, owner, settings.dataset, "dataset")
    time = now(session)
    row = JobRow(
        id=new_id("job"),
        owner=owner,
        status="queued",
        settings=settings.model_dump(mode="json"),
        checkpoint_id=checkpoint.id,
        dataset_id=dataset.id if dataset else None,
        retried_from=retried_from,
        max_attempts=max_attempts,
        created_at=time,
        queued_at=time,
    )
    session.add(row)
    session.flush()
    events.append(session, row.id, "job.queued", {"retried_from": retried_from} if retried_from else {})
    session.refresh(row)
    return row


def _usable(session: Session, owner: str, file_id: str, purpose: Purpose) -> FileRow:
    """A file that a job names; locked, so that it is neither rejected nor deleted before the job is there."""
    row = files.find(session, owner, file_id, lock=True)
    pointer = f"/{purpose}"
    if row.purpose != purpose:
        fault = Fault(pointer, f"{file_id} was uploaded as a {row.purpose}, expected a {purpose}", "wrong_purpose")
        raise ProblemError("wrong_purpose", fault.detail, [fault])
    if row.status == "rejected":
        reason = row.error["detail"] if row.error else "it cannot be used"
        fault = Fault(pointer, f"{file_id} was rejected: {reason}", "file_rejected")
        raise ProblemError("file_rejected", fault.detail, [fault])
    return row


def find(session: Session, owner: str, job_id: str, *, lock: bool = False) -> JobRow:
    """The row of a job, without its report; with `lock`, nobody else changes it until the transaction ends.

    Raises:
        ProblemError: not_found, also where the job is another owner's.
    """
    statement = _select(owner, job_id)
    return _one(session, statement.with_for_update() if lock else statement, job_id)


def get(db: Database, owner: str, job_id: str) -> JobRow:
    """A job with its report.

    Raises:
        ProblemError: not_found, also where the job is another owner's.
    """
    with db.read() as session:
        return _one(session, _select(owner, job_id).options(undefer(JobRow.report)), job_id)


def standing(db: Database, owner: str, job_id: str) -> Standing:
    """How a job stands.

    Raises:
        ProblemError: not_found, also where the job is another owner's.
    """
    with db.read() as session:
        columns = select(JobRow.status, JobRow.stage, JobRow.events)
        found = session.execute(columns.where(JobRow.id == job_id, JobRow.owner == owner)).one_or_none()
    if found is None:
        raise _not_found(job_id)
    return Standing(found.status, found.stage, found.events)


def report(session: Session, job_id: str) -> dict[str, Any] | None:
    """The report of a job; None before it has succeeded."""
    return session.scalars(select(JobRow.report).where(JobRow.id == job_id)).one_or_none()


def _select(owner: str, job_id: str) -> Select[JobRow]:
    return select(JobRow).where(JobRow.id == job_id, JobRow.owner == owner)


def _one(session: Session, statement: Select[JobRow], job_id: str) -> JobRow:
    row = session.scalars(statement).one_or_none()
    if row is None:
        raise _not_found(job_id)
    return row


def _not_found(job_id: str) -> ProblemError:
    return ProblemError("not_found", f"there is no job {job_id!r}")


def list_page(
    db: Database, owner: str, limit: int, after: str | None, status: JobStatus | None
) -> tuple[list[JobRow], bool]:
    """Jobs of an owner without their reports, newest first, and whether there are more.

    Raises:
        ProblemError: validation_failed when `after` is not one of the owner's jobs.
    """
    with db.read() as session:
        rows = select(JobRow).where(JobRow.owner == owner)
        if status is not None:
            rows = rows.where(JobRow.status == status)
        return page(session, JobRow, rows, owner, limit, after)


def artifacts(session: Session, job_ids: Sequence[str]) -> dict[str, list[ArtifactRecord]]:
    """The artifacts of each job."""
    found: dict[str, list[ArtifactRecord]] = {job_id: [] for job_id in job_ids}
    rows = select(ArtifactRecord).where(ArtifactRecord.job_id.in_(job_ids)).order_by(ArtifactRecord.name)
    for row in session.scalars(rows):
        found[row.job_id].append(row)
    return found


def queue_positions(session: Session, job_ids: Sequence[str]) -> dict[str, int]:
    """The place in the queue of those of the jobs that are queued, from 1."""
    place = func.row_number().over(order_by=(JobRow.queued_at, JobRow.id)).label("place")
    queue = select(JobRow.id, place).where(JobRow.status == "queued").subquery()
    rows = session.execute(select(queue.c.id, queue.c.place).where(queue.c.id.in_(job_ids)))
    return {row.id: row.place for row in rows}


def unready_files(session: Session, rows: Sequence[JobRow]) -> set[str]:
    """Those files of the jobs that wait for their inspection."""
    ids = {file_id for row in rows for file_id in (row.checkpoint_id, row.dataset_id) if file_id is not None}
    return set(session.scalars(select(FileRow.id).where(FileRow.id.in_(ids), FileRow.status == "processing")))


def cancel(db: Database, owner: str, job_id: str) -> JobRow:
    """Cancel a job: at once if it is queued, else when its worker has stopped. Cancelling twice changes nothing.

    Raises:
        ProblemError: not_found, or job_finished where it has succeeded or failed.
    """
    with db.begin() as session:
        row = find(session, owner, job_id, lock=True)
        if row.status in ("succeeded", "failed"):
            raise ProblemError("job_finished", f"{job_id} has {row.status} and stays so")
        if row.status == "queued":
            row.status, row.finished_at, row.message = "cancelled", now(session), None
            session.flush()
            events.append(session, job_id, "job.cancelled", {"attempt": row.attempt})
        elif row.status == "running":
            row.status, row.message = "cancelling", "stopping"
            session.flush()
            events.append(session, job_id, "job.cancelling", {"attempt": row.attempt})
        session.refresh(row)
        return row


def retry(session: Session, owner: str, job_id: str, *, max_attempts: int) -> JobRow:
    """Queue a new job with the settings of one that failed or was cancelled, whose own state never changes.

    Raises:
        ProblemError: not_found (the job, or a file of it that is deleted), job_not_retryable, or file_rejected.
    """
    row = find(session, owner, job_id)
    if row.status not in ("failed", "cancelled"):
        raise ProblemError("job_not_retryable", f"{job_id} is {row.status}; expected failed or cancelled")
    settings = JobSettings.model_validate(row.settings)
    return create(session, owner=owner, settings=settings, max_attempts=max_attempts, retried_from=job_id)


def delete(db: Database, store: Store, owner: str, job_id: str) -> None:
    """Remove a job that has ended, and its objects.

    Raises:
        ProblemError: not_found, or job_not_finished.
    """
    with db.begin() as session:
        row = find(session, owner, job_id, lock=True)
        if row.status not in TERMINAL:
            raise ProblemError("job_not_finished", f"{job_id} is {row.status}; cancel it first")
        session.delete(row)
        removals.condemn(session, folder(job_id))
    removals.carry_out(db, store, folder(job_id))


def folder(job_id: str) -> str:
    """The prefix of all objects of a job."""
    return f"jobs/{job_id}"


def load_for_worker(db: Database, job_id: str) -> JobRecord:
    """A job with its files, for the worker that holds its lease.

    Raises:
        ProblemError: not_found where the job or a file of it is gone.
    """
    with db.read() as session:
        row = session.get(JobRow, job_id)
        if row is None:
            raise _not_found(job_id)
        settings = JobSettings.model_validate(row.settings)
        checkpoint = files.load(session, row.owner, settings.checkpoint)
        dataset = None
        if settings.dataset is not None and is_file_id(settings.dataset):
            dataset = files.load(session, row.owner, settings.dataset)
        return JobRecord(row.id, row.owner, row.attempt, settings, checkpoint, dataset)


def waiting_for(db: Database, file_id: str) -> list[str]:
    """The queued jobs that name a file and whose files are all ready, oldest first: these can be published."""
    with db.read() as session:
        rows = ready_to_run().where(or_(JobRow.checkpoint_id == file_id, JobRow.dataset_id == file_id))
        return list(session.scalars(rows))


def ready_to_run() -> Select[str]:
    """Selects the ids of queued jobs whose files are all ready, oldest first."""
    unready = select(FileRow.id).where(
        FileRow.id.in_([JobRow.checkpoint_id, JobRow.dataset_id]), FileRow.status != "ready"
    )
    return select(JobRow.id).where(JobRow.status == "queued", ~unready.exists()).order_by(JobRow.queued_at, JobRow.id)


def mark_published(db: Database, job_id: str) -> None:
    """Write that a message asks for the job."""
    with db.begin() as session:
        session.execute(
            update(JobRow).where(JobRow.id == job_id).values(published_at=now(session)),
            execution_options={"synchronize_session": False},
        )
