"""Jobs on the server: creating, watching, stopping, and fetching what they made."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from adtn_client.downloads import OnBytes, download
from adtn_client.errors import JobNotSucceeded, LocalError, WaitTimeout
from adtn_client.events import stream_events
from adtn_client.patience import Patience
from adtn_client.transport import Transport, read_as
from jobs.problems import Fault
from jobs.schemas.common import Page
from jobs.schemas.jobs import Artifact, Estimate, Event, Job
from jobs.schemas.report import Report
from jobs.schemas.settings import JobSettings
from jobs.states import TERMINAL, JobStatus

Settings = JobSettings | Mapping[str, Any]
# How long the server holds one question about a job's state open.
LONG_POLL_S = 20


class Jobs:
    """Calls about jobs."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, settings: Settings, *, idempotency_key: str | None = None) -> Job:
        """Create a job. Safe to repeat: the request carries a key, and the same key never makes a second job.

        Args:
            settings: As in the API; what is left out has the server's default.
            idempotency_key: A key of your own, to repeat the call over a restart of your program.

        Raises:
            ConnectionFailed, ProblemError, UnexpectedAnswer: See `Transport.request`.
        """
        headers = {"Idempotency-Key": idempotency_key or new_key()}
        answer = self._transport.request("POST", "/v1/jobs", json=as_json(settings), headers=headers, idempotent=True)
        return read_as(Job, answer)

    def estimate(self, settings: Settings) -> Estimate:
        """What a job with these settings would come to; starts nothing."""
        answer = self._transport.request("POST", "/v1/jobs/estimate", json=as_json(settings), idempotent=True)
        return read_as(Estimate, answer)

    def get(self, job_id: str) -> Job:
        """One job."""
        return read_as(Job, self._transport.request("GET", f"/v1/jobs/{job_id}"))

    def list(self, *, status: JobStatus | None = None) -> Iterator[Job]:
        """Every job, newest first, fetched page by page."""
        return self._transport.pages("/v1/jobs", Page[Job], {} if status is None else {"status": status})

    def wait(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """Wait until a job has ended, over restarts of the server.

        Raises:
            JobNotSucceeded: It failed or was cancelled.
            WaitTimeout: It has not ended after `timeout_s` seconds.
            ConnectionFailed, ProblemError, UnexpectedAnswer: See `Transport.request`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        patience = Patience()
        while True:
            left = LONG_POLL_S if deadline is None else max(0.0, deadline - time.monotonic())
            wait_s = min(LONG_POLL_S, int(left))
            job = patience.ask(partial(self._ask, job_id, wait_s))
            if job.status in TERMINAL:
                return succeeded(job)
            if deadline is not None and time.monotonic() > deadline:
                raise WaitTimeout(f"{job_id} has not ended within {timeout_s:g} s; it is {job.status}")
            if wait_s == 0:
                time.sleep(min(left, 0.25))

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop. Its status is `cancelling` until its worker has stopped."""
        return read_as(Job, self._transport.request("POST", f"/v1/jobs/{job_id}/cancel", idempotent=True))

    def retry(self, job_id: str) -> Job:
        """Start a failed or cancelled job again, as a new job with the same settings."""
        headers = {"Idempotency-Key": new_key()}
        return read_as(
            Job, self._transport.request("POST", f"/v1/jobs/{job_id}/retry", headers=headers, idempotent=True)
        )

    def delete(self, job_id: str) -> None:
        """Delete a job that has ended, with its artifacts."""
        self._transport.request("DELETE", f"/v1/jobs/{job_id}")

    def events(self, job_id: str) -> Iterator[Event]:
        """What has happened so far, oldest first."""
        return self._transport.pages(f"/v1/jobs/{job_id}/events", Page[Event])

    def stream(self, job_id: str, *, last_event_id: str | None = None) -> Iterator[Event]:
        """What happens, as it happens, until the job ends; see `stream_events`."""
        return stream_events(self._transport, f"/v1/jobs/{job_id}/events", last_event_id)

    def report(self, job_id: str) -> Report:
        """The report of a job that succeeded."""
        return read_as(Report, self._transport.request("GET", f"/v1/jobs/{job_id}/report"))

    def artifacts(self, job_id: str) -> Sequence[Artifact]:
        """The files that a job made."""
        return self.get(job_id).artifacts

    def download(self, job_id: str, name: str, target: Path, *, on_bytes: OnBytes | None = None) -> Path:
        """Download an artifact, checked against its sha256; goes on after a broken connection.

        Args:
            job_id: The job.
            name: The artifact, such as `model.dense.safetensors`.
            target: A file to write, or a folder to put the artifact into.
            on_bytes: Told the bytes received so far, and the size.

        Returns:
            The file written.

        Raises:
            LocalError: The job has no such artifact.
            IntegrityError: Other bytes came than the job made.
            ConnectionFailed, ProblemError, UnexpectedAnswer: See `Transport.request`.
        """
        found = {artifact.name: artifact for artifact in self.artifacts(job_id)}
        if name not in found:
            raise LocalError(f"{job_id} has no artifact {name!r}; it has {', '.join(found) or 'none'}")
        artifact = found[name]
        file = target / file_name(name) if target.is_dir() else target
        path = f"/v1/jobs/{job_id}/artifacts/{name}"
        download(self._transport, path, file, sha256=artifact.sha256, size=artifact.bytes, on_bytes=on_bytes)
        return file

    def _ask(self, job_id: str, wait_s: int) -> Job:
        answer = self._transport.request("GET", f"/v1/jobs/{job_id}", params={"wait": wait_s}, wait_s=wait_s)
        return read_as(Job, answer)


def succeeded(job: Job) -> Job:
    """Return a job that succeeded.

    Raises:
        JobNotSucceeded: It failed or was cancelled.
    """
    if job.status == "succeeded":
        return job
    error = job.error
    if error is None:
        raise JobNotSucceeded(job.id, job.status)
    faults = [Fault(fault.pointer, fault.detail, fault.code) for fault in error.errors]
    raise JobNotSucceeded(job.id, job.status, error.code, error.detail, faults)


def new_key() -> str:
    """An idempotency key that nobody has used."""
    return str(uuid.uuid4())


def file_name(name: str) -> str:
    """The name of an artifact as a file of a folder of ours.

    Raises:
        LocalError: It would lie outside that folder.
    """
    if name in {"", ".", ".."} or name != PurePosixPath(name).name or "\\" in name or "\0" in name:
        raise LocalError(f"the server names an artifact {name!r}, which is no file name")
    return name


def as_json(settings: Settings) -> dict[str, Any]:
    """Settings as they are sent."""
    if isinstance(settings, JobSettings):
        return settings.model_dump(mode="json", exclude_unset=True)
    return dict(settings)
