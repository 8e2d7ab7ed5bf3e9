"""Every error as an RFC 9457 problem: one handler for each way in which a request can fail."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from asgi_correlation_id import correlation_id
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from jobs.problems import PROBLEMS, Fault, ProblemError
from jobs.schemas.problems import Problem

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
HEADERS: dict[str, dict[str, str]] = {
    "unauthorized": {"WWW-Authenticate": "Bearer"},
    "file_not_ready": {"Retry-After": "1"},
    "job_not_finished": {"Retry-After": "5"},
    "idempotency_in_flight": {"Retry-After": "1"},
    "not_ready": {"Retry-After": "5"},
    "queue_unavailable": {"Retry-After": "5"},
}
CODES = {400: "malformed_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def add_handlers(app: FastAPI) -> None:
    """Let `app` answer every error with a problem."""
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OperationalError, _database_error)
    app.add_exception_handler(DataError, _not_storable)
    app.add_exception_handler(ClientDisconnect, _nobody_listens)
    app.add_exception_handler(Exception, _unexpected)


def responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI declaration of errors that a route may answer with."""
    described: dict[int | str, dict[str, Any]] = {}
    for code in ("unauthorized", "forbidden", "validation_failed", *codes):
        status, title = PROBLEMS[code]
        before = described.get(status)
        described[status] = {
            "description": f"{before['description']}; {title}" if before else title,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return described


def problem_response(request: Request, error: ProblemError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer that tells of `error`."""
    problem = Problem(**error.to_json(), instance=request.url.path, request_id=correlation_id.get())
    return JSONResponse(
        problem.model_dump(),
        status_code=error.status,
        media_type=MEDIA_TYPE,
        headers={**HEADERS.get(error.code, {}), **(headers or {})},
    )


def faults(error: ValidationError, value: Any) -> list[Fault]:
    """The faults that pydantic found, each with a JSON pointer into `value`; nothing of `value` itself is repeated.

    Args:
        error: What pydantic raised.
        value: What was validated.
    """
    found: dict[str, Fault] = {}
    for item in error.errors():
        pointer = "".join(f"/{_escaped(part)}" for part in _within(value, item["loc"], item["type"]))
        detail = item["msg"].removeprefix("Value error, ")
        if pointer in found:
            # The branches of a union: each says what it would have taken.
            detail = f"{found[pointer].detail}; or: {detail}"
        found[pointer] = Fault(pointer, detail, item["type"])
    return list(found.values())


def invalid(found: Sequence[Fault]) -> ProblemError:
    """The problem of a request that does not fit its schema."""
    detail = "; ".join(f"{fault.pointer or 'the body'}: {fault.detail}" for fault in found[:5])
    return ProblemError("validation_failed", detail, found)


def _within(value: Any, location: Sequence[int | str], kind: str) -> list[int | str]:
    """The parts of a location that lead through `value`; pydantic adds names of union branches, which do not."""
    path: list[int | str] = []
    for part in location:
        if _holds(value, part):
            value = value[part]
        elif kind != "missing" or part != location[-1]:
            continue
        path.append(part)
    return path


def _holds(value: Any, part: int | str) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, dict) and part in value


def _escaped(part: int | str) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


async def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)
    return problem_response(request, error)


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # Bodies are read by the routes themselves, so these are parameters: (query, path or header; its name).
    found = [Fault(f"/{item['loc'][-1]}", item["msg"], item["type"]) for item in error.errors()]
    return problem_response(request, invalid(found))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, "malformed_request")
    detail = {
        "not_found": f"there is nothing at {request.url.path}",
        "method_not_allowed": f"{request.method} is not allowed at {request.url.path}",
    }.get(code, str(error.detail))
    return problem_response(request, ProblemError(code, detail), error.headers)


async def _database_error(request: Request, error: Exception) -> JSONResponse:
    if "database or disk is full" in str(error):
        return problem_response(request, ProblemError("storage_full", "there is no space left for the database"))
    log.error("the database failed", exc_info=error)
    return problem_response(request, ProblemError("not_ready", "the database cannot be used at the moment"))


async def _not_storable(request: Request, error: Exception) -> JSONResponse:
    """PostgreSQL takes no NUL in a text, not even to look for it."""
    if "NUL" not in str(error):
        return await _unexpected(request, error)
    return problem_response(request, ProblemError("validation_failed", "expected texts without a NUL"))


async def _nobody_listens(request: Request, error: Exception) -> Response:
    """The client went away in the middle of its upload: no error of ours, and nobody to tell."""
    return Response(status_code=400)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %r failed", request.method, request.url.path, exc_info=error)
    identity = correlation_id.get()
    # This answer is sent outside the middleware that adds the header to all others.
    headers = {"X-Request-ID": identity} if identity else {}
    return problem_response(request, ProblemError("internal_error", "the server's log has the details"), headers)
