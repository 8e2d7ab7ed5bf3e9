"""Removes from the store what nobody needs any more. Run every hour; twice at once is harmless."""

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobs.database import Database
from jobs.states import TERMINAL
from jobs.store import Object, Store
from jobs.tables import ArtifactRecord, FileRow, JobRow

log = logging.getLogger(__name__)

UNSURE = timedelta(days=1)
"""Younger objects are left alone: an upload, or an export, gets its row only after its objects."""


def tidy(db: Database, store: Store, *, fits_kept_s: float) -> int:
    """Look once at all objects, and remove those that belong to no row.

    These are what a killed process left of an upload or of an attempt, what the attempts of an ended job kept for the
    next one, and old fits, which belong to no job: another one of the same weights takes them over.

    Args:
        db: The database.
        store: Of this installation alone: another's objects have no row here.
        fits_kept_s: Age from which fits are removed; if it is less than a day, they are after a day.

    Returns:
        How many objects were removed. Those with keys of another form than the project's are left alone.
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
    uploads = set(session.scalars(select(FileRow.id).where(FileRow.id.in_(ids))))
    running = set(session.scalars(select(JobRow.id).where(JobRow.id.in_(ids), JobRow.status.not_in(TERMINAL))))
    artifacts = set(session.scalars(select(ArtifactRecord.key).where(ArtifactRecord.job_id.in_(ids))))
    for found in objects:
        match found.key.split("/"):
            case ["fits", _]:
                needed = found.modified >= oldest_fit
            case ["files", owner, *_]:
                needed = owner in uploads
            case ["jobs", owner, *_]:
                needed = owner in running or found.key in artifacts
            case _:
                needed = True
        if not needed:
            yield found.key
