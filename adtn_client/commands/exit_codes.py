"""What the exit code of `adtn` says.

0 done · 1 refused by the server, or a local file cannot be used · 2 the command line is wrong · 3 the server cannot be
reached · 4 the job failed · 5 the job was cancelled · 130 interrupted with Ctrl-C.
"""

from adtn_client.errors import ClientError, ConnectionFailed, JobNotSucceeded, UsageError

DONE = 0
REFUSED = 1
USAGE = 2
UNREACHABLE = 3
JOB_FAILED = 4
JOB_CANCELLED = 5
INTERRUPTED = 130


def exit_code_of(error: ClientError) -> int:
    """The exit code for an error."""
    if isinstance(error, ConnectionFailed):
        return UNREACHABLE
    if isinstance(error, JobNotSucceeded):
        return JOB_CANCELLED if error.status == "cancelled" else JOB_FAILED
    if isinstance(error, UsageError):
        return USAGE
    return REFUSED
