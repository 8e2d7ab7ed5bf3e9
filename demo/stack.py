"""The service of the demo: `adtn up` in a folder of its own, as a user starts it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adtn_client.stack import kernel
from demo.checks import ClaimFailed, claim

STOP_WITHIN_S = 90


@contextmanager
def running_stack(data_dir: Path) -> Iterator[str]:
    """Start the stack on a free port, give its URL, and check afterwards that nothing of it is left.

    Raises:
        ClaimFailed: It does not start or does not stop as it should.
    """
    # What the stack might leave behind becomes a child of this process, so that it can be counted.
    kernel.adopt_orphans()
    adtn = Path(sys.executable).with_name("adtn")
    command = [str(adtn), "up", "--port", "0", "--data-dir", str(data_dir)]
    # One thread: see demo.__main__.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline().split()
            if ready[:1] != ["ready"]:
                raise ClaimFailed(f"the service did not start; its logs are in {data_dir / 'logs'}")
            yield ready[1]
        finally:
            started = set(kernel.descendants(os.getpid()))
            process.terminate()
            code = process.wait(timeout=STOP_WITHIN_S)
    kernel.reap()
    left = set(kernel.descendants(os.getpid()))
    claim(f"the service stopped with exit code {code}", code == 0)
    claim(f"none of its {len(started)} processes is left", not left)
