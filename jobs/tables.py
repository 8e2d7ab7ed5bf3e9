"""The tables: what is stored of files, jobs, events, artifacts, removals, workers, keys and idempotent requests."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, DateTime, Dialect, ForeignKey, Index, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jobs.states import FILE_STATUSES, JOB_STATUSES, PURPOSES, FileStatus, JobStatus, Purpose, Stage


class Utc(TypeDecorator[datetime]):
    """A time with its zone, which is always UTC; SQLite keeps no zone, so it is added when reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC before writing."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Add the zone after reading."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Maps Python types to column types."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads this very attribute
        datetime: Utc,
        dict[str, Any]: JSON(none_as_null=True),
        list[dict[str, Any]]: JSON(none_as_null=True),
        int: BigInteger,
    }


def _one_of(column: str, values: tuple[str, ...], name: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=name)


class FileRow(Base):
    """An upload.

    `layers` and `aliases` may have megabytes. A row is loaded without them unless the query asks for them, as that of
    `files.get` does; to use them on such a row is an error, not a second query.
    """

    __tablename__ = "files"
    __table_args__ = (
        _one_of("status", FILE_STATUSES, "files_status"),
        _one_of("purpose", PURPOSES, "files_purpose"),
        Index("files_of_owner", "owner", "created_at", "id"),
        Index("files_by_status", "status"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    filename: Mapped[str]
    purpose: Mapped[Purpose] = mapped_column(String)
    status: Mapped[FileStatus] = mapped_column(String)
    bytes: Mapped[int]
    sha256: Mapped[str]
    format: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    summary: Mapped[dict[str, Any] | None]
    layers: Mapped[list[dict[str, Any]] | None] = mapped_column(deferred=True, deferred_raiseload=True)
    aliases: Mapped[dict[str, Any] | None] = mapped_column(deferred=True, deferred_raiseload=True)
    upload_key: Mapped[str]
    checked_key: Mapped[str]
    inspections: Mapped[int] = mapped_column(default=0)
    inspected_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    published_at: Mapped[datetime | None]


class JobRow(Base):
    """A job. `attempt` is the fencing token: whoever holds an older one can write nothing.

    `report` may have megabytes. A row is loaded without it unless the query asks for it, as that of `records.get` does;
    to use it on such a row is an error, not a second query.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        _one_of("status", JOB_STATUSES, "jobs_status"),
        CheckConstraint("(status IN ('running', 'cancelling')) = (lease_until IS NOT NULL)", name="jobs_lease"),
        CheckConstraint(
            "(status IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)", name="jobs_finished"
        ),
        Index("jobs_of_owner", "owner", "created_at", "id"),
        Index("jobs_by_status", "status", "queued_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    status: Mapped[JobStatus] = mapped_column(String)
    settings: Mapped[dict[str, Any]]
    checkpoint_id: Mapped[str | None] = mapped_column(ForeignKey("files.id", ondelete="SET NULL"), index=True)
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("files.id", ondelete="SET NULL"), index=True)
    retried_from: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int]
    events: Mapped[int] = mapped_column(default=0)
    stage: Mapped[Stage | None] = mapped_column(String)
    stage_fraction: Mapped[float | None]
    fraction: Mapped[float] = mapped_column(default=0.0)
    eta_seconds: Mapped[float | None]
    message: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    report: Mapped[dict[str, Any] | None] = mapped_column(deferred=True, deferred_raiseload=True)
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    queued_at: Mapped[datetime]
    published_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class EventRow(Base):
    """Something that happened to a job; `sequence` counts from 1 within the job."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class ArtifactRecord(Base):
    """A file that a job produced."""

    __tablename__ = "artifacts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    bytes: Mapped[int]
    sha256: Mapped[str]
    key: Mapped[str]


class RemovalRow(Base):
    """Objects that leave the store once they are due, and once more a day later; see `jobs.removals`."""

    __tablename__ = "removals"

    prefix: Mapped[str] = mapped_column(primary_key=True)
    due_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]


class WorkerRow(Base):
    """The last sign of life of a worker on one queue."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str] = mapped_column(primary_key=True)
    hostname: Mapped[str]
    device: Mapped[str | None]
    seen_at: Mapped[datetime]


class KeyRow(Base):
    """An API key: its digest, never the key."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class IdempotencyRow(Base):
    """A request with an `Idempotency-Key`: claimed before the work, answered in the work's own transaction."""

    __tablename__ = "idempotency"

    owner: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    status: Mapped[int | None]
    job_id: Mapped[str | None]
    body: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
