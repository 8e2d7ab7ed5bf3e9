"""What a message about a job makes a worker do: take the job's lease, and keep it while an attempt runs."""

import logging
from pathlib import Path

from sqlalchemy.exc import OperationalError

from jobs import leases
from jobs.leases import Lease, LeaseLost
from jobs.problems import ProblemError
from worker.garbage import uncollected
from worker.lease_keeper import LeaseKeeper, Lost
from worker.resources import Resources
from worker.scratch import scratch_folder

log = logging.getLogger(__name__)


def run_job(job_id: str, resources: Resources) -> None:
    """Run a job if nobody else does; end quietly if there is nothing to do.

    However the pipeline ends, the row says so afterwards, unless another attempt has taken over: then nothing is
    written.
    """
    settings = resources.settings
    lease = leases.take(resources.db, job_id, owner=resources.worker_id, lease_s=settings.lease_s)
    if lease is None:
        log.info("job %s: nothing to do", job_id)
        return
    keeper = LeaseKeeper(
        resources.db,
        lease,
        lease_s=settings.lease_s,
        poll_s=settings.lease_poll_s,
        grace_s=settings.cancel_grace_s,
        stop_file=resources.stop_file,
    )
    with keeper, scratch_folder() as folder:
        try:
            _attempt(lease, keeper, folder, resources)
        except (Lost, LeaseLost):
            log.warning("job %s: attempt %s lost its lease", job_id, lease.attempt)
        except OperationalError:
            log.exception("job %s: the database is away; the job is taken back when its lease ends", job_id)


def _attempt(lease: Lease, keeper: LeaseKeeper, folder: Path, resources: Resources) -> None:
    """Run an attempt. What that needs is imported now, which takes seconds: not for a message that came twice."""
    try:
        with uncollected():
            from worker.run_attempt import run_attempt
    except Exception:  # whatever is wrong with what is installed here
        log.exception("job %s: this worker cannot run jobs", lease.job_id)
        problem = ProblemError("internal_error", "the worker cannot run jobs; its log has the details")
        leases.fail(resources.db, lease, problem)
        return
    run_attempt(lease, keeper, folder, resources)
