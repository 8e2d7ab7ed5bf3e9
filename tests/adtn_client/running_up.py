"""Starting the real `adtn up` and looking at what it started."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from support.waiting import wait_until

ADTN = Path(sys.executable).with_name("adtn")


UP_S = 60
"""Seconds that starting, and starting again, may take."""


@dataclass
class Up:
    """A running `adtn up`: what it has said, and what it has started."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def said(self) -> str:
        return (self.folder / "err").read_text()

    @property
    def url(self) -> str:
        return self.out.split()[1]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=60)

    def tree(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def running(self, *words: str) -> psutil.Process:
        """The oldest process whose command line ends with these words."""
        found = [process for process in self.tree() if process.cmdline()[-len(words) :] == list(words)]
        return min(found, key=lambda process: process.create_time())

    def supervisor(self) -> psutil.Process:
        (only,) = psutil.Process(self.process.pid).children()
        return only

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def pool_has_started(self) -> bool:
        """Whether each worker has started the process that runs its tasks."""
        return sum("spawn_main" in " ".join(process.cmdline()) for process in self.tree()) >= 2


def start_until_ready(folder: Path) -> Up:
    running = start(folder / "streams", folder / "data")
    wait_until(lambda: running.out or running.process.poll() is not None, UP_S)
    assert running.process.poll() is None, running.said
    return running


def start(folder: Path, data_dir: Path) -> Up:
    folder.mkdir(exist_ok=True)
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen([ADTN, "up", "--port", "0", "--data-dir", data_dir], stdout=out, stderr=err)
    return Up(process, folder)
