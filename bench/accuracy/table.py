"""The tables, from the folded result."""

import statistics
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from bench.accuracy.methods import METHODS

NOT_RUN = "not run"


class Spread(NamedTuple):
    """A figure over the seeds.

    Args:
        mean: Of all runs.
        deviation: Their standard deviation (of a sample); 0 for one run.
        range: The highest minus the lowest.
    """

    mean: float
    deviation: float
    range: float


def spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation and range."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Spread(statistics.fmean(values), deviation, max(values) - min(values))


def percent(row: dict[str, Any], storage: str) -> Spread | None:
    """Test accuracy over the seeds in percent, as stored in some form; None if it was not run or a run diverged."""
    found = _stored(row, storage)
    return spread([100 * stored["accuracy"] for stored in found]) if found else None


def _stored(row: dict[str, Any], storage: str) -> list[dict[str, Any]]:
    """What was measured of a form of storage, for each seed with which it was run; nothing if one diverged."""
    if _diverged(row, storage):
        return []
    return [run["stored"][storage] for run in row.get("runs", []) if storage in run.get("stored", {})]


def _diverged(row: dict[str, Any], storage: str) -> bool:
    """Whether a run did, as floats or in such few bits: then there is nothing of it in this form."""
    runs = row.get("runs", [])
    return any(run.get("stored", {}).get(storage, None if "diverged" in run else {}) is None for run in runs)


def accuracy_table(result: dict[str, Any]) -> str:
    """Accuracy against numbers: a row a budget, a column a method, the best in bold; unreachable budgets below."""
    methods = _methods(result)
    lines = header(["numbers", *methods])
    for budget in budgets_of(result):
        rows = of_budget(result, budget)
        cells = [_cell(rows[method], "fp32", result["least_seeds"], in_bytes=False) for method in methods]
        lines.append(line([f"≤ {budget:,}", *_best_in_bold(cells)]))
    return "\n".join([*lines, "", *_reasons(result)])


def bytes_table(result: dict[str, Any]) -> str:
    """Accuracy against bytes: a row a budget and form of storage, a column a method, the best in bold."""
    methods = _methods(result)
    lines = header(["numbers", "stored as", *methods])
    forms = list(dict.fromkeys(form for method in methods for form in METHODS[method].stored_as))
    for budget in budgets_of(result):
        rows = of_budget(result, budget)
        for storage in forms:
            cells = [_cell(rows[method], storage, result["least_seeds"], in_bytes=True) for method in methods]
            lines.append(line([f"≤ {budget:,}", storage, *_best_in_bold(cells)]))
    return "\n".join(lines)


def choices_table(result: dict[str, Any]) -> str:
    """What each method used: recipe and learning rate; and the seeds, where they are not the first few."""
    methods = _methods(result)
    lines = header(["numbers", *methods])
    for budget in budgets_of(result):
        rows = of_budget(result, budget)
        cells = [_used(rows[method], result["least_seeds"]) for method in methods]
        lines.append(line([f"≤ {budget:,}", *cells]))
    return "\n".join(lines)


def _used(row: dict[str, Any], least_seeds: int) -> str:
    seeds = [run["seed"] for run in row.get("runs", [])]
    if not seeds:
        return "-"
    told = "" if seeds == list(range(least_seeds)) else f" (seeds {', '.join(map(str, seeds))})"
    return f"{row['recipe']}, {row['rate']:g}{told}"


def finals_table(result: dict[str, Any]) -> str:
    """Accuracy on the validation images of what was compared after all epochs: a row a tuning budget; "" if none.

    Each recipe at its best rate, or the rates of a single recipe. The highest comes first: it is what was chosen.
    """
    runs = [run for run in result["validation"] if run["epochs"] == result["epochs"] > result["tuning_epochs"]]
    methods = list(dict.fromkeys(run["method"] for run in runs))
    lines = header(["numbers", *methods])
    for budget in sorted({run["budget"] for run in runs}):
        at_budget = [run for run in runs if run["budget"] == budget]
        cells = [_compared([run for run in at_budget if run["method"] == method]) for method in methods]
        lines.append(line([f"≤ {budget:,}", *cells]))
    return "\n".join(lines) if runs else ""


def _compared(runs: Sequence[dict[str, Any]]) -> str:
    """Recipes with their accuracy in percent, or rates of a single one; the highest first, those that diverged last.

    One run alone compares nothing.
    """
    if len(runs) < 2:
        return "-"
    several = len({run["recipe"] for run in runs}) > 1
    named = [(run["recipe"] if several else f"{run['rate']:g}", run) for run in runs]
    finite = [(100 * run["stored"]["fp32"]["accuracy"], name) for name, run in named if "stored" in run]
    ranked = [f"{name} {accuracy:.2f}" for accuracy, name in sorted(finite, key=itemgetter(0), reverse=True)]
    return "; ".join([*ranked, *(f"{name} diverged" for name, run in named if "stored" not in run)]) or "-"


def bytes_of(row: dict[str, Any], storage: str) -> int:
    """Bytes of the three layers, in the mean over the seeds: those of an entropy code are not always the same."""
    return round(statistics.fmean(stored["bytes"] for stored in _stored(row, storage)))


class _Cell(NamedTuple):
    """What stands in a cell, and the mean that is compared with those of the others; None where seeds are missing."""

    text: str
    mean: float | None


def _cell(row: dict[str, Any], storage: str, least_seeds: int, in_bytes: bool) -> _Cell:
    """The accuracy over the seeds, and the size that it takes; how many seeds were run if more or fewer than wanted."""
    found = percent(row, storage)
    if found is not None:
        size = f"{bytes_of(row, storage):,} B" if in_bytes else f"{row['numbers']:,}"
        runs = len(_stored(row, storage))
        away = f" ± {found.deviation:.2f} ({found.range:.2f})" if runs > 1 else ""
        seeds = seeds_told(row, storage, least_seeds)
        return _Cell(f"{found.mean:.2f}{away}{seeds}, {size}", found.mean if runs >= least_seeds else None)
    if "unreachable" in row:
        return _Cell("-", None)
    return _Cell("diverged" if _diverged(row, storage) else NOT_RUN, None)


def seeds_told(row: dict[str, Any], storage: str, least_seeds: int) -> str:
    """With how many seeds a form of storage was run, if with more or fewer than wanted."""
    runs = len(_stored(row, storage))
    return "" if runs == least_seeds else f" [{runs} seed{'s' * (runs > 1)}]"


def _best_in_bold(cells: Sequence[_Cell]) -> list[str]:
    means = [round(cell.mean, 2) for cell in cells if cell.mean is not None]
    best = max(means, default=None)
    return [f"**{c.text}**" if c.mean is not None and round(c.mean, 2) == best else c.text for c in cells]


def _reasons(result: dict[str, Any]) -> list[str]:
    """Why there is no figure: a line a method."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in result["rows"]:
        if "unreachable" in row and row["method"] in _methods(result):
            reasons.setdefault((row["method"], row["unreachable"]), []).append(f"{row['budget']:,}")
    return [f"- `{method}` at {', '.join(budgets)}: {reason}." for (method, reason), budgets in reasons.items()]


def _methods(result: dict[str, Any]) -> list[str]:
    """Those with a run."""
    run = {row["method"] for row in result["rows"] if row.get("runs")}
    return [method for method in METHODS if method in run]


def budgets_of(result: dict[str, Any]) -> list[int]:
    """Each once."""
    return list(dict.fromkeys(row["budget"] for row in result["rows"]))


def of_budget(result: dict[str, Any], budget: int) -> dict[str, dict[str, Any]]:
    """The rows of a budget by method."""
    return {row["method"]: row for row in result["rows"] if row["budget"] == budget}


def header(names: Sequence[str]) -> list[str]:
    """The first two lines of a table."""
    return [line(names), line(["---"] * len(names))]


def line(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"
