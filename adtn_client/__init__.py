"""Python client of the compression service, and the command `adtn`."""

from adtn_client.client import Client
from adtn_client.errors import (
    ClientError,
    ConnectionFailed,
    IntegrityError,
    JobNotSucceeded,
    LocalError,
    ProblemError,
    StackError,
    UnexpectedAnswer,
    WaitTimeout,
)
from adtn_client.retries import Retry

__all__ = [
    "Client",
    "ClientError",
    "ConnectionFailed",
    "IntegrityError",
    "JobNotSucceeded",
    "LocalError",
    "ProblemError",
    "Retry",
    "StackError",
    "UnexpectedAnswer",
    "WaitTimeout",
]
