"""Make every run that is not stored yet, store it, and fold the result."""

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.accuracy import worker
from bench.accuracy.allocation import Unreachable
from bench.accuracy.methods import METHODS
from bench.accuracy.problem import OUT
from bench.accuracy.problems import PROBLEMS
from bench.accuracy.results import Runs, fold
from bench.accuracy.task import Task
from bench.accuracy.trainings import TRAININGS, compared
from bench.accuracy.tuning import SEED, Find, Setting, choice, final_tasks, finals, grid
from bench.record import RESULTS, provenance, store

JOBS = 2
COMMANDS = {"mnist": "python -m bench accuracy --data FOLDER", "digits": "python -m bench accuracy --task digits"}


@dataclass(frozen=True)
class Wanted:
    """What is to be run.

    Args:
        setting: Of all runs.
        budgets: Numbers of the three layers.
        seeds: Of the test runs that are made; what was stored of others stays.
        data: Folder with the data, where the task needs one.
        methods: Names.
        jobs: Processes at a time.
        tune_only: Whether to stop before the test images.
    """

    setting: Setting
    budgets: Sequence[int]
    seeds: Sequence[int]
    data: Path | None = None
    methods: Sequence[str] = tuple(METHODS)
    jobs: int = JOBS
    tune_only: bool = False


def run(wanted: Wanted) -> None:
    """Run what is missing. A trial with few images is stored apart, and no result is made of it."""
    trial, problem, epochs = wanted.setting.images is not None, wanted.setting.problem, wanted.setting.epochs
    stored = result_name(problem, PROBLEMS[problem].epochs)
    runs = Runs(OUT / f"{stored}_trial.jsonl" if trial else RESULTS / f"{stored}.jsonl")
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
    with ProcessPoolExecutor(
        wanted.jobs, context, initializer=worker.prepare, initargs=(problem, wanted.data, wanted.setting.images)
    ) as pool:
        runner = _Runner(pool, runs, trial)
        runner.finish(task for method in wanted.methods for task in grid(method, wanted.budgets, wanted.setting))
        while runner.finish(
            task for method in wanted.methods for task in finals(method, wanted.budgets, wanted.setting, runs.find)
        ):
            pass  # one that diverges calls for another
        if set(TRAININGS) <= set(wanted.methods):
            runner.finish(compared(wanted.budgets, wanted.setting, runs.find))
        if not wanted.tune_only:
            # The first seed's runs may change a choice; after many epochs the later one's may.
            first = set() if wanted.setting.has_finals else {SEED}
            for seed in sorted({*first, *wanted.seeds}):
                while runner.finish(_tests(wanted, seed, runs.find)):
                    pass
    if not trial:
        command = COMMANDS[problem] if epochs == PROBLEMS[problem].epochs else f"{COMMANDS[problem]} --epochs {epochs}"
        result = {"provenance": provenance(command, runs.seeds), **fold(runs, wanted.setting)}
        store(result_name(problem, epochs), result)


def result_name(problem: str, epochs: int) -> str:
    """Of the file in which a task's result is stored; that of its usual epochs names the file of all its runs too."""
    name = "accuracy" if problem == "mnist" else f"accuracy_{problem}"
    return name if epochs == PROBLEMS[problem].epochs else f"{name}_{epochs}_epochs"


def _tests(wanted: Wanted, seed: int, find: Find) -> Iterator[Task]:
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


def _outcome(row: dict[str, Any]) -> str:
    """What came out, for the eye."""
    seconds = f"{sum(row['seconds'].values()):.1f} s"
    if "diverged" in row:
        return f"{row['diverged']}, {seconds}"
    stored = ", ".join(f"{name} {100 * found['accuracy']:.2f} %" for name, found in row["stored"].items())
    return f"{stored}, {seconds}"


class _Runner:
    """Makes runs and stores them.

    Args:
        pool: Of processes that are prepared.
        runs: Those that are stored.
        trial: Whether they are of few images.
    """

    def __init__(self, pool: Executor, runs: Runs, trial: bool) -> None:
        self._pool = pool
        self._runs = runs
        self._trial = trial
        self._begun: set[int] = set()

    def finish(self, tasks: Iterable[Task]) -> int:
        """Make the runs that are missing, and say how many; each is stored as soon as it has finished."""
        missing = {task.key: task for task in tasks if self._runs.find(task) is None}
        self._begin({task.seed for task in missing.values()} - self._begun)
        where = provenance("", [])
        futures = {self._pool.submit(worker.measure, task): task for task in missing.values()}
        for count, future in enumerate(as_completed(futures), 1):
            row = future.result()
            self._runs.add({**row, **{name: where[name] for name in ("commit", "date", "machine")}})
            print(f"{count}/{len(futures)} {futures[future]}: {_outcome(row)}", flush=True)
        return len(missing)

    def _begin(self, seeds: set[int]) -> None:
        """See to it that there are baselines, those of the runs that are stored, and keep them."""
        reached = dict(zip(seeds, self._pool.map(worker.tested_baseline, seeds), strict=True))
        self._begun |= seeds
        if not self._trial:
            self._runs.check_baselines(reached)
            list(self._pool.map(worker.keep_baseline, seeds))
