"""Uploads: created by the service, inspected by a worker, named by jobs."""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, or_, select, update
from sqlalchemy.orm import Session, undefer

from jobs import events, removals
from jobs.database import Database, now
from jobs.pages import page
from jobs.problems import ProblemError
from jobs.states import ACTIVE, FileStatus, Purpose
from jobs.store import Store
from jobs.tables import FileRow, JobRow

# The sandbox is done with a file before (`worker.sandbox.Limits`); then the claim is renewed, to store what it wrote.
INSPECTION_S = 300.0
INSPECTION_S_PER_GIB = 300.0


@dataclass(frozen=True)
class FileInfo:
    """An upload as stored, without what grows with its tensors, so that many can be listed.

    What is left is bounded: `worker.sandbox.answer` checks the length of every text in `summary` and `error`.

    Attributes:
        summary: Of a checkpoint: parameters, layers, notes, and `key_prefix`, which stood before every key.
        upload_key: Where the store has the bytes as they were uploaded.
        checked_key: Where it has the tensors that the sandbox wrote, once the file is ready.
    """

    id: str
    owner: str
    filename: str
    purpose: Purpose
    status: FileStatus
    bytes: int
    sha256: str
    format: str | None
    error: dict[str, Any] | None
    summary: dict[str, Any] | None
    upload_key: str
    checked_key: str
    created_at: datetime
    expires_at: datetime | None

    @property
    def parameters(self) -> int:
        """Numbers of a checkpoint that are trained, shared ones once; 0 before the inspection."""
        return int((self.summary or {}).get("parameters", 0))

    @property
    def key_prefix(self) -> str:
        """What stood before every key of a checkpoint, and stands there again in the artifacts."""
        return str((self.summary or {}).get("key_prefix", ""))


@dataclass(frozen=True)
class FileRecord(FileInfo):
    """An upload as stored, with all its layers: megabytes where it has very many.

    Attributes:
        layers: Of a checkpoint: the fields of `adtn.plan.Layer` and `dtype`, `parameters`.
        aliases: Key of a tied tensor -> key under which its numbers are stored.
    """

    layers: list[dict[str, Any]] | None
    aliases: dict[str, str] | None


def _info(row: FileRow) -> FileInfo:
    return FileInfo(**{field.name: getattr(row, field.name) for field in fields(FileInfo)})


def _record(row: FileRow) -> FileRecord:
    return FileRecord(**{field.name: getattr(row, field.name) for field in fields(FileRecord)})


def folder(file_id: str) -> str:
    """The prefix of all objects of a file."""
    return f"files/{file_id}"


def upload_key(file_id: str) -> str:
    """Where the store keeps the bytes as they were uploaded."""
    return f"{folder(file_id)}/upload"


def create(
    session: Session, file_id: str, *, owner: str, filename: str, purpose: Purpose, size: int, sha256: str
) -> FileRecord:
    """Add an upload whose bytes are in the store under `upload_key(file_id)`.

    Args:
        session: The transaction.
        file_id: The file's id, new.
        owner: Whose it is.
        filename: Its sanitised name.
        purpose: What it is for.
        size: Its bytes.
        sha256: Their digest, in hexadecimal.
    """
    row = FileRow(
        id=file_id,
        owner=owner,
        filename=filename,
        purpose=purpose,
        status="processing",
        bytes=size,
        sha256=sha256,
        upload_key=upload_key(file_id),
        checked_key=f"{folder(file_id)}/checked.safetensors",
        layers=None,
        aliases=None,
        created_at=now(session),
    )
    session.add(row)
    session.flush()
    return _record(row)


def get(db: Database, owner: str, file_id: str) -> FileRecord:
    """A file with its layers; where these are not used, `get_info` spares them.

    Raises:
        ProblemError: not_found, also where the file is another owner's.
    """
    with db.read() as session:
        return load(session, owner, file_id)


def get_info(db: Database, owner: str, file_id: str) -> FileInfo:
    """A file without its layers.

    Raises:
        ProblemError: not_found, also where the file is another owner's.
    """
    with db.read() as session:
        return _info(find(session, owner, file_id))


def load(session: Session, owner: str, file_id: str) -> FileRecord:
    """As `get`, in a transaction of the caller's."""
    whole = _select(owner, file_id).options(undefer(FileRow.layers), undefer(FileRow.aliases))
    return _record(_one(session, whole, file_id))


def find(session: Session, owner: str, file_id: str, *, lock: bool = False) -> FileRow:
    """The row of a file, without its layers; with `lock`, it stays as it is until the transaction ends.

    Raises:
        ProblemError: not_found, also where the file is another owner's.
    """
    statement = _select(owner, file_id)
    return _one(session, statement.with_for_update() if lock else statement, file_id)


def _select(owner: str, file_id: str) -> Select[FileRow]:
    return select(FileRow).where(FileRow.id == file_id, FileRow.owner == owner)


def _one(session: Session, statement: Select[FileRow], file_id: str) -> FileRow:
    row = session.scalars(statement).one_or_none()
    if row is None:
        raise ProblemError("not_found", f"there is no file {file_id!r}")
    return row


def list_page(db: Database, owner: str, limit: int, after: str | None) -> tuple[list[FileInfo], bool]:
    """Files of an owner, newest first, and whether there are more.

    Raises:
        ProblemError: validation_failed when `after` is not one of the owner's files.
    """
    with db.read() as session:
        rows, more = page(session, FileRow, select(FileRow).where(FileRow.owner == owner), owner, limit, after)
        return [_info(row) for row in rows], more


def delete(db: Database, store: Store, owner: str, file_id: str) -> None:
    """Remove a file and its objects.

    Raises:
        ProblemError: not_found, or file_in_use while a job that has not ended names it.
    """
    with db.begin() as session:
        row = find(session, owner, file_id, lock=True)
        using = session.scalars(select(JobRow.id).where(_names(file_id), JobRow.status.in_(ACTIVE)).limit(1)).first()
        if using is not None:
            raise ProblemError("file_in_use", f"{using} uses the file and has not ended")
        session.delete(row)
        removals.condemn(session, folder(file_id))
    removals.carry_out(db, store, folder(file_id))


def load_for_worker(db: Database, file_id: str) -> FileInfo | None:
    """Begin an inspection.

    Returns:
        The file, or None if there is nothing to do: it is inspected or gone, or an inspection is under way.
    """
    with db.begin() as session:
        time = now(session)
        row = session.scalars(
            update(FileRow)
            .where(
                FileRow.id == file_id,
                FileRow.status == "processing",
                or_(FileRow.inspected_until.is_(None), FileRow.inspected_until < time),
            )
            .values(inspections=FileRow.inspections + 1, inspected_until=time)
            .returning(FileRow)
        ).one_or_none()
        if row is None:
            return None
        _claim(row, time)
        return _info(row)


def renew(db: Database, file_id: str) -> None:
    """Claim a file anew in the middle of its inspection; nothing happens if it is inspected already or gone."""
    with db.begin() as session:
        row = session.get(FileRow, file_id)
        if row is not None and row.status == "processing":
            _claim(row, now(session))


def _claim(row: FileRow, time: datetime) -> None:
    """Keep other inspections away for a while."""
    row.inspected_until = time + timedelta(seconds=INSPECTION_S + INSPECTION_S_PER_GIB * row.bytes / 2**30)


def mark_ready(
    db: Database,
    file_id: str,
    *,
    format: str,
    summary: dict[str, Any],
    layers: list[dict[str, Any]],
    aliases: dict[str, str],
    checked_key: str,
) -> bool:
    """Write what the inspection found; nothing happens if the file is inspected already or gone.

    The caller then publishes the jobs that waited: `records.waiting_for`.

    Returns:
        Whether the file is still there.
    """
    with db.begin() as session:
        session.execute(
            update(FileRow)
            .where(FileRow.id == file_id, FileRow.status == "processing")
            .values(
                status="ready",
                format=format,
                summary=summary,
                layers=layers,
                aliases=aliases,
                checked_key=checked_key,
                inspected_until=None,
            ),
            execution_options={"synchronize_session": False},
        )
        return session.get(FileRow, file_id) is not None


def mark_rejected(db: Database, file_id: str, error: ProblemError) -> None:
    """Write why the file cannot be used, and fail the jobs that wait for it with the same problem.

    Nothing happens if the file is inspected already or gone.
    """
    with db.begin() as session:
        reject(session, file_id, error)


def reject(session: Session, file_id: str, error: ProblemError) -> None:
    """As `mark_rejected`, in a transaction of the caller's."""
    rejected = session.scalars(
        update(FileRow)
        .where(FileRow.id == file_id, FileRow.status == "processing")
        .values(status="rejected", error=error.to_json(), inspected_until=None)
        .returning(FileRow.id),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    if rejected is None:
        return
    failed = session.scalars(
        update(JobRow)
        .where(_names(file_id), JobRow.status == "queued")
        .values(status="failed", error=error.to_json(), finished_at=now(session), message=None)
        .returning(JobRow.id),
        execution_options={"synchronize_session": False},
    ).all()
    for job_id in failed:
        events.append(session, job_id, "job.failed", {"attempt": 0, "error": error.to_json()})


def mark_published(db: Database, file_id: str) -> None:
    """Write that a message asks for the inspection."""
    with db.begin() as session:
        session.execute(
            update(FileRow).where(FileRow.id == file_id).values(published_at=now(session)),
            execution_options={"synchronize_session": False},
        )


def _names(file_id: str) -> Any:
    return or_(JobRow.checkpoint_id == file_id, JobRow.dataset_id == file_id)
