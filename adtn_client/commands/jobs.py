"""The verbs about one job: `adtn status|events|cancel|download|report JOB`."""

import json
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from adtn_client.commands import output, server, watch
from adtn_client.commands.progress import display
from adtn_client.commands.report_view import show_report
from adtn_client.commands.submit import fetch
from adtn_client.errors import LocalError
from adtn_client.jobs import succeeded
from jobs.schemas.jobs import Job

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
RECENT = 20


def status(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="The job's id; without one, recent jobs.")] = None,
    as_json: Json = False,
    url: server.Url = server.DEFAULT_URL,
    api_key: server.ApiKey = None,
) -> None:
    """Show how far a job is, or the most recent jobs."""
    with server.connect(url, api_key) as client:
        found = [client.jobs.get(job)] if job else list(islice(client.jobs.list(), RECENT))
    if as_json:
        dumped = [one.model_dump(mode="json") for one in found]
        output.result(json.dumps(dumped[0] if job else dumped, indent=2))
        return
    table = output.table("job", "status", "done", "name", "created", "doing", right=frozenset({"done"}))
    for one in found:
        created = f"{one.created_at:%Y-%m-%d %H:%M:%S}"
        output.add_row(table, one.id, one.status, f"{one.progress.fraction:.0%}", one.request.name, created, doing(one))
    output.console().print(table)


def doing(job: Job) -> str:
    """What a job does, or how it ended."""
    return f"{job.error.detail} ({job.error.code})" if job.error else watch.describe(job)


def events(
    job: server.JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    url: server.Url = server.DEFAULT_URL,
    api_key: server.ApiKey = None,
) -> None:
    """Print what has happened to a job, a line an event."""
    with server.connect(url, api_key) as client:
        for event in client.jobs.stream(job) if follow else client.jobs.events(job):
            output.result(f"{event.created_at:%Y-%m-%d %H:%M:%S}  {event.type}  {json.dumps(event.data)}")


def cancel(job: server.JobId, url: server.Url = server.DEFAULT_URL, api_key: server.ApiKey = None) -> None:
    """Cancel a job; it is `cancelling` until its worker has stopped."""
    with server.connect(url, api_key) as client:
        output.result(client.jobs.cancel(job).status)


def download(
    job: server.JobId,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Artifacts; by default all.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for them; made if missing.", file_okay=False)] = Path("compressed"),
    url: server.Url = server.DEFAULT_URL,
    api_key: server.ApiKey = None,
) -> None:
    """Download the artifacts of a job that succeeded, each checked against its sha256."""
    with server.connect(url, api_key) as client:
        found = succeeded_or_told(client.jobs.get(job))
        unknown = sorted(set(names or ()) - {artifact.name for artifact in found.artifacts})
        if unknown:
            has = ", ".join(artifact.name for artifact in found.artifacts)
            raise LocalError(f"{job} has no artifact {', '.join(unknown)}; it has {has}")
        if names:
            found = found.model_copy(update={"artifacts": [a for a in found.artifacts if a.name in names]})
        out.mkdir(parents=True, exist_ok=True)
        with display() as shown:
            fetch(client, found, out, shown)


def report(
    job: server.JobId,
    as_json: Json = False,
    url: server.Url = server.DEFAULT_URL,
    api_key: server.ApiKey = None,
) -> None:
    """Print the report of a job that succeeded."""
    with server.connect(url, api_key) as client:
        found = client.jobs.report(job)
    if as_json:
        output.result(found.model_dump_json(indent=2, exclude_unset=True))
    else:
        show_report(found)


def succeeded_or_told(job: Job) -> Job:
    """A job that succeeded.

    Raises:
        JobNotSucceeded: It failed or was cancelled.
        LocalError: It has not ended.
    """
    if job.finished_at is None:
        raise LocalError(f"{job.id} is {job.status}; its artifacts are there once it has succeeded")
    return succeeded(job)
