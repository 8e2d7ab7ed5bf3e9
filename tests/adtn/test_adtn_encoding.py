import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import adtn
from adtn.arrangements import brick_wall
from adtn.encoding import encode, encoded, encoded_places
from adtn.errors import ShapeError
from adtn.module import ADTN
from adtn.sites import sites_for


class Tokens(nn.Module):
    """A model whose weight is a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.tokens


class Tied(nn.Module):
    """An embedding whose weight is the output layer's too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embedding(x))


class First(nn.Module):
    """Keeps the first output of a module that has several."""

    def __init__(self, module: nn.Module, calls: int = 1) -> None:
        super().__init__()
        self.module = module
        self.calls = calls

    def forward(self, x: Tensor) -> Tensor:
        return self.module(*(x,) * self.calls)[0]


def random_adtn(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> ADTN:
    return ADTN(shape, brick_wall(sites_for(shape)), dtype, torch.Generator().manual_seed(7))


def tokens(*shape: int) -> Tensor:
    return torch.randint(0, 20, shape, generator=torch.Generator().manual_seed(0))


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


KINDS: dict[str, tuple[Callable[[], nn.Module], str, Callable[[], Tensor]]] = {
    "linear": (lambda: nn.Linear(12, 8), "weight", lambda: numbers(3, 12)),
    "conv1d": (lambda: nn.Conv1d(4, 8, 3), "weight", lambda: numbers(2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 8, 3, groups=2), "weight", lambda: numbers(2, 4, 6, 6)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 2), "weight", lambda: numbers(2, 2, 4, 4, 4)),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(4, 8, 3), "weight", lambda: numbers(2, 4, 9)),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(4, 8, 3), "weight", lambda: numbers(2, 4, 6, 6)),
    "conv_transpose3d": (lambda: nn.ConvTranspose3d(2, 4, 2), "weight", lambda: numbers(2, 2, 4, 4, 4)),
    "embedding": (lambda: nn.Embedding(20, 8, padding_idx=0), "weight", lambda: tokens(3, 4)),
    "embedding bag": (lambda: nn.EmbeddingBag(20, 8), "weight", lambda: tokens(3, 4)),
    "bare parameter": (Tokens, "tokens", lambda: numbers(3, 16)),
    "tied": (Tied, "head.weight", lambda: tokens(3, 4)),
    "lstm": (lambda: First(nn.LSTM(6, 8, 2, bidirectional=True)), "module.weight_hh_l1", lambda: numbers(5, 2, 6)),
    "gru": (lambda: First(nn.GRU(8, 8)), "module.weight_ih_l0", lambda: numbers(5, 2, 8)),
    "lstm cell": (lambda: First(nn.LSTMCell(8, 8)), "module.weight_hh", lambda: numbers(5, 8)),
    "attention": (
        lambda: First(nn.MultiheadAttention(8, 2, batch_first=True), 3),
        "module.in_proj_weight",
        lambda: numbers(2, 5, 8),
    ),
    "transformer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
        "self_attn.in_proj_weight",
        lambda: numbers(2, 5, 8),
    ),
}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", KINDS)
def test_encoded_model_computes_what_the_dense_model_with_the_decoded_weight_does(name: str, training: bool) -> None:
    build, key, inputs = KINDS[name]
    torch.manual_seed(0)
    dense = build().train(training)
    model = copy.deepcopy(dense)
    adtn_ = random_adtn(tuple(dict(model.named_parameters(remove_duplicate=False))[key].shape))
    encode(model, key, adtn_)
    with torch.no_grad():
        dict(dense.named_parameters(remove_duplicate=False))[key].copy_(adtn_())
        for _ in range(2):  # the second call must not see weights kept from the first
            torch.testing.assert_close(model(inputs()), dense(inputs()))
            adtn_.gates.mul_(1.1)
            dict(dense.named_parameters(remove_duplicate=False))[key].copy_(adtn_())
    model(inputs()).square().sum().backward()
    dense(inputs()).square().sum().backward()
    weight = adtn_()
    grad = dict(dense.named_parameters(remove_duplicate=False))[key].grad
    (expected,) = torch.autograd.grad(weight, adtn_.gates, grad)
    torch.testing.assert_close(adtn_.gates.grad, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    copy.deepcopy(model)


def test_state_dict_has_gates_and_no_dense_original() -> None:
    model = nn.Sequential(nn.Linear(12, 8))
    encode(model, "0.weight", random_adtn((8, 12)))
    assert list(model.state_dict()) == ["0.bias", "0.parametrizations.weight.0.gates"]
    assert [place.gates_key for place in encoded_places(model)] == ["0.parametrizations.weight.0.gates"]
    bare = Tokens()
    encode(bare, "tokens", random_adtn((16, 8)))
    assert list(bare.state_dict()) == ["parametrizations.tokens.0.gates"]
    assert [place.gates_key for place in encoded_places(bare)] == list(bare.state_dict())


def test_a_tied_weight_has_one_adtn_in_every_place() -> None:
    model = Tied()
    encode(model, "head.weight", random_adtn((20, 8)))
    assert [tuple(p.shape) for p in model.parameters()] == [(brick_wall(8).parameters,)]
    assert list(encoded(model)) == ["embedding.weight"]
    assert [place.key for place in encoded_places(model)] == ["embedding.weight", "head.weight"]
    with adtn.decoded_once(model):
        assert model.head.weight is model.embedding.weight


def test_a_module_used_twice_is_found_under_both_names() -> None:
    shared = nn.Linear(8, 8)
    model = nn.ModuleDict({"a": shared, "b": shared})
    encode(model, "b.weight", random_adtn((8, 8)))
    assert [place.key for place in encoded_places(model)] == ["a.weight", "b.weight"]
    assert list(encoded(model)) == ["a.weight"]


def test_several_weights_of_one_module_are_encoded_side_by_side() -> None:
    model = nn.LSTM(8, 8)
    keys = ["weight_ih_l0", "weight_hh_l0"]
    for key in keys:
        encode(model, key, random_adtn((32, 8)))
    assert list(encoded(model)) == keys
    with adtn.decoded_once(model):
        model(numbers(4, 1, 8))[0].sum().backward()
    assert all(found.gates.grad.any() for found in encoded(model).values())


def test_a_recurrent_layer_used_twice_in_a_block_learns_from_both_uses() -> None:
    model = nn.RNN(8, 8)
    encode(model, "weight_hh_l0", random_adtn((8, 8)))
    gates = encoded(model)["weight_hh_l0"].gates
    (single,) = torch.autograd.grad(model(numbers(3, 1, 8))[0].sum(), gates)
    with adtn.decoded_once(model):
        sum(model(numbers(3, 1, 8))[0].sum() for _ in range(2)).backward()
    torch.testing.assert_close(gates.grad, 2 * single)


def test_an_encoded_weight_cannot_be_assigned_to() -> None:
    model = nn.Linear(12, 8)
    encode(model, "weight", random_adtn((8, 12)))
    with pytest.raises(ShapeError, match="cannot be assigned to"):
        model.weight = torch.zeros(8, 12)
    with pytest.raises(KeyError, match="already exists"):
        model.weight = nn.Parameter(torch.zeros(8, 12))


def test_frozen_weights_stay_frozen() -> None:
    model = nn.Linear(12, 8)
    model.weight.requires_grad_(False)
    encode(model, "weight", random_adtn((8, 12)))
    assert not encoded(model)["weight"].gates.requires_grad


def test_a_model_cast_to_double_computes_in_double() -> None:
    model = nn.Linear(12, 8)
    encode(model, "weight", random_adtn((8, 12)))
    assert model.double()(numbers(2, 12).double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("key", "adtn_", "message"),
    [
        ("1.weight", random_adtn((8, 12)), "no module '1'"),
        ("0.weights", random_adtn((8, 12)), "no such parameter"),
        ("0.weight", random_adtn((12, 8)), r"expected an ADTN of shape \(8, 12\).*got \(12, 8\)"),
        ("0.weight", random_adtn((8, 12), torch.float64), r"torch\.float32, got .*torch\.float64"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(key: str, adtn_: ADTN, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        encode(nn.Sequential(nn.Linear(12, 8)), key, adtn_)


def test_a_weight_cannot_be_encoded_twice() -> None:
    model = nn.Sequential(nn.Linear(12, 8))
    encode(model, "0.weight", random_adtn((8, 12)))
    with pytest.raises(ShapeError, match="already"):
        encode(model, "0.weight", random_adtn((8, 12)))


@pytest.mark.parametrize(
    ("layer", "mean", "message"),
    [
        (nn.Linear(12, 8, bias=False), torch.zeros(12), r"0\.weight: expected a bias of shape \(8,\).*, got none"),
        (nn.ConvTranspose1d(8, 4, 3), torch.zeros(12), r"0\.weight: expected a bias of shape \(8,\).*, got \(4,\)"),
        (nn.Linear(12, 8), torch.zeros(8), r"0\.weight: expected an input mean of shape \(12,\), got \(8,\)"),
    ],
    ids=["no bias", "another bias", "another mean"],
)
def test_a_mean_that_no_bias_can_take_up_is_refused_and_nothing_is_encoded(
    layer: nn.Module, mean: Tensor, message: str
) -> None:
    model = nn.Sequential(layer)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ShapeError, match=message):
        encode(model, "0.weight", random_adtn(tuple(layer.weight.shape)), mean)  # type: ignore[union-attr, arg-type]
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
