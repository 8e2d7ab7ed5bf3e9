"""Following a job until it ends."""

import time

from adtn_client.client import Client
from adtn_client.commands.progress import Display
from adtn_client.jobs import succeeded
from adtn_client.patience import Patience
from jobs.schemas.jobs import Job
from jobs.states import TERMINAL

POLL_S = 0.5


def watch(client: Client, job_id: str, display: Display) -> Job:
    """Show a job's progress until it has succeeded.

    Raises:
        JobNotSucceeded: It failed or was cancelled.
        ConnectionFailed, ProblemError, UnexpectedAnswer: The server went away or refuses.
    """
    patience = Patience()
    while True:
        job = patience.ask(lambda: client.jobs.get(job_id))
        display.show(job.id, job.progress.fraction, describe(job))
        if job.status in TERMINAL:
            return succeeded(job)
        time.sleep(POLL_S)


def describe(job: Job) -> str:
    """What a job is doing, in a few words."""
    if job.status == "queued" and job.queue_position and not job.progress.message:
        return f"queued, number {job.queue_position}"
    doing = job.stage if job.status == "running" and job.stage else job.status
    return f"{doing}: {job.progress.message}" if job.progress.message else doing
