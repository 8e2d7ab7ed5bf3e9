import pytest
import torch
from einsum_oracle import einsum_contract
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adtn.arrangements import brick_wall
from adtn.contraction import contract
from adtn.errors import ShapeError
from adtn.structure import ACTIVATIONS, Activation, Structure


def random_gates(structure: Structure, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Gates whose products neither vanish nor overflow."""
    parts = [
        torch.randn(out * into, generator=torch.Generator().manual_seed(seed * 1000 + i), dtype=torch.float64)
        / into**0.5
        for i, (out, into) in enumerate(structure.gate_shapes)
    ]
    return torch.cat(parts).to(dtype)


def assert_matches_einsum(structure: Structure) -> None:
    gates = random_gates(structure)
    expected = einsum_contract(gates, structure)
    actual = contract(gates, structure)
    assert actual.shape == (structure.size,)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("gate_sites", [2, 3, 4])
@pytest.mark.parametrize("sites", range(1, 13))
def test_brick_wall_matches_einsum(sites: int, gate_sites: int, depth: int) -> None:
    assert_matches_einsum(brick_wall(sites, depth, gate_sites))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sites", [1, 6, 11])
def test_every_activation_matches_einsum(sites: int, activation: Activation) -> None:
    assert_matches_einsum(brick_wall(sites, 3, 2, activation))


@pytest.mark.parametrize("dims", [(3, 2, 5), (10, 12, 20, 20), (6, 5, 5, 16), (7, 2, 2, 2, 2, 3)])
def test_sites_of_mixed_dimensions_match_einsum(dims: tuple[int, ...]) -> None:
    assert_matches_einsum(brick_wall(dims, 2, 2))


NAMED = {
    "staircase upwards": Structure((2,) * 11, (tuple((i, i + 2) for i in range(10)),) * 2),
    "staircase downwards": Structure((2,) * 11, (tuple((i, i + 2) for i in reversed(range(10))),) * 2),
    "gap in the middle": Structure((2,) * 11, (((0, 2), (9, 11)), ((2, 6), (5, 9)), ((0, 1), (10, 11)))),
    "site touched late": Structure((2, 3, 2, 2), (((0, 2),), ((1, 3),), ((2, 4),)), "tanh"),
    "same gate again and again": Structure((2,) * 8, (((0, 8), (0, 2), (0, 2), (6, 8), (0, 2)),)),
    "wider than a window": Structure((2,) * 9, (((0, 2), (1, 9), (2, 4)), ((3, 5), (0, 8)))),
    "single-site gates": Structure((2, 2, 2), (((0, 1), (1, 2), (2, 3)), ((1, 2),)), "gelu"),
}


@pytest.mark.parametrize("name", NAMED)
def test_arrangement_matches_einsum(name: str) -> None:
    assert_matches_einsum(NAMED[name])


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    """Any structure: mixed dimensions, spans in any order, gaps, sites that are touched late."""
    dims = tuple(draw(st.lists(st.integers(2, 4), min_size=1, max_size=7)))
    spans = st.integers(0, len(dims) - 1).flatmap(
        lambda start: st.integers(start + 1, min(start + 4, len(dims))).map(lambda stop: (start, stop))
    )
    layers = draw(st.lists(st.lists(spans, min_size=1, max_size=7), min_size=1, max_size=3))
    touched = {site for layer in layers for start, stop in layer for site in range(start, stop)}
    rest = [(site, site + 1) for site in range(len(dims)) if site not in touched]
    layers[-1].extend(draw(st.permutations(rest)))
    return Structure(dims, tuple(tuple(layer) for layer in layers), draw(st.sampled_from(ACTIVATIONS)))


@settings(max_examples=150, deadline=None)
@given(structures())
def test_any_structure_matches_einsum(structure: Structure) -> None:
    assert_matches_einsum(structure)


@settings(max_examples=60, deadline=None)
@given(structures())
def test_gradient_matches_that_of_einsum(structure: Structure) -> None:
    direction = torch.randn(structure.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = []
    for function in (contract, einsum_contract):
        gates = random_gates(structure).requires_grad_()
        (function(gates, structure) @ direction).backward()
        gradients.append(gates.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9 * float(gradients[1].abs().max()))


@pytest.mark.parametrize(
    "structure",
    [
        brick_wall(5, 2, 2, "tanh"),
        brick_wall(7, 1, 2, "none"),
        Structure((2, 3, 2), (((1, 3), (0, 2)), ((0, 1), (1, 3))), "gelu"),
        Structure((2,) * 6, (((0, 6),), ((4, 6),)), "tanh"),
    ],
)
def test_first_and_second_derivatives_match_finite_differences(structure: Structure) -> None:
    gates = random_gates(structure).requires_grad_()
    assert torch.autograd.gradcheck(lambda g: contract(g, structure), gates)
    assert torch.autograd.gradgradcheck(lambda g: contract(g, structure), gates)


@pytest.mark.parametrize("sites", [4, 12, 16])
def test_float32_agrees_with_float64(sites: int) -> None:
    structure = brick_wall(sites, 2)
    exact = contract(random_gates(structure), structure)
    single = contract(random_gates(structure, dtype=torch.float32), structure)
    assert single.dtype == torch.float32
    assert float((single - exact).norm() / exact.norm()) < 1e-5


def test_one_tensor_a_gate_is_the_same_as_one_flat_vector() -> None:
    structure = brick_wall(6, 2)
    flat = random_gates(structure)
    parts = torch.split(flat, [out * into for out, into in structure.gate_shapes])
    gates = [part.reshape(shape) for part, shape in zip(parts, structure.gate_shapes, strict=True)]
    torch.testing.assert_close(contract(gates, structure), contract(flat, structure), rtol=0, atol=0)


def test_gates_of_the_wrong_size_say_which_one() -> None:
    structure = brick_wall(4, 1)
    gates = [torch.zeros(shape) for shape in structure.gate_shapes]
    with pytest.raises(ShapeError, match=r"expected shape \(24,\), got \(33,\)"):
        contract(torch.zeros(33), structure)
    with pytest.raises(ShapeError, match="expected 3 tensors, got 2"):
        contract(gates[:2], structure)
    with pytest.raises(ShapeError, match=r"gates\[2\]: expected 4 x 4 numbers for sites \[1, 3\], got shape \(4, 2\)"):
        contract([*gates[:2], torch.zeros(4, 2)], structure)
