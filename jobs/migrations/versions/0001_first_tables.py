"""The tables of the first version."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Make the tables."""
    _files()
    _jobs()
    _artifacts_and_events()
    _workers_keys_and_requests()


def downgrade() -> None:
    """Drop the tables."""
    for table in ("events", "artifacts", "jobs", "workers", "idempotency", "files", "api_keys"):
        op.drop_table(table)


def _files() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("format", sa.String()),
        sa.Column("error", JSON),
        sa.Column("summary", JSON),
        sa.Column("layers", JSON),
        sa.Column("aliases", JSON),
        sa.Column("upload_key", sa.String(), nullable=False),
        sa.Column("checked_key", sa.String(), nullable=False),
        sa.Column("inspections", sa.BigInteger(), nullable=False),
        sa.Column("inspected_until", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME),
        sa.Column("published_at", TIME),
        sa.CheckConstraint("purpose IN ('checkpoint', 'dataset')", name="files_purpose"),
        sa.CheckConstraint("status IN ('processing', 'ready', 'rejected')", name="files_status"),
    )
    op.create_index("files_by_status", "files", ["status"])
    op.create_index("files_of_owner", "files", ["owner", "created_at", "id"])


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("checkpoint_id", sa.String(), sa.ForeignKey("files.id", ondelete="SET NULL")),
        sa.Column("dataset_id", sa.String(), sa.ForeignKey("files.id", ondelete="SET NULL")),
        sa.Column("retried_from", sa.String()),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("losses", sa.BigInteger(), nullable=False),
        sa.Column("max_attempts", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        *_progress(),
        sa.Column("error", JSON),
        sa.Column("report", JSON),
        sa.Column("lease_owner", sa.String()),
        sa.Column("lease_until", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("queued_at", TIME, nullable=False),
        sa.Column("published_at", TIME),
        sa.Column("started_at", TIME),
        sa.Column("finished_at", TIME),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled')", name="jobs_status"
        ),
        sa.CheckConstraint("(status IN ('running', 'cancelling')) = (lease_until IS NOT NULL)", name="jobs_lease"),
        sa.CheckConstraint(
            "(status IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)", name="jobs_finished"
        ),
    )
    op.create_index("ix_jobs_checkpoint_id", "jobs", ["checkpoint_id"])
    op.create_index("ix_jobs_dataset_id", "jobs", ["dataset_id"])
    op.create_index("jobs_by_status", "jobs", ["status", "queued_at"])
    op.create_index("jobs_of_owner", "jobs", ["owner", "created_at", "id"])


def _progress() -> list[sa.Column[object]]:
    return [
        sa.Column("stage", sa.String()),
        sa.Column("stage_fraction", sa.Double()),
        sa.Column("fraction", sa.Double(), nullable=False),
        sa.Column("eta_seconds", sa.Double()),
        sa.Column("message", sa.String()),
    ]


def _artifacts_and_events() -> None:
    op.create_table(
        "artifacts",
        sa.Column("job_id", sa.String(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("job_id", sa.String(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), primary_key=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
    )


def _workers_keys_and_requests() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("queue", sa.String(), primary_key=True),
        sa.Column("hostname", sa.String(), nullable=False),
        sa.Column("device", sa.String()),
        sa.Column("seen_at", TIME, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False, unique=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("revoked_at", TIME),
    )
    op.create_table(
        "idempotency",
        sa.Column("owner", sa.String(), primary_key=True),
        sa.Column("route", sa.String(), primary_key=True),
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("status", sa.BigInteger()),
        sa.Column("job_id", sa.String()),
        sa.Column("body", JSON),
        sa.Column("created_at", TIME, nullable=False),
    )
