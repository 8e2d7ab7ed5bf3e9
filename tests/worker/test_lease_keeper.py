"""The keeper of a lease stops the pipeline when the job is cancelled, lost, or the worker shuts down."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import leases, records
from jobs.database import Database
from jobs.leases import Lease
from worker.lease_keeper import Cancelled, LeaseKeeper, Lost, ShuttingDown, Stop


@pytest.fixture
def lease(db: Database, job_id: str) -> Lease:
    taken = leases.take(db, job_id, owner="one", lease_s=0.5)
    assert taken is not None
    return taken


@pytest.fixture
def keeper(db: Database, lease: Lease, tmp_path: Path) -> Iterator[LeaseKeeper]:
    with LeaseKeeper(db, lease, lease_s=0.5, poll_s=0.05, grace_s=30, stop_file=tmp_path / "stop") as running:
        yield running


def stop_of(keeper: LeaseKeeper) -> Stop:
    """What `check` raises, as soon as it raises."""
    for _ in range(200):
        try:
            keeper.check()
        except Stop as stop:
            return stop
        time.sleep(0.05)
    raise AssertionError("nothing stopped the pipeline")


def test_kept_lease_cannot_be_taken_by_another(keeper: LeaseKeeper, db: Database, lease: Lease) -> None:
    time.sleep(1.0)  # twice the lease
    assert leases.take(db, lease.job_id, owner="two", lease_s=60) is None
    keeper.check()


def test_cancelled_job_stops(keeper: LeaseKeeper, db: Database, lease: Lease) -> None:
    records.cancel(db, "local", lease.job_id)
    assert isinstance(stop_of(keeper), Cancelled)


def test_worker_that_shuts_down_stops(keeper: LeaseKeeper, tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    assert isinstance(stop_of(keeper), ShuttingDown)


def test_job_that_another_attempt_holds_stops(db: Database, lease: Lease, tmp_path: Path) -> None:
    time.sleep(0.7)  # the lease ends unrenewed
    assert leases.take(db, lease.job_id, owner="two", lease_s=60) is not None
    with LeaseKeeper(db, lease, lease_s=0.5, poll_s=0.05, grace_s=30, stop_file=tmp_path / "stop") as keeper:
        assert isinstance(stop_of(keeper), Lost)


PROCESS_THAT_NEVER_CHECKS = """
import sys, time
from pathlib import Path
from jobs.database import open_database
from jobs.leases import Lease
from worker.lease_keeper import LeaseKeeper

url, job_id, stop_file = sys.argv[1:]
with LeaseKeeper(open_database(url), Lease(job_id, 1, "one"), lease_s=5, poll_s=0.05, grace_s=0.3,
                 stop_file=Path(stop_file)):
    time.sleep(120)
"""


@pytest.mark.parametrize(("stop", "status"), [("cancel", "cancelled"), ("shutdown", "queued")])
def test_job_that_never_checks_is_ended_with_its_process(
    db: Database, job_id: str, tmp_path: Path, stop: str, status: str
) -> None:
    assert leases.take(db, job_id, owner="one", lease_s=60) is not None
    url, stop_file = str(db.engine.url), tmp_path / "stop"
    process = subprocess.Popen([sys.executable, "-c", PROCESS_THAT_NEVER_CHECKS, url, job_id, str(stop_file)])
    if stop == "cancel":
        records.cancel(db, "local", job_id)
    else:
        stop_file.touch()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert records.get(db, "local", job_id).status == status
