from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adtn import ADTN, ShapeError, brick_wall, decoded_once, encode
from adtn.balancing import group_numbers
from adtn.quantising import best_scales, from_integers, integers, quantised
from adtn.structure import AnyStructure, Sum

ONE_SCALE = brick_wall(6)
THREE_SCALES = Sum((brick_wall(6), brick_wall(6, 2, 2, "tanh")))
STRUCTURES = {"one scale": ONE_SCALE, "three scales": THREE_SCALES}
BITS = range(2, 9)


def seeded_gates(structure: AnyStructure, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(structure.parameters, dtype=dtype, generator=torch.Generator().manual_seed(0))


def seeded_adtn(shape: tuple[int, ...] = (5, 7), structure: AnyStructure = ONE_SCALE) -> ADTN:
    return ADTN(shape, structure, generator=torch.Generator().manual_seed(0))


def oracle(value: float, scale: float, bits: int) -> tuple[int, float]:
    """The integer of one number and its gradient, as one would do it by hand."""
    highest = {2: 1, 3: 3, 4: 7, 5: 15, 6: 31, 7: 63, 8: 127}[bits]
    ratio = value / scale
    nearest = round(ratio)  # halves to the even neighbour
    return max(-highest, min(highest, nearest)), 1.0 if abs(ratio) <= highest + 0.5 else 0.0


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
def test_values_and_gradient_are_those_of_every_number_by_hand(structure: AnyStructure, bits: int) -> None:
    gates = seeded_gates(structure, torch.float64).requires_grad_()
    groups = group_numbers(structure)
    # So that some numbers of every group are clipped.
    scales = torch.tensor([1.7, 0.9, 1.3][: len(groups)], dtype=torch.float64) / 2 ** (bits - 1)
    upstream = torch.randn(structure.parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    result = quantised(gates, scales, structure, bits)
    result.backward(upstream)
    spread = [float(scale) for scale, count in zip(scales, groups, strict=True) for _ in range(count)]
    expected = [oracle(value, scale, bits) for value, scale in zip(gates.tolist(), spread, strict=True)]
    assert {gradient for _, gradient in expected} == {0.0, 1.0}
    assert integers(gates, scales, structure, bits).tolist() == [number for number, _ in expected]
    assert result.tolist() == [number * scale for (number, _), scale in zip(expected, spread, strict=True)]
    passed = torch.tensor([gradient for _, gradient in expected], dtype=torch.float64)
    torch.testing.assert_close(gates.grad, passed * upstream)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
def test_integers_and_scales_give_back_the_same_bits_again_and_again(structure: AnyStructure, bits: int) -> None:
    gates = seeded_gates(structure)
    scales = best_scales(gates, structure, bits)
    values = quantised(gates, scales, structure, bits)
    numbers = integers(gates, scales, structure, bits)
    assert numbers.dtype == torch.int8
    assert torch.equal(from_integers(numbers, scales, structure), values)
    assert torch.equal(integers(values, scales, structure, bits), numbers)
    assert torch.equal(quantised(values, scales, structure, bits), values)


@pytest.mark.parametrize("bits", BITS)
def test_the_best_scale_rounds_better_than_others(bits: int) -> None:
    gates = seeded_gates(ONE_SCALE)
    (best,) = best_scales(gates, ONE_SCALE, bits)

    def error(scale: float) -> float:
        rounded = quantised(gates, torch.tensor([scale]), ONE_SCALE, bits)
        return float((rounded - gates).square().sum())

    widest = float(gates.abs().max()) / (2 ** (bits - 1) - 1)
    assert best == best.bfloat16()
    assert float(best) <= widest * (1 + 2**-8)
    # Between the scales that are tried there may be a slightly better one.
    assert all(error(float(best)) <= 1.02 * error(widest * k / 37) for k in range(1, 38))


def test_each_group_has_a_scale_of_its_own_and_zeros_have_one_too() -> None:
    gates = seeded_gates(THREE_SCALES)
    first, second, third = group_numbers(THREE_SCALES)
    gates[first : first + second] *= 1000
    gates[first + second :] = 0
    scales = best_scales(gates, THREE_SCALES, 8)
    assert scales[1] > 100 * scales[0]
    assert scales[2] == 1
    assert not quantised(gates, scales, THREE_SCALES, 8)[-third:].any()


def test_a_weight_is_that_of_the_rounded_gates() -> None:
    adtn = seeded_adtn()
    exact = adtn()
    adtn.quantise(8)
    rounded = adtn()
    assert adtn.bits == 8
    assert torch.equal(rounded, adtn.decode())
    other = seeded_adtn()
    with torch.no_grad():
        other.gates.copy_(adtn.numbers())
    assert torch.equal(rounded, other())
    assert 0 < float((rounded - exact).detach().norm() / exact.detach().norm()) < 0.05
    assert "bits=8" in repr(adtn)


def test_fewer_bits_are_coarser() -> None:
    exact = seeded_adtn()()
    errors = []
    for bits in BITS:
        adtn = seeded_adtn()
        adtn.quantise(bits)
        errors.append(float((adtn() - exact).detach().norm()))
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("bits", [1, 9, 0, -4, True, 4.0, "4"])
def test_other_bits_are_refused(bits: Any) -> None:
    with pytest.raises(ShapeError, match="bits: expected an integer from 2 to 8, got"):
        seeded_adtn().quantise(bits)


def test_another_number_of_scales_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"scales: expected shape \(1,\), got \(2,\)"):
        seeded_adtn().quantise(4, torch.ones(2))


def test_scales_are_in_the_state_dict_only_where_there_are_any() -> None:
    adtn = seeded_adtn()
    assert list(adtn.state_dict()) == ["gates"]
    adtn.quantise(4)
    assert list(adtn.state_dict()) == ["gates", "scales"]
    other = seeded_adtn()
    other.quantise(4)
    with torch.no_grad():
        adtn.gates.mul_(1.5)
    other.load_state_dict(adtn.state_dict())
    assert torch.equal(other(), adtn())


def test_a_kept_weight_is_let_go_when_the_bits_change() -> None:
    adtn = seeded_adtn().eval()
    with torch.no_grad():
        exact = adtn()
        adtn.quantise(8)
        eight = adtn()
        adtn.quantise(3)
        assert not torch.equal(eight, exact)
        assert not torch.equal(adtn(), eight)
        assert adtn() is adtn()


def test_a_kept_weight_brings_the_gradient_of_the_rounding() -> None:
    adtn = seeded_adtn().eval()
    adtn.quantise(4)
    with torch.no_grad():
        adtn.gates[0] = 100.0  # far outside of the range
        adtn()
    adtn().square().sum().backward()
    found = adtn.gates.grad.clone()
    adtn.gates.grad = None
    adtn.decode().square().sum().backward()
    torch.testing.assert_close(found, adtn.gates.grad)
    assert found[0] == 0
    assert found.any()


def quantised_pair() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 7))
    for key, shape, bits in (("0.weight", (5, 7), 3), ("1.weight", (7, 5), 5)):
        adtn = seeded_adtn(shape)
        adtn.quantise(bits)
        with torch.no_grad():
            adtn.gates[:2] = 100.0
        encode(model, key, adtn)
    return model


def test_a_block_decodes_the_rounded_gates_and_brings_the_gradient_through_the_rounding() -> None:
    torch.manual_seed(0)
    inside = quantised_pair()
    torch.manual_seed(0)
    outside = quantised_pair()
    inputs = torch.randn(3, 7)
    with decoded_once(inside):
        inside(inputs).square().sum().backward()
    outside(inputs).square().sum().backward()
    for first, second in zip(inside.parameters(), outside.parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad)
    gates = inside[0].parametrizations.weight[0].gates
    assert not gates.grad[:2].any()
    assert gates.grad[2:].any()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_evaluation_decodes_the_rounded_gates(context: Any) -> None:
    model = quantised_pair().eval()
    expected = [layer.parametrizations.weight[0].decode().detach() for layer in model]
    with context(), decoded_once(model):
        assert all(torch.equal(layer.weight, weight) for layer, weight in zip(model, expected, strict=True))
    with context():
        assert all(torch.equal(layer.weight, weight) for layer, weight in zip(model, expected, strict=True))
    model(torch.randn(2, 7)).sum().backward()  # what inference mode kept serves a gradient too
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_quantised_adtn_follows_a_cast() -> None:
    adtn = seeded_adtn()
    adtn.quantise(4)
    before = adtn()
    assert adtn.half()().dtype == torch.float16
    assert torch.equal(adtn.float()(), before)
    assert adtn.double().scales.dtype == torch.float64
