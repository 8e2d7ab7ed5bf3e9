"""Removes from the store what nobody needs any more. Run every hour; twice at once is harmless."""

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobs.database import Database
from jobs.states import TERMINAL
from jobs.store import Object, Store
from jobs.tables import ArtifactRecord, JobRow

log = logging.getLogger(__name__)

UNSURE = timedelta(days=1)
"""Younger objects are left alone: a process that holds no lease any more may still be writing them."""


def tidy(db: Database, store: Store, *, fits_kept_s: float) -> int:
    """Look once at all objects, and remove those that nobody needs.

    These are what attempts at a job that has ended kept for each other or left behind, and old fits: they belong to no
    job, since another one of the same weights takes them over. Besides, what is left of an upload whose process was
    killed. Files and jobs that the database does not know are left alone: the store may be another installation's too.

    Args:
        db: The database.
        store: Of the objects.
        fits_kept_s: Age from which fits are removed; if it is less than a day, they are after a day.

    Returns:
        How many objects were removed.
    """
    time = datetime.now(UTC)
    store.remove_unfinished(before=time - UNSURE)
    removed = 0
    for page in store.pages():
        old = [found for found in page if found.modified < time - UNSURE]
        with db.read() as session:
            spare = list(_spare(session, old, time - timedelta(seconds=fits_kept_s)))
        store.remove(spare)
        removed += len(spare)
    if removed:
        log.info("removed %d objects that nobody needs from the store", removed)
    return removed


def _spare(session: Session, objects: Sequence[Object], oldest_fit: datetime) -> Iterator[str]:
    """The keys of the objects that nobody needs."""
    ids = [parts[1] for found in objects if len(parts := found.key.split("/")) > 1]
    ended = set(session.scalars(select(JobRow.id).where(JobRow.id.in_(ids), JobRow.status.in_(TERMINAL))))
    artifacts = set(session.scalars(select(ArtifactRecord.key).where(ArtifactRecord.job_id.in_(ended))))
    for found in objects:
        match found.key.split("/"):
            case ["fits", _] if found.modified < oldest_fit:
                yield found.key
            case ["jobs", job_id, *_] if job_id in ended and found.key not in artifacts:
                yield found.key
