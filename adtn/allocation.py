"""Share out numbers over layers: where one more lowers the loss most, there it goes. No torch here."""

import heapq
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from adtn.candidates import Candidate, Candidates
from adtn.curve import Curve, even
from adtn.errors import PlanError
from adtn.plan import AUTO_MIN_RATIO, Plan, PlanEntry, Skipped, Target, predicted_parameters, target_unreachable
from adtn.structure import AnyStructure

STAYS_DENSE = "the target leaves room for it, and encoded it would cost more than the same numbers cost elsewhere"
MOST_TRIED_DENSE = 8
"""Climbs besides the first: each takes time that grows with the layers."""


class Option(NamedTuple):
    """One way to hold a weight; without a structure it stays dense."""

    parameters: int
    loss: float
    structure: AnyStructure | None


def allocate(candidates: Candidates, target: Target, curves: Mapping[str, Curve] | None = None) -> Plan:
    """Choose a structure for each candidate, within a target.

    Each starts on its lowest rung. Then, again and again, the step up that lowers the loss most for each number that it
    costs is taken, from among those that still fit. What stays dense counts towards the target with all its entries.
    Between the highest rung and that there is none, so a layer that has come to its highest may find the room for the
    last step taken by others: the same is tried with such a layer dense from the start, for the few that lose most, and
    the least loss counts. Something is encoded however large the target.

    Args:
        candidates: The layers, with the structures to choose from.
        target: Size of all candidates together.
        curves: Loss by the layer's key, as measured; without one, numbers are shared evenly.

    Raises:
        PlanError: target_unreachable, with the smallest reachable size.
    """
    limit = target.limit(candidates.original)
    if candidates.smallest > limit:
        layers = [item.layer for item in candidates.items]
        raise PlanError("target_unreachable", target_unreachable(target, layers, candidates.smallest))
    least_ratio = AUTO_MIN_RATIO if candidates.may_stay_dense else 1.0
    ladders = [_options(item, curves or {}, least_ratio) for item in candidates.items]
    if candidates.may_stay_dense:
        chosen = _climb_to_dense(ladders, [item.layer.entries for item in candidates.items], limit)
    else:
        chosen = _climb(ladders, limit)
    pairs = [(item.layer, option.structure) for item, option in zip(candidates.items, chosen, strict=True)]
    return Plan(
        tuple(PlanEntry(layer, structure) for layer, structure in pairs if structure is not None),
        (*candidates.skipped, *(Skipped(layer, STAYS_DENSE) for layer, structure in pairs if structure is None)),
    )


def by_default(candidates: Candidates) -> Plan:
    """Choose a structure for each candidate where there is no target.

    As many numbers as the paper's network of two TN layers has, in the structure of that size that the planner prefers.

    Args:
        candidates: The layers, with the structures to choose from.
    """
    entries = [
        PlanEntry(item.layer, _within(item, predicted_parameters(item.layer.shape))) for item in candidates.items
    ]
    return Plan(tuple(entries), candidates.skipped)


def _within(candidate: Candidate, numbers: int) -> AnyStructure:
    """The highest rung with no more numbers; the lowest if all have more."""
    return next((rung for rung in reversed(candidate.rungs) if rung.parameters <= numbers), candidate.rungs[0])


def _options(candidate: Candidate, curves: Mapping[str, Curve], least_ratio: float) -> list[Option]:
    """The rungs that make a layer at least so many times smaller: with less to gain it may as well stay dense."""
    curve = curves.get(candidate.layer.key) or even(candidate.layer.entries)
    rungs = [rung for rung in candidate.rungs if rung.parameters * least_ratio <= candidate.layer.room]
    return [Option(rung.parameters, curve.at(rung.parameters), rung) for rung in rungs]


def _climb_to_dense(ladders: Sequence[Sequence[Option]], entries: Sequence[int], limit: int) -> list[Option]:
    """Climb ladders at whose top the layer stays dense; at least one does not.

    Args:
        ladders: Without that top.
        entries: Of the dense layers.
        limit: For all layers.
    """
    tops = [Option(count, 0.0, None) for count in entries]
    whole = [[*ladder, top] for ladder, top in zip(ladders, tops, strict=True)]
    limit = min(limit, sum(entries) - 1)
    least = sum(ladder[0].parameters for ladder in ladders)
    found = [_climb(whole, limit)]
    stuck = {
        (-option.loss, entries[i]): i  # of layers that are alike, one
        for i, option in enumerate(found[0])
        if option is ladders[i][-1] and least - ladders[i][0].parameters + entries[i] <= limit
    }
    for _, i in sorted(stuck.items())[:MOST_TRIED_DENSE]:
        found.append(_climb([*whole[:i], [tops[i]], *whole[i + 1 :]], limit))
    return min(found, key=lambda chosen: sum(option.loss for option in chosen))


def _climb(ladders: Sequence[Sequence[Option]], limit: int) -> list[Option]:
    """Climb the ladders while the total stays within the limit."""
    places = [0] * len(ladders)
    spare = limit - sum(ladder[0].parameters for ladder in ladders)
    heap = [step for i, ladder in enumerate(ladders) if (step := _best_step(i, ladder, 0, spare))]
    heapq.heapify(heap)
    while heap:
        *_, i, place = heapq.heappop(heap)
        cost = ladders[i][place].parameters - ladders[i][places[i]].parameters
        if cost <= spare:
            places[i], spare = place, spare - cost
        # Otherwise the step fitted when it was found; a shorter one may still fit.
        step = _best_step(i, ladders[i], places[i], spare)
        if step:
            heapq.heappush(heap, step)
    return [ladder[place] for ladder, place in zip(ladders, places, strict=True)]


def _best_step(i: int, ladder: Sequence[Option], place: int, spare: int) -> tuple[float, float, int, int] | None:
    """The step up from `place` that fits and gains most for each number, as an item of the heap, or None."""
    here = ladder[place]
    steps = []
    for higher in range(place + 1, len(ladder)):
        cost = ladder[higher].parameters - here.parameters
        if cost <= spare:
            # Of steps that gain the same, as where nothing more is gained, the layer with fewer numbers goes first.
            steps.append((-(here.loss - ladder[higher].loss) / cost, ladder[higher].parameters, i, higher))
    return min(steps, default=None)
