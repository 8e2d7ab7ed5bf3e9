"""Which of this project's trainings is taken at a budget, and how far ahead of the peers it is there.

They spend the same epochs in several ways, and none is the best one at every size. What was better on the validation
images is taken, so that the test images choose none.
"""

import statistics
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from bench.accuracy.ratios import PEERS
from bench.accuracy.table import Spread, budgets_of, header, line, of_budget, percent, seeds_told
from bench.accuracy.task import Task
from bench.accuracy.tuning import Find, Setting, choice, nearest_first, validation_task

TRAININGS = ("ours_full", "ours_corrected", "ours_longer_steps")
"""Methods that differ in the training alone."""
STRONGEST = "tt_matrix"
"""The peer to beat."""
_BUDGETS = (250, 400, 650, 1000, 5000)
"""Where they are compared: at the tuning budgets, and between the two of these at which another one is better."""
_SEEDS = (3, 4, 5)
"""Of the runs that choose between them: their baselines are stored."""


def compared(budgets: Iterable[int], setting: Setting, find: Find) -> Iterator[Task]:
    """The validation runs of all epochs that choose, at the nearest to each of some budgets at which they are compared.

    Each training with what was chosen for it; nothing where no choice was made yet, or where the best of the grid is
    not trained for all epochs before one is chosen. As in the runs that choose a recipe, more than 4,096 trained
    numbers do not follow the natural gradient here.
    """
    if not setting.has_finals:
        return
    nearest = dict.fromkeys(map(_compared_at, budgets))
    for method in TRAININGS:
        for budget in nearest:
            chosen = choice(method, budget, setting, find)
            if chosen is not None:
                yield from (validation_task(method, budget, seed, chosen, setting) for seed in _SEEDS)


def _compared_at(budget: int) -> int:
    return nearest_first(_BUDGETS, budget)[0]


class Lead(NamedTuple):
    """How far a method is ahead of a peer.

    Args:
        peer: Its name.
        accuracy: The peer's, in percent.
        points: By which the method's mean is above.
        deviation: The larger of both standard deviations.
    """

    peer: str
    accuracy: Spread
    points: float
    deviation: float


def leads_table(result: dict[str, Any]) -> str:
    """A row a budget: the training that is taken, and how far it is ahead; "" where none were compared."""
    columns = ["numbers", *(f"{method}, validation" for method in TRAININGS), "taken", "test"]
    columns += [STRONGEST, "ahead by", "deviation", "best other peer", "ahead by", "deviation"]
    lines = header(columns)
    for budget in budgets_of(result):
        rows = of_budget(result, budget)
        scores = _scores(result, _compared_at(budget))
        if len(scores) < 2:
            continue
        taken = max(scores, key=lambda method: scores[method] or 0.0)  # of equals the first, which takes less time
        found = percent(rows[taken], "fp32")
        if found is None:
            continue
        leads = [_lead(found, peer, rows) for peer in PEERS]
        others = [lead for lead in leads if lead is not None and lead.peer != STRONGEST]
        strongest = next((lead for lead in leads if lead is not None and lead.peer == STRONGEST), None)
        closest = min(others, key=lambda lead: lead.points, default=None)
        seeds = seeds_told(rows[taken], "fp32", result["least_seeds"])
        cells = [f"≤ {budget:,}", *(_told(scores, method) for method in TRAININGS), taken, f"{found.mean:.2f}{seeds}"]
        cells += _cells(strongest, named=False) + _cells(closest, named=True)
        lines.append(line(cells))
    return "\n".join(lines) if len(lines) > 2 else ""


def _scores(result: dict[str, Any], budget: int) -> dict[str, float | None]:
    """The mean on the validation images in percent, at one of those budgets, of each training that was run there.

    None where a run diverged: any other is better.
    """
    scores: dict[str, float | None] = {}
    for method in TRAININGS:
        found = [run for run in result.get("trainings", []) if (run["method"], run["budget"]) == (method, budget)]
        if len(found) < len(_SEEDS):
            continue
        accuracies = [100 * run["stored"]["fp32"]["accuracy"] for run in found if "stored" in run]
        # Rounded, since as many right answers are equally good.
        scores[method] = round(statistics.fmean(accuracies), 6) if len(accuracies) == len(found) else None
    return scores


def _told(scores: dict[str, float | None], method: str) -> str:
    if method not in scores:
        return "not run"
    score = scores[method]
    return "diverged" if score is None else f"{score:.2f}"


def _lead(found: Spread, peer: str, rows: dict[str, dict[str, Any]]) -> Lead | None:
    """Over one peer; None where that was not run or diverged."""
    other = percent(rows[peer], "fp32")
    if other is None:
        return None
    return Lead(peer, other, found.mean - other.mean, max(found.deviation, other.deviation))


def _cells(lead: Lead | None, *, named: bool) -> list[str]:
    if lead is None:
        return ["-", "-", "-"]
    name = f"{lead.peer} " if named else ""
    return [f"{name}{lead.accuracy.mean:.2f}", f"{lead.points:+.3f}", f"{lead.deviation:.3f}"]
