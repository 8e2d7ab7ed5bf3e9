"""Runs a file of tests in a process of its own, in which PyTorch has the accelerator of `support.accelerator`."""

import re
import subprocess
import sys
from pathlib import Path


def passed_on_accelerator(file: Path) -> int:
    """How many tests of a file passed, which were all.

    Args:
        file: Of tests; its name keeps it out of the run of all tests, since the device cannot be taken away again.

    Raises:
        AssertionError: A test failed, with the output of pytest.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "support.accelerator", str(file)]
    done = subprocess.run(command, cwd=file.parents[2], capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^(\d+) passed in", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    return int(found[1])
