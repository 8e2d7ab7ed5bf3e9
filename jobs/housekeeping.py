"""Removes from the store what nobody needs any more. Run every hour; twice at once is harmless."""

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from threading import Event

from sqlalchemy import select

from jobs import removals
from jobs.database import Database
from jobs.removals import UNSURE
from jobs.states import TERMINAL
from jobs.store import Object, Store
from jobs.tables import ArtifactRecord, JobRow

log = logging.getLogger(__name__)


def tidy(db: Database, store: Store, *, fits_kept_s: float, stopping: Event) -> int:
    """Look once at all objects, and remove those that nobody needs.

    These are what attempts at a job that has ended kept for each other or left behind, and old fits: they belong to no
    job, since another one of the same owner and weights takes them over. Besides, what is left of an upload whose
    process was killed, and what is due in `jobs.removals`. Other files and jobs that the database does not know are
    left alone: the store may be another installation's too.

    Args:
        db: The database.
        store: Of the objects.
        fits_kept_s: Age from which fits are removed; if it is less than a day, they are after a day.
        stopping: Ends the look early.

    Returns:
        How many objects were removed, but for those.
    """
    removals.carry_out_due(db, store)
    time = datetime.now(UTC)
    for prefix in ("files", "jobs", "fits"):
        store.remove_unfinished(prefix, before=time - UNSURE)
    removed = 0
    for spare in _spare(db, store, time, timedelta(seconds=fits_kept_s)):
        if stopping.is_set():
            break
        store.remove(spare)
        removed += len(spare)
    if removed:
        log.info("removed %d objects that nobody needs from the store", removed)
    return removed


def _spare(db: Database, store: Store, time: datetime, fits_kept: timedelta) -> Iterator[list[str]]:
    """The keys of the objects that nobody needs, a few at a time."""
    for page in store.pages("jobs"):
        yield _left_behind(db, [found for found in page if found.modified < time - UNSURE])
    for page in store.pages("fits"):
        yield [found.key for found in page if found.modified < time - max(UNSURE, fits_kept)]


def _left_behind(db: Database, objects: Sequence[Object]) -> list[str]:
    """Of objects of jobs, the keys of those whose job has ended and that are none of its artifacts."""
    owners = {found.key: found.key.split("/")[1] for found in objects}
    with db.read() as session:
        jobs = select(JobRow.id).where(JobRow.id.in_(owners.values()), JobRow.status.in_(TERMINAL))
        ended = set(session.scalars(jobs))
        artifacts = set(session.scalars(select(ArtifactRecord.key).where(ArtifactRecord.job_id.in_(ended))))
    return [key for key, owner in owners.items() if owner in ended and key not in artifacts]
