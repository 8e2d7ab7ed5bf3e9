import contextlib
import copy
import gc
import pickle
import weakref
from collections.abc import Callable

import pytest
import torch
from einsum_oracle import einsum_contract
from support.contractions import Contractions
from torch import Tensor, nn
from torch.func import functional_call

from adtn import ADTN, brick_wall, decoded_once, encode, encoded


def small(dtype: torch.dtype = torch.float32) -> ADTN:
    return ADTN((5, 6), brick_wall(5), dtype, torch.Generator().manual_seed(0)).eval()


def expected(adtn: ADTN, gates: Tensor | None = None) -> Tensor:
    flat = einsum_contract((adtn.gates if gates is None else gates).detach().clone(), adtn.structure)
    return flat[: adtn.shape.numel()].view(adtn.shape).to(adtn.dtype)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    for key in ("0.weight", "2.weight"):
        encode(model, key, ADTN((8, 8), brick_wall(6)))
    return model


MODES = {"no_grad": torch.no_grad, "inference": torch.inference_mode, "gradients": contextlib.nullcontext}


@pytest.mark.parametrize("mode", MODES)
def test_evaluation_decodes_nothing_after_the_first_time(mode: str, contractions: Contractions) -> None:
    model = network().eval()
    inputs = torch.randn(3, 8)
    with MODES[mode]():
        first = model(inputs)
        assert contractions.taken() == (2, 0)
        for _ in range(3):
            assert torch.equal(model(inputs), first)
    with torch.no_grad():
        assert torch.equal(model(inputs), first)
    assert contractions.taken() == (0, 0)


@pytest.mark.parametrize("order", [("inference", "gradients"), ("no_grad", "inference"), ("gradients", "inference")])
def test_what_one_mode_decoded_serves_the_other(order: tuple[str, str], contractions: Contractions) -> None:
    adtn = small()
    for mode in order:
        with MODES[mode]():
            torch.testing.assert_close(adtn(), expected(adtn))
    assert contractions.taken() == (1, 0)


def test_a_weight_kept_from_inference_mode_lets_inputs_have_gradients() -> None:
    model = network().eval().requires_grad_(False)
    with torch.inference_mode():
        model(torch.randn(3, 8))
    inputs = torch.randn(3, 8, requires_grad=True)
    model(inputs).sum().backward()
    assert inputs.grad is not None


def test_training_decodes_at_every_use(contractions: Contractions) -> None:
    adtn = small().train()
    adtn(), adtn()
    assert contractions.taken() == (2, 0)


def test_without_gradients_or_with_frozen_gates_training_reuses_too(contractions: Contractions) -> None:
    adtn = small().train()
    with torch.no_grad():
        adtn(), adtn()
    adtn.gates.requires_grad_(False)
    assert not adtn().requires_grad
    assert contractions.taken() == (1, 0)


def fused_step(adtn: ADTN) -> None:
    adtn.gates.grad = torch.ones_like(adtn.gates)
    torch.optim.Adam([adtn.gates], lr=0.1, fused=True).step()


def step(adtn: ADTN) -> None:
    adtn.gates.grad = torch.ones_like(adtn.gates)
    torch.optim.SGD([adtn.gates], lr=0.1).step()


def write_in_inference_mode(adtn: ADTN) -> None:
    with torch.inference_mode():
        adtn.gates.mul_(2)


def move_storage(adtn: ADTN) -> None:
    adtn.gates.data = adtn.gates.data * 2


def replace_parameter(adtn: ADTN) -> None:
    adtn.gates = nn.Parameter(adtn.gates.detach() * 2)


CHANGES: dict[str, Callable[[ADTN], object]] = {
    "step": step,
    "fused step": fused_step,
    "write": lambda adtn: adtn.gates.detach().mul_(2),
    "write through data": lambda adtn: adtn.gates.data.mul_(2),
    "write through numpy": lambda adtn: adtn.gates.detach().numpy().__imul__(2),
    "write in inference mode": write_in_inference_mode,
    "other storage": move_storage,
    "other parameter": replace_parameter,
    "load": lambda adtn: adtn.load_state_dict({"gates": adtn.gates.detach() * 2}),
    "assign": lambda adtn: adtn.load_state_dict({"gates": adtn.gates.detach() * 2}, assign=True),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("change", CHANGES)
def test_changed_gates_are_decoded(change: str, mode: str) -> None:
    adtn = small()
    with MODES[mode]():
        before = adtn().clone()
    CHANGES[change](adtn)
    with MODES[mode]():
        assert not torch.equal(adtn(), before)
        torch.testing.assert_close(adtn(), expected(adtn))


def test_gates_put_in_for_one_call_are_decoded() -> None:
    adtn = small()
    other = adtn.gates.detach() * 2
    torch.testing.assert_close(functional_call(adtn, {"gates": other}, ()), expected(adtn, other))
    torch.testing.assert_close(adtn(), expected(adtn))


def test_gates_made_in_inference_mode_are_decoded_once(contractions: Contractions) -> None:
    with torch.inference_mode():
        adtn = small()
        for _ in range(3):
            torch.testing.assert_close(adtn(), expected(adtn))
        assert contractions.taken() == (1, 0)
        adtn.gates.mul_(2)
        torch.testing.assert_close(adtn(), expected(adtn))


def test_a_weight_that_the_user_changes_in_place_is_not_reused() -> None:
    adtn = small()
    with torch.no_grad():
        adtn().mul_(2)
        torch.testing.assert_close(adtn(), expected(adtn))
    with torch.inference_mode():
        adtn().mul_(2)
        torch.testing.assert_close(adtn(), expected(adtn))
    with torch.no_grad():
        with torch.enable_grad():
            reused = adtn()
        reused.mul_(2)
    torch.testing.assert_close(adtn(), expected(adtn))


def test_a_reused_weight_brings_the_same_gradient_as_a_decoded_one() -> None:
    adtn = small(torch.float64)
    direction = torch.randn(5, 6, dtype=torch.float64)
    gates = adtn.gates.detach().clone().requires_grad_()
    einsum_contract(gates, adtn.structure)[:30].view(5, 6).backward(direction)
    for _ in range(2):
        adtn.gates.grad = None
        adtn().backward(direction)
        torch.testing.assert_close(adtn.gates.grad, gates.grad, rtol=1e-10, atol=1e-12)


def test_a_reused_weight_can_be_differentiated_twice() -> None:
    structure = brick_wall(3, activation="tanh")
    adtn = ADTN((2, 4), structure, torch.float64).eval()
    adtn()
    gates = adtn.gates.detach().clone().requires_grad_()
    found, wanted = (
        torch.autograd.grad(
            torch.autograd.grad(weight.square().sum(), numbers, create_graph=True)[0].square().sum(), numbers
        )[0]
        for weight, numbers in ((adtn(), adtn.gates), (einsum_contract(gates, structure), gates))
    )
    torch.testing.assert_close(found, wanted)


def test_autocast_does_not_coarsen_the_gradient_of_a_reused_weight() -> None:
    adtn = small()
    direction = torch.randn(5, 6)
    (wanted,) = torch.autograd.grad(adtn.decode(), adtn.gates, direction)
    adtn()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adtn().backward(direction)
    assert torch.equal(adtn.gates.grad, wanted)


def is_let_go(adtn: ADTN, change: Callable[[], object]) -> bool:
    with torch.no_grad():
        kept = weakref.ref(adtn())
    gc.collect()
    assert kept() is not None
    change()
    gc.collect()
    return kept() is None


def test_training_and_moves_let_go_of_a_kept_weight() -> None:
    adtn = small()
    assert is_let_go(adtn, adtn.train)
    assert is_let_go(adtn, adtn.double)
    assert is_let_go(adtn, lambda: adtn.to(torch.float16))
    assert not is_let_go(adtn, adtn.eval)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_cast_model_decodes_in_its_new_dtype(dtype: torch.dtype) -> None:
    adtn = small()
    with torch.no_grad():
        adtn()
        assert adtn.to(dtype)().dtype == dtype
        torch.testing.assert_close(adtn(), expected(adtn))
        adtn.dtype = torch.float32
        assert adtn().dtype == torch.float32


@pytest.mark.parametrize("mode", MODES)
def test_padding_is_not_kept(mode: str) -> None:
    adtn = ADTN((3, 11), brick_wall(6)).eval()
    with MODES[mode]():
        adtn()
    kept = adtn.kept.get(adtn.gates, adtn.dtype)
    assert kept is not None
    assert kept.untyped_storage().nbytes() == 3 * 11 * 4


def test_nothing_kept_is_stored_or_copied(contractions: Contractions) -> None:
    adtn = small()
    with torch.no_grad():
        weight = adtn()
        assert list(adtn.state_dict()) == ["gates"]
        contractions.taken()
        for twin in (copy.deepcopy(adtn), pickle.loads(pickle.dumps(adtn))):
            assert torch.equal(twin(), weight)
            twin.gates.mul_(2)
            torch.testing.assert_close(twin(), expected(twin))
            assert adtn() is weight
        assert contractions.taken() == (4, 0)
    assert len(pickle.dumps(adtn)) == len(pickle.dumps(adtn.train()))


def test_a_deep_copy_of_an_evaluated_model_is_independent() -> None:
    model = network().eval()
    inputs = torch.randn(3, 8)
    with torch.no_grad():
        before = model(inputs)
        twin = copy.deepcopy(model)
        assert torch.equal(twin(inputs), before)
        for adtn in encoded(twin).values():
            adtn.gates.mul_(2)
        assert not torch.equal(twin(inputs), before)
        assert torch.equal(model(inputs), before)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_block_decodes_for_evaluation_all_at_once(mode: type, contractions: Contractions) -> None:
    model = network().eval()
    inputs = torch.randn(3, 8)
    with mode():
        with decoded_once(model):
            first = model(inputs)
        assert contractions.taken() == (1, 0)
        assert torch.equal(model(inputs), first)
        with decoded_once(model):
            assert torch.equal(model(inputs), first)
    assert contractions.taken() == (0, 0)
    for adtn in encoded(model).values():
        torch.testing.assert_close(adtn(), expected(adtn))


def test_a_model_trained_in_evaluation_mode_sees_its_steps() -> None:
    models = [network().eval(), network().train()]
    models[1].load_state_dict(models[0].state_dict())
    inputs = torch.randn(3, 8)
    for model in models:
        optimiser = torch.optim.Adam(model.parameters(), lr=0.05, fused=True)
        for _ in range(3):
            optimiser.zero_grad()
            (model(inputs) + model(-inputs)).square().sum().backward()
            optimiser.step()
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict())
