"""A problem on its way from the child to the parent."""

from typing import Any

from jobs.problems import ProblemError

MAX_FAULTS = 100
MAX_TEXT = 4000


def refusal_of(problem: ProblemError) -> dict[str, Any]:
    """A problem as the JSON of `worker.sandbox.answer.Reply`, cut to the lengths that it accepts."""
    faults = [
        {"pointer": fault.pointer[:MAX_TEXT], "detail": fault.detail[:MAX_TEXT], "code": fault.code}
        for fault in list(problem.errors)[:MAX_FAULTS]
    ]
    return {"refusal": {"code": problem.code, "detail": problem.detail[:MAX_TEXT], "errors": faults}}
