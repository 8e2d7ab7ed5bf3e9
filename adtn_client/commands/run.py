"""`adtn serve` and `adtn worker`: one process of the service, with settings from ADTN_* environment variables."""

import os
import sys
from enum import StrEnum
from typing import Annotated, NoReturn

import typer

from adtn_client.stack.programs import module_command


class Queue(StrEnum):
    """What a worker works on."""

    jobs = "jobs"
    files = "files"


def serve() -> None:
    """Run the HTTP API in this process (ADTN_HOST, ADTN_PORT, ADTN_DATABASE_URL, ADTN_STORE_URL, ADTN_BROKER_URL)."""
    replace_process("service")


def worker(
    queue: Annotated[Queue, typer.Option(help="jobs compresses models, files inspects uploads.")] = Queue.jobs,
) -> None:
    """Run a worker for one queue in this process; a service needs one for each."""
    replace_process("worker", "--queue", queue.value)


def replace_process(module: str, *arguments: str) -> NoReturn:
    """Become `python -m MODULE`: signals and the exit code are then the program's own."""
    sys.stdout.flush()
    os.execv(sys.executable, module_command(module, *arguments))
