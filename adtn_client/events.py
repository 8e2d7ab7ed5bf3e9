"""Server-Sent Events of a job, resumed where a broken connection left off."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from adtn_client.errors import ConnectionFailed, UnexpectedAnswer
from adtn_client.patience import Patience
from adtn_client.transport import Transport

TERMINAL_TYPES = frozenset({"job.succeeded", "job.failed", "job.cancelled"})


@dataclass(frozen=True)
class StreamedEvent:
    """One event of a job.

    Attributes:
        id: Its place among the events of its job; sent back as `Last-Event-ID`.
        type: What happened, such as `job.stage` or `job.succeeded`.
        data: The event as JSON.
    """

    id: str
    type: str
    data: dict[str, Any]


def stream_events(transport: Transport, path: str, last_event_id: str | None = None) -> Iterator[StreamedEvent]:
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
    patience = Patience()
    while True:
        try:
            for event in _one_connection(transport, path, last_event_id):
                patience.renew()
                last_event_id = event.id
                yield event
                if event.type in TERMINAL_TYPES:
                    return
            failure = ConnectionFailed(f"the server ends the stream of {path} before the job has ended")
        except httpx.TransportError as error:
            failure = ConnectionFailed(f"the stream of {path} broke ({error})")
        except ConnectionFailed as error:
            failure = error
        patience.use(failure)


def _one_connection(transport: Transport, path: str, last_event_id: str | None) -> Iterator[StreamedEvent]:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    with transport.stream(path, headers=headers) as answer:
        try:
            for event in EventSource(answer).iter_sse():
                if event.data:
                    yield _read(event)
        except (SSEError, ValueError) as error:
            raise UnexpectedAnswer(f"{path} is not a stream of events: {error}") from error


def _read(event: ServerSentEvent) -> StreamedEvent:
    return StreamedEvent(event.id, event.event, json.loads(event.data))
