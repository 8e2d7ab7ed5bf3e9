"""Runs a file of tests in a process of its own, in which PyTorch has the accelerator of `support.accelerator`."""

import subprocess
import sys
from pathlib import Path


def require_passes_on_accelerator(file: Path) -> None:
    """Run the tests of a file.

    Args:
        file: Of tests; its name keeps it out of the run of all tests, since the device cannot be taken away again.

    Raises:
        AssertionError: A test failed or was skipped, or there is none; with the output of pytest.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "support.accelerator", str(file)]
    done = subprocess.run(command, cwd=file.parents[2], capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout + done.stderr  # also where there was no test
    assert "skipped" not in done.stdout, done.stdout
