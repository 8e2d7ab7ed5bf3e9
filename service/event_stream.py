"""Events as Server-Sent Events: what was missed first, then what happens, until the job has ended."""

import asyncio
import time
from collections.abc import AsyncIterator

from fastapi import Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, format_sse_event

from jobs import events, records
from jobs.problems import ProblemError
from jobs.states import TERMINAL
from service.polling import LOOK_S
from service.resources import Resources
from service.views import event_view

PING_S = 15.0
RETRY_MS = 2000
BATCH = 200
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def stream_events(resources: Resources, owner: str, job_id: str, sequence: int) -> Response:
    """A stream of the events after number `sequence`; 204 where there is nothing left to tell.

    Raises:
        ProblemError: not_found.
    """
    job = await run_in_threadpool(records.standing, resources.db, owner, job_id)
    if job.status in TERMINAL and sequence >= job.events:
        # Told so, a browser does not connect again.
        return Response(status_code=204)
    return EventSourceResponse(_stream(resources, owner, job_id, sequence), headers=HEADERS)


async def _stream(resources: Resources, owner: str, job_id: str, sequence: int) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RETRY_MS)
    spoken = time.monotonic()
    while not resources.stopping.is_set():
        # The status is read before the events: when it is terminal, the last event is among them.
        ended = await run_in_threadpool(_has_ended, resources, owner, job_id)
        rows = await run_in_threadpool(events.after, resources.db, job_id, sequence, BATCH)
        for row in rows:
            sequence = row.sequence
            yield format_sse_event(data_str=event_view(row).model_dump_json(), event=row.type, id=str(sequence))
            spoken = time.monotonic()
        if ended and len(rows) < BATCH:
            return
        if time.monotonic() - spoken >= PING_S:
            yield format_sse_event(comment="ping")
            spoken = time.monotonic()
        await asyncio.sleep(LOOK_S)


def _has_ended(resources: Resources, owner: str, job_id: str) -> bool:
    """Whether the job has reached a terminal state, or was deleted."""
    try:
        return records.standing(resources.db, owner, job_id).status in TERMINAL
    except ProblemError:
        return True
