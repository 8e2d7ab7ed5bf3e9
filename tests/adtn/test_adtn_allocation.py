import itertools
import math
from dataclasses import replace

import pytest
import torch
from support.layers import LENET_AND_STEPS, THREE

from adtn.allocation import STAYS_DENSE, allocate, by_default
from adtn.candidates import Candidates, candidates
from adtn.curve import Curve, measured
from adtn.errors import PlanError
from adtn.ladder import ladder
from adtn.layer import Layer
from adtn.module import ADTN
from adtn.plan import AUTO_MIN_RATIO, Plan, Target
from adtn.storing import stored_bytes

TWINS = (Layer("a", "a.weight", "linear", (64, 64)), Layer("b", "b.weight", "linear", (64, 64)))


def sizes(plan: Plan) -> dict[str, int]:
    return {entry.layer.name: entry.parameters for entry in plan.entries}


def stored(plan: Plan, found: Candidates) -> int:
    """Numbers of all candidates, dense ones included."""
    return found.original - plan.saved


@pytest.mark.parametrize("names", [THREE, None], ids=["named", "auto"])
@pytest.mark.parametrize("limit", [372, 500, 1300, 2600, 10_000])
def test_a_target_is_met_and_used(limit: int, names: list[str] | None) -> None:
    found = candidates(LENET_AND_STEPS, names)
    plan = allocate(found, Target(parameters=limit))
    assert stored(plan, found) <= limit
    assert stored(plan, found) > 0.7 * limit


def test_a_layer_that_nobody_named_stays_dense_rather_than_become_a_little_smaller() -> None:
    """A budget that the dense model meets: 32,008 numbers for 32,768 would cost accuracy and save next to nothing."""
    found = candidates(LENET_AND_STEPS)
    plan = allocate(found, Target(parameters=10**9))
    assert plan.entries
    assert all(2 * entry.parameters <= entry.original for entry in plan.entries)


@pytest.mark.parametrize("ratio", [1.5, 10, 33.3, 100])
def test_a_ratio_is_met_also_by_the_encoded_layers_alone(ratio: float) -> None:
    plan = allocate(candidates(LENET_AND_STEPS), Target(ratio=ratio))
    assert plan.original / plan.parameters >= ratio


def test_without_a_target_each_layer_has_about_the_numbers_of_two_tn_layers_of_the_paper() -> None:
    """That is 32 (Q - 1) for 2^Q entries."""
    found = candidates(LENET_AND_STEPS, THREE)
    plan = by_default(found)
    assert [entry.layer for entry in plan.entries] == [item.layer for item in found.items]
    for entry in plan.entries:
        most = 32 * (math.ceil(math.log2(entry.original)) - 1)
        assert most / 2 < entry.parameters <= most  # rungs are less than a factor of 2 apart
        assert entry.structure in ladder(entry.layer.shape)


def test_without_a_target_a_small_layer_gets_the_least_it_can() -> None:
    layer = Layer("a", "a.weight", "linear", (4, 8))
    (entry,) = by_default(candidates([layer], ["a"])).entries
    assert entry.structure == ladder((4, 8))[-1]
    assert entry.parameters < 32


def test_numbers_go_to_the_layer_that_matters() -> None:
    found = candidates(TWINS, ["a", "b"])
    curves = {"a.weight": measured([(100, 5.0), (1000, 0.5)], 4096), "b.weight": measured([(100, 0.01)], 4096)}
    plan = sizes(allocate(found, Target(parameters=1200), curves))
    assert plan["a"] > 2.5 * plan["b"]


@pytest.mark.parametrize("names", [["*"], None], ids=["named", "auto"])
def test_layers_that_are_alike_get_the_same_in_whatever_order_a_file_has_them(names: list[str] | None) -> None:
    layers = [Layer(f"l{i}", f"l{i}.weight", "linear", (64, 64)) for i in (2, 10, 1)]
    unequal = False
    for limit in range(300, 12_000, 450):
        target = Target(parameters=limit)
        first, second = (
            allocate(candidates(order, names), target)
            for order in (layers, sorted(layers, key=lambda layer: layer.key))
        )
        assert sizes(first) == sizes(second)
        assert [entry.layer for entry in first.entries] == [layer for layer in layers if layer.name in sizes(first)]
        unequal = unequal or len(set(sizes(first).values())) > 1
    assert unequal


def test_without_measurements_equal_layers_get_equal_numbers() -> None:
    plan = sizes(allocate(candidates(TWINS, ["a", "b"]), Target(parameters=1200)))
    assert max(plan.values()) < 1.5 * min(plan.values())


def test_on_curves_that_flatten_no_other_choice_loses_much_less() -> None:
    found = candidates(TWINS, ["a", "b"])
    curves = {
        "a.weight": measured([(100, 3.0), (300, 1.0), (900, 0.3)], 4096),
        "b.weight": measured([(100, 1.0), (300, 0.4), (900, 0.2)], 4096),
    }
    for limit in (400, 700, 1000, 2000):
        plan = allocate(found, Target(parameters=limit), curves)
        loss = sum(curves[entry.layer.key].at(entry.parameters) for entry in plan.entries)
        best = min(
            curves["a.weight"].at(a.parameters) + curves["b.weight"].at(b.parameters)
            for a, b in itertools.product(*(item.rungs for item in found.items))
            if a.parameters + b.parameters <= limit
        )
        assert loss <= 1.25 * best


def test_where_nothing_more_is_gained_the_target_is_used_all_the_same() -> None:
    flat = {"a.weight": Curve(((1, 0.0),)), "b.weight": Curve(((1, 0.0),))}
    assert allocate(candidates(TWINS, ["a", "b"]), Target(parameters=2000), flat).parameters > 1400


def test_a_layer_that_costs_more_than_it_saves_stays_dense_and_says_so() -> None:
    found = candidates(TWINS)
    curves = {"a.weight": measured([(100, 50.0), (2000, 49.0)], 4096), "b.weight": measured([(100, 0.01)], 4096)}
    plan = allocate(found, Target(parameters=4500), curves)
    assert list(sizes(plan)) == ["b"]
    assert [(item.layer.name, item.reason) for item in plan.skipped] == [("a", STAYS_DENSE)]
    assert stored(plan, found) <= 4500


def test_a_named_layer_is_encoded_whatever_it_costs() -> None:
    curves = {"a.weight": measured([(100, 50.0)], 4096), "b.weight": measured([(100, 0.01)], 4096)}
    assert set(sizes(allocate(candidates(TWINS, ["a", "b"]), Target(parameters=6000), curves))) == {"a", "b"}


def test_room_for_everything_encodes_something_all_the_same() -> None:
    found = candidates(LENET_AND_STEPS)
    plans = [allocate(found, Target(parameters=limit)) for limit in (found.original - 1, found.original, 10**6)]
    assert sizes(plans[0]) == sizes(plans[1]) == sizes(plans[2])
    assert plans[0].entries
    assert all(entry.parameters < entry.original for entry in plans[0].entries)


def test_more_room_never_makes_the_expected_loss_larger() -> None:
    found = candidates(LENET_AND_STEPS)
    curves = {
        "conv2.weight": measured([(100, 0.5), (1000, 0.1)], 2400),
        "fc1.weight": measured([(500, 9.0), (5000, 5.0), (20_000, 3.0)], 48_000),
        "fc2.weight": measured([(300, 0.5), (3000, 0.2)], 10_080),
    }

    def loss(limit: int) -> float:
        plan = allocate(found, Target(parameters=limit), curves)
        return sum(curves[entry.layer.key].at(entry.parameters) for entry in plan.entries)

    losses = [loss(limit) for limit in (2000, 8000, 20_000, 40_000, 50_000, 56_000, 60_000, 60_479, 60_480, 10**6)]
    assert losses == sorted(losses, reverse=True)
    options = [
        [(item.layer.entries, 0.0)]
        + [
            (rung.parameters, curves[item.layer.key].at(rung.parameters))
            for rung in item.rungs
            if AUTO_MIN_RATIO * rung.parameters <= item.layer.entries
        ]
        for item in found.items
    ]
    for limit in (40_000, 50_000, 56_000, 60_000):
        fitting = [chosen for chosen in itertools.product(*options) if sum(size for size, _ in chosen) <= limit]
        assert loss(limit) <= 1.1 * min(sum(lost for _, lost in chosen) for chosen in fitting)


def test_auto_says_of_every_other_layer_why_it_stays_dense() -> None:
    reasons = {item.layer.name: item.reason for item in candidates(LENET_AND_STEPS).skipped}
    assert set(reasons) == {"conv1", "fc3", "steps"}
    assert "fewer than 2000 entries" in reasons["fc3"]
    assert "fewer than 64" in reasons["steps"]


def test_a_named_layer_that_cannot_get_smaller_is_skipped() -> None:
    tiny = Layer("tiny", "tiny.weight", "linear", (2, 33))
    found = candidates((*LENET_AND_STEPS, Layer("odd", "odd.weight", "linear", (2, 2), True)), ["odd", "fc1"])
    assert [item.layer.name for item in found.items] == ["fc1"]
    assert [item.layer.name for item in found.skipped] == ["odd"]
    assert candidates([tiny], ["tiny"]).items


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_structure_to_choose_from_makes_the_file_smaller(dtype: torch.dtype) -> None:
    shape = (16, 16)
    name = str(dtype).removeprefix("torch.")
    (item,) = candidates([Layer("fc", "fc.weight", "linear", shape, dtype=name)], ["fc"]).items
    dense = torch.empty(shape, dtype=dtype).nbytes
    smaller = [rung for rung in ladder(shape) if stored_bytes(ADTN(shape, rung, dtype=dtype)) < dense]
    assert list(item.rungs) == smaller


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_layer_of_half_precision_that_would_take_more_bytes_says_so(dtype: str) -> None:
    # Of 16 entries; the smallest structure has 8 numbers: 32 bytes, as many as in half precision the entries.
    small = Layer("small", "small.weight", "linear", (4, 4))
    assert candidates([small], ["small"]).items
    found = candidates([replace(small, dtype=dtype), *TWINS], ["small", "a"])
    assert [item.layer.name for item in found.items] == ["a"]
    assert [item.layer.name for item in found.skipped] == ["small"]
    assert "at least as many bytes as the dense weight" in found.skipped[0].reason


@pytest.mark.parametrize(
    ("layers", "names", "code"),
    [
        (LENET_AND_STEPS, ["fc9"], "layer_not_found"),
        (LENET_AND_STEPS, ["steps"], "layer_not_eligible"),
        (LENET_AND_STEPS[:1], None, "nothing_to_compress"),
        ([Layer("odd", "odd.weight", "linear", (2, 2))], ["odd"], "nothing_to_compress"),
    ],
)
def test_what_cannot_be_encoded_is_refused(layers: list[Layer], names: list[str] | None, code: str) -> None:
    with pytest.raises(PlanError) as raised:
        candidates(layers, names)
    assert raised.value.code == code


def test_a_target_out_of_reach_says_what_can_be_reached() -> None:
    found = candidates(LENET_AND_STEPS, THREE)
    with pytest.raises(PlanError, match=f"smallest reachable is {found.smallest} numbers") as raised:
        allocate(found, Target(parameters=found.smallest - 1))
    assert raised.value.code == "target_unreachable"
    assert allocate(found, Target(parameters=found.smallest)).parameters == found.smallest
