"""Share out numbers over layers: where one more lowers the loss most, there it goes. No torch here."""

import heapq
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
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


_Step = tuple[float, int, int, int]
"""A step up a ladder: what it adds to the loss for each number, at most 0; the layer's numbers after it; the place of
the layer; and the place on its ladder that it leads to."""


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
    return Allocation(candidates, curves).within(target)


class Allocation:
    """Plans of several sizes for the same candidates, each as `allocate` makes it; what they share is computed once.

    Args:
        candidates: As in `allocate`.
        curves: As in `allocate`.
    """

    def __init__(self, candidates: Candidates, curves: Mapping[str, Curve] | None = None) -> None:
        least_ratio = AUTO_MIN_RATIO if candidates.may_stay_dense else 1.0
        self._candidates = candidates
        # Of layers that are alike the first by key goes first: files have them in other orders than models.
        self._items = sorted(candidates.items, key=lambda item: item.layer.key)
        self._ladders: list[_Ladder] = []
        for layer, item in enumerate(self._items):
            options = _options(item, curves or {}, least_ratio)
            if candidates.may_stay_dense:
                options.append(Option(item.layer.entries, 0.0, None))
            self._ladders.append(_Ladder(layer, options))

    def within(self, target: Target) -> Plan:
        """The plan for a target.

        Raises:
            PlanError: As `allocate`.
        """
        found = self._candidates
        limit = target.limit(found.original)
        if found.smallest > limit:
            layers = [item.layer for item in found.items]
            raise PlanError("target_unreachable", target_unreachable(target, layers, found.smallest))
        chosen = (_climb_to_dense if found.may_stay_dense else _climb)(self._ladders, limit)
        structures = {item.layer.key: own.structure for item, own in zip(self._items, chosen, strict=True)}
        pairs = [(item.layer, structures[item.layer.key]) for item in found.items]
        return Plan(
            tuple(PlanEntry(layer, structure) for layer, structure in pairs if structure is not None),
            (*found.skipped, *(Skipped(layer, STAYS_DENSE) for layer, structure in pairs if structure is None)),
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
    room = candidate.layer.room
    rungs = [rung for rung in candidate.rungs if rung.parameters * least_ratio <= room]
    return [Option(rung.parameters, curve.at(rung.parameters), rung) for rung in rungs]


class _Ladder:
    """The options of a layer, from few numbers to many, and the best step up from each, which is found once.

    Args:
        layer: Its place among the layers.
        options: At least one.
    """

    def __init__(self, layer: int, options: Sequence[Option]) -> None:
        self.layer = layer
        self.options = options
        self.sizes = [option.parameters for option in options]
        self._steps: dict[int, list[_Step]] = {}

    def best_step(self, place: int, spare: int) -> _Step | None:
        """The step up from `place` that fits and gains most for each number, or None."""
        fitting = bisect_right(self.sizes, self.sizes[place] + spare) - place - 1
        if fitting <= 0:
            return None
        if place not in self._steps:
            self._steps[place] = list(accumulate(self._steps_from(place), min))
        return self._steps[place][fitting - 1]

    def _steps_from(self, place: int) -> Iterator[_Step]:
        here = self.options[place]
        for higher, option in enumerate(self.options[place + 1 :], place + 1):
            cost = option.parameters - here.parameters
            # Of steps that gain the same, as where nothing more is gained, the layer with fewer numbers goes first.
            yield -(here.loss - option.loss) / cost, option.parameters, self.layer, higher


def _climb_to_dense(ladders: Sequence[_Ladder], limit: int) -> list[Option]:
    """Climb ladders at whose top the layer stays dense; at least one does not.

    Args:
        ladders: With that top.
        limit: For all layers.
    """
    tops = [ladder.options[-1] for ladder in ladders]
    limit = min(limit, sum(top.parameters for top in tops) - 1)
    least = sum(ladder.options[0].parameters for ladder in ladders)
    found = [_climb(ladders, limit)]
    stuck = {
        (-option.loss, top.parameters): i  # of layers that are alike, one
        for i, (option, ladder, top) in enumerate(zip(found[0], ladders, tops, strict=True))
        if option is ladder.options[-2] and least - ladder.options[0].parameters + top.parameters <= limit
    }
    for _, i in sorted(stuck.items())[:MOST_TRIED_DENSE]:
        found.append(_climb([*ladders[:i], _Ladder(i, [tops[i]]), *ladders[i + 1 :]], limit))
    return min(found, key=lambda chosen: sum(option.loss for option in chosen))


def _climb(ladders: Sequence[_Ladder], limit: int) -> list[Option]:
    """Climb the ladders while the total stays within the limit."""
    places = [0] * len(ladders)
    spare = limit - sum(ladder.sizes[0] for ladder in ladders)
    heap = [step for ladder in ladders if (step := ladder.best_step(0, spare))]
    heapq.heapify(heap)
    while heap:
        *_, i, place = heap[0]
        ladder = ladders[i]
        cost = ladder.sizes[place] - ladder.sizes[places[i]]
        if cost <= spare:
            places[i], spare = place, spare - cost
        # Otherwise the step fitted when it was found; a shorter one may still fit.
        step = ladder.best_step(places[i], spare)
        if step:
            heapq.heapreplace(heap, step)
        else:
            heapq.heappop(heap)
    return [ladder.options[place] for ladder, place in zip(ladders, places, strict=True)]
