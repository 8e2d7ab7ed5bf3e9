"""How long to go on asking a server that has gone away in the middle of a job."""

import time

from adtn_client.errors import ConnectionFailed

# Longer than a restart of the service; the job goes on without us meanwhile.
AWAY_S = 60.0
PAUSE_S = 1.0


class Patience:
    """Runs out when a server has been away for `AWAY_S` seconds without a sign of life."""

    def __init__(self) -> None:
        self._ends = time.monotonic() + AWAY_S

    def renew(self) -> None:
        """The server has shown a sign of life."""
        self._ends = time.monotonic() + AWAY_S

    def use(self, failure: ConnectionFailed) -> None:
        """Pause before the next try, or raise the failure if patience has run out."""
        if time.monotonic() > self._ends:
            raise failure
        time.sleep(PAUSE_S)
