"""Which training is taken is decided on the validation images; how far ahead it is, is told of the test images."""

import math
from pathlib import Path
from typing import Any

import pytest

from adtn.natural import PACE
from bench.accuracy.ratios import PEERS
from bench.accuracy.results import Runs
from bench.accuracy.task import Task
from bench.accuracy.trainings import TRAININGS, compared, leads_table
from bench.accuracy.tuning import Setting, choice, finals, grid

TWENTY = Setting(epochs=20, images=None, tuning_epochs=2)


def kept(runs: Runs, task: Task, accuracy: float) -> None:
    row = {"key": task.key, **task.to_json(), "stored": {"fp32": {"bytes": 4 * task.numbers, "accuracy": accuracy}}}
    runs.add(row)


def test_each_training_is_run_with_its_own_choice_and_as_it_trains(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs.jsonl")
    assert list(compared([1000], TWENTY, runs.find)) == []  # nothing is chosen yet
    for task in grid("ours", [1000], TWENTY):
        kept(runs, task, 0.9)
    for task in finals("ours_full", [1000], TWENTY, runs.find):
        kept(runs, task, 0.95 if task.recipe == "two terms, cube root" else 0.94)
    tasks = list(compared([1000, 1500], TWENTY, runs.find))
    assert [(task.method, task.seed) for task in tasks] == [
        (method, seed) for method in TRAININGS for seed in (3, 4, 5)
    ]
    for task in tasks:
        assert (task.stage, task.budget, task.recipe) == ("validation", 1000, "two terms, cube root")
        assert (task.teacher_epochs, task.natural_epochs) == ((0, 14) if task.method == "ours_full" else (5, 10))
        assert task.pace == (PACE if task.method == "ours_longer_steps" else None)
    assert len({task.key for task in tasks}) == len(tasks)
    others = compared([100, 650, 900, 2500], TWENTY, runs.find)
    assert list(dict.fromkeys(task.budget for task in others)) == [650, 1000]  # nothing was chosen at 250 and 5,000
    chosen = choice("ours_full", 1000, TWENTY, runs.find)
    assert chosen is not None
    assert {task.rate for task in tasks} == {chosen.rate}
    for task in tasks:
        if task.method == "ours_corrected":
            kept(runs, task, 0.5)
    assert choice("ours_corrected", 1000, TWENTY, runs.find) == chosen  # that one was run says nothing of the others


def test_few_epochs_need_no_choice_of_a_training(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs.jsonl")
    short = TWENTY._replace(epochs=5)
    for task in grid("ours", [1000], short):
        kept(runs, task, 0.9)
    assert list(compared([1000], short, runs.find)) == []


def a_result() -> dict[str, Any]:
    """Of a training that is worse on the validation images and better on the test images, and of its twin."""

    def tested(method: str, *accuracies: float) -> dict[str, Any]:
        runs = [{"seed": seed, "stored": {"fp32": {"accuracy": found}}} for seed, found in enumerate(accuracies)]
        return {"method": method, "budget": 1500, "runs": runs}

    def validated(method: str, seed: int, accuracy: float, budget: int = 1000) -> dict[str, Any]:
        return {"method": method, "budget": budget, "seed": seed, "stored": {"fp32": {"accuracy": accuracy}}}

    full, corrected, _ = TRAININGS
    peers = {"tt_matrix": (0.97, 0.98, 0.99), "cp": (0.979, 0.981), "tucker": (0.96, 0.96)}
    return {
        "least_seeds": 3,
        "rows": [
            tested(full, 0.999, 0.999),
            tested(corrected, 0.984, 0.986),
            *(tested(peer, *peers.get(peer, ())) for peer in PEERS),
        ],
        "trainings": [
            *(validated(full, seed, found) for seed, found in ((3, 0.981), (4, 0.983), (5, 0.982))),
            *(validated(corrected, seed, found) for seed, found in ((3, 0.980), (4, 0.9845), (5, 0.9821))),
            *(validated(full, seed, 0.999, budget=400) for seed in (3, 4, 5)),
        ],
    }


def test_the_better_on_the_validation_images_is_taken_whatever_the_test_images_say() -> None:
    result = a_result()
    deviation = math.sqrt(2) * 0.1  # of 97.9 and 98.1, and of 98.4 and 98.6
    told = "| ≤ 1,500 | 98.20 | 98.22 | not run | ours_corrected | 98.50 [2 seeds] | 98.00 | +0.500 | 1.000 |"
    assert leads_table(result).splitlines()[2:] == [f"{told} cp 98.00 | +0.500 | {deviation:.3f} |"]
    result["trainings"][4]["stored"]["fp32"]["accuracy"] = 0.9839  # as good as the other in the mean
    assert "| 98.20 | 98.20 | not run | ours_full | 99.90 [2 seeds] | 98.00 | +1.900 | 1.000 |" in leads_table(result)


def test_one_that_was_compared_later_takes_its_place_among_the_others() -> None:
    result = a_result()
    run = {"method": "ours_longer_steps", "budget": 1000, "stored": {"fp32": {"accuracy": 0.983}}}
    result["trainings"] += [{**run, "seed": seed} for seed in (3, 4, 5)]
    tested = {"seed": 0, "stored": {"fp32": {"accuracy": 0.987}}}
    result["rows"].append({"method": "ours_longer_steps", "budget": 1500, "runs": [tested]})
    assert "| 98.20 | 98.22 | 98.30 | ours_longer_steps | 98.70 [1 seed] | " in leads_table(result)


def test_a_training_that_diverged_is_not_taken() -> None:
    result = a_result()
    del result["trainings"][4]["stored"]
    assert "| 98.20 | diverged | not run | ours_full | 99.90 [2 seeds] | " in leads_table(result)


@pytest.mark.parametrize("missing", [0, 5])
def test_nothing_is_told_where_a_run_that_chooses_is_missing(missing: int) -> None:
    result = a_result()
    del result["trainings"][missing]
    assert leads_table(result) == ""
