"""Stage `verify`: a fresh process opens the written bytes and must find the accuracy that is reported."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict

from jobs.problems import ProblemError
from worker.examination import Found, Question
from worker.pipeline.evaluate import Accuracies

EXACT = ("adtn", "dense", "dense_pt")
"""Artifacts whose weights are to the last bit those that were evaluated; the others add up in another order."""

TOLERANCE = 0.001
"""Where sums may be in another order: of outputs, relative to the largest; and of the samples, answered otherwise."""


def verify(question: Question, reported: Accuracies | None, on_wait: Callable[[], None]) -> dict[str, object]:
    """Open the artifacts in a fresh process and compare what it finds with what is reported.

    Args:
        question: The artifacts, and on what to evaluate them.
        reported: The accuracies in the report, or None where they could not be measured.
        on_wait: Called while waiting; may raise, which ends the process.

    Returns:
        The report's `verified` section.

    Raises:
        ProblemError: verification_failed, saying which artifact, what was expected and what was found.
    """
    answers = ask(question, on_wait)
    expected = reported.final if reported is not None else None
    for kind, found in answers.items():
        exact = kind in EXACT and question.device == "cpu"
        if not agree(found.accuracy, reported, exact=exact):
            raise _failed(kind, f"expected accuracy {expected}, got {found.accuracy}")
        if found.difference is not None and not found.difference <= TOLERANCE:
            raise _failed(kind, f"expected the model's outputs, got others: they differ by {found.difference:.2g}")
    return {
        "fresh_process": True,
        "accuracy": expected,
        "artifacts": sorted(answers),
        "by_artifact": {kind: asdict(answers[kind]) for kind in sorted(answers)},
    }


def agree(found: float | None, reported: Accuracies | None, *, exact: bool) -> bool:
    """Whether an artifact is as accurate as the report says.

    Args:
        found: Its accuracy on the test split, or None where it was not evaluated.
        reported: Those of the report, or None where none was measured.
        exact: Whether every answer has to be the same. Else one may be another, or 0.1 % of them.
    """
    if found is None or reported is None:
        return found is None and reported is None
    others = round(abs(found - reported.final) * reported.samples)
    return others <= (0 if exact else max(1, int(TOLERANCE * reported.samples)))


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
