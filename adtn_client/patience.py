"""How long to go on asking a server that has gone away in the middle of a job."""

import time
from collections.abc import Callable
from typing import TypeVar

from adtn_client.errors import ConnectionFailed, ProblemError
from adtn_client.retries import RETRIED_STATUSES

# Longer than a restart of the service; the job goes on without us meanwhile.
AWAY_S = 60.0
PAUSE_S = 1.0

Answer = TypeVar("Answer")


class Patience:
    """Runs out when a server has been away for `AWAY_S` seconds, from the first failure without a success since."""

    def __init__(self) -> None:
        self._ends: float | None = None

    def renew(self) -> None:
        """The server has shown a sign of life."""
        self._ends = None

    def use(self, failure: ConnectionFailed | ProblemError) -> None:
        """Pause before the next try; raise the failure if patience has run out, or trying again cannot help."""
        now = time.monotonic()
        self._ends = self._ends or now + AWAY_S
        helps = isinstance(failure, ConnectionFailed) or failure.status in RETRIED_STATUSES
        if not helps or now > self._ends:
            raise failure
        time.sleep(PAUSE_S)

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """Ask until there is an answer.

        Raises:
            ConnectionFailed: The server stayed away too long.
            ProblemError: The server refused, or was unavailable for too long.
        """
        while True:
            try:
                answer = question()
            except (ConnectionFailed, ProblemError) as error:
                self.use(error)
            else:
                self.renew()
                return answer
