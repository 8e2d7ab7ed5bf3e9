"""Finished runs, one line each, written at once; and the result that is folded from them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.accuracy.allocation import Unreachable
from bench.accuracy.methods import METHODS
from bench.accuracy.problems import PROBLEMS
from bench.accuracy.storage import in_bits
from bench.accuracy.task import Task
from bench.accuracy.trainings import compared
from bench.accuracy.tuning import Choice, Setting, choice, final_tasks, finals, grid


class Runs:
    """The finished runs in a file.

    Args:
        path: Of the file; a line is a JSON object with the `key` of its task.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._rows = {row["key"]: row for row in map(json.loads, lines)}

    def find(self, task: Task) -> dict[str, Any] | None:
        """The row of a task, if it was run."""
        return self._rows.get(task.key)

    @property
    def seeds(self) -> list[int]:
        """Of the runs on the test images, in order."""
        return sorted({row["seed"] for row in self._rows.values() if row["stage"] == "test"})

    def check_baselines(self, reached: Mapping[int, float]) -> None:
        """Refuse baselines that are not those of the runs that are stored: methods would not start from the same.

        Another processor sums in another order, and after some epochs it has another model.

        Args:
            reached: By seed, accuracy on the test images.

        Raises:
            SystemExit: A stored run says otherwise.
        """
        for row in self._rows.values():
            expected, got = row.get("baseline"), reached.get(row["seed"])
            if expected is not None and got is not None and got != expected:
                raise SystemExit(
                    f"baseline {row['seed']}: expected an accuracy of {expected:.2%} on the test images, as with the "
                    f"runs in {self.path}, got {got:.2%}; take the baselines of the machine that made them"
                )

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row."""
        self._rows[row["key"]] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def fold(runs: Runs, setting: Setting) -> dict[str, Any]:
    """What the tables and figures need: for every method and budget its runs, or why there are none.

    Args:
        runs: All that were made; those of other recipes or epochs are left out.
        setting: Of the runs.
    """
    budgets = PROBLEMS[setting.problem].budgets
    return {
        "problem": setting.problem,
        "epochs": setting.epochs,
        "tuning_epochs": setting.tuning_epochs,
        "least_seeds": len(PROBLEMS[setting.problem].seeds),
        "rows": [_row(runs, method, budget, setting) for budget in budgets for method in METHODS],
        "validation": [
            _brief(row) for task in _choosing(runs, budgets, setting) if (row := runs.find(task)) is not None
        ],
        "trainings": [
            _brief(row) for task in compared(budgets, setting, runs.find) if (row := runs.find(task)) is not None
        ],
    }


def _choosing(runs: Runs, budgets: Iterable[int], setting: Setting) -> Iterable[Task]:
    """The runs on the validation images, each once: some methods take over those of another."""
    budgets = list(budgets)
    tasks = (
        task
        for method in METHODS
        for task in [*grid(method, budgets, setting), *finals(method, budgets, setting, runs.find)]
    )
    return {task.key: task for task in tasks}.values()


def _row(runs: Runs, method: str, budget: int, setting: Setting) -> dict[str, Any]:
    """One method at one budget."""
    head = {"method": method, "budget": budget}
    try:
        chosen = choice(method, budget, setting, runs.find)
    except Unreachable as error:
        return {**head, "unreachable": str(error)}
    found = [] if chosen is None else list(_found(runs, method, budget, setting, chosen))
    if chosen is None or not found:
        return {**head, "runs": []}
    return {
        **head,
        "recipe": chosen.recipe,
        "rate": chosen.rate,
        "tuned_at": chosen.tuned_at,
        "numbers": found[0]["numbers"],
        "forms": found[0]["forms"],
        "runs": [_brief(row) for row in found],
    }


def _found(runs: Runs, method: str, budget: int, setting: Setting, chosen: Choice) -> Iterator[dict[str, Any]]:
    """The test runs of a choice, a row a seed: what was trained in few bits joins the forms in which it is stored."""
    for seed in runs.seeds:
        tasks = final_tasks(method, budget, seed, chosen, setting)
        first, *others = map(runs.find, tasks)
        if first is None:
            continue
        stored = dict(first.get("stored", {}))
        for task, row in zip(tasks[1:], others, strict=True):
            if row is not None:
                assert task.bits is not None
                stored |= row.get("stored", {in_bits(task.bits).name: None})  # None: it diverged
        yield {**first, "stored": stored} if stored else first


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    """A run without what its row says already."""
    repeated = {"key", "problem", "stage", "forms", "images"}
    if row["stage"] == "test":
        repeated |= {"method", "recipe", "budget", "numbers", "rate", "epochs"}
    return {name: value for name, value in row.items() if name not in repeated}
