import pytest
import torch
from einsum_oracle import einsum_contract
from torch import Tensor

from adtn.arrangements import brick_wall, staircase
from adtn.start import orthogonal_gates, scale_gates
from adtn.structure import AnyStructure, Sum

STRUCTURES = {
    "one": brick_wall(6, 2),
    "sum": Sum((brick_wall(6, 2), staircase((4, 4, 4), 1), brick_wall((8, 8), 3, 2, "tanh"))),
}


def contract_terms(gates: Tensor, structure: AnyStructure) -> Tensor:
    parts = gates.split([term.parameters for term in structure.terms])
    return sum(einsum_contract(part, term) for part, term in zip(parts, structure.terms, strict=True))


@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
@pytest.mark.parametrize("factor", [2.5, -0.3, 0.0])
def test_scaled_gates_contract_to_the_scaled_tensor(structure: AnyStructure, factor: float) -> None:
    gates = orthogonal_gates(structure, torch.float64, torch.Generator().manual_seed(0))
    expected = factor * contract_terms(gates, structure)
    assert expected.any() or factor == 0
    torch.testing.assert_close(contract_terms(scale_gates(gates, structure, factor), structure), expected)


def test_start_values_are_orthogonal_gates_in_order() -> None:
    structure = STRUCTURES["sum"]
    gates = orthogonal_gates(structure, torch.float64, torch.Generator().manual_seed(0))
    parts = gates.split([gate.parameters for gate in structure.gates])
    for part, (out, into) in zip(parts, structure.gate_shapes, strict=True):
        matrix = part.view(out, into)
        torch.testing.assert_close(matrix.T @ matrix, torch.eye(into, dtype=torch.float64))
