import math
from itertools import pairwise

import pytest
import torch

import adtn
from adtn.ladder import LOW_RANK_RATIO, MAX_GATE_ROWS, STEP, ladder
from adtn.structure import Sum

SHAPES = [(8, 8), (64,), (16, 6, 5, 5), (120, 400), (84, 120), (1, 997), (997, 64), (50257, 32), (512, 512, 3, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rungs_hold_the_weight_in_fewer_numbers_each_more_than_the_last(shape: tuple[int, ...]) -> None:
    rungs = ladder(shape)
    sizes = [rung.parameters for rung in rungs]
    assert rungs
    assert all(rung.size >= math.prod(shape) > rung.parameters for rung in rungs)
    assert all(larger >= STEP * smaller for smaller, larger in pairwise(sizes))


def test_a_ladder_has_sites_of_the_weights_own_shape_and_sums() -> None:
    rungs = ladder((120, 400))
    assert any(rung.size == 120 * 400 for rung in rungs)
    assert any(isinstance(rung, Sum) for rung in rungs)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_network_of_several_tn_layers_has_wide_gates(shape: tuple[int, ...]) -> None:
    deep = [rung for rung in ladder(shape) if rung.depth > 1]
    assert all(gate.out <= MAX_GATE_ROWS for rung in deep for gate in rung.gates)


@pytest.mark.parametrize(
    "shape", [(120, 400), (512, 512, 3, 3), (4096, 4096), (4096, 25088), (30522, 768), (997, 1009)], ids=str
)
def test_a_ladder_has_a_rung_for_every_ratio_down_to_two(shape: tuple[int, ...]) -> None:
    """A user who asks for half, or a tenth, of a large weight gets about that."""
    entries = math.prod(shape)
    sizes = [rung.parameters for rung in ladder(shape)]
    assert entries / sizes[-1] < 2
    assert all(larger < 2 * smaller for smaller, larger in pairwise(sizes) if smaller > 1000)


@pytest.mark.parametrize("shape", [(120, 400), (64, 3, 7, 7), (96, 250)], ids=str)
def test_close_to_the_dense_size_rungs_are_fitted_as_well_as_any_matrix_of_their_rank(shape: tuple[int, ...]) -> None:
    """Eckart and Young: the rest of the singular values is the least error."""
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=torch.Generator().manual_seed(0)).flatten(1), False)
    weight = (u / (1 + torch.arange(len(v)) / 10) @ v).view(shape)  # like trained ones, with falling singular values
    rows, columns = shape[0], math.prod(shape[1:])
    products = [rung for rung in ladder(shape) if all(len(term.gates) == 2 for term in rung.terms)]
    close = [rung for rung in products if LOW_RANK_RATIO * rung.parameters >= rows * columns]
    assert len(close) >= 4
    for rung in (close[0], close[-1]):
        rank = rung.parameters // (rows + columns)
        assert rung.parameters == rank * (rows + columns)
        values = torch.linalg.svdvals(weight.flatten(1).double())
        least = float(values[rank:].square().sum().sqrt() / values.norm())
        assert least <= adtn.fit(weight, rung, adtn.FitOptions(steps=200)).relative_error < 1.03 * least


def test_a_weight_that_no_structure_makes_smaller_has_no_rung() -> None:
    assert ladder((2, 2)) == []


def test_a_ladder_may_be_changed_without_harm() -> None:
    ladder((8, 8)).clear()
    assert ladder((8, 8))
