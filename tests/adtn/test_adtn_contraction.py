from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from einsum_oracle import einsum_contract
from hypothesis import given, settings
from structures import structures
from torch import Tensor

from adtn import contraction, sweeps
from adtn.arrangements import brick_wall, fat_blocks, mixed_brick_wall, staircase
from adtn.contraction import apply_tn_layers, contract, contract_vjp
from adtn.errors import ShapeError
from adtn.sites import interleaved, mixed_radix
from adtn.structure import ACTIVATIONS, Activation, AnyStructure, Structure, Sum


@pytest.fixture(params=["native", "fused"], autouse=True)
def passes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test of this file twice: by the compiled loops, and by the operations of torch that serve other devices."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "fused":
            patch.setattr(contraction, "is_native", lambda gates, storage: False)
        yield


def random_gates(structure: AnyStructure, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Gates whose products neither vanish nor overflow."""
    parts = [
        torch.randn(out * into, generator=torch.Generator().manual_seed(seed * 1000 + i), dtype=torch.float64)
        / into**0.5
        for i, (out, into) in enumerate(structure.gate_shapes)
    ]
    return torch.cat(parts).to(dtype)


def tensor_and_gradient(
    function: Callable[[Tensor, AnyStructure], Tensor], structure: AnyStructure
) -> tuple[Tensor, Tensor]:
    """What a contraction gives in float64, and the gradient of its product with a fixed random direction."""
    direction = torch.randn(structure.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gates = random_gates(structure).requires_grad_()
    tensor = function(gates, structure)
    (gradient,) = torch.autograd.grad(tensor @ direction, gates)
    return tensor.detach(), gradient


@lru_cache(maxsize=64)
def expected_of(structure: AnyStructure) -> tuple[Tensor, Tensor]:
    """Those of the oracle, which is slow: once for both kinds of passes."""
    return tensor_and_gradient(einsum_contract, structure)


def assert_matches_einsum(structure: AnyStructure) -> None:
    for actual, expected in zip(tensor_and_gradient(contract, structure), expected_of(structure), strict=True):
        assert actual.shape == expected.shape
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


ARRANGEMENTS = {
    "brick-wall": brick_wall,
    "staircase": staircase,
    "wide and narrow": lambda sites, depth, width: mixed_brick_wall(sites, (width, 2), depth),
    "fat blocks": lambda sites, depth, width: fat_blocks(sites, width, depth),
}


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("gate_sites", [2, 3, 4])
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_arrangement_matches_einsum_for_every_number_of_sites(arrangement: str, gate_sites: int, depth: int) -> None:
    for sites in range(1, 13):
        assert_matches_einsum(ARRANGEMENTS[arrangement](sites, depth, gate_sites))


@pytest.mark.parametrize("sites", [4, 11])
def test_a_deep_network_matches_einsum(sites: int) -> None:
    assert_matches_einsum(brick_wall(sites, 8))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sites", [1, 6, 11])
def test_every_activation_matches_einsum(sites: int, activation: Activation) -> None:
    assert_matches_einsum(brick_wall(sites, 3, 2, activation))


@pytest.mark.parametrize("dims", [(3, 2, 5), (10, 12, 20, 20), (6, 5, 5, 16), (7, 2, 2, 2, 2, 3)])
def test_sites_of_mixed_dimensions_match_einsum(dims: tuple[int, ...]) -> None:
    assert_matches_einsum(brick_wall(dims, 2, 2))


@pytest.mark.parametrize("shape", [(16, 25 * 6), (30, 84), (7, 13)])
def test_rows_and_columns_in_turn_match_einsum(shape: tuple[int, int]) -> None:
    assert_matches_einsum(brick_wall(interleaved(shape, 5), 2))


def test_sum_of_networks_matches_einsum() -> None:
    shape = (12, 20)
    terms = (brick_wall(mixed_radix(shape), 2), staircase(interleaved(shape), 1), fat_blocks(mixed_radix(shape, 5), 2))
    assert_matches_einsum(Sum(terms))


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


@settings(max_examples=150, deadline=None)
@given(structures())
def test_any_structure_matches_einsum(structure: Structure) -> None:
    assert_matches_einsum(structure)


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
    direction = torch.randn(structure.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for dtype in (torch.float32, torch.float64):
        gates = random_gates(structure, dtype=dtype).requires_grad_()
        tensor = contract(gates, structure)
        (tensor @ direction.to(dtype)).backward()
        assert gates.grad is not None
        assert tensor.dtype == gates.grad.dtype == dtype
        results.append((tensor.detach(), gates.grad))
    for single, exact in zip(*results, strict=True):
        assert float((single - exact).norm() / exact.norm()) < 1e-5


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("sites", [3, 9, 15])
def test_a_batch_is_contracted_item_by_item(sites: int, batch: int) -> None:
    structure = Sum((brick_wall(sites, 2), staircase(sites, 1, 3)))
    gates = torch.stack([random_gates(structure, seed) for seed in range(batch)]).requires_grad_()
    direction = torch.randn(batch, structure.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    tensors = contract(gates, structure)
    (tensors * direction).sum().backward()
    single = gates.detach().clone().requires_grad_()
    expected = torch.stack([contract(item, structure) for item in single])
    (expected * direction).sum().backward()
    torch.testing.assert_close(tensors, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gates.grad, single.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("order", [(), (2, 0, 3, 1)])
def test_the_first_entries_alone_have_the_same_values_and_gradient(order: tuple[int, ...]) -> None:
    structure = Structure((2, 3, 4, 2), brick_wall(4, 2).tn_layers, "relu", order)
    gates = random_gates(structure).requires_grad_()
    whole = torch.autograd.grad(contract(gates, structure)[:29].square().sum(), gates)[0]
    part = contract(gates, structure, entries=29)
    torch.testing.assert_close(part, contract(gates, structure)[:29], rtol=0, atol=0)
    torch.testing.assert_close(torch.autograd.grad(part.square().sum(), gates)[0], whole, rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(structures())
def test_without_autograd_tensor_and_gradient_are_the_same(drawn: Structure) -> None:
    entries = drawn.size - 1
    for structure in (drawn, Sum((drawn, replace(drawn, activation="tanh")))):
        gates = torch.stack([random_gates(structure, seed) for seed in (1, 2)])
        direction = torch.randn(2, entries, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        given_direction = direction.clone()
        leaf = gates.clone().requires_grad_()
        expected = contract(leaf, structure, entries)
        (expected_gradient,) = torch.autograd.grad(expected, leaf, direction)
        found, vjp = contract_vjp(gates.requires_grad_(), structure, entries)
        gradient = vjp(direction)
        assert not found.requires_grad
        assert not gradient.requires_grad
        torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-12)
        assert torch.equal(direction, given_direction)


def test_what_is_wrong_without_autograd_is_said() -> None:
    structure = brick_wall(5, 2)
    gates = random_gates(structure).unsqueeze(0)
    with pytest.raises(ShapeError, match="entries: expected 1 to 32, got 33"):
        contract_vjp(gates, structure, 33)
    with pytest.raises(ShapeError, match=r"gates: expected shape \(batch, "):
        contract_vjp(gates.squeeze(0), structure, 32)
    result, vjp = contract_vjp(gates, structure, 32)
    vjp(result)
    with pytest.raises(RuntimeError, match="expected one call"):
        vjp(result)


def test_storage_in_bfloat16_is_as_exact_as_its_eight_bits() -> None:
    structure = brick_wall(14, 2)
    gates = random_gates(structure, dtype=torch.float32).requires_grad_()
    exact = contract(gates, structure)
    stored = contract(gates, structure, storage=torch.bfloat16)
    assert stored.dtype == torch.bfloat16
    gradients = [torch.autograd.grad(t.float().square().sum(), gates)[0] for t in (stored, exact)]
    for coarse, fine in ((stored.float(), exact), gradients):
        assert 1e-4 < float(((coarse - fine).norm() / fine.norm()).detach()) < 2e-2


@pytest.mark.parametrize("sites", [5, 13])
def test_tn_layers_on_a_tensor_match_einsum(sites: int) -> None:
    below, above = brick_wall(sites, 1), brick_wall(sites, 2)
    both = Structure(below.dims, below.tn_layers + above.tn_layers, "relu")
    flat = random_gates(both)
    lower, upper = flat[: below.parameters], flat[below.parameters :].clone().requires_grad_()
    state = torch.relu(einsum_contract(lower, below)).requires_grad_()
    result = apply_tn_layers(state, upper, above.dims, above.tn_layers, "relu")
    torch.testing.assert_close(result, einsum_contract(flat, both), rtol=1e-10, atol=1e-10)
    assert torch.autograd.gradcheck(
        lambda s, g: apply_tn_layers(s, g, above.dims, above.tn_layers, "relu")[::37], (state, upper), fast_mode=True
    )


def test_a_gradient_is_the_same_however_much_of_the_tensors_between_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    structure = brick_wall(12, 5)
    gates = random_gates(structure).requires_grad_()
    gradients = []
    for kept in (2**20, 0):
        monkeypatch.setattr(sweeps, "KEPT_ENTRIES", kept)
        gradients.append(torch.autograd.grad(contract(gates, structure).square().sum(), gates)[0])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


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
    with pytest.raises(ShapeError, match="entries: expected 1 to 16, got 17"):
        contract(torch.zeros(24), structure, entries=17)
    with pytest.raises(ShapeError, match="expected 3 tensors, got 2"):
        contract(gates[:2], structure)
    with pytest.raises(ShapeError, match=r"gates\[2\]: expected 4 x 4 numbers for sites \[1, 3\], got shape \(4, 2\)"):
        contract([*gates[:2], torch.zeros(4, 2)], structure)


def test_every_tensor_is_made_on_the_device_of_the_gates() -> None:
    """A device that only follows shapes, and refuses to be mixed with another."""
    structure = Sum((brick_wall(12, 2), staircase(interleaved((64, 64)), 1, 3)))
    gates = torch.empty(2, structure.parameters, device="meta", requires_grad=True)
    tensor = contract(gates, structure)
    tensor.square().sum().backward()
    assert gates.grad is not None
    assert (tensor.device.type, gates.grad.device.type) == ("meta", "meta")
    assert (tensor.shape, gates.grad.shape) == ((2, structure.size), gates.shape)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("sites", [5, 12, 18])
def test_cuda_agrees_with_the_cpu(sites: int) -> None:
    structure = Sum((brick_wall(sites, 2), staircase(sites, 1, 3)))
    results = []
    for device in ("cpu", "cuda"):
        gates = random_gates(structure).to(device).requires_grad_()
        tensor = contract(gates, structure)
        (gradient,) = torch.autograd.grad(tensor.square().sum(), gates)
        results.append((tensor.detach().cpu(), gradient.cpu()))
    for on_cuda, on_cpu in zip(*reversed(results), strict=True):
        torch.testing.assert_close(on_cuda, on_cpu, rtol=1e-10, atol=1e-10 * float(on_cpu.abs().max()))
