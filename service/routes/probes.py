"""Probes, metrics, version, and where to start reading."""

from importlib.metadata import version
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from obstore.exceptions import BaseError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from jobs import queue
from jobs.problems import Fault, ProblemError
from jobs.queue import QueueUnavailable
from service.errors import MEDIA_TYPE
from service.resources import Resources, ResourcesDep

router = APIRouter(tags=["probes"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Version(BaseModel):
    """What is running."""

    version: str
    api: str = "v1"


@router.get("/livez")
async def livez() -> Health:
    """Whether the process answers, even if all its threads are busy."""
    return Health()


@router.get(
    "/readyz",
    responses={503: {"description": "Something is missing.", "content": {MEDIA_TYPE: {}}}},
)
def readyz(resources: ResourcesDep) -> Health:
    """Whether database, store and queue can be reached."""
    faults = _faults(resources)
    if faults:
        raise ProblemError("not_ready", "; ".join(fault.detail for fault in faults), faults)
    return Health()


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(request: Request) -> Response:
    """Metrics in the format of Prometheus."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/version")
def get_version() -> Version:
    """What is running."""
    return Version(version=version("adtn"))


@router.get("/", include_in_schema=False)
def root() -> RedirectResponse:
    """Lead to the description of the API."""
    return RedirectResponse("/docs")


def _faults(resources: Resources) -> list[Fault]:
    faults = []
    try:
        with resources.db.read() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        faults.append(Fault("database", "the database cannot be reached", "unreachable"))
    try:
        resources.store.check()
    except (BaseError, OSError):
        faults.append(Fault("store", "the object store cannot be reached", "unreachable"))
    try:
        queue.waiting(resources.queue, queue.JOBS_QUEUE)
    except QueueUnavailable:
        faults.append(Fault("queue", "Redis cannot be reached", "unreachable"))
    return faults
