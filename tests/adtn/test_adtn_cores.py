import math
from itertools import product

import pytest

from adtn.cores import Cores, core_splits, enclosing_matrix, factorisations, possible_bonds

MATRICES = [(16, 150), (84, 120), (4096, 4096), (997, 64), (1, 12), (10, 7)]


@pytest.mark.parametrize("number", [1, 2, 12, 30, 97])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_factorisations_are_all_tuples_with_that_product(number: int, count: int) -> None:
    every = {factors for factors in product(range(1, number + 1), repeat=count) if math.prod(factors) == number}
    found = list(factorisations(number, count))
    assert set(found) == every
    assert len(found) == len(every)


@pytest.mark.parametrize(("rows", "columns"), MATRICES)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_cores_multiply_to_the_matrix_and_none_is_empty(rows: int, columns: int, count: int) -> None:
    for cores in core_splits(rows, columns, count, 8):
        assert len(cores.rows) == len(cores.columns) == count
        assert (math.prod(cores.rows), math.prod(cores.columns)) == (rows, columns)
        assert min(cores.sizes) > 1


def test_a_matrix_with_too_few_factors_has_no_such_cores() -> None:
    assert core_splits(7, 5, 3, 8) == []


def test_the_best_cores_are_of_one_size_and_in_the_matrixs_proportions() -> None:
    assert core_splits(4096, 4096, 3, 1) == [Cores((16, 16, 16), (16, 16, 16))]
    assert core_splits(64, 64, 2, 1) == [Cores((8, 8), (8, 8))]


@pytest.mark.parametrize(("rows", "columns"), [(16, 150), (84, 120), (1, 12), (64, 64), (36, 49)])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_no_other_cores_are_better(rows: int, columns: int, count: int) -> None:
    def flaw(cores: Cores) -> float:
        size, proportion = (rows * columns) ** (1 / count), (rows / columns) ** (1 / count)
        return sum(
            math.log(row * column / size) ** 2
            + 0.1 * math.log(row / column / proportion) ** 2
            + (row == 1 or column == 1)
            for row, column in zip(cores.rows, cores.columns, strict=True)
        )

    every = (Cores(*split) for split in product(factorisations(rows, count), factorisations(columns, count)))
    least = sorted(flaw(cores) for cores in every if min(cores.sizes) > 1)[:8]
    assert [flaw(cores) for cores in core_splits(rows, columns, count, 8)] == pytest.approx(least)


def test_splits_differ() -> None:
    found = core_splits(120, 400, 3, 5)
    assert len(set(found)) == 5


def test_possible_bonds_are_products_of_a_divisor_of_each() -> None:
    assert possible_bonds(4, 6) == [1, 2, 3, 4, 6, 8, 12, 24]
    assert possible_bonds(7, 5) == [1, 5, 7, 35]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (1, 16 * 3),
        (2, 16 * 2 + 2 * 16 * 2 + 2 * 16),
        (1.4, 16 * 3),
        (1.5, 16 * 2 + 2 * 16 * 2 + 2 * 16),
        (1000, 16 * 16 + 16 * 16 * 16 + 16 * 16),  # no bond is worth more than the smaller of its two sides
    ],
)
def test_bonds_are_the_nearest_that_the_cores_can_make_use_of(wanted: float, numbers: int) -> None:
    cores = Cores((4, 4, 4), (4, 4, 4))
    structure = cores.with_bonds(wanted)
    assert structure.parameters == cores.parameters(wanted) == numbers
    assert structure.size == 64 * 64


@pytest.mark.parametrize("entries", [1, 7, 64, 58_081, 4096 * 4608])
def test_an_enclosing_matrix_pads_little_and_has_small_prime_factors(entries: int) -> None:
    rows, columns = enclosing_matrix(entries)
    assert entries <= rows * columns <= max(8, 1.05 * entries)
    assert rows <= columns <= 4 * rows
    for prime in (2, 3, 5, 7):
        while rows % prime == 0:
            rows //= prime
        while columns % prime == 0:
            columns //= prime
    assert (rows, columns) == (1, 1)
