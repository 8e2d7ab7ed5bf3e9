import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adtn.arrangements import brick_wall
from adtn.structure import Span, Structure
from adtn.windows import MAX_WIDTH, Rotation, Window, group_gates, steps_of


def windows_of(structure: Structure) -> list[list[Window]]:
    return [[step for step in steps if isinstance(step, Window)] for steps in steps_of(structure)]


def test_two_site_brick_wall_is_swept_in_windows_that_share_one_site() -> None:
    groups = group_gates(brick_wall(24, 1).tn_layers[0], (2,) * 24)
    assert [(g.start, g.stop) for g in groups] == [(0, 4), (3, 8), (7, 12), (11, 16), (15, 20), (19, 24)]


@pytest.mark.parametrize("sites", range(2, 27))
def test_two_site_brick_wall_needs_no_copy_between_windows(sites: int) -> None:
    assert not any(isinstance(step, Rotation) for steps in steps_of(brick_wall(sites, 2)) for step in steps)


def test_interior_windows_have_one_pattern_in_every_tn_layer_but_the_first() -> None:
    second, third = windows_of(brick_wall(24, 3))[1:]
    assert len({window.pattern for window in second[1:] + third[1:]}) == 1


def test_first_tn_layer_starts_from_sites_of_dimension_one() -> None:
    first = windows_of(brick_wall(16, 1))[0]
    assert [(w.into, w.done * w.keep) for w in first] == [(1, 16), (2, 32), (2, 32), (2, 32)]


def test_a_gate_wider_than_a_window_stands_alone() -> None:
    structure = Structure((2,) * 9, (((0, 2), (1, 9), (0, 2)),))
    assert [w.gates for w in windows_of(structure)[0]] == [(0,), (1,), (2,)]


def test_a_gap_is_bridged_by_a_rotation_and_the_order_restored() -> None:
    structure = Structure((2,) * 9, (((0, 9),), ((6, 8),)))
    steps = steps_of(structure)[1]
    assert [type(step) for step in steps] == [Rotation, Window, Rotation]
    assert [step.front for step in steps if isinstance(step, Rotation)] == [2**6, 2]


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
    groups = group_gates(spans, dims)
    order = [gate for group in groups for gate in group.gates]
    assert sorted(order) == list(range(len(spans)))
    for i, j in combinations(range(len(spans)), 2):
        if spans[i][0] < spans[j][1] and spans[j][0] < spans[i][1]:
            assert order.index(i) < order.index(j)


@given(tn_layers())
def test_a_window_is_no_wider_than_allowed_unless_it_holds_one_gate(
    layer: tuple[tuple[Span, ...], tuple[int, ...]],
) -> None:
    spans, dims = layer
    for group in group_gates(spans, dims):
        assert all(group.start <= spans[i][0] and spans[i][1] <= group.stop for i in group.gates)
        assert len(group.gates) == 1 or math.prod(dims[group.start : group.stop]) <= MAX_WIDTH
