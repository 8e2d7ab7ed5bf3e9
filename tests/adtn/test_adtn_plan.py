import json

import pytest
from support.layers import LENET_AND_STEPS, THREE

from adtn.arrangements import brick_wall, staircase
from adtn.errors import PlanError, StructureError
from adtn.layer import Layer, ineligible_reason
from adtn.plan import Plan, PlanEntry, StructureChoice, Target, make_plan, predicted_parameters
from adtn.sites import interleaved, mixed_radix, sites_for
from adtn.structure import Sum


def names(plan: Plan) -> list[str]:
    return [entry.layer.name for entry in plan.entries]


def test_default_structure_is_two_tn_layers_of_two_site_gates() -> None:
    plan = make_plan(LENET_AND_STEPS, THREE)
    assert [entry.structure for entry in plan.entries] == [brick_wall(sites, 2, 2) for sites in (12, 16, 14)]
    assert (plan.original, plan.parameters) == (60480, 996)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["fc*"], ["fc1", "fc2", "fc3"]),
        (["fc2", "fc?", "fc[12]"], ["fc1", "fc2", "fc3"]),
        (["fc1.weight"], ["fc1"]),
        (["*.weight"], ["conv1", "conv2", "fc1", "fc2", "fc3"]),
    ],
)
def test_names_keys_and_globs_choose_layers_once_in_the_models_order(patterns: list[str], expected: list[str]) -> None:
    assert names(make_plan(LENET_AND_STEPS, patterns, StructureChoice(depth=1))) == expected


def test_auto_takes_the_layers_that_are_worth_it() -> None:
    assert names(make_plan(LENET_AND_STEPS)) == ["conv2", "fc1", "fc2"]


def test_an_exact_name_with_glob_characters_is_found() -> None:
    assert names(make_plan([Layer("a[0]", "a[0]", "parameter", (64, 64))], ["a[0]"])) == ["a[0]"]


@pytest.mark.parametrize(
    ("name", "hint"), [("fc11", "did you mean 'fc1'"), ("FC1", "conv1, conv2, fc1"), ("x*", "'x*'")]
)
def test_a_name_that_matches_nothing_is_named_with_the_known_ones(name: str, hint: str) -> None:
    with pytest.raises(PlanError) as raised:
        make_plan(LENET_AND_STEPS, ["fc1", name])
    assert raised.value.code == "layer_not_found"
    assert name in str(raised.value)
    assert hint in str(raised.value)


def test_a_layer_that_cannot_be_encoded_says_why() -> None:
    with pytest.raises(PlanError, match="fewer than 64") as raised:
        make_plan(LENET_AND_STEPS, ["steps"])
    assert raised.value.code == "layer_not_eligible"


def test_a_glob_passes_over_what_cannot_be_encoded() -> None:
    assert names(make_plan(LENET_AND_STEPS, ["*"], StructureChoice(depth=1))) == ["conv1", "conv2", "fc1", "fc2", "fc3"]


def test_a_named_layer_that_would_not_get_smaller_stays_dense_and_is_listed() -> None:
    plan = make_plan(LENET_AND_STEPS, ["conv1", "fc1"], StructureChoice(depth=3, gate_sites=4))
    assert names(plan) == ["fc1"]
    assert [(item.layer.name, "at least as many numbers" in item.reason) for item in plan.skipped] == [("conv1", True)]


def test_nothing_that_gets_smaller_is_an_error() -> None:
    for layers, wanted in ((LENET_AND_STEPS, ["conv1"]), (LENET_AND_STEPS[:1], None), (LENET_AND_STEPS, [])):
        with pytest.raises(PlanError) as raised:
            make_plan(layers, wanted, StructureChoice(depth=8))
        assert raised.value.code == "nothing_to_compress"


@pytest.mark.parametrize("limit", [372, 373, 600, 1300, 2600, 5000, 20000])
def test_a_target_of_parameters_is_met_and_used(limit: int) -> None:
    plan = make_plan(LENET_AND_STEPS, THREE, target=Target(parameters=limit))
    assert plan.parameters <= limit
    assert all(entry.parameters < entry.original for entry in plan.entries)
    # The next step of the least deep layer costs at most this much at these sizes.
    assert plan.parameters > 0.75 * limit or limit > 5000


@pytest.mark.parametrize("ratio", [10, 33.3, 100, 162.5])
def test_a_target_ratio_is_met(ratio: float) -> None:
    plan = make_plan(LENET_AND_STEPS, THREE, target=Target(ratio=ratio))
    assert plan.original / plan.parameters >= ratio


def test_a_larger_target_never_gives_fewer_parameters() -> None:
    sizes = [make_plan(LENET_AND_STEPS, THREE, target=Target(parameters=n)).parameters for n in range(400, 4000, 100)]
    assert sizes == sorted(sizes)


def test_a_target_that_cannot_be_met_says_the_smallest_reachable() -> None:
    with pytest.raises(PlanError, match="smallest reachable is 372 numbers") as raised:
        make_plan(LENET_AND_STEPS, THREE, target=Target(parameters=371))
    assert raised.value.code == "target_unreachable"
    with pytest.raises(PlanError, match=r"a ratio of 162\.58") as raised:
        make_plan(LENET_AND_STEPS, THREE, target=Target(ratio=162.6))
    assert raised.value.code == "target_unreachable"
    make_plan(LENET_AND_STEPS, THREE, target=Target(ratio=162.58))


def test_values_fixed_by_the_user_are_kept_whatever_the_target() -> None:
    plan = make_plan(LENET_AND_STEPS, THREE, StructureChoice(gate_sites=3, activation="tanh"), Target(parameters=3000))
    assert {(entry.structure.gate_sites, entry.structure.activation) for entry in plan.entries} == {(3, "tanh")}
    plan = make_plan(LENET_AND_STEPS, THREE, StructureChoice(depth=1), Target(parameters=2000))
    assert {entry.structure.depth for entry in plan.entries} == {1}
    assert plan.parameters > 372


def test_plan_survives_json() -> None:
    plan = make_plan(LENET_AND_STEPS, ["conv1", "fc1"], StructureChoice(depth=3))
    assert Plan.from_json(plan.to_json()) == plan


def test_a_plan_of_sums_and_reordered_sites_survives_json() -> None:
    layer = make_plan(LENET_AND_STEPS, ["fc1"]).entries[0].layer
    exact = brick_wall(interleaved((120, 400)), 1)
    plan = Plan((PlanEntry(layer, exact), PlanEntry(layer, Sum((exact, staircase(mixed_radix((120, 400))))))))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert plan.parameters == 2 * exact.parameters + staircase(mixed_radix((120, 400))).parameters


@pytest.mark.parametrize("choice", [StructureChoice(), StructureChoice(depth=1), StructureChoice(3, 4, "gelu")])
def test_predicted_parameters_are_those_of_a_plan_without_target(choice: StructureChoice) -> None:
    for entry in make_plan(LENET_AND_STEPS, ["fc*"], choice).entries:
        assert predicted_parameters(entry.layer.shape, choice) == entry.parameters


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(StructureError, match="'swish'"):
        StructureChoice(activation="swish")
    with pytest.raises(StructureError, match="depth"):
        make_plan(LENET_AND_STEPS, THREE, StructureChoice(depth=0))
    for wrong in ({}, {"parameters": 1, "ratio": 2.0}, {"ratio": float("nan")}, {"ratio": -1.0}, {"parameters": 0}):
        with pytest.raises(ValueError, match="target"):
            Target(**wrong)


def test_small_and_whole_number_tensors_are_not_eligible() -> None:
    assert ineligible_reason((7, 9), floating=True) == "it has 63 entries, fewer than 64"
    assert ineligible_reason((8, 8), floating=True) is None
    assert "floating" in str(ineligible_reason((8, 8), floating=False))
    assert sites_for((8, 8)) == 6


def test_a_layer_too_small_for_the_default_depth_gets_one_tn_layer() -> None:
    small = Layer("fc", "fc.weight", "linear", (8, 8))
    (entry,) = make_plan([small], ["fc"]).entries
    assert (entry.structure.depth, entry.parameters) == (1, 44)
    with pytest.raises(PlanError, match="no named layer gets smaller"):
        make_plan([small], ["fc"], StructureChoice(depth=2))
