"""The options that every verb with a server has, and the client they make."""

from typing import Annotated

import typer

from adtn_client.client import Client

Url = Annotated[str, typer.Option("--url", envvar="ADTN_URL", help="Where the server is.")]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", envvar="ADTN_API_KEY", show_default=False, help="Needed unless the server is open."),
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, job_...")]

DEFAULT_URL = "http://127.0.0.1:8000"


def connect(url: str, api_key: str | None) -> Client:
    """A client for the server that the options name."""
    return Client(url, api_key)
