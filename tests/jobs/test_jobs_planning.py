"""From settings to plans: the sizes that a search tries, and what a plan rests on."""

from itertools import pairwise
from typing import Any

import pytest
from support.layers import LENET

from adtn.curve import measured
from adtn.plan import Layer, Plan
from adtn.structure import Structure, Sum
from jobs.planning import SIZE_STEP, is_measured, is_searched, most_trials, plan_of, plans_to_try
from jobs.problems import ProblemError
from jobs.schemas.settings import CompressionSettings

DROP = {"target": {"max_accuracy_drop": 1.0}}


def settings(**values: Any) -> CompressionSettings:
    return CompressionSettings.model_validate(values)


@pytest.mark.parametrize("structure", ["auto", {}, {"gate_sites": 3}, {"depth": 1}], ids=str)
@pytest.mark.parametrize("layers", ["auto", ["fc1", "fc2"]], ids=str)
def test_sizes_to_try_go_from_the_smallest_model_upwards(layers: Any, structure: Any) -> None:
    plans = plans_to_try(settings(layers=layers, structure=structure, **DROP), LENET)
    assert len(plans) > 1
    assert all(smaller.saved > larger.saved for smaller, larger in pairwise(plans))
    assert all(0 < plan.parameters < plan.original for plan in plans)


@pytest.mark.parametrize("structure", ["auto", {}], ids=str)
@pytest.mark.parametrize("layers", ["auto", ["fc1", "fc2"]], ids=str)
def test_plans_to_try_are_those_for_targets_of_their_sizes(layers: Any, structure: Any) -> None:
    curves = {"fc1.weight": measured([(300, 9.0), (5000, 5.0)], 48_000), "fc2.weight": measured([(100, 0.5)], 10_080)}
    tried = plans_to_try(settings(layers=layers, structure=structure, **DROP), LENET, curves)
    budget = float(sum(layer.entries for layer in LENET))
    singles = []
    while budget >= sum(entry.parameters for entry in tried[0].entries):
        target = {"parameters": int(budget)}
        singles.append(plan_of(settings(layers=layers, structure=structure, target=target), LENET, curves))
        budget /= SIZE_STEP
    largest_first = {plan.saved: plan for plan in reversed(singles)}
    assert tried == [largest_first[saved] for saved in sorted(largest_first, reverse=True)]


def test_sizes_to_try_leave_no_wide_gap() -> None:
    total = sum(layer.entries for layer in LENET)
    sizes = [total - plan.saved for plan in plans_to_try(settings(layers=["fc1", "fc2"], **DROP), LENET)]
    encoded = [size - (total - 58_080) for size in sizes]
    # A step up a ladder may be larger than the step of the budgets, but not by much.
    assert all(larger / smaller < 2 * SIZE_STEP for smaller, larger in pairwise(encoded))


def test_a_structure_that_leaves_no_choice_gives_one_size() -> None:
    assert len(plans_to_try(settings(layers=["fc1"], structure={"depth": 2, "gate_sites": 2}, **DROP), LENET)) == 1


def test_a_plan_for_an_accuracy_is_refused_like_any_other() -> None:
    for wrong, code in ((["fc9"], "layer_not_found"), (["tiny"], "layer_not_eligible")):
        layers = (*LENET, Layer("tiny", "tiny.weight", "linear", (1, 3), False, "too small"))
        with pytest.raises(ProblemError) as raised:
            plan_of(settings(layers=wrong, **DROP), layers)
        assert raised.value.code == code


def test_measurements_decide_where_the_numbers_go() -> None:
    wish = settings(layers=["fc1", "fc2"], target={"parameters": 2000})
    matters, not_so = measured([(100, 5.0), (1500, 0.1)], 10_080), measured([(100, 0.01)], 48_000)

    def size(plan: Plan, name: str) -> int:
        return next(entry.parameters for entry in plan.entries if entry.layer.name == name)

    even = plan_of(wish, LENET)
    informed = plan_of(wish, LENET, {"fc1.weight": not_so, "fc2.weight": matters})
    assert size(informed, "fc2") > size(even, "fc2")
    assert informed.parameters <= 2000


def test_sums_and_single_networks_can_be_chosen() -> None:
    plans = plans_to_try(settings(layers=["fc1"], **DROP), LENET)
    structures = [plan.entries[0].structure for plan in plans]
    assert any(isinstance(structure, Sum) for structure in structures)
    assert any(isinstance(structure, Structure) for structure in structures)


@pytest.mark.parametrize(
    ("values", "measures", "searches"),
    [
        ({}, False, False),
        ({"target": {"ratio": 5.0}}, True, False),
        ({"structure": {}, "target": {"ratio": 5.0}}, False, False),
        (DROP, True, True),
        ({"structure": {"depth": 1}, **DROP}, False, True),
    ],
)
def test_what_is_measured_and_what_is_searched(values: dict[str, Any], measures: bool, searches: bool) -> None:
    assert (is_measured(settings(**values)), is_searched(settings(**values))) == (measures, searches)


def test_a_bisection_takes_no_more_trials_than_its_cap() -> None:
    assert [most_trials(plans, 8) for plans in (1, 2, 3, 4, 31, 32, 10**6)] == [1, 2, 3, 4, 8, 8, 8]
    assert [most_trials(plans, 64) for plans in (1, 3, 4, 31, 32)] == [1, 3, 4, 15, 18]
