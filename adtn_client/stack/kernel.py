"""What Linux offers to leave no process behind. On other systems these calls do nothing, and process groups must do."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# Loaded before any fork: between fork and exec a process must not open libraries.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, in whatever session it is."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent(parent: int) -> None:
    """Ask for SIGTERM when the parent dies. Call between fork and exec.

    Args:
        parent: Process id of the parent before the fork; if it has died meanwhile, the signal would never come.
    """
    if _LIBC is None:
        return
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def children_by_parent() -> dict[int, list[int]]:
    """Every process id of this machine, by the id of its parent."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The command in parentheses may hold spaces and parentheses, so split after the last one.
            state, parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(folder.name))
    return children


def descendants(pid: int) -> list[int]:
    """Living children of a process, their children, and so on."""
    children = children_by_parent()
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def end_descendants(grace_s: float) -> None:
    """Wait until this process has no descendant; kill those that are left after `grace_s` seconds.

    Only for the end of a process: it reaps every child, so no `Popen` may be waited for afterwards.
    """
    deadline = time.monotonic() + grace_s
    while True:
        reap()
        left = descendants(os.getpid())
        if not left:
            return
        if time.monotonic() > deadline:
            for pid in left:
                kill(pid)
        time.sleep(0.05)


def reap() -> None:
    """Collect children that have ended, known or adopted."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass


def kill(pid: int) -> None:
    """Kill one process; it may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def reap_strangers(known: set[int]) -> None:
    """Collect adopted children that have ended, and leave those that somebody else waits for.

    Args:
        known: Process ids that are not to be collected.
    """
    try:
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in known:
                return
            os.waitpid(ended.si_pid, 0)
    except ChildProcessError:
        pass
