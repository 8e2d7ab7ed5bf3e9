"""Tells the database that this worker lives, so that the service can say when none does."""

import logging
import socket
import threading

from sqlalchemy.exc import DBAPIError

from jobs import workers
from jobs.database import Database

log = logging.getLogger(__name__)

INTERVAL_S = 5.0


class Heartbeat:
    """A thread that writes this worker's row every few seconds until it is stopped."""

    def __init__(self, db: Database, worker_id: str, queue: str) -> None:
        self._db = db
        self._worker_id = worker_id
        self._queue = queue
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin, with a first beat at once."""
        self._thread.start()

    def stop(self) -> None:
        """End; the row is left to go stale."""
        self._stopped.set()
        self._thread.join()

    def _beat(self) -> None:
        while True:
            try:
                workers.beat(self._db, self._worker_id, queues=[self._queue], hostname=socket.gethostname())
            except DBAPIError as error:
                log.warning("the heartbeat was not written: %s", error)
            if self._stopped.wait(INTERVAL_S):
                return
