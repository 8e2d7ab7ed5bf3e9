"""When to send a request again, and after what pause."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

# The server says with these that it has not acted on the request and that it may later.
RETRIED_STATUSES = frozenset({429, 503})
# And with this code that the first request with our key, whose answer we lost, is still being worked on.
IN_FLIGHT = b'"idempotency_in_flight"'


@dataclass(frozen=True)
class Retry:
    """How often and how patiently to try again.

    Attributes:
        attempts: Requests sent at most, the first included.
        first_pause_s: Pause before the second attempt; it doubles with each further one.
        longest_pause_s: No pause is longer, whatever the server asks for.
    """

    attempts: int = 4
    first_pause_s: float = 0.5
    longest_pause_s: float = 20.0

    def pause_s(self, attempt: int, answer: httpx.Response | None = None) -> float:
        """Seconds to wait after an attempt (1 is the first), by the server's `Retry-After` if it sent one.

        Without one, half of the pause is random, so that many clients do not come back at the same moment.
        """
        asked = retry_after_s(answer) if answer is not None else None
        if asked is not None:
            return min(asked, self.longest_pause_s)
        pause = min(self.first_pause_s * 2 ** (attempt - 1), self.longest_pause_s)
        return random.uniform(pause / 2, pause)


def worth_retrying(answer: httpx.Response) -> bool:
    """Whether the same request may succeed later."""
    in_flight = answer.status_code == httpx.codes.CONFLICT and answer.is_closed and IN_FLIGHT in answer.content
    return in_flight or answer.status_code in RETRIED_STATUSES


def retry_after_s(answer: httpx.Response) -> float | None:
    """Seconds asked for by a `Retry-After` header (seconds or a date), or None."""
    value = answer.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        wait = parsedate_to_datetime(value) - datetime.now(UTC)
        return max(0.0, wait.total_seconds())
    except (TypeError, ValueError):
        return None
