"""Waiting for what happens in another process."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], within_s: float) -> None:
    """Return as soon as a condition holds; fail if it does not within so many seconds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to that within {within_s} s"
        time.sleep(0.02)
