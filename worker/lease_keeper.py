"""Keeps a job's lease alive from a thread, and tells the pipeline when to stop."""

import logging
import os
import signal
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy.exc import DBAPIError

from jobs import leases
from jobs.database import Database
from jobs.leases import Lease, LeaseLost

log = logging.getLogger(__name__)

SHUT_DOWN = "the worker shut down; waiting for another"


class Stop(Exception):
    """The pipeline should not go on."""


class Cancelled(Stop):
    """The user cancelled the job."""


class ShuttingDown(Stop):
    """The worker is shutting down; another should take the job."""


class Lost(Stop):
    """Another attempt holds the job now."""


class LeaseKeeper:
    """Renews a lease every `poll_s` seconds while the `with` block runs.

    The pipeline calls `check` between its steps, which raises the `Stop` that applies. A pipeline that does not come to
    a check within `grace_s` seconds of a stop (a long native call) is ended with its whole process: a cancelled job
    must free its device, and a lost one must not write.

    Args:
        db: The database.
        lease: The lease to keep.
        lease_s: Seconds by which each renewal extends the lease.
        poll_s: Seconds between renewals, at most a third of `lease_s`.
        grace_s: Seconds that the pipeline has to come to a check.
        stop_file: Exists as soon as the worker shuts down.
    """

    def __init__(
        self, db: Database, lease: Lease, *, lease_s: float, poll_s: float, grace_s: float, stop_file: Path
    ) -> None:
        self._db = db
        self._lease = lease
        self._lease_s = lease_s
        self._poll_s = min(poll_s, lease_s / 3)
        self._grace_s = grace_s
        self._stop_file = stop_file
        self._stop: Stop | None = None
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lease-keeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._finished.set()
        self._thread.join()

    def check(self) -> None:
        """Raise the `Stop` that applies, if any."""
        if self._stop is not None:
            raise self._stop

    def _watch(self) -> None:
        held_until = time.monotonic() + self._lease_s
        while not self._finished.wait(self._poll_s):
            try:
                going_on = leases.renew(self._db, self._lease, lease_s=self._lease_s)
                held_until = time.monotonic() + self._lease_s
                self._stop = self._verdict(going_on)
            except LeaseLost:
                self._stop = Lost()
            except DBAPIError as error:
                # The database may be back before the lease ends; after that, somebody else may hold the job.
                log.warning("job %s: the lease was not renewed: %s", self._lease.job_id, error)
                self._stop = Lost() if time.monotonic() > held_until else None
            if self._stop is not None:
                break
        else:
            return
        if not self._finished.wait(self._grace_s):
            self._end_process()

    def _verdict(self, going_on: bool) -> Stop | None:
        if not going_on:
            return Cancelled()
        return ShuttingDown() if self._stop_file.exists() else None

    def _end_process(self) -> None:
        log.error("job %s: no check within %s s of a stop; ending the process", self._lease.job_id, self._grace_s)
        try:
            if isinstance(self._stop, Cancelled):
                leases.cancelled(self._db, self._lease)
            elif isinstance(self._stop, ShuttingDown):
                leases.release(self._db, self._lease, SHUT_DOWN)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
