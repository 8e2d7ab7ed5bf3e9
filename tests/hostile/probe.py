"""A child that is confined like the reader of uploads and then tries what a hijacked one would try.

Started by `read_upload` in the place of the real child. It reports what it could do as the text of a refusal.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker.sandbox.confine import confine, cut_network, library_folders
from worker.sandbox.limits import Budget


def attempt(action: Callable[[], Any]) -> str:
    """ "done", or the name of the error that stopped it."""
    try:
        action()
    except BaseException as error:
        return type(error).__name__
    return "done"


def connect(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass


def kernel_call(name: bytes, *arguments: Any) -> None:
    """A call into the C library that Python's audit hooks do not see."""
    if LIBC[name.decode()](*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def escapes(task: dict[str, Any]) -> dict[str, str]:
    """Ways out, by name: through Python, which the audit hook sees, and through C, which only the kernel sees."""
    marker, secret = task["marker"].encode(), task["secret"].encode()
    return {
        "connect": attempt(lambda: connect(task["port"])),
        "system": attempt(lambda: os.system(f"touch {task['marker']}")),
        "subprocess": attempt(lambda: subprocess.run(["touch", task["marker"]], check=True)),
        "exec": attempt(lambda: os.execv("/bin/touch", ["touch", task["marker"]])),
        "fork": attempt(fork),
        "write": attempt(lambda: Path(task["marker"]).write_text("x")),
        "read": attempt(lambda: Path(task["secret"]).read_text()),
        "parent's environment": attempt(lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes()),
        "remove": attempt(lambda: Path(task["secret"]).unlink()),
        "library": attempt(lambda: ctypes.CDLL("libc.so.6")),
        "raise a limit": attempt(lambda: resource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))),
        "C write": attempt(lambda: kernel_call(b"open", marker, os.O_WRONLY | os.O_CREAT, 0o600)),
        "C read": attempt(lambda: kernel_call(b"open", secret, os.O_RDONLY)),
        "C remove": attempt(lambda: kernel_call(b"unlink", secret)),
        "C kill parent": attempt(lambda: kernel_call(b"kill", os.getppid(), 0)),
    }


def without_hook() -> None:
    """Leave out the audit hook, so that only the kernel's lines of defence are left."""
    sys.addaudithook = lambda hook: None


def finish(request: dict[str, Any], reply: dict[str, Any] | str, output: bytes = b"") -> None:
    os.write(request["files"]["output"], output)
    text = reply if isinstance(reply, str) else json.dumps(reply)
    os.write(request["files"]["reply"], text.encode())


def main() -> None:
    task, request = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    if task["do"] == "leave a child":
        subprocess.Popen(["sleep", "1000"], pass_fds=list(request["files"].values()))
        Path(task["marker"]).write_text(str(os.getpid()))
    networks = [os.readlink("/proc/self/ns/net"), cut_network(), os.readlink("/proc/self/ns/net")]
    if task["do"] == "die of memory" or task.get("without_hook"):
        without_hook()
    confine(Budget(**request["budget"]), library_folders(), request["parent"])
    if task["do"] == "escape":
        found: dict[str, Any] = {"environment": dict(os.environ), "escapes": escapes(task), "networks": networks}
        finish(request, {"refusal": {"code": "internal_error", "detail": json.dumps(found), "errors": []}})
    elif task["do"] == "sleep":
        os.write(request["files"]["output"], b"asleep")
        time.sleep(1000)
    elif task["do"] == "spin":
        while True:
            pass
    elif task["do"] == "die of memory":
        assert attempt(lambda: bytearray(2**33)) == "MemoryError"
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does to one that got its memory and touched it
    elif task["do"] == "crash":
        os.abort()
    elif task["do"] == "answer":
        finish(request, task["reply"] * task.get("times", 1), bytes.fromhex(task["output"]))


LIBC = ctypes.CDLL(None, use_errno=True)

if __name__ == "__main__":
    main()
