"""Uploading what a job needs, creating it, waiting for it, and fetching what it made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adtn_client.client import Client
from adtn_client.commands import output
from adtn_client.commands.progress import Display, display
from adtn_client.commands.watch import watch
from adtn_client.downloads import OnBytes
from adtn_client.errors import LocalError
from adtn_client.jobs import file_name
from jobs.schemas.jobs import Job
from jobs.states import Purpose

FILE_ID = "file_"


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line.

    Attributes:
        checkpoint: A path, or the id of a file on the server.
        data: A path, the id of a file, the name of a data set, or None.
        settings: Everything else about the job.
        out: The folder for artifacts.
    """

    checkpoint: str
    data: str | None
    settings: dict[str, Any]
    out: Path


def compress_and_wait(client: Client, request: Request) -> Job:
    """Do the whole job; an interrupt while it runs cancels it on the server too.

    Raises:
        ClientError: Any of them.
        KeyboardInterrupt: The user did not want to wait.
    """
    # Before anything is sent: a folder that cannot be made should not cost a compression.
    request.out.mkdir(parents=True, exist_ok=True)
    with display() as shown:
        job = submit(client, request, shown)
        try:
            job = watch(client, job.id, shown)
        except KeyboardInterrupt:
            output.say(f"cancelling {job.id}; start with --detach to leave jobs alone")
            client.jobs.cancel(job.id)
            raise
        fetch(client, job, request.out, shown)
    return job


def submit(client: Client, request: Request, shown: Display) -> Job:
    """Upload the files that are here and create the job.

    Raises:
        LocalError: A file is not there.
        ConnectionFailed, ProblemError, UnexpectedAnswer: The server cannot or will not.
    """
    # Looked at first: no upload for a command that cannot succeed.
    data_path = path_of(request.data, "--data") if request.data and not is_name(request.data) else None
    settings = {"checkpoint": checkpoint_id(client, request.checkpoint, shown), **request.settings}
    if request.data:
        settings["dataset"] = upload(client, data_path, "dataset", shown) if data_path else request.data
    job = client.jobs.create(settings)
    output.say(f"created {job.id}")
    return job


def fetch(client: Client, job: Job, out: Path, shown: Display) -> None:
    """Download every artifact of a job into a folder."""
    for artifact in job.artifacts:
        target = out / file_name(artifact.name)
        on_bytes = show_bytes(shown, f"download {artifact.name}")
        client.jobs.download(job.id, artifact.name, target, on_bytes=on_bytes)
    output.say(f"wrote {len(job.artifacts)} artifacts to {out}")


def checkpoint_id(client: Client, given: str, shown: Display) -> str:
    """The id of the checkpoint on the server, uploaded if it is a file here."""
    if given.startswith(FILE_ID) and not Path(given).exists():
        return given
    return upload(client, path_of(given, "the checkpoint"), "checkpoint", shown)


def upload(client: Client, path: Path, purpose: Purpose, shown: Display) -> str:
    """Upload a file and return its id."""
    file = client.files.upload(path, purpose, on_bytes=show_bytes(shown, f"upload {path.name}"))
    output.say(f"uploaded {path.name} as {file.id}")
    return file.id


def show_bytes(shown: Display, label: str) -> OnBytes:
    """Show how much of a file is through."""
    return lambda done, size: shown.show(label, done / size)


def is_name(data: str) -> bool:
    """Whether data are named rather than stored in a file here: a bare word, unless such a file exists."""
    return not Path(data).exists() and not Path(data).suffix and Path(data).name == data


def path_of(given: str, what: str) -> Path:
    """A file that exists.

    Raises:
        LocalError: It does not.
    """
    path = Path(given)
    if not path.is_file():
        is_folder = " a folder; pack it as a zip or tar first" if path.is_dir() else " no file here"
        raise LocalError(f"{what}: {given} is{is_folder}")
    return path
