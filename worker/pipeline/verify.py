"""Stage `verify`: a fresh process opens the written bytes and must find the accuracy that is reported."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict

from jobs.problems import ProblemError
from worker.examination import Found, Question

EXACT = ("adtn", "dense", "dense_pt")
"""Artifacts whose weights are to the last bit those that were evaluated; the others add up in another order."""

TOLERANCE = 0.001
"""Of an accuracy, where sums may be in another order; and of outputs, relative to the largest."""


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
    answers = ask(question, on_wait)
    for kind, found in answers.items():
        tolerance = 0.0 if kind in EXACT and question.device == "cpu" else TOLERANCE
        if found.accuracy is None or reported is None:
            agrees = found.accuracy is reported
        else:
            agrees = abs(found.accuracy - reported) <= tolerance
        if not agrees:
            raise _failed(kind, f"expected accuracy {reported}, got {found.accuracy}")
        if found.difference is not None and not found.difference <= TOLERANCE:
            raise _failed(kind, f"expected the model's outputs, got others: they differ by {found.difference:.2g}")
    return {
        "fresh_process": True,
        "accuracy": reported,
        "artifacts": sorted(answers),
        "by_artifact": {kind: asdict(answers[kind]) for kind in sorted(answers)},
    }


def _failed(kind: str, detail: str) -> ProblemError:
    return ProblemError("verification_failed", f"the {kind} artifact, opened in a fresh process: {detail}")


def ask(question: Question, on_wait: Callable[[], None]) -> dict[str, Found]:
    """Run `worker.verification` as a process of its own and return its answer, by kind of artifact."""
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
    return {kind: Found(**found) for kind, found in json.loads(out).items()}


def wait(process: "subprocess.Popen[str]", on_wait: Callable[[], None]) -> tuple[str, str]:
    """Wait for a process and return its output and error output."""
    while True:
        try:
            return process.communicate(timeout=0.2)
        except subprocess.TimeoutExpired:
            on_wait()
