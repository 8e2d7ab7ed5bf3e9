"""Make every run that is not stored yet, store it, and fold the result."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.accuracy import worker
from bench.accuracy.allocation import Unreachable
from bench.accuracy.methods import METHODS
from bench.accuracy.mnist import OUT
from bench.accuracy.results import Runs, fold
from bench.accuracy.task import Task
from bench.accuracy.tuning import BUDGETS, SEED, Setting, choice, final_tasks, grid
from bench.record import RESULTS, provenance, store

EPOCHS = 5
TUNING_EPOCHS = 2
SEEDS = (0, 1, 2)
JOBS = 2
COMMAND = "make bench-accuracy DATA=FOLDER"
_FULL = Setting(EPOCHS, None, TUNING_EPOCHS)


@dataclass(frozen=True)
class Wanted:
    """What is to be run.

    Args:
        data: Folder with the four MNIST IDX files.
        methods: Names.
        budgets: Numbers of the three layers.
        seeds: Of the test runs.
        setting: Of all runs.
        jobs: Processes at a time.
        tune_only: Whether to stop before the test images.
    """

    data: Path
    methods: Sequence[str] = tuple(METHODS)
    budgets: Sequence[int] = BUDGETS
    seeds: Sequence[int] = SEEDS
    setting: Setting = _FULL
    jobs: int = JOBS
    tune_only: bool = False


def run(wanted: Wanted) -> None:
    """Run what is missing. A trial with few images is stored apart, and no result is made of it."""
    trial = wanted.setting.images is not None
    runs = Runs(OUT / "trial.jsonl" if trial else RESULTS / "accuracy.jsonl")
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
    with ProcessPoolExecutor(
        wanted.jobs, context, initializer=worker.prepare, initargs=(wanted.data, wanted.setting.images)
    ) as pool:
        list(pool.map(worker.train_baseline, sorted({SEED, *wanted.seeds})))
        _finish(
            pool, runs, (task for method in wanted.methods for task in grid(method, wanted.budgets, wanted.setting))
        )
        if not wanted.tune_only:
            for seed in sorted({SEED, *wanted.seeds}):  # the first seed's runs may change a choice
                while _finish(pool, runs, _tests(wanted, seed, runs.find)):
                    pass
    if not trial:
        result = fold(runs, SEEDS, wanted.setting)
        store("accuracy", {"provenance": provenance(COMMAND, list(SEEDS)), **result})


def _tests(wanted: Wanted, seed: int, find: Callable[[Task], dict[str, Any] | None]) -> Iterator[Task]:
    """The test runs of a seed, each with what was best on the validation images."""
    for method in wanted.methods:
        for budget in wanted.budgets:
            try:
                chosen = choice(method, budget, wanted.setting, find)
            except Unreachable as error:
                print(f"{method} at {budget}: {error}", flush=True)
                continue
            assert chosen is not None, "the grid has been run"
            yield from final_tasks(method, budget, seed, chosen, wanted.setting)


def _finish(pool: Executor, runs: Runs, tasks: Iterable[Task]) -> int:
    """Make the runs that are missing, and say how many; each is stored as soon as it has finished."""
    missing = {task.key: task for task in tasks if runs.find(task) is None}
    where = provenance(COMMAND, [])
    futures = {pool.submit(worker.measure, task): task for task in missing.values()}
    for count, future in enumerate(as_completed(futures), 1):
        row = future.result()
        runs.add({**row, **{name: where[name] for name in ("commit", "date", "machine")}})
        print(f"{count}/{len(futures)} {futures[future]}: {_outcome(row)}", flush=True)
    return len(missing)


def _outcome(row: dict[str, Any]) -> str:
    """What came out, for the eye."""
    seconds = f"{sum(row['seconds'].values()):.1f} s"
    if "diverged" in row:
        return f"{row['diverged']}, {seconds}"
    stored = ", ".join(f"{name} {100 * found['accuracy']:.2f} %" for name, found in row["stored"].items())
    return f"{stored}, {seconds}"
