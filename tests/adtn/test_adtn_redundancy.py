"""The first gates store fewer numbers than the paper's and give the same function."""

import pytest
import torch
from einsum_oracle import contract_full_gates, full_gates
from torch import Tensor

from adtn.arrangements import brick_wall, fat_blocks, staircase
from adtn.contraction import contract
from adtn.structure import Structure

STRUCTURES = {
    "one TN layer": brick_wall(12, 1),
    "three TN layers": brick_wall(7, 3, 2, "tanh"),
    "wide gates": brick_wall(9, 2, 4),
    "staircase": staircase(8, 2),
    "blocks": fat_blocks(10, 4, 2),
    "mixed dimensions": brick_wall((3, 5, 2, 4), 2),
}


def numbers(structure: Structure) -> Tensor:
    return torch.randn(structure.parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 2


@pytest.mark.parametrize("name", STRUCTURES)
def test_full_gates_are_the_same_function_of_more_numbers(name: str) -> None:
    structure = STRUCTURES[name]
    full = full_gates(numbers(structure), structure)
    assert sum(gate.numel() for gate in full) > structure.parameters
    expected = contract_full_gates(full, structure)
    torch.testing.assert_close(contract(numbers(structure), structure), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", STRUCTURES)
def test_what_is_not_stored_of_a_full_gate_has_no_influence_and_what_is_stored_has(name: str) -> None:
    structure = STRUCTURES[name]
    full = [gate.requires_grad_() for gate in full_gates(numbers(structure), structure)]
    direction = torch.randn(structure.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(contract_full_gates(full, structure) @ direction, full)
    assert sum(int((gradient != 0).sum()) for gradient in gradients) == structure.parameters


def test_counts_of_the_three_weights_of_a_lenet() -> None:
    """Q = 12, 14 and 16: the paper's 16 (Q - 1) M numbers, and what is left of them."""
    for depth, paper, stored in ((1, 624, 372), (2, 1248, 996), (3, 1872, 1620)):
        structures = [brick_wall(sites, depth) for sites in (12, 14, 16)]
        assert sum(16 * (s.sites - 1) * depth for s in structures) == paper
        assert sum(s.parameters for s in structures) == stored
