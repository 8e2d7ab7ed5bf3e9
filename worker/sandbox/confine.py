"""The child's side of the sandbox: what a process gives up, for good, before it opens an untrusted file.

Several lines of defence, each usable without the others, for no kernel and no container allows them all: no network,
limits on memory, processor time, files and processes, no privileges, a read-only view of the interpreter's own folders
(Landlock), and an audit hook that refuses what a reader of files never does. Linux only.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from worker.sandbox.limits import Budget

NOBODY = 65534
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38

# Audit events by prefix; https://docs.python.org/3/library/audit_events.html
REFUSED = (
    "ctypes.", "ensurepip.", "fcntl.", "ftplib.", "http.", "imaplib.", "mmap.resize", "msvcrt.", "os.chflags",
    "os.chmod", "os.chown", "os.exec", "os.fork", "os.kill", "os.link", "os.mkdir", "os.posix_spawn", "os.putenv",
    "os.remove", "os.rename", "os.rmdir", "os.setxattr", "os.spawn", "os.startfile", "os.symlink", "os.system",
    "os.truncate", "os.utime", "poplib.", "pty.", "shutil.", "signal.", "smtplib.", "socket.", "sqlite3.",
    "subprocess.", "syslog.", "telnetlib.", "tempfile.", "urllib.", "webbrowser.",
)  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def cut_network() -> bool:
    """Move into a network namespace without interfaces; has to come before any thread is started.

    Returns:
        Whether the kernel allowed it.
    """
    libc = _libc()
    return any(libc.unshare(flags) == 0 for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET))


def confine(budget: Budget, readable: Iterable[Path], parent: int) -> None:
    """Give up everything that reading an open file and writing to another does not need.

    Args:
        budget: Limits of this process, counted from now on.
        readable: Folders that later imports may need.
        parent: The process that waits for this one; this one never outlives it.
    """
    folders = [folder.resolve() for folder in readable if folder.exists()]
    libc = _libc()
    _set_limits(budget)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Imported here, so that the module that knows system call numbers is loaded before reading is restricted.
    from worker.sandbox.landlock import restrict_reading

    restrict_reading(folders)
    _drop_privileges(libc, folders)
    # After the change of user, which clears it: die when the parent dies.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the parent died first")
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    _refuse_events([f"{folder}{os.sep}" for folder in folders])


def library_folders() -> list[Path]:
    """Folders that imports after confinement may read: the interpreter, installed packages, and this project's own."""
    own = [Path(path) for name in ("worker", "jobs", "adtn") for path in getattr(sys.modules.get(name), "__path__", [])]
    packages = [Path(path) for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    return [Path(sys.prefix), Path(sys.base_prefix), *packages, *own]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _set_limits(budget: Budget) -> None:
    """Set the resource limits, memory and processor time counted from what is in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = int(usage.ru_utime + usage.ru_stime) + 1 + budget.cpu_s
    memory = pages * resource.getpagesize() + budget.memory_bytes
    limits = {
        resource.RLIMIT_AS: (memory, memory),
        resource.RLIMIT_CPU: (cpu_s, cpu_s + 1),  # the lower one sends SIGXCPU, which says what happened
        resource.RLIMIT_FSIZE: (budget.output_bytes, budget.output_bytes),
        resource.RLIMIT_NOFILE: (64, 64),
        resource.RLIMIT_NPROC: (0, 0),
        resource.RLIMIT_CORE: (0, 0),
    }
    for limit, values in limits.items():
        hard = resource.getrlimit(limit)[1]
        most = sys.maxsize if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(limit, (min(values[0], most), min(values[1], most)))


def _drop_privileges(libc: ctypes.CDLL, folders: Iterable[Path]) -> None:
    """Become nobody if this is root and nobody can read the libraries; otherwise drop every capability."""
    if os.geteuid() == 0 and _nobody_can_read(folders):
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the structure, this process
    libc.capset(header, (ctypes.c_uint32 * 6)())


def _nobody_can_read(folders: Iterable[Path]) -> bool:
    """Whether imports still work as another user: an interpreter in a private home folder is root's alone."""
    try:
        os.seteuid(NOBODY)
    except OSError:  # a user namespace that maps no other user
        return False
    try:
        return all(os.access(folder, os.R_OK | os.X_OK, effective_ids=True) for folder in folders)
    finally:
        os.seteuid(0)


def _refuse_events(readable: Iterable[str]) -> None:
    """Refuse processes, sockets, foreign functions and file changes, and opening of what is not a library."""
    roots = tuple(readable)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int):
                return
            writing = isinstance(flags, int) and flags & WRITING
            if writing or not os.path.realpath(os.fsdecode(path)).startswith(roots):  # type: ignore[arg-type]
                raise PermissionError(f"the sandbox refuses to open {path!r}")
        elif event.startswith(REFUSED):
            raise PermissionError(f"the sandbox refuses {event}")

    sys.addaudithook(hook)
