import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adtn.arrangements import brick_wall
from adtn.passes import Pass, balanced_passes, group_gates, passes_of
from adtn.structure import Span, Structure


def passes(structure: Structure, width: int) -> tuple[Pass, ...]:
    return passes_of(structure.dims, structure.tn_layers, width)


def test_two_site_brick_wall_is_swept_in_windows_that_share_one_site() -> None:
    spans = brick_wall(24, 1).tn_layers[0]
    windows = [[spans[i] for i in group] for group in group_gates(spans, (2,) * 24, 32)]
    assert [(min(w)[0], max(w)[1]) for w in windows] == [(0, 4), (3, 8), (7, 12), (11, 16), (15, 20), (19, 24)]


@pytest.mark.parametrize("sites", range(18, 25))
def test_a_tn_layer_of_up_to_24_binary_sites_takes_two_passes_of_windows_of_8192(sites: int) -> None:
    assert len(passes(brick_wall(sites, 3), 8192)) == 3 * 2


def test_the_first_tn_layer_grows_the_tensor_from_a_single_number() -> None:
    first = passes(brick_wall(16, 1), 32)
    assert [(p.entries_before, p.entries_after) for p in first] == [(1, 16), (16, 256), (256, 4096), (4096, 65536)]


def test_only_the_first_pass_of_a_later_tn_layer_applies_the_activation() -> None:
    activate = [p.activate for p in passes(brick_wall(10, 3), 32)]
    assert activate == [False, False, False, True, False, False, True, False, False]


def test_numbers_of_the_gates_follow_each_other_in_the_order_of_the_structure() -> None:
    structure = brick_wall(11, 2, 3)
    gates = sorted((g for p in passes(structure, 64) for g in p.gates), key=lambda g: g.start)
    assert [(g.out, g.into) for g in gates] == list(structure.gate_shapes)
    assert [g.start for g in gates] == [sum(g.out * g.into for g in gates[:i]) for i in range(len(gates))]


def test_a_gate_wider_than_a_window_has_a_pass_of_its_own() -> None:
    structure = Structure((2,) * 9, (((0, 2), (1, 9), (0, 2)),))
    assert [[g.out for g in p.gates] for p in passes(structure, 32)] == [[4], [256], [4]]


def test_balanced_windows_are_as_few_and_narrower() -> None:
    structure = brick_wall(20, 2)
    greedy = passes(structure, 2**13)
    balanced = balanced_passes(structure.dims, structure.tn_layers, 2**13)
    assert len(balanced) == len(greedy)
    assert max(p.after for p in balanced) == 2**11 < max(p.after for p in greedy)


@st.composite
def tn_layers(draw: st.DrawFn) -> tuple[tuple[Span, ...], tuple[int, ...]]:
    """A TN layer of gates anywhere, and the dimension of each site."""
    dims = tuple(draw(st.lists(st.integers(2, 5), min_size=1, max_size=9)))
    spans = st.integers(0, len(dims) - 1).flatmap(
        lambda start: st.integers(start + 1, len(dims)).map(lambda stop: (start, stop))
    )
    return tuple(draw(st.lists(spans, min_size=1, max_size=14))), dims


@given(tn_layers())
def test_grouping_keeps_every_gate_once_and_overlapping_gates_in_order(
    layer: tuple[tuple[Span, ...], tuple[int, ...]],
) -> None:
    spans, dims = layer
    order = [gate for group in group_gates(spans, dims, 32) for gate in group]
    assert sorted(order) == list(range(len(spans)))
    for i, j in combinations(range(len(spans)), 2):
        if spans[i][0] < spans[j][1] and spans[j][0] < spans[i][1]:
            assert order.index(i) < order.index(j)


@given(tn_layers())
def test_a_window_is_no_wider_than_allowed_unless_it_holds_one_gate(
    layer: tuple[tuple[Span, ...], tuple[int, ...]],
) -> None:
    spans, dims = layer
    for group in group_gates(spans, dims, 32):
        start, stop = min(spans[i][0] for i in group), max(spans[i][1] for i in group)
        assert len(group) == 1 or math.prod(dims[start:stop]) <= 32
