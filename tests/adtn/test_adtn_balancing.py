import pytest
import torch
from einsum_oracle import einsum_contract
from torch import Tensor

from adtn.arrangements import brick_wall, staircase
from adtn.balancing import balanced, group_numbers, scale_groups
from adtn.start import orthogonal_gates
from adtn.structure import AnyStructure, Sum, as_activation

ACTIVATIONS = ("none", "relu", "leaky_relu", "tanh", "gelu")
STRUCTURES: dict[str, AnyStructure] = {
    **{name: brick_wall((2, 3, 2, 4), depth=3, activation=as_activation(name)) for name in ACTIVATIONS},
    "tanh in one TN layer": staircase(5, activation="tanh"),
    "sum": Sum((brick_wall(6), brick_wall((8, 8), 2, 2, "tanh"), staircase((4, 4, 4)))),
}


def uneven_gates(structure: AnyStructure) -> Tensor:
    """Random gates whose sizes differ by up to a factor of 10,000."""
    generator = torch.Generator().manual_seed(0)
    parts = [
        torch.randn(gate.parameters, dtype=torch.float64, generator=generator)
        * 10 ** (4 * torch.rand(1, dtype=torch.float64, generator=generator) - 2)
        for gate in structure.gates
    ]
    return torch.cat(parts)


def sizes(gates: Tensor, structure: AnyStructure) -> list[list[float]]:
    """The root mean square of every gate, by group."""
    parts = iter(gates.split([gate.parameters for gate in structure.gates]))
    return [[float(next(parts).square().mean().sqrt()) for _ in group] for group in scale_groups(structure)]


@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
def test_balanced_gates_contract_to_the_same_tensor(structure: AnyStructure) -> None:
    gates = uneven_gates(structure)
    even = balanced(gates, structure)
    expected = einsum_contract(gates, structure)
    assert expected.any()
    assert not torch.allclose(even, gates)
    torch.testing.assert_close(einsum_contract(even, structure), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
def test_gates_of_a_group_get_the_same_size(structure: AnyStructure) -> None:
    for group in sizes(balanced(uneven_gates(structure), structure), structure):
        assert group == pytest.approx([group[0]] * len(group), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "gates_of_groups"),
    [
        ("none", [9]),
        ("relu", [9]),
        ("leaky_relu", [9]),
        ("tanh", [3, 3, 3]),
        ("gelu", [3, 3, 3]),
        ("tanh in one TN layer", [4]),
        ("sum", [10, 1, 1, 2]),
    ],
)
def test_a_group_is_what_a_factor_can_pass(name: str, gates_of_groups: list[int]) -> None:
    structure = STRUCTURES[name]
    groups = scale_groups(structure)
    assert [len(group) for group in groups] == gates_of_groups
    assert [gate for group in groups for gate in group] == list(structure.gates)
    assert group_numbers(structure) == tuple(sum(gate.parameters for gate in group) for group in groups)


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_no_factor_passes_an_activation_that_is_not_homogeneous(activation: str) -> None:
    """So these structures need a scale for each TN layer."""
    structure = STRUCTURES[activation]
    gates = 3 * orthogonal_gates(structure, torch.float64, torch.Generator().manual_seed(0))
    moved = gates.clone()
    first, last = structure.gates[0].parameters, structure.gates[-1].parameters
    moved[:first] *= 2
    moved[-last:] /= 2
    assert not torch.allclose(
        einsum_contract(moved, structure), einsum_contract(gates, structure), rtol=1e-3, atol=1e-3
    )


def test_a_gate_of_zeros_stays_and_spoils_nothing() -> None:
    structure = brick_wall(4, 1)
    gates = uneven_gates(structure)
    gates[:4] = 0
    even = balanced(gates, structure)
    assert torch.isfinite(even).all()
    assert not even[:4].any()
    assert even[4:].all()
    assert not balanced(torch.zeros_like(gates), structure).any()


def test_gates_are_not_changed_in_place_and_keep_their_dtype() -> None:
    structure = brick_wall(6)
    gates = uneven_gates(structure).float().requires_grad_()
    before = gates.detach().clone()
    even = balanced(gates, structure)
    assert (even.dtype, even.requires_grad) == (torch.float32, False)
    assert torch.equal(gates.detach(), before)
