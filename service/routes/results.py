"""`/v1/jobs/{id}/...`: events, report and artifacts of a job."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from jobs import events, records
from jobs.problems import Fault, ProblemError
from jobs.schemas.common import Page
from jobs.schemas.jobs import Artifact, Event
from jobs.schemas.report import Report
from jobs.states import TERMINAL
from jobs.tables import ArtifactRecord
from service.auth import OwnerDep
from service.downloads import Download, respond
from service.errors import invalid, responses
from service.event_stream import stream_events
from service.resources import Resources, ResourcesDep
from service.routes.parameters import After
from service.views import artifact_views, event_view

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])

EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
    204: {"description": "The job has ended and the stream has told all: do not come back."},
}
BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "The range that was asked for."},
    304: {"description": "The bytes are those of `If-None-Match`."},
}


@router.get("/events", response_model=Page[Event], responses={**EVENTS, **responses("not_found")})
async def list_events(
    job_id: str,
    request: Request,
    resources: ResourcesDep,
    owner: OwnerDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: After = None,
    last_event_id: Annotated[str | None, Header(description="Of a stream: the last id that arrived.")] = None,
) -> Response:
    """List what happened to a job; with `Accept: text/event-stream`, follow it until it ends."""
    await run_in_threadpool(records.standing, resources.db, owner, job_id)
    if "text/event-stream" in request.headers.get("accept", ""):
        seen = await run_in_threadpool(_sequence, resources, job_id, last_event_id)
        return await stream_events(resources, owner, job_id, seen)
    page = await run_in_threadpool(_events, resources, job_id, limit, after)
    return JSONResponse(page.model_dump(mode="json"))


@router.get("/report", response_model=Report, responses=responses("not_found", "job_not_finished", "not_acceptable"))
def get_report(job_id: str, request: Request, resources: ResourcesDep, owner: OwnerDep) -> Response:
    """Get the report of a job that has succeeded."""
    accept = request.headers.get("accept", "*/*")
    if not any(kind in accept for kind in ("*/*", "application/*", "application/json")):
        raise ProblemError("not_acceptable", "the report is there as application/json")
    row = records.get(resources.db, owner, job_id)
    if row.status not in TERMINAL:
        raise ProblemError("job_not_finished", f"{job_id} is {row.status}; its report comes when it has succeeded")
    if row.report is None:
        raise ProblemError("not_found", f"{job_id} has {_ended(row.status)} and so has no report")
    return JSONResponse(row.report)


@router.get("/artifacts", responses=responses("not_found"))
@router.head("/artifacts", include_in_schema=False)
def list_artifacts(job_id: str, resources: ResourcesDep, owner: OwnerDep) -> Page[Artifact]:
    """List the files that a job produced; there are none until it has succeeded."""
    return Page(data=artifact_views(job_id, _artifacts(resources, owner, job_id)))


@router.head(
    "/artifacts/{name}",
    response_class=Response,
    responses={**BYTES, **responses("not_found", "range_not_satisfiable")},
    operation_id="head_artifact",
)
@router.get(
    "/artifacts/{name}",
    response_class=Response,
    responses={**BYTES, **responses("not_found", "range_not_satisfiable")},
    operation_id="get_artifact",
)
async def get_artifact(job_id: str, name: str, request: Request, resources: ResourcesDep, owner: OwnerDep) -> Response:
    """Download a file that a job produced, whole or a range of it."""
    found = await run_in_threadpool(_artifacts, resources, owner, job_id)
    artifact = next((artifact for artifact in found if artifact.name == name), None)
    if artifact is None:
        raise ProblemError("not_found", f"{job_id} has no such artifact")
    return await respond(
        request, resources.store, Download(artifact.key, artifact.name, artifact.bytes, artifact.sha256)
    )


def _artifacts(resources: Resources, owner: str, job_id: str) -> Sequence[ArtifactRecord]:
    with resources.db.read() as session:
        records.find(session, owner, job_id)
        return records.artifacts(session, [job_id])[job_id]


def _events(resources: Resources, job_id: str, limit: int, after: str | None) -> Page[Event]:
    sequence = 0 if after is None else events.sequence_of(resources.db, job_id, after)
    rows = events.after(resources.db, job_id, sequence, limit + 1)
    return Page(data=[event_view(row) for row in rows[:limit]], has_more=len(rows) > limit)


def _sequence(resources: Resources, job_id: str, last_event_id: str | None) -> int:
    """The number of an event: streams have it as their id, lists beside an id of its own."""
    if not last_event_id:
        return 0
    if last_event_id.startswith("evt_"):
        return events.sequence_of(resources.db, job_id, last_event_id)
    if not last_event_id.isdecimal() or len(last_event_id) > 18:
        raise invalid([Fault("/Last-Event-ID", "expected the id of an event of this stream", "int_parsing")])
    return int(last_event_id)


def _ended(status: str) -> str:
    return "been cancelled" if status == "cancelled" else status
