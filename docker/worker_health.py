"""Exit with 0 if a worker on this host has given a sign of life lately: the health check of the worker containers.

Not whether its process is there: a worker that hangs on a dead connection has a process too.
"""

import socket
from datetime import timedelta

from sqlalchemy import func, select

from jobs.database import now, open_database
from jobs.settings import Settings
from jobs.tables import WorkerRow


def healthy(settings: Settings, hostname: str) -> bool:
    """Whether the database has a recent heartbeat from this host; in a container that is its only worker."""
    db = open_database(settings.database_url)
    try:
        with db.read() as session:
            since = now(session) - timedelta(seconds=settings.worker_silence_s)
            recent = select(func.count()).where(WorkerRow.hostname == hostname, WorkerRow.seen_at >= since)
            return session.scalars(recent).one() > 0
    finally:
        db.close()


if __name__ == "__main__":
    raise SystemExit(0 if healthy(Settings(), socket.gethostname()) else 1)
