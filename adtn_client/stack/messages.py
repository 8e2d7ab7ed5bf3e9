"""What the stack tells its user."""

import contextlib
import sys
from typing import TextIO


def announce(line: str) -> None:
    """Write a line for programs, on stdout."""
    _write(sys.stdout, line)


def say(text: str) -> None:
    """Write a line for people, on stderr."""
    _write(sys.stderr, f"adtn up: {text}")


def _write(stream: TextIO, line: str) -> None:
    # That nobody reads any more, as after a hang-up, is no reason to stop serving.
    with contextlib.suppress(OSError):
        stream.write(f"{line}\n")
        stream.flush()
