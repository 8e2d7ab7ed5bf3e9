import pytest
import torch
from torch import nn

from adtn import ShapeError, compress, input_moments
from adtn.arrangements import brick_wall
from adtn.fitting import FitOptions
from adtn.moments import InputMoments


class PerSample(nn.Module):
    """Calls its layer with one sample at a time, without a batch axis."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.layer(sample) for sample in inputs])


class ByKeyword(nn.Module):
    """Hands its layer the samples by name."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(input=inputs)


class Routed(nn.Module):
    """Hands its layer the samples whose first number is positive, and then the others: there may be none of either."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        positive = inputs[:, 0] > 0
        return torch.cat([self.layer(inputs[positive]), self.layer(inputs[~positive])])


class Tied(nn.Module):
    """Two layers with one weight, whose inputs have different means: (N, 16) to (N, 2, 8)."""

    def __init__(self, tied_bias: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(16, 8), nn.Linear(16, 8)
        self.second.weight = self.first.weight
        if tied_bias:
            self.second.bias = self.first.bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.first(inputs), self.second(inputs + 3)], 1)


def seeded_inputs(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def assert_alike(found: InputMoments, expected: InputMoments) -> None:
    """Of layers with a bias."""
    assert found.mean is not None
    assert expected.mean is not None
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.second, expected.second)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(6, 4, bias=False), (50, 6)),
        (nn.Linear(6, 4, bias=False), (10, 5, 6)),
        (nn.Conv1d(3, 4, 5, padding=2, stride=2, bias=False), (20, 3, 12)),
        (nn.Conv2d(3, 4, (3, 2), padding=(1, 0), dilation=(1, 2), bias=False), (20, 3, 7, 8)),
        (nn.Conv2d(2, 3, 3, padding="same", bias=False), (20, 2, 6, 6)),
        (nn.Conv3d(2, 3, 2, bias=False), (5, 2, 4, 4, 4)),
        (nn.Conv1d(3, 4, 3, padding=2, padding_mode="circular", bias=False), (20, 3, 6)),
        (nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="reflect", bias=False), (20, 2, 6, 4)),
        (nn.Conv3d(2, 3, 3, padding=1, padding_mode="replicate", bias=False), (5, 2, 4, 4, 4)),
    ],
)
def test_moment_gives_the_mean_square_of_the_outputs(layer: nn.Module, shape: tuple[int, ...]) -> None:
    model = nn.Sequential(layer)
    inputs = seeded_inputs(*shape)
    weight = layer.weight.detach().flatten(1)  # type: ignore[union-attr]
    moment = input_moments(model, inputs, ["0.weight"])["0.weight"].second
    channel = 1 if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) else -1
    expected = model(inputs).detach().movedim(channel, 0).flatten(1).square().mean(1).sum()
    torch.testing.assert_close(torch.trace(weight @ moment @ weight.T), expected, rtol=1e-4, atol=1e-4)


def test_what_is_not_covered_has_no_entry_and_is_fitted_plainly() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(4, 4, 3), nn.Conv2d(4, 8, 3, groups=2), nn.Flatten(), nn.Linear(128, 8))
    keys = ["0.weight", "1.weight", "3.weight"]
    inputs = seeded_inputs(8, 4, 4, 4)
    assert list(input_moments(model, inputs, keys)) == ["3.weight"]
    structures = {key: brick_wall(10, 1) for key in keys}
    assert len(compress(model, structures, FitOptions(steps=2), inputs=inputs)) == 3


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    input_moments(model, seeded_inputs(30, 6), ["0.weight", "2.weight"])
    assert [module.training for module in model] == [True, False, True]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_convolution_called_without_a_batch_axis_has_the_same_moment() -> None:
    layer = nn.Conv2d(3, 4, 3)
    inputs = seeded_inputs(6, 3, 5, 5)
    batched = input_moments(nn.Sequential(layer), inputs, ["0.weight"])["0.weight"]
    single = input_moments(PerSample(layer), inputs, ["layer.weight"])["layer.weight"]
    assert_alike(single, batched)


def test_with_a_bias_moments_are_about_the_mean() -> None:
    inputs = seeded_inputs(200, 6) + 1000.0  # float32 sums about zero would lose every digit of the variance
    found = input_moments(nn.Sequential(nn.Linear(6, 4)), inputs, ["0.weight"])["0.weight"]
    assert found.mean is not None
    torch.testing.assert_close(found.mean, inputs.double().mean(0).float())
    torch.testing.assert_close(found.second, inputs.double().T.cov(correction=0).float(), rtol=1e-3, atol=1e-3)


def test_compressing_with_samples_keeps_the_mean_of_every_output() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32))
    inputs = seeded_inputs(300, 16).relu()
    before = model(inputs).detach()
    compress(model, {"0.weight": brick_wall(9, 1)}, FitOptions(steps=20), inputs=inputs)
    after = model(inputs).detach()
    assert not torch.allclose(before, after, atol=0.1)
    torch.testing.assert_close(before.mean(0), after.mean(0), rtol=1e-4, atol=1e-5)


def test_samples_stay_as_they_are_where_the_model_begins_in_place() -> None:
    inputs = seeded_inputs(30, 6)
    input_moments(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 4)), inputs, ["1.weight"])
    assert torch.equal(inputs, seeded_inputs(30, 6))


@pytest.mark.parametrize("wrapper", [ByKeyword, Routed])
def test_how_a_layer_is_called_makes_no_difference(wrapper: type[ByKeyword | Routed]) -> None:
    layer, inputs = nn.Linear(6, 4), seeded_inputs(30, 6)
    inputs[:, 0] = -inputs[:, 0].abs()
    plain = input_moments(nn.Sequential(layer), inputs, ["0.weight"])["0.weight"]
    found = input_moments(wrapper(layer), inputs, ["layer.weight"])["layer.weight"]
    assert_alike(found, plain)


def test_a_layer_that_is_never_reached_has_no_entry() -> None:
    inputs = seeded_inputs(30, 6)
    assert input_moments(nn.Sequential(nn.Linear(6, 4)), inputs[:0], ["0.weight"]) == {}


@pytest.mark.parametrize("key", ["1.weight", "0.weights"])
def test_what_the_model_does_not_have_is_refused(key: str) -> None:
    model, inputs = nn.Sequential(nn.Linear(6, 4)), seeded_inputs(30, 6)
    with pytest.raises(ShapeError, match=f"{key}: the model has no"):
        input_moments(model, inputs, [key])
    with pytest.raises(ShapeError, match=f"{key}: the model has no"):
        compress(model, {key: brick_wall(5, 1)}, inputs=inputs)


def test_where_the_bias_is_named_too_or_is_another_layers_moments_are_about_zero() -> None:
    inputs = seeded_inputs(200, 6) + 1
    expected = inputs.T @ inputs / len(inputs)
    model = nn.Sequential(nn.Linear(6, 4))
    named = input_moments(model, inputs, ["0.weight", "0.bias"])
    assert list(named) == ["0.weight"]
    shared = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    shared[1].bias = shared[0].bias
    for found in (named["0.weight"], input_moments(shared, inputs, ["0.weight"])["0.weight"]):
        assert found.mean is None
        torch.testing.assert_close(found.second, expected)


def test_layers_that_share_a_weight_have_means_of_their_own() -> None:
    inputs = seeded_inputs(200, 16)
    found = input_moments(Tied(), inputs, ["second.weight"])
    assert set(found) == {"first.weight", "second.weight"}
    for key, shift in (("first.weight", 0), ("second.weight", 3)):
        mean = found[key].mean
        assert mean is not None
        torch.testing.assert_close(mean, inputs.mean(0) + shift)
        torch.testing.assert_close(found[key].second, inputs.T.cov(correction=0))


def test_layers_that_share_weight_and_bias_are_one() -> None:
    inputs = seeded_inputs(200, 16)
    found = input_moments(Tied(tied_bias=True), inputs, ["second.weight"])
    assert list(found) == ["second.weight"]
    seen = torch.cat([inputs, inputs + 3])
    mean = found["second.weight"].mean
    assert mean is not None
    torch.testing.assert_close(mean, seen.mean(0))
    torch.testing.assert_close(found["second.weight"].second, seen.T.cov(correction=0))


@pytest.mark.parametrize("tied_bias", [False, True], ids=["own biases", "one bias"])
def test_compressing_a_tied_weight_keeps_the_mean_of_every_output_that_its_biases_can_keep(tied_bias: bool) -> None:
    model, inputs = Tied(tied_bias), seeded_inputs(300, 16)
    axes = (0, 1) if tied_bias else (0,)
    before = model(inputs).detach()
    compress(model, {"first.weight": brick_wall(7, 1)}, FitOptions(steps=5), inputs=inputs)
    after = model(inputs).detach()
    assert not torch.allclose(before, after, atol=0.1)
    torch.testing.assert_close(before.mean(axes), after.mean(axes), rtol=1e-4, atol=1e-5)


def test_a_tied_weight_of_a_group_keeps_the_mean_of_every_output() -> None:
    tied, other = Tied(), nn.Linear(16, 8)
    model, inputs = nn.Sequential(other, nn.Linear(8, 16), tied), seeded_inputs(300, 16)
    given = nn.Sequential(other, model[1])(inputs).detach()
    before, earlier = tied(given).detach().mean(0), other(inputs).detach().mean(0)
    compress(model, {("0.weight", "2.first.weight"): brick_wall(8, 1)}, FitOptions(steps=5), inputs=inputs)
    torch.testing.assert_close(tied(given).detach().mean(0), before, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other(inputs).detach().mean(0), earlier, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("keys", [("0.bias", "0.weight"), ("0.weight", "0.bias")])
def test_a_bias_that_is_encoded_itself_takes_nothing_up(keys: tuple[str, str]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64))
    bias, sites = model[0].bias.detach().clone(), {"0.bias": 6, "0.weight": 10}
    done = compress(
        model, {key: brick_wall(sites[key], 1) for key in keys}, FitOptions(5), inputs=seeded_inputs(50, 16)
    )
    assert tuple(item.key for item in done) == keys
    error = float((model[0].bias.detach() - bias).norm() / bias.norm())
    assert done[keys.index("0.bias")].relative_error == pytest.approx(error, rel=1e-5)
