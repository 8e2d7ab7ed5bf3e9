"""Stage `verify`: a fresh process opens the written bytes and must find the accuracy that is reported."""

import json
import subprocess
import sys
from collections.abc import Callable

from jobs.problems import ProblemError
from worker.verification import Question

# On a CPU the same numbers give the same answers; a GPU may sum in another order.
TOLERANCE = {"cpu": 0.0, "cuda": 0.001}


def verify(question: Question, reported: float | None, on_wait: Callable[[], None]) -> dict[str, object]:
    """Open the artifacts in a fresh process and compare what it finds with what is reported.

    Args:
        question: The artifacts, and on what to evaluate them.
        reported: The accuracy in the report, or None where it could not be measured.
        on_wait: Called while waiting; may raise, which ends the process.

    Returns:
        The report's `verified` section.

    Raises:
        ProblemError: verification_failed, saying which artifact, what was expected and what was found.
    """
    for kind, found in ask(question, on_wait).items():
        if found is None or reported is None:
            agrees = found is reported
        else:
            agrees = abs(found - reported) <= TOLERANCE[question.device]
        if not agrees:
            raise ProblemError(
                "verification_failed",
                f"the {kind} artifact, opened in a fresh process: expected accuracy {reported}, got {found}",
            )
    return {"fresh_process": True, "accuracy": reported, "artifacts": sorted(question.artifacts)}


def ask(question: Question, on_wait: Callable[[], None]) -> dict[str, float | None]:
    """Run `worker.verification` as a process of its own and return its answer: the accuracy by kind of artifact."""
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.verification", question.to_json()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = wait(process, on_wait)
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        last_line = err.strip().splitlines()[-1] if err.strip() else f"exit status {process.returncode}"
        raise ProblemError("verification_failed", f"an artifact cannot be opened in a fresh process: {last_line}")
    answer: dict[str, float | None] = json.loads(out)
    return answer


def wait(process: "subprocess.Popen[str]", on_wait: Callable[[], None]) -> tuple[str, str]:
    """Wait for a process and return its output and error output."""
    while True:
        try:
            return process.communicate(timeout=0.2)
        except subprocess.TimeoutExpired:
            on_wait()
