"""From an answer that is not a success to an exception."""

from typing import Any

import httpx

from adtn_client.errors import ClientError, ProblemError, UnexpectedAnswer
from jobs.problems import Fault


def error_of(answer: httpx.Response) -> ClientError:
    """The exception for an answer whose body has been read and whose status is no success."""
    request = f"{answer.request.method} {answer.request.url.copy_with(query=None)}"
    media_type = answer.headers.get("Content-Type", "").partition(";")[0]
    if media_type != "application/problem+json":
        return UnexpectedAnswer(f"{request} answered {answer.status_code} without saying why; is this an adtn server?")
    try:
        body = answer.json()
        return problem_of(body, answer.status_code, answer.headers.get("X-Request-ID"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return UnexpectedAnswer(f"{request} answered {answer.status_code} with a problem that cannot be read")


def problem_of(body: dict[str, Any], status: int, request_id: str | None) -> ProblemError:
    """Read a problem document.

    Raises:
        KeyError: A fault lacks its text.
    """
    faults = [
        Fault(str(fault.get("pointer", "")), str(fault["detail"]), str(fault.get("code", "")))
        for fault in body.get("errors") or ()
    ]
    return ProblemError(
        status=status,
        code=str(body.get("code", f"http_{status}")),
        title=str(body.get("title", "")),
        detail=str(body.get("detail") or ""),
        errors=tuple(faults),
        request_id=body.get("request_id") or request_id,
    )
