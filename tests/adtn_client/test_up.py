"""`adtn up` from its first line to its last process, whoever is killed meanwhile."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from running_up import ADTN, UP_S, Up, start, start_until_ready
from support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.redis]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = start_until_ready(tmp_path)
    yield running
    running.stop()


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_stack_starts_says_ready_and_stops_without_a_trace(up: Up, tmp_path: Path) -> None:
    assert re.fullmatch(r"ready http://127\.0\.0\.1:\d+\n", up.out)
    assert up.answers()
    assert f"logs are in {tmp_path}/data/logs" in up.said
    assert {path.name for path in (tmp_path / "data" / "logs").iterdir()} == {
        *("api.log", "redis.log", "worker-files.log", "worker-jobs.log")
    }
    wait_until(up.pool_has_started, UP_S)
    started = up.tree()
    again = subprocess.run([ADTN, "up", "--port", "0", "--data-dir", tmp_path / "data"], capture_output=True, text=True)
    assert again.returncode == 1
    assert f"already running on {tmp_path}/data (process {up.process.pid})" in again.stderr
    up.process.terminate()
    assert up.process.wait(timeout=60) == 0
    assert gone(started)


def test_killed_children_are_started_again(up: Up) -> None:
    wait_until(up.pool_has_started, UP_S)
    api, worker = up.running("-m", "service"), up.running("worker", "--queue", "jobs")
    orphans = worker.children(recursive=True)
    api.kill()
    worker.kill()
    wait_until(lambda: "api was started again" in up.said and "worker-jobs was started again" in up.said, UP_S)
    assert "api was killed by SIGKILL; starting it again in 0.5 s" in up.said
    wait_until(lambda: gone(orphans), UP_S)
    wait_until(up.answers, UP_S)
    assert up.running("-m", "service").pid != api.pid
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(timeout=60) == 0


@pytest.mark.parametrize("victim", ["guard", "supervisor"])
def test_nothing_outlives_a_killed_parent(up: Up, victim: str) -> None:
    wait_until(up.pool_has_started, UP_S)
    started = up.tree()
    os.kill(up.process.pid if victim == "guard" else up.supervisor().pid, signal.SIGKILL)
    assert up.process.wait(timeout=60) == (-signal.SIGKILL if victim == "guard" else 1)
    wait_until(lambda: gone(started), UP_S)


def test_api_that_cannot_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "adtn.db").write_text("this is no database" * 100)
    broken = start(tmp_path / "streams", tmp_path / "data")
    assert broken.process.wait(timeout=90) == 1
    assert "api ended with exit code" in broken.said
    assert "file is not a database" in broken.said
    assert broken.out == ""
