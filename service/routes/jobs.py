"""`/v1/jobs`: compressions."""

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse

from jobs import records
from jobs.problems import ProblemError
from jobs.schemas.common import Page
from jobs.schemas.jobs import Estimate, Job
from jobs.schemas.settings import JobSettings
from jobs.states import JobStatus
from service.auth import OwnerDep
from service.errors import responses
from service.estimates import estimate
from service.forms import job_from_form
from service.openapi import JOB_BODY, SETTINGS_BODY
from service.planning import plans_while_waiting
from service.polling import changed_job, job_response
from service.resources import Resources, ResourcesDep
from service.routes.parameters import After, IdempotencyKey, Limit
from service.submission import Submitted, inspected, read_settings, retry, submit
from service.views import each_job_view, job_views, page_of_jobs

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

REFUSALS = (
    "malformed_request",
    "not_found",
    "idempotency_in_flight",
    "idempotency_key_reused",
    "wrong_purpose",
    "file_rejected",
    "unknown_architecture",
    "unknown_dataset",
    "layer_not_found",
    "layer_not_eligible",
    "group_invalid",
    "target_unreachable",
    "nothing_to_compress",
    "export_impossible",
    "unsupported_media_type",
    "too_large",
    "storage_full",
)


@router.post("", status_code=202, response_model=Job, responses=responses(*REFUSALS), openapi_extra=JOB_BODY)
async def create_job(
    request: Request, resources: ResourcesDep, owner: OwnerDep, idempotency_key: IdempotencyKey = None
) -> Response:
    """Create a job from JSON settings, or from a form with `checkpoint`, perhaps `dataset`, and `settings`."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        submitted = await job_from_form(request, resources, owner, idempotency_key)
    elif kind == "application/json":
        settings = read_settings(await request.body())
        submitted = await to_thread.run_sync(
            submit, resources, owner, settings, idempotency_key, limiter=resources.planners
        )
    else:
        raise ProblemError("unsupported_media_type", "expected application/json or multipart/form-data")
    return _accepted(submitted)


@router.post(
    "/estimate",
    response_model=Estimate,
    responses=responses(*REFUSALS, "file_not_ready", "resource_limit"),
    openapi_extra=SETTINGS_BODY,
)
async def estimate_job(request: Request, resources: ResourcesDep, owner: OwnerDep) -> Estimate:
    """Predict sizes, time and memory of a job; starts nothing."""
    settings = read_settings(await request.body())
    return await to_thread.run_sync(_estimated, resources, owner, settings, limiter=resources.planners)


@router.get("", response_model=Page[Job], responses=responses())
def list_jobs(
    resources: ResourcesDep,
    owner: OwnerDep,
    limit: Limit = 20,
    after: After = None,
    status: Annotated[JobStatus | None, Query()] = None,
) -> Response:
    """List jobs, newest first."""
    rows, more = records.list_page(resources.db, owner, limit, after, status)
    with resources.db.read() as session:
        return page_of_jobs(each_job_view(session, rows, resources.settings.worker_silence_s), more)


@router.get(
    "/{job_id}",
    response_model=Job,
    responses={304: {"description": "The job is as `If-None-Match` has it."}, **responses("not_found")},
)
async def get_job(
    job_id: str,
    resources: ResourcesDep,
    owner: OwnerDep,
    wait: Annotated[float, Query(ge=0, le=30, description="Seconds to wait for another status or stage.")] = 0,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Get a job, at once or as soon as its status or stage changes."""
    job = await changed_job(resources, owner, job_id, wait, if_none_match)
    return job_response(job, if_none_match)


@router.post(
    "/{job_id}/cancel",
    responses={
        202: {"model": Job, "description": "The worker is told to stop."},
        **responses("not_found", "job_finished"),
    },
)
def cancel_job(job_id: str, resources: ResourcesDep, owner: OwnerDep, response: Response) -> Job:
    """Cancel a job: at once while it is queued, soon while it runs (202)."""
    row = records.cancel(resources.db, owner, job_id)
    response.status_code = 202 if row.status == "cancelling" else 200
    return _view(resources, owner, job_id)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    response_model=Job,
    responses=responses("not_found", "job_not_retryable", "file_rejected"),
)
def retry_job(
    job_id: str, resources: ResourcesDep, owner: OwnerDep, idempotency_key: IdempotencyKey = None
) -> Response:
    """Create a new job with the settings of one that failed or was cancelled."""
    return _accepted(retry(resources, owner, job_id, idempotency_key))


@router.delete("/{job_id}", status_code=204, responses=responses("not_found", "job_not_finished"))
def delete_job(job_id: str, resources: ResourcesDep, owner: OwnerDep) -> None:
    """Delete a job that has ended, and its artifacts."""
    records.delete(resources.db, resources.store, owner, job_id)


def _accepted(submitted: Submitted) -> JSONResponse:
    answer = submitted.answer
    headers = {"Location": f"/v1/jobs/{answer.job_id}", "Retry-After": "1"}
    if submitted.replayed:
        headers["Idempotent-Replayed"] = "true"
    return JSONResponse(answer.body, status_code=answer.status, headers=headers)


def _view(resources: Resources, owner: str, job_id: str) -> Job:
    with resources.db.read() as session:
        row = records.find(session, owner, job_id)
        return job_views(session, [row], resources.settings.worker_silence_s)[0]


def _estimated(resources: Resources, owner: str, settings: JobSettings) -> Estimate:
    checkpoint, dataset = inspected(resources, owner, settings)
    plans = plans_while_waiting(settings.compression, checkpoint)
    return estimate(settings, plans, checkpoint, dataset, resources.settings.task_limit_s)
