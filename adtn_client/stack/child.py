"""One child process of the supervisor: started, watched, started again with a growing pause, stopped."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from adtn_client.stack import kernel

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
# A child that has run this long is taken for healthy: its next death counts as the first.
HEALTHY_AFTER_S = 60.0


class Child:
    """A process that should be running.

    Args:
        name: Names the process in messages and its log.
        command: The program and its arguments.
        environment: All of its environment variables.
        log: File that its output is appended to.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._restart_at: float | None = None
        self._pause_s = FIRST_PAUSE_S

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process in a session of its own, so that Ctrl-C in a terminal reaches the guard only."""
        parent = os.getpid()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: kernel.end_with_parent(parent),  # safe: this process has one thread
            )
        self._started = time.monotonic()
        self._restart_at = None

    def ended(self) -> str | None:
        """How the process ended, in words, the first time it is seen to have ended; else None."""
        code = self._process.poll() if self._process is not None else None
        if code is None:
            return None
        self._process = None
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def plan_restart(self) -> float:
        """Choose when to start again and return the pause in seconds; it doubles with every early death."""
        now = time.monotonic()
        if now - self._started > HEALTHY_AFTER_S:
            self._pause_s = FIRST_PAUSE_S
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._restart_at = now + pause_s
        return pause_s

    def restart_if_due(self) -> bool:
        """Start the process again if its pause is over."""
        due = self._restart_at is not None and time.monotonic() >= self._restart_at
        if due:
            self.start()
        return due

    def signal(self, number: signal.Signals) -> None:
        """Send a signal if it runs."""
        self._restart_at = None
        if self._process is not None:
            self._process.send_signal(number)

    def kill_group(self) -> None:
        """Kill the process and everything in its group, which it leads."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def last_lines(self, count: int = 8) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-count:])
