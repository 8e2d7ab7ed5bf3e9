"""The process that the user starts: it starts the supervisor, hands signals on, and leaves nothing behind."""

import os
import signal
import subprocess
from pathlib import Path

from adtn_client.stack import kernel, lock, messages, programs
from adtn_client.stack.layout import Layout

# For what a killed supervisor leaves: the kernel has told it to stop, and there is nobody to give jobs back to.
ORPHANS_GRACE_S = 5.0


def run(host: str, port: int, data_dir: Path) -> int:
    """Run an embedded stack until a signal stops it.

    Args:
        host: Address that the API listens on.
        port: Port that the API listens on; 0 picks a free one.
        data_dir: Everything that is kept lies here; made if it is missing.

    Returns:
        The exit code: 0 after an orderly stop.

    Raises:
        StackError: The data directory cannot be used, or a stack already runs on it.
    """
    layout = Layout(data_dir.absolute())
    layout.create()
    held = lock.take(layout.lock)
    kernel.adopt_orphans()
    parent = os.getpid()
    arguments = ["--host", host, "--port", str(port), "--data-dir", str(layout.data_dir)]
    supervisor = subprocess.Popen(
        programs.module_command("adtn_client.stack", *arguments),
        # The supervisor holds the lock too, for the case that this process is killed first.
        pass_fds=[held],
        start_new_session=True,
        preexec_fn=lambda: kernel.end_with_parent(parent),  # safe: this process has one thread
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: supervisor.send_signal(signal.SIGTERM))
    code = supervisor.wait()
    if code < 0:
        messages.say(f"the supervisor was killed by {signal.Signals(-code).name}; stopping what it had started")
    kernel.end_descendants(ORPHANS_GRACE_S)
    return 1 if code < 0 else code
