"""Networks by name: sizes read off the weights, forward passes against torch's own functions."""

import inspect
from collections.abc import Mapping

import pytest
import torch
from support.sequential_states import sequential_state
from torch import Tensor, nn
from torch.nn import functional

from jobs import catalogue
from jobs.problems import ProblemError
from worker import architectures
from worker.architectures import candidates, convolutional, geometry, layout, lenet5, networks, new, sequential

OWN_MODULES = (architectures, candidates, convolutional, geometry, layout, lenet5, networks, new, sequential)


def fc2_state(inputs: int = 12, hidden: int = 7, classes: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "fc1.weight": torch.randn(hidden, inputs),
        "fc1.bias": torch.randn(hidden),
        "fc2.weight": torch.randn(classes, hidden),
        "fc2.bias": torch.randn(classes),
    }


def lenet_state(features: int = 400, kernels: tuple[int, int] = (5, 5), channels: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "conv1.weight": torch.randn(6, channels, kernels[0], kernels[0]),
        "conv1.bias": torch.randn(6),
        "conv2.weight": torch.randn(16, 6, kernels[1], kernels[1]),
        "conv2.bias": torch.randn(16),
        "fc1.weight": torch.randn(120, features),
        "fc1.bias": torch.randn(120),
        "fc2.weight": torch.randn(84, 120),
        "fc2.bias": torch.randn(84),
        "fc3.weight": torch.randn(10, 84),
        "fc3.bias": torch.randn(10),
    }


def lenet_forward(state: Mapping[str, Tensor], x: Tensor, padding: tuple[int, int]) -> Tensor:
    """The network written out with torch's functions, as the oracle."""
    for name, pad in zip(("conv1", "conv2"), padding, strict=True):
        x = functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=pad).clamp(min=0)
        x = functional.max_pool2d(x, 2)
    x = x.reshape(len(x), -1)
    for name in ("fc1", "fc2"):
        x = (x @ state[f"{name}.weight"].T + state[f"{name}.bias"]).clamp(min=0)
    return x @ state["fc3.weight"].T + state["fc3.bias"]


def refused(name: str, state: Mapping[str, Tensor], shape: tuple[int, ...] | None = None) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        architectures.build(name, state, shape)
    return caught.value


def test_fc2_flattens_and_applies_a_relu():
    state = fc2_state()
    built = architectures.build("fc2", state, (3, 4))
    x = torch.randn(5, 3, 4)
    hidden = (x.reshape(5, 12) @ state["fc1.weight"].T + state["fc1.bias"]).clamp(min=0)
    torch.testing.assert_close(built.model(x), hidden @ state["fc2.weight"].T + state["fc2.bias"])
    assert built.input_shape == (3, 4)
    assert built.classes == 3


@pytest.mark.parametrize(
    ("kernels", "features", "shape", "padding"),
    [
        ((5, 5), 400, (1, 28, 28), (2, 0)),  # the variant for MNIST
        ((5, 5), 256, (1, 28, 28), (0, 0)),
        ((5, 5), 400, (1, 32, 32), (0, 0)),  # the original
        ((5, 5), 784, (1, 28, 28), (2, 2)),
        ((5, 3), 400, (1, 28, 28), (0, 0)),
        ((5, 3), 576, (1, 28, 28), (2, 0)),
        ((3, 3), 16, (1, 8, 8), (1, 0)),  # the digits
        ((3, 3), 64, (1, 8, 8), (1, 1)),
        ((5, 5), 400, (28, 28), (2, 0)),
        ((5, 5), 16 * 5 * 3, (1, 28, 20), (2, 0)),
        ((1, 1), 16 * 49, (1, 28, 28), (0, 0)),
    ],
)
def test_lenet5_finds_the_padding_from_the_input_size(kernels, features, shape, padding):
    state = lenet_state(features, kernels)
    built = architectures.build("lenet5", state, shape)
    assert built.details["padding"] == list(padding)
    x = torch.randn(4, *built.input_shape)
    torch.testing.assert_close(built.model(x), lenet_forward(state, x, padding), rtol=1e-4, atol=1e-2)


def test_a_padding_that_the_input_size_leaves_open_is_said():
    built = architectures.build("lenet5", lenet_state(16, (3, 3)), (1, 8, 8))
    assert [found["padding"] for found in built.details["candidates"]] == [[1, 0], [0, 1]]
    assert [caveat["code"] for caveat in built.caveats] == ["architecture_ambiguous"]
    assert architectures.build("lenet5", lenet_state(), (1, 28, 28)).caveats == ()


@pytest.mark.parametrize("features", [16, 16 * 4, 400, 16 * 6 * 3, 16 * 7])
@pytest.mark.parametrize("kernels", [(5, 5), (3, 3), (3, 5), (2, 4)])
def test_lenet5_without_data_takes_an_input_that_fits_the_weights(features: int, kernels: tuple[int, int]):
    built = architectures.build("lenet5", lenet_state(features, kernels, channels=3), None)
    assert built.model(torch.randn(2, *built.input_shape)).shape == (2, 10)
    for variant in built.details["candidates"]:
        model = lenet5.LeNet5(built.details, tuple(variant["padding"]))
        assert model(torch.randn(2, *variant["input"])).shape == (2, 10)


def test_lenet5_without_data_takes_28_by_28_for_the_usual_weights():
    built = architectures.build("lenet5", lenet_state(), None)
    assert built.input_shape == (1, 28, 28)
    assert built.details["padding"] == [2, 0]
    assert {"padding": [0, 0], "input": [1, 32, 32]} in built.details["candidates"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_computed_in_float32_and_that_is_said(dtype: torch.dtype):
    state = {key: tensor.to(dtype) for key, tensor in fc2_state().items()}
    built = architectures.build("fc2", state, None)
    for key, tensor in built.model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, state[key].float())
    assert str(dtype) in built.details["notes"][0]
    assert {tensor.dtype for tensor in state.values()} == {dtype}


def test_the_model_has_memory_of_its_own():
    state = fc2_state()
    before = state["fc1.weight"].clone()
    with torch.no_grad():
        architectures.build("fc2", state, None).model.fc1.weight.zero_()
    assert torch.equal(state["fc1.weight"], before)


def test_every_key_that_does_not_fit_is_named_with_expected_and_got():
    state = lenet_state()
    del state["fc3.bias"]
    state["conv2.weight"] = torch.zeros(16, 7, 5, 5)
    state["fc2.weight"] = torch.zeros(84, 120, 1)
    state["fc2.bias"] = torch.zeros(84, dtype=torch.int64)
    state["bn.weight"] = torch.zeros(3)
    problem = refused("lenet5", state)
    assert problem.code == "checkpoint_mismatch"
    assert {fault.pointer: fault.detail for fault in problem.errors} == {
        "conv2.weight": "expected (conv2, 6, kernel2, kernel2), got (16, 7, 5, 5)",
        "fc2.weight": "expected (fc2, 120), got (84, 120, 1)",
        "fc2.bias": "expected floating-point numbers, got int64",
        "fc3.bias": "expected (10,), got no such key",
        "bn.weight": "expected no such key in lenet5, got (3,)",
    }
    assert "conv2.weight: expected" in problem.detail


def test_kernels_that_are_not_square_do_not_fit():
    state = lenet_state() | {"conv1.weight": torch.zeros(6, 1, 5, 3)}
    assert [fault.pointer for fault in refused("lenet5", state).errors] == ["conv1.weight"]


def test_features_that_no_image_has_do_not_fit():
    problem = refused("lenet5", lenet_state(features=401))
    assert problem.code == "checkpoint_mismatch"
    assert [fault.pointer for fault in problem.errors] == ["fc1.weight"]


@pytest.mark.parametrize(
    ("name", "state", "shape", "said"),
    [
        ("fc2", fc2_state(), (13,), ["12 numbers", "(13,)"]),
        ("lenet5", lenet_state(), (3, 28, 28), ["(1, height, width)", "(3, 28, 28)"]),
        ("lenet5", lenet_state(), (784,), ["(1, height, width)", "(784,)"]),
        ("lenet5", lenet_state(channels=3), (28, 28), ["(3, height, width)", "(28, 28)"]),
        ("lenet5", lenet_state(), (1, 8, 8), ["400 features", "(1, 8, 8)", "(1, 28, 28)", "(1, 32, 32)"]),
        ("lenet5", lenet_state(), (1, 2, 2), ["400 features"]),
    ],
)
def test_samples_that_do_not_fit_are_a_mismatch_of_the_data(name, state, shape, said):
    problem = refused(name, state, shape)
    assert problem.code == "dataset_mismatch"
    for words in said:
        assert words in problem.detail


def test_an_unknown_name_is_told_what_is_known():
    problem = refused("resnet9000", {})
    assert problem.code == "unknown_architecture"
    assert "fc2, lenet5, alexnet, zfnet, vgg16" in problem.detail


def test_the_names_and_keys_are_those_that_the_service_lists():
    assert tuple(catalogue.ARCHITECTURES) == architectures.ARCHITECTURES
    with torch.device("meta"):
        states = {"fc2": fc2_state(), "lenet5": lenet_state()}
        states |= {name: sequential_state(name) for name in ("alexnet", "zfnet", "vgg16")}
        for name, state in states.items():
            model = architectures.build(name, state, None).model
            assert tuple(model.state_dict()) == catalogue.ARCHITECTURES[name].keys
            weighted = (module for module, found in model.named_modules() if isinstance(found, nn.Linear | nn.Conv2d))
            assert tuple(weighted) == catalogue.ARCHITECTURES[name].layers


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_the_service_knows_the_order_of_layers_in_the_form_with_batch_norm(name: str):
    with torch.device("meta"):
        model = architectures.build(name, sequential_state(name, batch_norm=True), None).model
    used = [module for module, found in model.named_modules() if isinstance(found, nn.Linear | nn.Conv2d)]
    assert tuple(used) != catalogue.ARCHITECTURES[name].layers
    assert sorted(sorted(used), key=catalogue.ARCHITECTURES[name].place) == used


def test_building_needs_no_adtn():
    for module in OWN_MODULES:
        assert "adtn" not in inspect.getsource(module)
