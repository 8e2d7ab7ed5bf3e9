"""One attempt at a job, whose lease is held: run the pipeline, write down how it ended."""

import logging
import time
from pathlib import Path

import torch
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy.exc import OperationalError

from adtn import recycling
from adtn.errors import AdtnError, ExportError, NotSampleWise, PlanError, TrainingDiverged
from jobs import leases, records
from jobs.leases import ArtifactRow, Lease, LeaseLost, Progress
from jobs.problems import ProblemError
from jobs.publishing import try_publish_job
from worker.lease_keeper import SHUT_DOWN, Cancelled, LeaseKeeper, Lost, ShuttingDown
from worker.pipeline import correct, kept
from worker.pipeline.progress import Kind, ProgressReporter, shares_of
from worker.pipeline.run import Outcome, run_pipeline
from worker.resources import Resources

log = logging.getLogger(__name__)

PATIENCE = 10
"""Leases for which the end of a job is tried to be written: the keeper renews them if this write alone fails."""


def run_attempt(lease: Lease, keeper: LeaseKeeper, folder: Path, resources: Resources) -> None:
    """Run the pipeline and record its end.

    Args:
        lease: Of the job.
        keeper: Keeps it.
        folder: An empty folder for this attempt.
        resources: Where all is.

    Raises:
        Lost: Another attempt holds the job.
        LeaseLost: The same, found while writing.
        OperationalError: The database is away.
    """
    try:
        job = records.load_for_worker(resources.db, lease.job_id)
        progress = ProgressReporter(
            lambda progress, kind: publish(resources, lease, progress, kind),
            keeper.check,
            shares=shares_of(job.settings),
        )
        outcome = run_pipeline(job, resources.store, folder, progress)
        keeper.check()
        finish(resources, lease, keeper, outcome)
    except Cancelled:
        leases.cancelled(resources.db, lease)
    except ShuttingDown:
        leases.release(resources.db, lease, SHUT_DOWN)
        try_publish_job(resources.db, resources.app, lease.job_id)
        return
    except (Lost, LeaseLost, OperationalError):
        raise  # without a database there is no end to write: the job is taken back when the lease ends
    except Exception as error:
        problem = problem_of(error)
        log.log(logging.ERROR if problem.code == "internal_error" else logging.INFO, "%s", problem, exc_info=error)
        leases.fail(resources.db, lease, problem)
    finally:
        recycling.release()  # an idle worker does not sit on the memory of its last job
    forget(resources, lease)


def publish(resources: Resources, lease: Lease, progress: Progress, kind: Kind) -> None:
    """Write progress to the row; a new stage is an event too.

    A database that is away for a while costs no job: whether the lease still holds is for its keeper to find out.
    """
    try:
        leases.progress(resources.db, lease, progress)
        if kind == "stage":
            leases.note(resources.db, lease, "job.stage", {"stage": progress.stage, "message": progress.message})
    except OperationalError as error:
        log.warning("job %s: its progress was not written: %s", lease.job_id, error)


def finish(resources: Resources, lease: Lease, keeper: LeaseKeeper, outcome: Outcome) -> None:
    """Store the artifacts under this attempt's own keys, then let the row name them, as soon as the database can.

    Raises:
        OperationalError: It could not for as long as several leases last.
    """
    rows = []
    for artifact in outcome.artifacts:
        key = f"jobs/{lease.job_id}/{lease.attempt}/{artifact.name}"
        resources.store.put_file(key, artifact.path)
        rows.append(ArtifactRow(artifact.name, artifact.kind, artifact.bytes, artifact.sha256, key))
    until = time.monotonic() + PATIENCE * resources.settings.lease_s
    while True:
        try:
            leases.succeed(resources.db, lease, outcome.report, rows)
            return
        except OperationalError as error:
            if time.monotonic() > until:
                raise
            log.warning("job %s: its end was not written: %s", lease.job_id, error)
            time.sleep(resources.settings.lease_poll_s)
            keeper.check()


def forget(resources: Resources, lease: Lease) -> None:
    """Remove what was kept for another attempt and is as large as the model: the job has ended.

    Else it goes when the job is deleted.
    """
    try:
        resources.store.delete(kept.folder(lease.job_id, correct.KIND))
    except Exception:
        log.exception("job %s: what was kept of its teacher stays", lease.job_id)


def problem_of(error: Exception) -> ProblemError:
    """What the user is told about an error."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, PlanError):
        return ProblemError(error.code, str(error))
    if isinstance(error, TrainingDiverged):
        return ProblemError("training_diverged", f"{error}; try a smaller learning rate")
    if isinstance(error, NotSampleWise):
        return ProblemError("natural_epochs_impossible", str(error))
    if isinstance(error, ExportError):
        return ProblemError("export_impossible", str(error))
    if isinstance(error, AdtnError):
        return ProblemError("checkpoint_invalid", str(error))
    if isinstance(error, SoftTimeLimitExceeded):
        return ProblemError("time_limit", "the job took longer than the worker allows; try fewer epochs or steps")
    advice = "try a smaller batch size or fewer layers"
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return ProblemError("out_of_memory", f"{error}; {advice}")
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):  # on the CPU it has no class
        return ProblemError("out_of_memory", f"the worker has too little memory; {advice}")
    return ProblemError("internal_error", "the worker met an unexpected error; its log has the details")
