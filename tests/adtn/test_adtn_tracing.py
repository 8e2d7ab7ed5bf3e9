"""The contraction in ordinary operators, and models that can be traced."""

import pytest
import torch
from hypothesis import given, settings
from structures import LARGE, structures
from torch import nn

from adtn import ADTN, Sum, brick_wall, contract, encode, encode_together, encoded, interleaved, staircase
from adtn.circle import WINDOW, circle_of
from adtn.encoding import decoded
from adtn.structure import AnyStructure, Structure
from adtn.tracing import PlainADTN, contract_plainly, traceable


def assert_contracts_alike(structure: AnyStructure) -> None:
    gates = ADTN((structure.size,), structure, torch.float64, torch.Generator().manual_seed(0)).gates.detach()
    expected = contract(gates, structure)
    torch.testing.assert_close(
        contract_plainly(gates, structure), expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max())
    )


@settings(max_examples=60, deadline=None)
@given(structures())
def test_any_structure_is_contracted_to_the_same_tensor(structure: Structure) -> None:
    assert_contracts_alike(structure)


def test_a_sum_is_contracted_to_the_same_tensor() -> None:
    assert_contracts_alike(Sum((brick_wall(9, 3), staircase(interleaved((16, 32)), 1, 3))))


@pytest.mark.parametrize("name", LARGE)
def test_a_tensor_on_which_gates_act_together_is_the_same(name: str) -> None:
    assert_contracts_alike(LARGE[name])


def test_gates_side_by_side_need_no_turn() -> None:
    circle = circle_of(brick_wall(8, 1))
    assert {step.turn for step in circle.steps[:4]} == {1}
    assert [step.rows for step in circle.steps] == [4] * len(circle.steps)
    assert circle.turn != 1  # the second row of gates ends before the last site


def test_neighbouring_gates_of_a_large_tensor_act_together_in_windows() -> None:
    gates, above = len(brick_wall(20, 1).gates), len(brick_wall(20, 2).gates) - len(brick_wall(20, 1).gates)
    circle = circle_of(brick_wall(20, 2))
    (second,) = (i for i, step in enumerate(circle.steps) if step.activate)
    small, large = circle.steps[: second - 3], circle.steps[second:]
    assert gates > above / 2
    assert {step.window for step in small[:6]} == {None}
    assert len(large) < above / 2
    assert max(step.rows for step in circle.steps) == WINDOW
    assert all(step.columns == step.rows for step in large)


@pytest.mark.parametrize("bits", [None, 2, 3, 5, 8])
def test_a_plain_weight_holds_as_few_bytes_and_decodes_alike(bits: int | None) -> None:
    adtn = ADTN((20, 12), Sum((brick_wall(8, 2, 2, "tanh"), brick_wall(8))), generator=torch.Generator().manual_seed(0))
    if bits is not None:
        adtn.quantise(bits)
    plain = PlainADTN(adtn)
    torch.testing.assert_close(plain(), adtn(), rtol=1e-5, atol=1e-6)
    stored = sum(tensor.nbytes for tensor in plain.state_dict().values())
    numbers = adtn.structure.parameters
    expected = {None: 4 * numbers, 2: numbers / 5, 3: numbers / 2, 5: numbers, 8: numbers}[bits]
    assert stored <= expected + 4 * 3 + 1  # three groups of gates have a scale


class Network(nn.Module):
    """A tied weight, two weights of one network, and one that stays dense."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Linear(12, 20, bias=False), nn.Linear(12, 20)
        self.a, self.b = nn.Linear(20, 6), nn.Linear(6, 12)
        self.head.weight = self.words.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.b(torch.relu(self.a(torch.relu(self.words(x))))))
        return scores


def compressed(dtype: torch.dtype = torch.float32) -> Network:
    torch.manual_seed(0)
    model = Network().to(dtype).eval()
    encode(model, "words.weight", ADTN((20, 12), brick_wall(8, 2), dtype))
    encode_together(model, ["a.weight", "b.weight"], ADTN((192,), brick_wall(8, 2, 2, "gelu"), dtype))
    return model


def decoded_state(model: Network) -> dict[str, torch.Tensor]:
    rest = {key: tensor for key, tensor in model.state_dict().items() if "parametrizations" not in key}
    return rest | decoded(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_traceable_copy_answers_alike_in_float32_and_the_model_stays(dtype: torch.dtype) -> None:
    model = compressed(dtype)
    encoded(model)["words.weight"].quantise(6)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    plain, inputs = traceable(model), torch.randn(3, 12)
    dense = Network()  # computes in float32, with the numbers of the dtype
    dense.load_state_dict({key: tensor.float() for key, tensor in decoded_state(model).items()})
    torch.testing.assert_close(plain(inputs), dense(inputs), rtol=1e-5, atol=1e-5)
    assert plain.head.weight.dtype == torch.float32
    assert not any(isinstance(module, ADTN) for module in plain.modules())
    assert len({id(m) for m in plain.modules() if isinstance(m, PlainADTN)}) == 2
    after = model.state_dict()
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())


def test_a_model_without_encoded_weights_is_copied() -> None:
    model = Network().eval()
    plain, inputs = traceable(model), torch.randn(3, 12)
    assert torch.equal(plain(inputs), model(inputs))
    assert plain is not model
