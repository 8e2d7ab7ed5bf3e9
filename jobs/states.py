"""The states of files and jobs, and the stages of a running job."""

from typing import Literal, get_args

FileStatus = Literal["processing", "ready", "rejected"]
JobStatus = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
Stage = Literal["inspect", "plan", "fit", "fine_tune", "evaluate", "export", "verify"]
Purpose = Literal["checkpoint", "dataset"]

FILE_STATUSES: tuple[FileStatus, ...] = get_args(FileStatus)
JOB_STATUSES: tuple[JobStatus, ...] = get_args(JobStatus)
STAGES: tuple[Stage, ...] = get_args(Stage)
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)

# Every change of a job's status is one of these. Terminal states have no way out.
TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    "queued": frozenset({"running", "cancelled", "failed"}),
    "running": frozenset({"running", "queued", "cancelling", "succeeded", "failed", "cancelled"}),
    "cancelling": frozenset({"cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}

TERMINAL: tuple[JobStatus, ...] = tuple(status for status in JOB_STATUSES if not TRANSITIONS[status])
ACTIVE: tuple[JobStatus, ...] = tuple(status for status in JOB_STATUSES if TRANSITIONS[status])


def sources(target: JobStatus) -> tuple[JobStatus, ...]:
    """The states from which a job may become `target`: the guard of the statement that writes it."""
    return tuple(status for status in JOB_STATUSES if target in TRANSITIONS[status])
