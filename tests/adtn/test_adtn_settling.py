"""Rounding with compensation, against the exact minimum of the quadratic with some numbers held."""

import pytest
import torch
from torch import Tensor

from adtn.settling import settle


def quadratic(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """A positive definite matrix and a point."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(count, count, generator=generator, dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(count, dtype=torch.float64), torch.randn(
        count, generator=generator, dtype=torch.float64
    )


def least_with(hessian: Tensor, start: Tensor, held: dict[int, float]) -> Tensor:
    """Where (x - start)^T H (x - start) is least among those with some numbers held: by the normal equations."""
    free = [i for i in range(len(start)) if i not in held]
    places = list(held)
    moved = torch.tensor(list(held.values()), dtype=start.dtype) - start[places]
    found = start.clone()
    found[places] = torch.tensor(list(held.values()), dtype=start.dtype)
    if free:
        found[free] -= torch.linalg.solve(hessian[free][:, free], hessian[free][:, places] @ moved)
    return found


def loss(hessian: Tensor, start: Tensor, point: Tensor) -> float:
    return float((point - start) @ hessian @ (point - start))


@pytest.mark.parametrize("seed", range(4))
def test_free_numbers_go_where_the_loss_is_least_and_the_cheapest_is_fixed_next(seed: int) -> None:
    hessian, start = quadratic(9, seed)
    steps = torch.tensor([0.5] * 4 + [0.0] * 2 + [0.3] * 3, dtype=torch.float64)
    highest = torch.tensor([3.0] * 4 + [0.0] * 2 + [1.0] * 3, dtype=torch.float64)
    values, inverse, held = start.clone(), torch.linalg.inv(hessian), dict[int, float]()
    for _ in range(7):
        before = values.clone()
        multiples = (before / steps).round().clamp(-highest, highest) * steps
        costs = {
            i: loss(hessian, start, least_with(hessian, start, {**held, i: float(multiples[i])}))
            for i in range(9)
            if steps[i] > 0 and i not in held
        }
        (fixed,) = settle(values, torch.where(_mask(9, held), 0.0, steps), highest, inverse, 1)
        assert fixed == min(costs, key=costs.__getitem__)
        held[fixed] = float(multiples[fixed])
        torch.testing.assert_close(values, least_with(hessian, start, held), rtol=1e-9, atol=1e-9)


def _mask(count: int, held: dict[int, float]) -> Tensor:
    return torch.tensor([i in held for i in range(count)])


def test_all_at_once_is_one_after_the_other() -> None:
    hessian, start = quadratic(8, 7)
    steps, highest = torch.full((8,), 0.25, dtype=torch.float64), torch.full((8,), 7.0, dtype=torch.float64)
    values = start.clone()
    order = settle(values, steps, highest, torch.linalg.inv(hessian), 8)
    assert sorted(order) == list(range(8))
    torch.testing.assert_close(values / steps, (values / steps).round(), rtol=0, atol=1e-12)
    rounded = (start / steps).round().clamp(-7, 7) * steps
    assert loss(hessian, start, values) < loss(hessian, start, rounded)


def test_nothing_is_fixed_without_a_grid_or_a_wish() -> None:
    hessian, start = quadratic(5, 1)
    values = start.clone()
    assert settle(values, torch.ones(5, dtype=torch.float64), torch.ones(5), torch.linalg.inv(hessian), 0) == []
    assert torch.equal(values, start)
