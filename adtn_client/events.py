"""Server-Sent Events of a job, resumed where a broken connection left off."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
from httpx_sse import EventSource, SSEError
from pydantic import ValidationError

from adtn_client.errors import ConnectionFailed, ProblemError, UnexpectedAnswer
from adtn_client.patience import Patience
from adtn_client.transport import Transport
from jobs.schemas.jobs import Event

TERMINAL_TYPES = frozenset({"job.succeeded", "job.failed", "job.cancelled"})
HELD_S = 10.0


def stream_events(transport: Transport, path: str, last_event_id: str | None = None) -> Iterator[Event]:
    """Yield events as they happen, each once, until the one that ends the job.

    Args:
        transport: The server.
        path: Of the job's events.
        last_event_id: Start after this event; None starts with the first.

    Raises:
        ConnectionFailed: The server stayed away too long.
        ProblemError: The server refused.
        UnexpectedAnswer: The answer is not a stream of events.
    """
    place = Place(last_event_id)
    patience = Patience()
    while True:
        try:
            for event in _one_connection(transport, path, place, patience):
                patience.renew()
                yield event
                if event.type in TERMINAL_TYPES:
                    return
            if place.ended:
                return
            failure: ConnectionFailed | ProblemError = ConnectionFailed(
                f"the server ends the stream of {path} before the job has ended"
            )
        except httpx.TransportError as error:
            failure = ConnectionFailed(f"the stream of {path} broke ({error})")
        except (ConnectionFailed, ProblemError) as error:
            failure = error
        patience.use(failure)


@dataclass
class Place:
    """How far a stream was read: the id of the last event, and whether the server says that there is no more."""

    last_event_id: str | None
    ended: bool = False


def _one_connection(transport: Transport, path: str, place: Place, patience: Patience) -> Iterator[Event]:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if place.last_event_id is not None:
        headers["Last-Event-ID"] = place.last_event_id
    with transport.stream(path, headers=headers) as answer:
        place.ended = answer.status_code == httpx.codes.NO_CONTENT
        if place.ended:
            return
        connected = time.monotonic()
        try:
            for event in EventSource(answer).iter_sse():
                if event.data:
                    place.last_event_id = event.id
                    yield Event.model_validate_json(event.data, extra="ignore")
        except (SSEError, ValidationError) as error:
            raise UnexpectedAnswer(f"{path} is not a stream of events: {error}") from error
        finally:
            # A job may be quiet for hours: a connection that has held is a sign of life too.
            if time.monotonic() - connected > HELD_S:
                patience.renew()
