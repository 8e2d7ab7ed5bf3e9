"""Which recipe and which learning rate a method gets at a budget: what was best on the validation images."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from bench.accuracy.allocation import Unreachable
from bench.accuracy.factors import Form, total
from bench.accuracy.methods import FEW_NUMBERS, METHODS
from bench.accuracy.problems import PROBLEMS
from bench.accuracy.task import Stage, Task

TUNING_BUDGETS = (250, 400, 1000, 5000)
"""Where the grid is run; another budget takes what was best at the nearest of these."""
RATES = (5e-3, 2e-2, 4e-2, 8e-2)
SEED = 0
LATER_SEED = 3
"""Of the runs of all epochs that choose, where those of the first seed are missing: its baseline for MNIST is lost."""
_CHOOSING_SEEDS = (SEED, LATER_SEED)
Find = Callable[[Task], dict[str, Any] | None]
"""The stored row of a task, if there is one."""
_FEW = 10
"""Epochs of a test run for one of the grid, from which on the grid says too little: its best are then compared anew."""


class Setting(NamedTuple):
    """What is the same for all runs.

    Args:
        epochs: Of training.
        images: Of each part of the data in a trial; None for all.
        tuning_epochs: Of the runs on the validation images, which choose.
        problem: Name of what is learned.
    """

    epochs: int
    images: int | None
    tuning_epochs: int
    problem: str = "mnist"

    @property
    def has_finals(self) -> bool:
        """Whether the best of the grid are trained on the validation images for all epochs before one is chosen."""
        return self.epochs >= _FEW * self.tuning_epochs


class Choice(NamedTuple):
    """What a method does at a budget.

    Args:
        recipe: Its name.
        rate: Learning rate of the factors.
        tuned_at: The budget of the grid it was best at.
    """

    recipe: str
    rate: float
    tuned_at: int


@cache
def forms_of(problem: str, method: str, recipe: str, budget: int) -> dict[str, Form]:
    """The forms of a recipe at a budget.

    Raises:
        Unreachable: It has none as small.
    """
    return METHODS[method].recipes[recipe](PROBLEMS[problem].shapes, budget)


def reached(problem: str, method: str, budget: int) -> list[str]:
    """The recipes that have forms for a budget.

    Raises:
        Unreachable: None has; with the reason of the first.
    """
    found, reasons = [], []
    for recipe in METHODS[method].recipes:
        try:
            forms_of(problem, method, recipe, budget)
            found.append(recipe)
        except Unreachable as error:
            reasons.append(error)
    if not found:
        raise reasons[0]
    return found


def grid(method: str, budgets: Iterable[int], setting: Setting) -> Iterator[Task]:
    """The validation runs that the given budgets need: those of the method whose choices it takes."""
    while other := METHODS[method].tuned_as:
        method = other
    nearest = [tuned for budget in budgets for tuned in _tuned_at(setting.problem, method, budget)[:1]]
    for budget in dict.fromkeys(nearest):
        seen: list[dict[str, Form]] = []
        for recipe in reached(setting.problem, method, budget):
            forms = forms_of(setting.problem, method, recipe, budget)
            if forms in seen:
                continue
            seen.append(forms)
            for rate in RATES:
                chosen = Choice(recipe, rate, budget)
                yield _task("validation", method, budget, SEED, chosen, setting, setting.tuning_epochs)


def finals(method: str, budgets: Iterable[int], setting: Setting, find: Find) -> Iterator[Task]:
    """The validation runs of all epochs, trained as the method is: of each recipe the rate that was best in the grid.

    They need the grid's runs; a recipe without any is left out. Where it leaves a single recipe, its two best rates are
    compared: that of the few epochs of the grid may be too high. One that diverges does not count, so when that is
    known there are more. They are of the first seed, or where none of those was run, of the later one.
    """
    if not setting.has_finals:
        return
    tasks = {task.key: task for budget in budgets for task in grid(method, [budget], setting)}
    ranked: dict[int, list[Choice]] = {}
    for found in _ranked(tasks.values(), find):
        ranked.setdefault(found.tuned_at, []).append(found)
    for tuned_at, choices in ranked.items():
        of_recipes: dict[str, Choice] = {}
        for found in choices:
            of_recipes.setdefault(found.recipe, found)
        several = len(of_recipes) > 1
        compared = list(of_recipes.values()) if several else choices
        first, later = (
            [validation_task(method, tuned_at, seed, found, setting) for found in compared] for seed in _CHOOSING_SEEDS
        )
        tasks = first if _begun(first, find) else later
        yield from tasks if several else _two_that_last(tasks, find)


def choice(method: str, budget: int, setting: Setting, find: Find) -> Choice | None:
    """The best at the nearest tuning budget whose recipe reaches this one, or None if nothing was run.

    The best of the finals, where there are any, its own or else those of the method that it is tuned as; else of the
    grid. A rate that was best after the few epochs of the grid
    may still be too high for all epochs: a choice whose test run of a seed that chooses diverged gives way to the next
    best. That says nothing of the test images.

    Args:
        method: Name.
        budget: Numbers.
        setting: Of the runs.
        find: The stored row of a task, if there is one.

    Raises:
        Unreachable: The method has no form as small.
    """
    usable = reached(setting.problem, method, budget)
    compared = _compared(method, budget, setting, find)
    ranked = _ranked((task for task in compared if task.recipe in usable), find)
    lasting = (found for found in ranked if not _diverges(method, budget, found, setting, find))
    return next(lasting, ranked[0] if ranked else None)


def validation_task(method: str, budget: int, seed: int, chosen: Choice, setting: Setting) -> Task:
    """A run of all epochs that is measured on the validation images."""
    return _task("validation", method, budget, seed, chosen, setting, setting.epochs)


def final_tasks(method: str, budget: int, seed: int, chosen: Choice, setting: Setting) -> list[Task]:
    """The runs that are measured on the test images: with numbers trained as floats, and in each number of bits."""
    task = _task("test", method, budget, seed, chosen, setting, setting.epochs)
    return [task, *(replace(task, bits=bits) for bits in METHODS[method].bits)]


def nearest_first(sizes: Iterable[int], budget: int) -> list[int]:
    """Sizes by how far they are from a budget, in ratio."""
    return sorted(sizes, key=lambda size: abs(math.log(size / budget)))


def _compared(method: str, budget: int, setting: Setting, find: Find) -> list[Task]:
    """The runs among which the best is chosen."""
    last = list(finals(method, [budget], setting, find))
    if sum(find(task) is not None for task in last) > 1:  # a single one may have been run to compare trainings
        return last
    other = METHODS[method].tuned_as
    return list(grid(method, [budget], setting)) if other is None else _compared(other, budget, setting, find)


def _ranked(tasks: Iterable[Task], find: Find) -> list[Choice]:
    """What the tasks that were run stand for, the best on the validation images first."""
    rows = [(task, row) for task in tasks if (row := find(task)) is not None]
    scores = {Choice(task.recipe, task.rate, task.budget): _score(row) for task, row in rows}
    return sorted(scores, key=scores.__getitem__, reverse=True)


def _two_that_last(tasks: Iterable[Task], find: Find) -> Iterator[Task]:
    """The first two that are not known to diverge, and those before them that do."""
    lasting = 0
    for task in tasks:
        if lasting == 2:
            return
        yield task
        lasting += "diverged" not in (find(task) or {})


def _begun(tasks: Iterable[Task], find: Find) -> bool:
    """Whether any of the tasks was run."""
    return any(find(task) is not None for task in tasks)


def _diverges(method: str, budget: int, chosen: Choice, setting: Setting, find: Find) -> bool:
    """Whether the run with a choice diverged, of a seed that chooses."""
    tasks = (_task("test", method, budget, seed, chosen, setting, setting.epochs) for seed in _CHOOSING_SEEDS)
    return any("diverged" in (find(task) or {}) for task in tasks)


def _tuned_at(problem: str, method: str, budget: int) -> list[int]:
    """The tuning budgets that the method reaches, the nearest first; of budgets too small for it, the smallest."""
    possible = [tuned for tuned in TUNING_BUDGETS if _reaches(problem, method, tuned)]
    return nearest_first(possible, budget)


def _reaches(problem: str, method: str, budget: int) -> bool:
    try:
        reached(problem, method, budget)
    except Unreachable:
        return False
    return True


def _score(row: dict[str, Any]) -> float:
    """Accuracy on the validation images; below all others if the training diverged."""
    return -1.0 if "diverged" in row else next(iter(row["stored"].values()))["accuracy"]


def _task(stage: Stage, method: str, budget: int, seed: int, chosen: Choice, setting: Setting, epochs: int) -> Task:
    forms = forms_of(setting.problem, method, chosen.recipe, budget)
    trained = total(list(forms.values())) + PROBLEMS[setting.problem].dense
    most = METHODS[method].natural
    natural = trained <= (most if stage == "test" else min(most, FEW_NUMBERS))  # else a choice would take too long
    teacher_epochs = epochs // 4 if METHODS[method].corrects_teacher else 0
    return Task(
        stage,
        method,
        chosen.recipe,
        forms,
        budget,
        seed,
        chosen.rate,
        epochs,
        setting.images,
        problem=setting.problem,
        natural_epochs=(epochs - teacher_epochs) * 7 // 10 if natural else 0,
        crop=METHODS[method].crop,
        teacher_epochs=teacher_epochs,
        pace=METHODS[method].pace,
    )
