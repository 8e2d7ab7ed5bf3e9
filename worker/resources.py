"""What a task needs from outside: settings, database, store, queue, and the worker's own name."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

from jobs.database import Database, open_database
from jobs.settings import Settings
from jobs.store import Store, open_store

# Set by `python -m worker` for itself and inherited by the processes of its pool.
WORKER_ID = "ADTN_WORKER_ID"


@dataclass(frozen=True)
class Resources:
    """Open connections, one set a process.

    Attributes:
        worker_id: Names the worker, not one of its processes.
        stop_file: Exists as soon as the worker shuts down.
    """

    settings: Settings
    db: Database
    store: Store
    app: Celery
    worker_id: str
    stop_file: Path


def open_resources(app: Celery, settings: Settings) -> Resources:
    """Connect to everything that `settings` names."""
    worker_id = os.environ.get(WORKER_ID, f"{socket.gethostname()}-{os.getpid()}")
    return Resources(
        settings=settings,
        db=open_database(settings.database_url),
        store=open_store(settings.store_url),
        app=app,
        worker_id=worker_id,
        stop_file=settings.data_dir / "run" / f"{worker_id}.stop",
    )
