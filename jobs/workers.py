"""Signs of life of the workers, so that the service can say when none is there."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from jobs.database import Database, now
from jobs.tables import WorkerRow

FORGOTTEN_AFTER = timedelta(days=1)


def beat(db: Database, worker_id: str, *, queues: Sequence[str], hostname: str, device: str | None = None) -> None:
    """Write that a worker is alive now, and on which queues."""
    with db.begin() as session:
        time = now(session)
        for queue in queues:
            session.merge(WorkerRow(id=worker_id, queue=queue, hostname=hostname, device=device, seen_at=time))


def alive(db: Database, queue: str, within_s: float) -> int:
    """How many workers on `queue` gave a sign of life in the last `within_s` seconds."""
    with db.read() as session:
        return count(session, queue, within_s)


def count(session: Session, queue: str, within_s: float) -> int:
    """As `alive`, in a session of the caller's."""
    since = now(session) - timedelta(seconds=within_s)
    return session.scalars(
        select(func.count()).select_from(WorkerRow).where(WorkerRow.queue == queue, WorkerRow.seen_at >= since)
    ).one()


def forget_old(db: Database) -> None:
    """Remove workers that have not been seen for a day."""
    with db.begin() as session:
        session.execute(delete(WorkerRow).where(WorkerRow.seen_at < now(session) - FORGOTTEN_AFTER))
