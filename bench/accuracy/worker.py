"""What a process does: it loads the data once, and then makes one run after the other, each on one thread."""

import copy
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from adtn.errors import TrainingDiverged
from bench.accuracy.fitting import fit, place
from bench.accuracy.methods import METHODS
from bench.accuracy.problem import Baseline, Data, Part, Problem, baseline_of
from bench.accuracy.problem import baseline as trained_baseline
from bench.accuracy.problem import keep_baseline as keep_stored
from bench.accuracy.problems import PROBLEMS
from bench.accuracy.storage import Storage, in_bits
from bench.accuracy.task import Task
from bench.accuracy.training import FIRST_PACE, Training, accuracy, correct, factors_of, fine_tune

_LAYER_SEEDS = 1000
"""Distance between the seeds of the layers' starts."""
_loaded: list["_Loaded"] = []
"""What this process works on."""


class _Loaded(NamedTuple):
    """A task, its data, and whether they are the few images of a trial."""

    problem: Problem
    data: Data
    trial: bool


def prepare(problem: str, folder: Path | None, images: int | None) -> None:
    """Load the data. Two processes of one thread each get more done than one of two threads."""
    torch.set_num_threads(1)
    found = PROBLEMS[problem]
    data = Data(*(part.first(images) for part in found.read(folder)))
    _loaded[:] = [_Loaded(found, data, images is not None)]


@cache
def baseline(seed: int) -> Baseline:
    """The baseline of a seed."""
    return trained_baseline(_loaded[0].problem, _loaded[0].data, seed, _loaded[0].trial)


@cache
def tested_baseline(seed: int) -> float:
    """Its accuracy on the test images."""
    return accuracy(baseline(seed).model, *_loaded[0].data.test)


@cache
def corrected(seed: int, epochs: int, crop: int) -> tuple[Baseline, float]:
    """The baseline of a seed after further training, and the seconds that it took."""
    clock, train = _Clock(), _loaded[0].data.train
    model = copy.deepcopy(baseline(seed).model)
    correct(model, *train, epochs, crop, seed)
    found = baseline_of(_loaded[0].problem, model, train.images)
    clock.lap("teacher")
    return found, clock.laps["teacher"]


def keep_baseline(seed: int) -> None:
    """Put the baseline of a seed beside the results."""
    keep_stored(_loaded[0].problem, _loaded[0].data, seed)


def measure(task: Task) -> dict[str, Any]:
    """Make a run.

    Returns:
        The row: the task, "errors" of the fits, "stored" (bytes and accuracy of each form of storage; for validation
        only the trained form), "seconds"; "diverged" with the reason in the place of "stored" where there is none.

    Raises:
        RuntimeError: The factors hold other numbers than the forms announce, or more than the budget.
    """
    data, base, laps = _loaded[0].data, baseline(task.seed), {}
    if task.teacher_epochs:
        base, laps["teacher"] = corrected(task.seed, task.teacher_epochs, task.crop)
    clock = _Clock(laps)
    model = copy.deepcopy(base.model)
    errors = _compress(model, task, base)
    check(model, task)
    clock.lap("fit")
    row = {"key": task.key, **task.to_json(), "errors": errors}
    try:
        epochs = task.epochs - task.teacher_epochs
        pace = task.pace or FIRST_PACE
        training = Training(task.rate, epochs, task.seed, task.bits, task.natural_epochs, task.crop, pace)
        fine_tune(model, *data.train, base.targets, training, base.model)
    except TrainingDiverged as error:
        return {**row, "diverged": str(error), "seconds": clock.laps}
    clock.lap("train")
    storage = METHODS[task.method].storage if task.bits is None else (in_bits(task.bits),)
    if task.stage == "validation":
        row["stored"] = dict(_stored(model, storage[:1], data.validation))
    else:
        row["stored"] = dict(_stored(model, storage, data.test))
        row["baseline"] = tested_baseline(task.seed)
    clock.lap("evaluate")
    return {**row, "seconds": clock.laps}


def check(model: nn.Module, task: Task) -> None:
    """Refuse factors that hold other numbers than announced."""
    held = sum(parameter.numel() for factors in factors_of(model) for parameter in factors.parameters())
    if held != task.numbers or held > task.budget:
        raise RuntimeError(f"{task}: expected {task.numbers} numbers, at most {task.budget}, got {held}")


def _compress(model: nn.Module, task: Task, base: Baseline) -> dict[str, float]:
    """Fit every layer to its dense weight and put the factors in place; the errors."""
    errors = {}
    for i, (layer, form) in enumerate(task.forms.items()):
        weight = model.get_submodule(layer).get_parameter("weight")
        moments = base.moments[layer]
        fitted = fit(form, weight, moments.second, task.seed + _LAYER_SEEDS * i)
        place(model, layer, fitted.factors, moments)
        errors[layer] = fitted.error
    return errors


def _stored(model: nn.Module, forms: tuple[Storage, ...], part: Part) -> Iterator[tuple[str, dict[str, float]]]:
    """Bytes and accuracy of the model with its factors stored in each form."""
    for form in forms:
        other = copy.deepcopy(model)
        stored = sum(form.apply(factors) for factors in factors_of(other))
        yield form.name, {"bytes": stored, "accuracy": accuracy(other, *part)}


class _Clock:
    """Seconds of each part of a run."""

    def __init__(self, laps: dict[str, float] | None = None) -> None:
        self.laps = laps or {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """What was done since the last lap."""
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
