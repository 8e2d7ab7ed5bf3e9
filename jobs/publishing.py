"""Commit first, then publish: what cannot be published now is found later by the reconciler."""

import logging
from collections.abc import Callable

from celery import Celery
from sqlalchemy.exc import DBAPIError

from jobs import files, queue, records
from jobs.database import Database
from jobs.queue import QueueUnavailable

log = logging.getLogger(__name__)


def try_publish_job(db: Database, app: Celery, job_id: str) -> bool:
    """Ask for a job to be run; False if Redis is down, then the reconciler asks later."""
    try:
        queue.publish_job(app, job_id)
    except QueueUnavailable as error:
        log.warning("%s stays queued: %s", job_id, error)
        return False
    return _written(lambda: records.mark_published(db, job_id))


def try_publish_file(db: Database, app: Celery, file_id: str) -> bool:
    """Ask for a file to be inspected; False if Redis is down, then the reconciler asks later."""
    try:
        queue.publish_file(app, file_id)
    except QueueUnavailable as error:
        log.warning("%s waits for its inspection: %s", file_id, error)
        return False
    return _written(lambda: files.mark_published(db, file_id))


def _written(mark: Callable[[], None]) -> bool:
    """Whether it could be written down: the work asked for is in the database, whatever becomes of this."""
    try:
        mark()
    except DBAPIError as error:
        log.warning("a message is published once more: %s", error)
        return False
    return True
