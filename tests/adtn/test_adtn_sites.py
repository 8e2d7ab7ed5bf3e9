import doctest
import math

import pytest

import adtn.sites
from adtn.errors import StructureError
from adtn.sites import Sites, as_sites, interleaved, mixed_radix, sites_for
from adtn.structure import Structure


def test_the_examples_in_the_docstrings_are_right() -> None:
    assert doctest.testmod(adtn.sites) == (0, 3)


@pytest.mark.parametrize(
    ("shape", "sites"),
    [((1,), 1), ((2,), 1), ((3,), 2), ((120, 400), 16), ((16, 6, 5, 5), 12), ((2**20,), 20), ((), 1)],
)
def test_sites_for_is_the_fewest_binary_sites_that_hold_the_shape(shape: tuple[int, ...], sites: int) -> None:
    assert sites_for(shape) == sites


def test_a_shape_without_entries_is_refused() -> None:
    with pytest.raises(StructureError, match="at least one entry"):
        sites_for((3, 0))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (3, Sites((2, 2, 2))),
        ([2, 5], Sites((2, 5))),
        ((2, 5), Sites((2, 5))),
        (Sites((2, 5), (1, 0)), Sites((2, 5), (1, 0))),
    ],
)
def test_sites_are_a_number_dimensions_or_dimensions_and_order(given: int | list | Sites, expected: Sites) -> None:
    assert as_sites(given) == expected


@pytest.mark.parametrize("given", [0, (), Sites(())])
def test_no_sites_are_refused(given: int | tuple | Sites) -> None:
    with pytest.raises(StructureError, match="sites: expected at least 1, got 0"):
        as_sites(given)


@pytest.mark.parametrize(
    ("shape", "largest", "dims"),
    [
        ((120, 400), 2, (5, 3, 2, 2, 2, 5, 5, 2, 2, 2, 2)),
        ((120, 400), 8, (5, 6, 4, 5, 5, 8, 2)),
        ((120, 400), 500, (120, 400)),
        ((16, 6, 5, 5), 4, (4, 4, 3, 2, 5, 5)),
        ((1, 7, 1), 2, (7,)),
        ((1009, 4), 4, (1009, 4)),
    ],
)
def test_mixed_radix_splits_each_axis_into_its_prime_factors(
    shape: tuple[int, ...], largest: int, dims: tuple[int, ...]
) -> None:
    assert mixed_radix(shape, largest) == Sites(dims)
    assert math.prod(dims) == math.prod(shape)


@pytest.mark.parametrize(
    ("shape", "dims", "order"),
    [
        ((4, 4), (2, 2, 2, 2), (0, 2, 1, 3)),
        ((9, 4), (3, 2, 3, 2), (0, 2, 1, 3)),
        ((2, 3, 5, 7), (3, 2, 5, 7), (1, 0, 2, 3)),  # one row site in the middle of three column sites
        ((2, 49), (7, 2, 7), (1, 0, 2)),
        ((30,), (5, 3, 2), (0, 1, 2)),
        ((1, 6), (3, 2), (0, 1)),
    ],
)
def test_interleaved_alternates_rows_and_columns(
    shape: tuple[int, ...], dims: tuple[int, ...], order: tuple[int, ...]
) -> None:
    assert interleaved(shape) == Sites(dims, order)


@pytest.mark.parametrize("shape", [(120, 400), (84, 120), (16, 6, 5, 5), (10, 84), (7,), (1, 6), (512, 3, 3, 3)])
@pytest.mark.parametrize("largest", [2, 4, 10])
def test_interleaved_sites_contract_to_the_layout_of_the_weight_without_padding(
    shape: tuple[int, ...], largest: int
) -> None:
    sites = interleaved(shape, largest)
    structure = Structure(sites.dims, (((0, len(sites.dims)),),), "none", sites.order)
    assert structure.shape == mixed_radix(shape, largest).dims
    assert structure.size == math.prod(shape)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (3, 0), (-2, -3)])
def test_a_shape_without_two_entries_is_refused(shape: tuple[int, ...]) -> None:
    for function in (mixed_radix, interleaved):
        with pytest.raises(StructureError, match="shape: expected positive numbers and at least two entries, got"):
            function(shape)


def test_a_largest_dimension_below_two_is_refused() -> None:
    for function in (mixed_radix, interleaved):
        with pytest.raises(StructureError, match="largest: expected at least 2, got 1"):
            function((4, 4), 1)
