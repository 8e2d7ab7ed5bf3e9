"""What every request may need: settings, database, store, queue."""

import threading
from dataclasses import dataclass, field
from typing import Annotated, cast

from anyio import CapacityLimiter
from celery import Celery
from fastapi import Depends, Request

from jobs.database import Database, open_database
from jobs.queue import make_app
from jobs.settings import Settings
from jobs.store import Store, open_store

PLANNERS = 4


@dataclass(frozen=True)
class Resources:
    """Open connections, one set a process.

    Attributes:
        planners: Threads in which plans are made while requests wait. They are few, and apart from those of all other
            requests: planning is computing, for seconds where a model has thousands of layers.
        stopping: Set as soon as the process is to end: long polls and event streams end then.
    """

    settings: Settings
    db: Database
    store: Store
    queue: Celery
    planners: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(PLANNERS))
    stopping: threading.Event = field(default_factory=threading.Event)


def open_resources(settings: Settings) -> Resources:
    """Connect to everything that `settings` names; the tables must be there."""
    return Resources(settings, open_database(settings.database_url), open_store(settings.store_url), make_app(settings))


def _resources(request: Request) -> Resources:
    return cast(Resources, request.app.state.resources)


ResourcesDep = Annotated[Resources, Depends(_resources)]
