"""The whole embedded stack, started as a user starts it."""

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil


@dataclass
class Stack:
    """A running `adtn up`."""

    url: str
    data_dir: Path
    process: subprocess.Popen[str]

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    def processes(self, *words: str) -> list[psutil.Process]:
        """The processes below `adtn up` whose command line has all of these words."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.ZombieProcess, psutil.NoSuchProcess):  # ended just now
                if all(any(word in argument for argument in child.cmdline()) for word in words):
                    found.append(child)
        return found

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(timeout=90) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()


def start_stack(data_dir: Path, **environment: str) -> Stack:
    """Start it on a free port and wait for its `ready` line."""
    adtn = Path(sys.executable).with_name("adtn")
    process = subprocess.Popen(
        [adtn, "up", "--port", "0", "--data-dir", data_dir],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready "):
            return Stack(line.split()[1], data_dir, process)
    raise AssertionError(f"the stack ended with {process.wait()} before it was ready")
