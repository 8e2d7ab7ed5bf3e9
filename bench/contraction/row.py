"""One row of the table: one method on one network, in a process of its own."""

import gc
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from bench.contraction.check import Values, check
from bench.contraction.memory import forget_peak, in_use, peak
from bench.contraction.methods import forward, forward_backward
from bench.contraction.networks import Inputs, Network, draw
from bench.contraction.timing import Copy, timed

SEED = 0
BUDGET_S = 10.0
"""No further round of a row is begun after this time."""
MOST_ROUNDS = 21


@dataclass(frozen=True)
class Task:
    """What one row measures.

    Args:
        network: To decode.
        method: A name of `METHODS`.
        device: "cpu" or "cuda".
        measures: Times and memory; only the forward pass; or only memory.
    """

    network: Network
    method: str
    device: str = "cpu"
    measures: Literal["all", "forward", "memory"] = "all"


class Row:
    """The measurements of a task as they are taken.

    Args:
        task: What is measured.

    Attributes:
        seconds: Every run of "copy", "forward" and "both", taken in turn.
        direction: Along which the gradients are taken: the first result.
        peak_bytes: Memory of forward + backward, beyond inputs and direction.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.inputs: Inputs = draw(task.network, SEED, task.device)
        self.copy = Copy(task.network.entries, task.device)
        self.seconds: dict[str, list[float]] = {}
        self.peak_bytes: int | None = None

    def first_round(self) -> Values:
        """One run of each, forward + backward in measured memory; what they return."""
        device = self.task.device
        self._add("copy", self.copy.seconds())
        # From here on, so that memory which the forward pass leaves for later calls counts as well.
        before = in_use(device)
        seconds, self.direction = timed(self._forward, device)
        self._add("forward", seconds)
        self._add("copy", self.copy.seconds())
        if self.task.measures == "forward":
            return {"result": self.direction}
        forget_peak(device)
        seconds, values = timed(self._both, device)
        self.peak_bytes = max(0, peak(device) - before - self.direction.nbytes)
        self._add("both", seconds)
        self._add("copy", self.copy.seconds())
        return values

    def more_rounds(self) -> None:
        """Replace the first round, which was also the warm-up, unless it alone took longer than the budget.

        All are measured in turn, so that what slows the machine for a while slows all of them.
        """
        if sum(map(sum, self.seconds.values())) > BUDGET_S:
            return
        names = self.seconds.keys()
        self.seconds = {}
        end = time.perf_counter() + BUDGET_S
        for _ in range(MOST_ROUNDS):
            self._add("copy", self.copy.seconds())
            self._add("forward", timed(self._forward, self.task.device)[0])
            if "both" in names:
                self._add("both", timed(self._both, self.task.device)[0])
            if time.perf_counter() > end:
                break

    def _forward(self) -> Tensor:
        return forward(self.task.method, self.task.network, self.inputs)

    def _both(self) -> Values:
        return forward_backward(self.task.method, self.task.network, self.inputs, self.direction)

    def _add(self, name: str, seconds: float) -> None:
        self.seconds.setdefault(name, []).append(seconds)


def measure(task: Task, stored: Path) -> dict[str, Any]:
    """Run, check, and only then take times.

    Args:
        task: What to measure.
        stored: The file of reference values; see `check`.

    Raises:
        WrongResult: The method is wrong.
    """
    prepare(task)
    row = Row(task)
    values = row.first_round()
    found = check(task.network, row.inputs, values, stored, careful=task.method == "ours")
    del values
    if task.measures == "memory":
        row.seconds = {}
    else:
        row.more_rounds()
    return {
        **describe(task),
        "differences": found,
        "peak_bytes": row.peak_bytes,
        "seconds": row.seconds,
    }


def prepare(task: Task) -> None:
    """Load and start what the first call of a method loads and starts, on a small network."""
    torch.set_num_threads(os.cpu_count() or 1)
    small = Network(6, task.network.depth, task.network.given)
    inputs = draw(small, SEED, task.device)
    forward_backward(task.method, small, inputs, forward(task.method, small, inputs))
    gc.collect()
    gc.freeze()  # so that the collections before each run are quick


def describe(task: Task) -> dict[str, Any]:
    """What the row is about."""
    network = task.network
    return {
        "network": network.name,
        "sites": network.sites,
        "method": task.method,
        "device": task.device,
        "measures": task.measures,
        "least_moves": network.least_moves,
    }
