"""Writes the tables of README.md from the stored results."""

import json
from pathlib import Path
from typing import Any

from bench.markers import write_between
from bench.record import RESULTS, described

README = Path(__file__).parent.parent / "README.md"


def table(result: dict[str, Any]) -> str:
    """The table of LeNet-5 on MNIST: one row a target, the median over the seeds, the spread in brackets."""
    header = (
        "| asked for | epochs | numbers stored for 60,480 | compression ratio | accuracy before | after fit "
        "| after fine-tuning | bytes on disk: checkpoint → ADTN file | seconds (whole job) |"
    )
    rows = [header, "|---|---|---|---|---|---|---|---|---|"]
    for row in result["rows"]:
        rows.append(
            f"| {asked(row)} | {epochs(row['training']['fine_tune'])} "
            f"| {spread(row['parameters'], '{:,.0f}')} | {spread(row['ratio'], '{:.0f}')} "
            f"| {before(row)} | {percent(row['after_fit'])} | **{percent(row['final'])}** "
            f"| {row['bytes']['checkpoint']:,} → {row['bytes']['adtn']:,} | {spread(row['seconds'], '{:.0f}')} |"
        )
    where = result["provenance"]
    machine = where["machine"]
    seeds = len(where["seeds"])
    note = (
        f"{'One seed' if seeds == 1 else f'Median of {seeds} seeds (lowest to highest)'}. "
        f"`{where['command']}` at {where['commit']}, {described(machine)}, "
        f"torch {machine['torch']}; every run is in `bench/results/lenet5_mnist.json`."
    )
    return "\n".join([*rows, "", note])


def asked(row: dict[str, Any]) -> str:
    """The target. Results of before there were jobs with a validation split do not say that they have none."""
    return f"`{json.dumps(row['target'])}`" + (", with a validation split" if row.get("validated") else "")


def before(row: dict[str, Any]) -> str:
    """The accuracy of the upload, and what it was trained to."""
    return percent(row["baseline"]) + (f", then {percent(row['teacher'])}" if "teacher" in row else "")


def epochs(fine_tune: dict[str, int]) -> str:
    """Of training; before a plus those of the original."""
    before = f"{fine_tune['teacher_epochs']} + " if "teacher_epochs" in fine_tune else ""
    return f"{before}{fine_tune['epochs']}"


def percent(figures: dict[str, Any]) -> str:
    """Accuracies as percentages."""
    return spread(
        {**figures, "runs": [100 * run for run in figures["runs"]], "median": 100 * figures["median"]}, "{:.2f}"
    )


def spread(figures: dict[str, Any], form: str) -> str:
    """A median with the lowest and highest run, if they differ."""
    low, high = min(figures["runs"]), max(figures["runs"])
    if low == high:
        return form.format(low)
    return f"{form.format(figures['median'])} ({form.format(low)} to {form.format(high)})"


def write() -> None:
    """Put the tables into README.md."""
    result = json.loads((RESULTS / "lenet5_mnist.json").read_text())
    write_between(README, "lenet5-mnist", table(result))
