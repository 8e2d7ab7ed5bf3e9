"""Where a model is split before the first weight that is trained."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from support.small_vgg import images, small_vgg
from torch import Tensor, nn
from torch.nn import functional

from adtn import ADTN, brick_wall, encode
from adtn.freezing import trainable
from adtn.prefix import NotSplit, rest_of, split
from worker.architectures import build
from worker.architectures.new import create


def linear(inputs: int, outputs: int, frozen: bool = True) -> nn.Linear:
    return nn.Linear(inputs, outputs).requires_grad_(not frozen)


class Branches(nn.Module):
    """Two branches of frozen layers that meet in a trained one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = linear(6, 6), linear(6, 6), linear(6, 6)
        self.head = linear(6, 3, frozen=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.left(x).relu() + self.right(x))


class Skipping(nn.Module):
    """The inputs are used once more after the first trained layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = linear(6, 6), linear(6, 6, frozen=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x)) + x


class Functional(nn.Module):
    """Frozen weights used by functions, one layer used twice, and dropout without a module."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6), requires_grad=False)
        self.twice, self.head = linear(6, 6), linear(6, 3, frozen=False)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(functional.linear(x, self.weight)).relu_())
        return self.head(functional.dropout(x, self.dropout, self.training))


class DataDependent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = linear(6, 6), linear(6, 3, frozen=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head(x if x.sum() > 0 else -x)


@pytest.mark.parametrize(
    ("model", "code", "shape"),
    [
        (Branches(), "left", (6,)),
        (nn.Sequential(linear(6, 4), nn.ReLU(), linear(4, 5), linear(5, 2, frozen=False)), "2", (5,)),
        (nn.Sequential(linear(6, 4), nn.Sequential(nn.ReLU(), linear(4, 3, frozen=False))), "0", (4,)),
        (nn.Sequential(linear(6, 4), nn.Dropout(0.0), linear(4, 3), nn.Dropout(0.5), linear(3, 3, False)), "2", (3,)),
        (nn.Sequential(linear(6, 4), nn.Dropout(0.5), linear(4, 3), linear(3, 3, False)), "0", (4,)),
        (nn.Sequential(linear(6, 4), nn.BatchNorm1d(4), linear(4, 3, False)), "0", (4,)),
        (Functional(0.0), "twice", (6,)),
        (Functional(0.5), "twice", (6,)),
    ],
    ids=["branches", "sequential", "nested", "no-dropout", "dropout", "batch-norm", "functional", "functional-dropout"],
)
def test_the_parts_make_what_the_model_makes(model: nn.Module, code: str, shape: tuple[int, ...]) -> None:
    model.train()
    inputs = torch.randn(9, 6)
    before = copy.deepcopy(model.state_dict())
    parts = split(model, inputs[:4])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert code in dict(parts.prefix.named_modules())
    assert not any(parameter.requires_grad for parameter in parts.prefix.parameters())
    assert parts.shape == shape
    activations = parts.prefix(inputs)
    torch.manual_seed(3)
    expected = model(inputs)
    torch.manual_seed(3)
    assert torch.equal(parts.rest(activations), expected)


def test_dropout_and_batch_norm_that_learns_come_after_the_prefix() -> None:
    norm = nn.BatchNorm1d(4).requires_grad_(False)
    model = nn.Sequential(linear(6, 4), norm, nn.Dropout(0.5), linear(4, 3, False)).train()
    assert [type(module) for module in split(model, torch.randn(4, 6)).prefix.children()] == [nn.Linear]
    norm.eval()
    found = [type(module) for module in split(model, torch.randn(4, 6)).prefix.children()]
    assert found == [nn.Linear, nn.BatchNorm1d]


def test_after_the_last_frozen_weight_the_smallest_activations_are_taken() -> None:
    inputs, _ = images(8)
    model = small_vgg()
    with trainable(model, "freeze"):
        parts = split(model, inputs[:4])
        assert parts.shape == (16, 1, 1)  # of features, not the 64 numbers of avgpool
        torch.manual_seed(0)
        expected = model(inputs)
        torch.manual_seed(0)
        assert torch.equal(parts.rest(parts.prefix(inputs)), expected)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (DataDependent(), "cannot be traced: TraceError"),
        (Skipping(), "no frozen weight comes before"),
        (nn.Sequential(nn.ReLU(), linear(6, 3, frozen=False)), "no frozen weight comes before"),
        (nn.Sequential(linear(6, 6, frozen=False), linear(6, 3)), "no frozen weight comes before"),
        (nn.Sequential(nn.Dropout(0.5), linear(6, 6), linear(6, 3, frozen=False)), "no frozen weight comes before"),
        (nn.Bilinear(6, 6, 3), "takes more than its inputs"),
    ],
    ids=["data-dependent", "inputs-twice", "no-weights", "trained-first", "dropout-first", "two-inputs"],
)
def test_models_that_cannot_be_split_say_why(model: nn.Module, reason: str) -> None:
    with pytest.raises(NotSplit, match=reason):
        split(model.train(), torch.randn(4, 6))


def test_an_encoded_weight_ends_the_prefix_even_where_its_gates_are_frozen() -> None:
    model = nn.Sequential(linear(6, 4), linear(4, 4), linear(4, 3, frozen=False))
    encode(model, "1.weight", ADTN((4, 4), brick_wall(4)))  # its rounding may be phased in
    assert not model[1].parametrizations.weight[0].gates.requires_grad
    assert list(split(model, torch.randn(4, 6)).prefix.state_dict()) == ["0.weight", "0.bias"]


@pytest.mark.parametrize(
    "register",
    [
        lambda module, hook: module.register_forward_hook(hook),
        lambda module, hook: module.register_forward_pre_hook(hook),
    ],
)
def test_hooks_run_at_every_step(register: Callable[[nn.Module, Callable[..., None]], object]) -> None:
    model = nn.Sequential(linear(6, 4), nn.Sequential(linear(4, 4), nn.ReLU()), linear(4, 3, frozen=False))
    calls: list[int] = []
    register(model[1], lambda *_: calls.append(1))
    parts = split(model, torch.randn(4, 6))
    assert calls == []
    parts.rest(parts.prefix(torch.randn(4, 6)))
    assert calls == [1]
    register(model, lambda *_: None)
    with pytest.raises(NotSplit, match="hooks"):
        split(model, torch.randn(4, 6))


def test_constants_of_the_forward_leave_nothing_at_the_model() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = linear(6, 4), linear(4, 3, frozen=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.first(x)) + torch.tensor([1.0, 2.0, 3.0])

    model, inputs = Shifted(), torch.randn(4, 6)
    names = set(vars(model))
    parts = split(model, inputs)
    assert set(vars(model)) == names
    assert torch.equal(parts.rest(parts.prefix(inputs)), model(inputs))


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8)])
def test_the_networks_known_by_name_are_split(shape: tuple[int, ...]) -> None:
    side = {28: 400, 8: 64}[shape[1]]
    state = {
        "conv1.weight": torch.randn(6, 1, 5 if side == 400 else 3, 5 if side == 400 else 3),
        "conv2.weight": torch.randn(16, 6, 5 if side == 400 else 3, 5 if side == 400 else 3),
        "fc1.weight": torch.randn(20, side),
        "fc2.weight": torch.randn(10, 20),
        "fc3.weight": torch.randn(4, 10),
    }
    state |= {key.replace("weight", "bias"): torch.randn(len(value)) for key, value in state.items()}
    model = build("lenet5", state, shape).model
    encode(model, "fc1.weight", ADTN((20, side), brick_wall(14)))
    inputs = torch.randn(5, *shape)
    with trainable(model, "freeze"):
        parts = split(model, inputs)
        assert parts.shape.numel() == side
        assert torch.equal(parts.rest(parts.prefix(inputs)), model(inputs))


@pytest.mark.parametrize(("name", "convolutions"), [("alexnet", 5), ("zfnet", 5), ("vgg16", 13)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_no_convolution_of_a_large_network_is_in_the_rest(name: str, convolutions: int, batch_norm: bool) -> None:
    model = create(name, (3, 32, 32), 10, widths=[4] * convolutions, hidden=(8, 8), batch_norm=batch_norm)
    key = next(key for key, parameter in model.named_parameters() if parameter.dim() == 2)
    shape = model.get_parameter(key).shape
    encode(model, key, ADTN(shape, brick_wall(math.ceil(math.log2(shape.numel())))))
    inputs = torch.randn(4, 3, 32, 32)
    with trainable(model, "freeze"):
        parts = split(model, inputs)
        assert sum(isinstance(module, nn.Conv2d) for module in parts.prefix.modules()) == convolutions
        assert not any(isinstance(module, nn.Conv2d) for module in parts.rest.modules())
        torch.manual_seed(0)
        expected = model(inputs)
        torch.manual_seed(0)
        assert torch.equal(parts.rest(parts.prefix(inputs)), expected)


def test_another_model_goes_on_from_the_same_activations_if_it_begins_the_same() -> None:
    inputs, _ = images(8)
    model, teacher = small_vgg(), small_vgg(encoded=False).eval()
    with trainable(model, "freeze"):
        parts = split(model, inputs)
        rest = rest_of(teacher, parts)
        assert rest is not None
        assert torch.equal(rest(parts.prefix(inputs)), teacher(inputs))
    with torch.no_grad():
        teacher.features[0].weight[0, 0, 0, 0] += 1e-3
    assert rest_of(teacher, parts) is None
    assert rest_of(nn.Sequential(linear(6, 4)), parts) is None
    assert rest_of(DataDependent(), parts) is None
    other = small_vgg(encoded=False).eval()
    other.features[6] = nn.MaxPool2d(4)
    assert rest_of(other, parts) is None
