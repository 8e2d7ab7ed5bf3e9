"""Commit first, then publish: what cannot be published now is found later by the reconciler."""

import logging

from celery import Celery

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
    records.mark_published(db, job_id)
    return True


def try_publish_file(db: Database, app: Celery, file_id: str) -> bool:
    """Ask for a file to be inspected; False if Redis is down, then the reconciler asks later."""
    try:
        queue.publish_file(app, file_id)
    except QueueUnavailable as error:
        log.warning("%s waits for its inspection: %s", file_id, error)
        return False
    files.mark_published(db, file_id)
    return True
