"""Writes the tables and figures of the page from the stored result."""

import json
from typing import Any

from bench.accuracy.plot import plot
from bench.accuracy.problems import PROBLEMS
from bench.accuracy.ratios import ratios_table
from bench.accuracy.run import result_name
from bench.accuracy.table import accuracy_table, bytes_table, choices_table, finals_table, spread
from bench.accuracy.trainings import leads_table
from bench.markers import DOCS, write_between
from bench.record import RESULTS, described

PAGE = DOCS / "accuracy.md"


def write(problem: str, epochs: int) -> None:
    """Put all of it into the folder of the documentation.

    Args:
        problem: Whose result; figures are of MNIST alone.
        epochs: Of fine-tuning.
    """
    name = result_name(problem, epochs)
    result = json.loads((RESULTS / f"{name}.json").read_text())
    write_between(PAGE, f"{name}-numbers", f"{accuracy_table(result)}\n\n{note(result)}")
    write_between(PAGE, f"{name}-bytes", bytes_table(result))
    write_between(PAGE, f"{name}-ratios", ratios_table(result))
    write_between(PAGE, f"{name}-choices", choices_table(result))
    if finals := finals_table(result):
        write_between(PAGE, f"{name}-finals", finals)
    if leads := leads_table(result):
        write_between(PAGE, f"{name}-leads", leads)
    if problem == "mnist":
        plot(result, DOCS, name)


def note(result: dict[str, Any]) -> str:
    """The baseline, and where the numbers come from."""
    where = result["provenance"]
    machine = where["machine"]
    runs = [run for row in result["rows"] for run in row.get("runs", []) if "baseline" in run]
    baselines = {run["seed"]: 100 * run["baseline"] for run in runs}
    if not runs:
        return "No run is stored."
    weights = PROBLEMS[result["problem"]].compressed
    dense = ", ".join(f"{baselines[seed]:.2f}" for seed in sorted(baselines))
    seconds = spread([sum(run["seconds"].values()) for run in runs])
    commits = sorted({run["commit"] for run in runs})
    return (
        f"Baselines: {dense} % with {weights:,} numbers in the three layers. {result['epochs']} epochs; a run took "
        f"{seconds.mean:.0f} s on one thread. `{where['command']}`, runs at {', '.join(commits)}, "
        f"{described(machine)}, torch {machine['torch']}; every run is in "
        f"`bench/results/{result_name(result['problem'], result['epochs'])}.json`."
    )
