"""Times the forms of a network in turn, in one process; each compressed form is compared with the original's."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime
from torch import Tensor

ROUNDS = 30
LEAST_SECONDS = 0.02
"""Of each form in each round: so many calls are timed together."""
TOLERANCE = 1e-4
"""Of outputs, relative to the largest."""

Call = Callable[[], object]


class Pair(NamedTuple):
    """Calls that answer the same batch: by the original, and by the compressed model in the same form."""

    original: Call
    compressed: Call


def timed(pairs: Mapping[str, Pair]) -> dict[str, dict[str, Any]]:
    """Time every form in each of `ROUNDS` rounds.

    Args:
        pairs: By the name of the form.

    Returns:
        For each form the seconds a call of every round, and their medians; the ratio is that within a round.
    """
    seconds: dict[str, list[tuple[float, float]]] = {form: [] for form in pairs}
    for number in range(ROUNDS + 1):
        for form, pair in pairs.items():
            runs = seconds_a_call(pair.original), seconds_a_call(pair.compressed)
            if number:  # the first round warms up
                seconds[form].append(runs)
    return {
        form: {
            "seconds": {"original": [one for one, _ in runs], "compressed": [two for _, two in runs]},
            "median": {
                "original": statistics.median(one for one, _ in runs),
                "compressed": statistics.median(two for _, two in runs),
                "ratio": statistics.median(two / one for one, two in runs),
            },
        }
        for form, runs in seconds.items()
    }


def seconds_a_call(call: Call) -> float:
    """The mean time of calls that take `LEAST_SECONDS` together."""
    started, calls, passed = time.perf_counter(), 0, 0.0
    while calls == 0 or passed < LEAST_SECONDS:
        call()
        calls += 1
        passed = time.perf_counter() - started
    return passed / calls


def check(form: str, outputs: Tensor, expected: Tensor) -> None:
    """Refuse to measure a form that answers otherwise than the model.

    Raises:
        SystemExit: The outputs differ.
    """
    differ = difference(outputs, expected)
    if not differ <= TOLERANCE:
        raise SystemExit(f"{form}: expected outputs within {TOLERANCE} of the model's, they differ by {differ}")


def difference(outputs: Tensor, expected: Tensor) -> float:
    """The largest, relative to the largest output."""
    return float((outputs - expected).abs().max() / expected.abs().max())


def onnx_session(path: Path) -> onnxruntime.InferenceSession:
    """A session whose threads do not wait busily, which would slow down the next form."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
