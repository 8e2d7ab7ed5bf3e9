import contextlib
import copy
import threading
from collections.abc import Iterator

import pytest
import torch
from einsum_oracle import einsum_contract
from support.contractions import Contractions
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from adtn import (
    ADTN,
    BlockEnded,
    Sum,
    brick_wall,
    decoded_once,
    decoding,
    encode,
    encoded,
    interleaved,
    sites_for,
    staircase,
)


def network(dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Sequential:
    """Three encoded weights, two of equal structure, and biases that stay dense."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
    for key in ("0.weight", "2.weight", "4.weight"):
        shape = model.get_parameter(key).shape
        generator = torch.Generator().manual_seed(seed + int(key[0]))
        encode(model, key, ADTN(shape, brick_wall(sites_for(shape)), dtype, generator))
    return model


def samples(dtype: torch.dtype = torch.float64, count: int = 20) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 8, generator=generator).to(dtype), torch.randint(3, (count,), generator=generator)


def losses(model: nn.Module, parts: int, dtype: torch.dtype = torch.float64) -> Iterator[Tensor]:
    """Of equal micro-batches; their sum is the loss of all samples."""
    inputs, labels = samples(dtype)
    for some, wanted in zip(inputs.chunk(parts), labels.chunk(parts), strict=True):
        yield functional.cross_entropy(model(some).to(torch.float64), wanted) / parts


def oracle(model: nn.Module) -> dict[str, Tensor]:
    """The gradients of one large batch, of a dense network whose weights opt_einsum has decoded."""
    leaves = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    dense = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    state = {name: leaf for name, leaf in leaves.items() if "parametrizations" not in name}
    for key, adtn in encoded(model).items():
        gates = leaves[f"{key[0]}.parametrizations.weight.0.gates"]
        state[key] = einsum_contract(gates, adtn.structure)[: adtn.shape.numel()].view(adtn.shape)
    inputs, labels = samples()
    loss = functional.cross_entropy(functional_call(dense, state, (inputs,)), labels)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    return {name: p.grad for name, p in model.named_parameters()}


def close(found: object, expected: object) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def gates_of(model: nn.Module) -> list[nn.Parameter]:
    return [adtn.gates for adtn in encoded(model).values()]


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_micro_batches_give_the_gradients_of_one_large_batch(parts: int) -> None:
    model = network()
    with decoded_once(model):
        for loss in losses(model, parts):
            loss.backward()
    close(gradients(model), oracle(model))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_micro_batches_give_the_gradients_of_decoding_at_every_use(dtype: torch.dtype) -> None:
    model, plain = network(dtype), network(dtype)
    with decoded_once(model):
        assert model[0].weight.dtype == dtype
        for loss in losses(model, 5, dtype):
            loss.backward()
    for loss in losses(plain, 5, dtype):
        loss.backward()
    torch.testing.assert_close(gradients(model), gradients(plain), rtol=1e-4, atol=1e-6)


def test_a_step_decodes_equal_structures_together_and_goes_back_once(contractions: Contractions) -> None:
    model = network()
    with decoded_once(model):
        assert contractions.taken() == (2, 0)
        for loss in losses(model, 5):
            loss.backward()
        assert contractions.taken() == (0, 0)
    assert contractions.taken() == (0, 2)


def test_weights_of_one_structure_and_different_shapes_are_a_batch(contractions: Contractions) -> None:
    model = nn.ModuleList([ADTN((4, 8), brick_wall(5)), ADTN((8, 4), brick_wall(5)), ADTN((2, 3), brick_wall(5))])
    with decoded_once(model):
        assert contractions.taken() == (2, 0)
        for adtn in model:
            flat = einsum_contract(adtn.gates, adtn.structure)[: adtn.shape.numel()]
            torch.testing.assert_close(adtn(), flat.view(adtn.shape))


def test_large_weights_are_decoded_in_smaller_batches(
    contractions: Contractions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "BATCH_ENTRIES", 64)
    model = network()
    with decoded_once(model):
        assert contractions.taken() == (3, 0)
        for loss in losses(model, 2):
            loss.backward()
    close(gradients(model), oracle(model))


def test_gradients_add_to_those_that_are_there() -> None:
    model = network()
    for _ in range(2):
        with decoded_once(model):
            for loss in losses(model, 2):
                loss.backward()
    close(gradients(model), {name: 2 * grad for name, grad in oracle(model).items()})


def test_an_unused_weight_leaves_its_gates_as_they_were() -> None:
    adtns = nn.ModuleList([ADTN((4, 4), brick_wall(4)) for _ in range(3)])
    adtns[2].gates.grad = torch.ones_like(adtns[2].gates)
    with decoded_once(adtns):
        adtns[0]().sum().backward()
        adtns[1]()
    assert adtns[0].gates.grad is not None
    assert adtns[1].gates.grad is None
    assert torch.equal(adtns[2].gates.grad, torch.ones_like(adtns[2].gates))


def test_a_block_without_a_backward_pass_brings_nothing(contractions: Contractions) -> None:
    model = network()
    with decoded_once(model):
        list(losses(model, 2))
    assert contractions.taken() == (2, 0)
    assert all(grad is None for grad in gradients(model).values())


def test_hooks_of_gates_run_once_a_step_and_may_change_the_gradient() -> None:
    model = network()
    gates = gates_of(model)[0]
    done: list[Tensor] = []
    gates.register_hook(lambda grad: -3 * grad)
    gates.register_post_accumulate_grad_hook(lambda parameter: done.append(parameter.grad.clone()))
    with decoded_once(model):
        for loss in losses(model, 5):
            loss.backward()
    expected = -3 * oracle(model)["0.parametrizations.weight.0.gates"]
    close(done, [expected])
    close(gates.grad, expected)


def test_frozen_gates_get_no_gradient_and_others_of_their_structure_do() -> None:
    model = network()
    expected = oracle(model)
    frozen = gates_of(model)[0].requires_grad_(False)
    with decoded_once(model):
        assert not model[0].weight.requires_grad
        for loss in losses(model, 2):
            loss.backward()
    assert frozen.grad is None
    close(gates_of(model)[1].grad, expected["2.parametrizations.weight.0.gates"])


def test_a_block_that_raises_brings_nothing_to_the_gates() -> None:
    model = network()
    loss: Tensor | None = None

    def stopped() -> None:
        nonlocal loss
        with decoded_once(model):
            loss = next(losses(model, 1))
            loss.backward(retain_graph=True)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert all(gates.grad is None for gates in gates_of(model))
    with pytest.raises(BlockEnded):
        loss.backward()
    assert model[0].weight.grad_fn is not None  # the block is over


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_backward_pass_after_the_block_is_refused(dtype: torch.dtype) -> None:
    model = network(dtype)
    with decoded_once(model):
        loss = next(losses(model, 1, dtype))
    with pytest.raises(BlockEnded, match="inside of its decoded_once block"):
        loss.backward()


def test_tied_weights_are_one_leaf() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    encode(model, "0.weight", ADTN((8, 8), brick_wall(6)))
    inputs = samples(torch.float32)[0]
    model(inputs).sum().backward()
    expected = gates_of(model)[0].grad
    model.zero_grad()
    with decoded_once(model):
        assert model[0].weight is model[2].weight
        model(inputs).sum().backward()
    torch.testing.assert_close(gates_of(model)[0].grad, expected)


def test_steps_of_an_optimiser_go_the_way_of_decoding_at_every_use() -> None:
    models = [network(), network()]
    for model, block in zip(models, (decoded_once, contextlib.nullcontext), strict=True):
        optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(3):
            optimiser.zero_grad()
            with block(model):
                for loss in losses(model, 2):
                    loss.backward()
            optimiser.step()
    close(models[0].state_dict(), models[1].state_dict())


def test_without_gradients_a_block_hands_out_weights_without_any() -> None:
    model = network()
    with torch.no_grad(), decoded_once(model):
        first = model[0].weight
        assert not first.requires_grad
        assert torch.equal(first, encoded(model)["0.weight"].decode())
    assert all(grad is None for grad in gradients(model).values())


def test_gradients_that_are_wanted_inside_a_block_without_any_reach_the_gates() -> None:
    model = network()
    with torch.no_grad(), decoded_once(model), torch.enable_grad():
        for loss in losses(model, 2):
            loss.backward()
    close(gradients(model), oracle(model))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_block_also_serves_code_without_gradients(mode: type, contractions: Contractions) -> None:
    model = network()
    with decoded_once(model):
        trained = model[0].weight
        contractions.taken()
        with mode():
            assert not model[0].weight.requires_grad
            assert torch.equal(model[0].weight, trained)
        assert model[0].weight is trained
    assert contractions.taken() == (0, 0)


@pytest.mark.parametrize("mode", [contextlib.nullcontext, torch.no_grad])
def test_gates_that_change_inside_are_seen_when_the_block_ends(mode: type) -> None:
    adtn = ADTN((4, 4), brick_wall(4))
    with mode():
        before = adtn.decode()
        with decoded_once(adtn):
            with torch.no_grad():
                adtn.gates.mul_(2)
            assert torch.equal(adtn(), before)
        assert torch.equal(adtn(), adtn.decode())
        assert not torch.equal(adtn(), before)


def test_a_nested_block_reuses_what_the_outer_one_has() -> None:
    model = network()
    with decoded_once(model):
        weight = model[0].weight
        with decoded_once(model[0]):
            assert model[0].weight is weight
            next(losses(model, 1)).backward()
        assert gates_of(model)[0].grad is None
        assert model[0].weight is weight
    close(gradients(model), oracle(model))


def test_a_nested_block_decodes_what_the_outer_one_does_not_have() -> None:
    model = network()
    with decoded_once(model[0]):
        with decoded_once(model):
            next(losses(model, 1)).backward()
        close(gates_of(model)[1].grad, oracle(model)["2.parametrizations.weight.0.gates"])
        assert gates_of(model)[0].grad is None
    close(gradients(model), oracle(model))


def test_a_training_block_inside_an_evaluation_brings_gradients() -> None:
    model = network()
    with torch.no_grad(), decoded_once(model), torch.enable_grad(), decoded_once(model):
        assert model[0].weight.is_leaf
        next(losses(model, 1)).backward()
    close(gradients(model), oracle(model))


def test_a_block_holds_for_the_thread_that_opened_it() -> None:
    adtn = ADTN((4, 4), brick_wall(4))
    seen: list[Tensor] = []
    with decoded_once(adtn):
        thread = threading.Thread(target=lambda: seen.append(adtn()))
        thread.start()
        thread.join()
        assert not seen[0].is_leaf
    seen[0].sum().backward()
    assert adtn.gates.grad is not None


def test_a_deep_copy_made_inside_is_a_model_of_its_own() -> None:
    model = network()
    with decoded_once(model):
        twin = copy.deepcopy(model)
        with torch.no_grad():
            gates_of(twin)[0].mul_(2)
        assert not torch.equal(twin[0].weight, model[0].weight)
        next(losses(twin, 1)).backward()
    close(gradients(twin), oracle(twin))
    assert all(grad is None for grad in gradients(model).values())


def test_autocast_coarsens_neither_decoding_nor_its_gradient() -> None:
    adtn = ADTN((16, 16), brick_wall(8))
    direction = torch.randn(16, 16)
    weight = adtn()
    (expected,) = torch.autograd.grad(weight, adtn.gates, direction)
    with torch.autocast("cpu", dtype=torch.bfloat16), decoded_once(adtn):
        assert torch.equal(adtn(), weight)
        adtn().backward(direction)
    assert torch.equal(adtn.gates.grad, expected)


def test_outside_of_blocks_gradients_are_taken_with_respect_to_gates() -> None:
    model = network()
    found = torch.autograd.grad(next(losses(model, 1)), gates_of(model))
    close(list(found), [oracle(model)[f"{i}.parametrizations.weight.0.gates"] for i in (0, 2, 4)])


def test_inside_of_blocks_gradients_are_taken_with_respect_to_weights() -> None:
    model = network()
    with decoded_once(model):
        (found,) = torch.autograd.grad(next(losses(model, 1)), model[0].weight)
    gates = gates_of(model)[0]
    assert gates.grad is None
    (expected,) = torch.autograd.grad(model[0].weight, gates, found)
    close(expected, oracle(model)["0.parametrizations.weight.0.gates"])


def test_a_penalty_on_the_gradient_of_the_inputs_reaches_the_gates() -> None:
    models = [network(), network()]
    for model, block in zip(models, (decoded_once, contextlib.nullcontext), strict=True):
        inputs = samples()[0].requires_grad_()
        with block(model):
            (slope,) = torch.autograd.grad(model(inputs).sum(), inputs, create_graph=True)
            slope.square().sum().backward()
    close(gradients(models[0]), gradients(models[1]))


def test_checkpointed_layers_decode_once_and_learn(contractions: Contractions) -> None:
    model = network()
    inputs, labels = samples()
    with decoded_once(model):
        functional.cross_entropy(checkpoint(model, inputs, use_reentrant=False), labels).backward()
    assert contractions.taken() == (2, 2)
    close(gradients(model), oracle(model))


def test_other_gates_put_in_for_one_call_are_decoded() -> None:
    adtn = ADTN((4, 4), brick_wall(4))
    other = (2 * adtn.gates.detach()).requires_grad_()
    with decoded_once(adtn):
        weight = functional_call(adtn, {"gates": other}, ())
        weight.sum().backward()
        torch.testing.assert_close(weight.flatten(), einsum_contract(other, adtn.structure))
    assert other.grad is not None
    assert adtn.gates.grad is None


def test_a_sum_of_orders_learns_in_a_block() -> None:
    structure = Sum((brick_wall(interleaved((4, 8))), staircase(5)))
    adtns = nn.ModuleList([ADTN((4, 7), structure, torch.float64) for _ in range(2)])
    direction = torch.randn(4, 7, dtype=torch.float64)
    with decoded_once(adtns):
        for adtn in adtns:
            adtn().backward(direction)
    for adtn in adtns:
        gates = adtn.gates.detach().clone().requires_grad_()
        einsum_contract(gates, structure)[:28].view(4, 7).backward(direction)
        close(adtn.gates.grad, gates.grad)


def test_the_sparse_gradient_of_an_embedding_reaches_the_gates() -> None:
    models = [nn.Embedding(16, 4, sparse=sparse) for sparse in (False, True)]
    for model in models:
        encode(model, "weight", ADTN((16, 4), brick_wall(6), generator=torch.Generator().manual_seed(0)))
        with decoded_once(model):
            model(torch.tensor([1, 3, 3])).square().sum().backward()
    plain, sparse = (next(iter(encoded(model).values())).gates.grad for model in models)
    torch.testing.assert_close(sparse, plain)
