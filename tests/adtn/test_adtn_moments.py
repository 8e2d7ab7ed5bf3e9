import pytest
import torch
from torch import nn

from adtn import compress, input_moments
from adtn.arrangements import brick_wall
from adtn.fitting import FitOptions


class PerSample(nn.Module):
    """Calls its layer with one sample at a time, without a batch axis."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.layer(sample) for sample in inputs])


def seeded_inputs(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(6, 4, bias=False), (50, 6)),
        (nn.Linear(6, 4, bias=False), (10, 5, 6)),
        (nn.Conv1d(3, 4, 5, padding=2, stride=2, bias=False), (20, 3, 12)),
        (nn.Conv2d(3, 4, (3, 2), padding=(1, 0), dilation=(1, 2), bias=False), (20, 3, 7, 8)),
        (nn.Conv2d(2, 3, 3, padding="same", bias=False), (20, 2, 6, 6)),
        (nn.Conv3d(2, 3, 2, bias=False), (5, 2, 4, 4, 4)),
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
    assert single.mean is not None
    assert batched.mean is not None
    torch.testing.assert_close(single.second, batched.second)
    torch.testing.assert_close(single.mean, batched.mean)


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
