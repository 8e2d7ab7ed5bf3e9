"""Folders for what a task writes while it runs: those of processes that were killed are removed by the next task."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NEW = "adtn-new-"
_HELD = "adtn-task-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder for the block, in which `tempfile` works meanwhile, whoever calls it in this process.

    The process holds a lock on it, which the kernel takes back however the process ends: a folder without one belongs
    to nobody.
    """
    sweep()
    made = Path(tempfile.mkdtemp(prefix=_NEW))
    lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    folder = made.rename(made.with_name(_HELD + made.name.removeprefix(_NEW)))  # only now for `sweep` to find
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep() -> None:
    """Remove the folders of tasks whose process has ended without removing them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_HELD}*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue  # its task has just ended, or it is another user's
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass  # held by its task, or on a disk that knows no locks
        finally:
            os.close(lock)
