"""Everything that the client and the command line can raise.

ClientError
├── ConnectionFailed      the server cannot be reached, or the connection broke too often
├── ProblemError          the server refused: an RFC 9457 problem with a stable code
├── UnexpectedAnswer      the answer is not of this API, so perhaps not of this server
├── IntegrityError        bytes arrived that do not match their sha256
├── JobNotSucceeded       the job that was waited for failed or was cancelled
├── WaitTimeout           the job did not finish in the time given
├── LocalError            a local file or setting cannot be used
├── UsageError            an option of the command line cannot be read
└── StackError            the embedded stack cannot start
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.problems import Fault


class ClientError(Exception):
    """Base of every error of this package; its text is one sentence for a person."""


class ConnectionFailed(ClientError):
    """The server cannot be reached, or the connection broke more often than the client retries."""


@dataclass
class ProblemError(ClientError):
    """The server answered with a problem.

    Attributes:
        status: The HTTP status.
        code: Stable and for programs, such as `layer_not_found`.
        title: What kind of problem, the same for every problem with this code.
        detail: What was expected, what came, and where.
        errors: The single faults, if the problem lists them.
        request_id: Names the request in the server's log; None if the server gave none.
    """

    status: int
    code: str
    title: str
    detail: str
    errors: Sequence[Fault] = ()
    request_id: str | None = None

    def __str__(self) -> str:
        return f"{self.detail or self.title}{_others(self.errors, self.detail)} ({self.code})"


class UnexpectedAnswer(ClientError):
    """The answer does not fit the API."""


class IntegrityError(ClientError):
    """Bytes arrived that do not match the sha256 they should have."""


class JobNotSucceeded(ClientError):
    """The job ended as failed or cancelled.

    Attributes:
        status: How it ended.
        code: The code of the job's error; None if the job was cancelled.
        errors: The single faults, if the error lists them: of a search in vain, its trials.
    """

    def __init__(
        self,
        job_id: str,
        status: str,
        code: str | None = None,
        detail: str | None = None,
        errors: Sequence[Fault] = (),
    ) -> None:
        reason = f": {detail}{_others(errors, detail)} ({code})" if code else ""
        super().__init__(f"job {job_id} {'was cancelled' if status == 'cancelled' else 'failed'}{reason}")
        self.job_id = job_id
        self.status = status
        self.code = code
        self.errors = errors


class WaitTimeout(ClientError):
    """The job did not finish in the time given; it goes on."""


class LocalError(ClientError):
    """A local file or setting cannot be used."""


class UsageError(ClientError):
    """An option of the command line cannot be read."""


class StackError(ClientError):
    """The embedded stack cannot start."""


def _others(faults: Sequence[Fault], detail: str | None) -> str:
    """What to add to a sentence: the faults that it does not tell itself."""
    return "".join(f"; {fault.pointer}: {fault.detail}" for fault in faults if fault.detail != detail)
