"""The parent's side of the sandbox: start a child with nothing but open files, wait, and never leave it behind."""

import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

# All that the child sees of the parent's environment.
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
LOG_BYTES = 4000


@dataclass(frozen=True)
class Ending:
    """How a child ended.

    Attributes:
        returncode: As of `subprocess`: minus the signal's number if one killed it.
        timed_out: Whether it was killed here because its time was up.
        log: The end of what it wrote to its standard streams; for the operator, never for the user.
    """

    returncode: int
    timed_out: bool
    log: str


def run_child(arguments: Sequence[str], files: Sequence[int], wall_s: float) -> Ending:
    """Run the interpreter in a session, a folder and an environment of its own, and wait for its end.

    Args:
        arguments: After the interpreter's name: a module or script and its arguments.
        files: Descriptors that it inherits, under the same numbers.
        wall_s: Seconds until it is killed.
    """
    with tempfile.TemporaryDirectory(prefix="adtn-sandbox-") as folder, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=files,
            env=ENVIRONMENT,
            cwd=folder,
            start_new_session=True,
        )
        try:
            ended = _wait(process.pid, wall_s)
        finally:
            # Before the child is reaped, while its number is surely its own; takes what it may have started along.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_BYTES))
        return Ending(process.returncode, not ended, log.read().decode("utf-8", "replace"))


def _wait(pid: int, wall_s: float) -> bool:
    """Whether the process ends within the time; it is left unreaped."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(wall_s * 1000))
    finally:
        os.close(descriptor)
