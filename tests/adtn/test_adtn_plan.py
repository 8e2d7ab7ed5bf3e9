import json
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.layers import LENET_AND_STEPS, THREE

from adtn.arrangements import brick_wall, staircase
from adtn.candidates import candidates
from adtn.errors import PlanError, StructureError
from adtn.growth import larger, smallest
from adtn.layer import Layer, ineligible_reason
from adtn.plan import Plan, PlanEntry, StructureChoice, Target, make_plan, predicted_parameters
from adtn.selection import named_layers
from adtn.sites import interleaved, mixed_radix, sites_for
from adtn.structure import Sum

HALF = ["float16", "bfloat16"]
IN_BYTES = "counted as 4 bytes for each number of the gates, in however many bits, and 2 for each entry of the weight"


def square(size: int, dtype: str = "float32") -> Layer:
    return Layer("fc", "fc.weight", "linear", (size, size), dtype=dtype)


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


@pytest.mark.parametrize("target", [None, Target(parameters=2000)], ids=str)
@pytest.mark.parametrize("choice", [None, StructureChoice(depth=1)], ids=str)
def test_auto_says_of_every_other_layer_why_it_stays_dense(
    choice: StructureChoice | None, target: Target | None
) -> None:
    plan = make_plan(LENET_AND_STEPS, None, choice, target)
    assert names(plan) == THREE
    assert [(item.layer.name, item.reason) for item in plan.skipped] == [
        ("conv1", "it has fewer than 2000 entries, which would cost accuracy and save little"),
        ("fc3", "it has fewer than 2000 entries, which would cost accuracy and save little"),
        ("steps", "it has 16 entries, fewer than 64"),
    ]
    assert plan.skipped == candidates(LENET_AND_STEPS).skipped


def test_auto_says_of_which_layers_the_structure_asked_for_saves_too_little() -> None:
    # 1,168 numbers for 2,304 entries, and 1,872 for 48,000.
    layers = [square(48), Layer("fc1", "fc1.weight", "linear", (120, 400))]
    plan = make_plan(layers, None, StructureChoice(depth=3, gate_sites=3))
    assert names(plan) == ["fc1"]
    (skipped,) = plan.skipped
    assert (skipped.layer.name, skipped.reason) == ("fc", "no structure allowed makes it more than 2 times smaller")


@pytest.mark.parametrize(
    ("patterns", "encoded"),
    [
        (["*"], ["conv1", "conv2", "fc1", "fc2", "fc3"]),
        (["fc1", "s*", "*2"], ["conv2", "fc1", "fc2"]),
        (["*", ["fc1", "fc2"]], ["conv1", "conv2", "fc1 + fc2", "fc3"]),
        ([["fc1", "*e*", "*2"]], ["conv1 + conv2 + fc1 + fc2 + fc3"]),
    ],
)
def test_what_a_pattern_means_and_cannot_be_encoded_is_listed(
    patterns: list[str | Sequence[str]], encoded: list[str]
) -> None:
    layers = (*LENET_AND_STEPS, Layer("s2", "s2", "parameter", (8, 8)))
    plan = make_plan(layers, patterns, StructureChoice(depth=1))
    found = candidates(layers, patterns)
    for listed in (names(plan), [item.layer.name for item in found.items]):
        assert [name.removesuffix(" + s2") for name in listed if name != "s2"] == encoded
    for skipped in (plan.skipped, found.skipped):
        assert [(item.layer.name, item.reason) for item in skipped] == [("steps", "it has 16 entries, fewer than 64")]


@pytest.mark.parametrize("wanted", [["*", "steps"], ["*", ["fc1", "steps"]], ["ste*"]], ids=str)
def test_what_is_named_and_cannot_be_encoded_is_an_error_beside_any_pattern(wanted: list[str | list[str]]) -> None:
    with pytest.raises(PlanError, match="fewer than 64") as raised:
        make_plan(LENET_AND_STEPS, wanted)
    assert raised.value.code == "layer_not_eligible"


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


@pytest.mark.parametrize("dtype", HALF)
def test_a_layer_of_half_precision_gets_smaller_in_bytes(dtype: str) -> None:
    # Of 256 entries. Two TN layers have 176 numbers: 704 bytes for 512. One has 64.
    assert make_plan([square(16)], ["fc"]).parameters == 176
    assert make_plan([square(16, dtype)], ["fc"]).parameters == 64
    assert 64 <= make_plan([square(16, dtype)], ["fc"], target=Target(parameters=10**6)).parameters < 128
    with pytest.raises(PlanError, match=f"no named layer gets smaller .*{IN_BYTES}"):
        make_plan([square(16, dtype)], ["fc"], StructureChoice(depth=2))


def test_a_layer_of_double_precision_has_gates_of_its_own_size() -> None:
    assert make_plan([square(16, "float64")], ["fc"]).parameters == 176


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_the_reason_given(dtype: str) -> None:
    large = Layer("large", "large.weight", "linear", (120, 400))
    plan = make_plan([square(16, dtype), large], ["*"], StructureChoice(depth=2))
    assert [item.reason for item in plan.skipped] == [
        f"its smallest structure takes at least as many bytes as the dense weight: {IN_BYTES}"
    ]
    # 704 numbers for 2,304 entries: 2,816 bytes for 4,608.
    wish = StructureChoice(depth=2, gate_sites=3)
    assert names(make_plan([square(48), large], None, wish)) == ["fc", "large"]
    plan = make_plan([square(48, dtype), large], None, wish)
    assert [item.reason for item in plan.skipped] == [
        f"no structure allowed makes it more than 2 times smaller: {IN_BYTES}"
    ]
    assert names(make_plan([square(48, dtype), large], ["fc", "large"], wish)) == ["fc", "large"]


def plan_of_two(first: str, second: str) -> Plan:
    """One group of two weights with 256 entries each, in these dtypes, and as many numbers as make it smaller."""
    layers = [replace(square(16, dtype), name=name, key=name) for name, dtype in (("a", first), ("b", second))]
    return make_plan(layers, [["a", "b"]], StructureChoice(gate_sites=2), Target(parameters=10**6))


def test_a_group_counts_with_the_bytes_of_its_weights() -> None:
    # 1, 2, 3 and 4 TN layers have 72, 200, 328 and 456 numbers.
    numbers = {dtype: plan_of_two(dtype, dtype).parameters for dtype in ("float64", "float32", "float16", "bfloat16")}
    assert numbers == {"float64": 456, "float32": 456, "float16": 200, "bfloat16": 200}


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float32", "float16"), ("bfloat16", "float16")])
def test_weights_of_several_dtypes_are_no_group(dtypes: tuple[str, str]) -> None:
    """One network decodes to one dtype, and each weight is to have its own again."""
    with pytest.raises(PlanError, match=f"one dtype in a group, got {dtypes[0]} and {dtypes[1]} with 'a'") as raised:
        plan_of_two(*dtypes)
    assert raised.value.code == "group_invalid"


def test_layers_stored_before_dtypes_were_carried_are_of_single_precision() -> None:
    layer = square(16, "bfloat16")
    assert Layer.from_json(json.loads(json.dumps(layer.to_json()))) == layer
    stored = {key: value for key, value in layer.to_json().items() if key != "dtype"}
    assert Layer.from_json(stored) == square(16, "float32")


def test_a_plan_grows_the_layers_evenly() -> None:
    """Against the rule itself: of the layers that grew the fewest times, the one that is stored best comes next."""
    shapes = [(16, 16), (32, 8), (24, 50), (64, 64), (10, 30), (16, 16)] * 3
    layers = [Layer(f"l{i}", f"l{i}.weight", "linear", shape) for i, shape in enumerate(shapes)]
    for limit in (1400, 2000, 4000, 10**6):
        sizes = [smallest(StructureChoice())] * len(layers)
        numbers = [own.structure(layer.shape).parameters for own, layer in zip(sizes, layers, strict=True)]
        steps, growing = [0] * len(layers), set(range(len(layers)))
        while growing:
            i = min(growing, key=lambda k: (steps[k], numbers[k] / layers[k].entries, layers[k].key))
            grown = larger(sizes[i], StructureChoice(), layers[i].shape)
            count = grown.structure(layers[i].shape).parameters if grown else math.inf
            if grown is None or count >= layers[i].entries or sum(numbers) - numbers[i] + count > limit:
                growing.remove(i)
            else:
                sizes[i], numbers[i], steps[i] = grown, int(count), steps[i] + 1
        plan = make_plan(layers, ["l*"], StructureChoice(), Target(parameters=limit))
        assert [entry.structure.parameters for entry in plan.entries] == numbers
        assert plan.parameters <= limit


def test_wider_gates_come_in_as_few_tn_layers_as_make_the_structure_larger() -> None:
    """So that sizes are close, and little of a target is left unused."""
    shape = (120, 400)
    choice = smallest(StructureChoice())
    seen = [choice]
    while (grown := larger(choice, StructureChoice(), shape)) is not None:
        choice = grown
        seen.append(choice)
    depths = [[own.depth for own in seen if own.gate_sites == sites] for sites in (2, 3, 4)]
    assert depths == [[*range(1, 9)], [*range(4, 9)], [*range(4, 9)]]
    numbers = [own.structure(shape).parameters for own in seen]
    assert numbers == sorted(set(numbers))
    for own, fewest in ((StructureChoice(3, 3), numbers[7]), (StructureChoice(3, 4), numbers[12])):
        assert own.structure(shape).parameters <= fewest  # one TN layer less would not be larger
    fixed = StructureChoice(depth=8)
    assert larger(StructureChoice(8, 2), fixed, shape) == StructureChoice(8, 3)


def test_layers_that_are_alike_grow_in_an_order_that_does_not_depend_on_the_files() -> None:
    """Of two orders of the same layers the same ones get more: a file has them sorted, a model does not."""
    layers = [Layer(f"l{i}", f"l{i}.weight", "linear", (64, 64)) for i in (2, 10, 1)]
    found = [
        {entry.layer.key: entry.parameters for entry in make_plan(order, None, StructureChoice(), target).entries}
        for target in (Target(parameters=limit) for limit in range(600, 1500, 100))
        for order in (layers, sorted(layers, key=lambda layer: layer.key))
    ]
    assert found[::2] == found[1::2]
    assert any(len(set(sizes.values())) > 1 for sizes in found)


def test_layers_are_found_by_name_and_by_key() -> None:
    layers = [
        Layer("a", "a.weight", "linear", (64, 64)),
        Layer("b", "a", "linear", (64, 64)),
        Layer("[c]", "[c]", "linear", (64, 64)),
        Layer("c", "c", "linear", (64, 64)),
    ]
    assert [layer.key for layer in named_layers(layers, ["a"])] == ["a.weight", "a"]
    assert [layer.key for layer in named_layers(layers, ["[c]"])] == ["[c]", "c"]
    assert [layer.key for layer in named_layers(layers, ["c", "a.weight"])] == ["a.weight", "c"]
    (group,) = named_layers(layers, [["c", "a.weight"]])
    assert [layer.key for layer in group.weights] == ["a.weight", "c"]
