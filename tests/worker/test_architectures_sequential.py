"""AlexNet, ZFNet and VGG-16 by name: published keys and counts, forward passes written out with torch's functions."""

from collections.abc import Mapping

import pytest
import torch
from support.sequential_states import PUBLISHED, sequential_state
from torch import Tensor, nn
from torch.nn import functional

from jobs.problems import ProblemError
from worker import architectures

NARROW = {
    "alexnet": (4, 6, 8, 6, 5),
    "zfnet": (5, 7, 9, 8, 6),
    "vgg16": (2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 6),
}
NAMES = tuple(NARROW)
POOLED = {"alexnet": (1, 2, 5), "zfnet": (1, 2, 5), "vgg16": (2, 4, 7, 10, 13)}
SMALL = {"alexnet": (3, 3, 3, 3, 3), "zfnet": (7, 5, 3, 3, 3), "vgg16": (3,) * 13}


def narrow_state(name: str, **changed: object) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return sequential_state(name, **({"widths": NARROW[name], "hidden": (12, 9), "classes": 4} | changed))


def written_out(
    name: str,
    state: Mapping[str, Tensor],
    x: Tensor,
    convolutions: Mapping[int, dict[str, int]],
    pools: Mapping[int, dict[str, int]],
    grid: int | None = None,
) -> Tensor:
    """The network in evaluation, as the oracle; `convolutions` and `pools` by number from 1, the rest is usual."""
    batch_norm = any(key.endswith("running_mean") for key in state)
    published = PUBLISHED[name]
    positions = published.norm_positions if batch_norm else published.positions
    for number, position in enumerate(positions, 1):
        key, norm = f"features.{position}", f"features.{position + 1}"
        weight = state[f"{key}.weight"]
        options = {"stride": 1, "padding": (weight.shape[2] - 1) // 2} | convolutions.get(number, {})
        x = functional.conv2d(x, weight, state.get(f"{key}.bias"), **options)
        if batch_norm:
            parts = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
            x = functional.batch_norm(x, *parts)
        x = x.clamp(min=0)
        if number in pools:
            x = functional.max_pool2d(x, **pools[number])
    if grid is not None:
        x = functional.adaptive_avg_pool2d(x, grid)
    x = x.flatten(1)
    keys = [key for key in state if key.startswith("classifier") and key.endswith("weight")]
    for key in keys:
        x = x @ state[key].T + state[key.replace("weight", "bias")]
        x = x if key == keys[-1] else x.clamp(min=0)
    return x


def pools_of(name: str, **options: int) -> dict[int, dict[str, int]]:
    return {number: options for number in POOLED[name]}


# The first form of each: as published, for 224 x 224. ZFNet's pools: maps of 110, 55, 26, 13 and 6 positions a side.
IMAGENET = {
    "alexnet": ({1: {"stride": 4, "padding": 2}}, pools_of("alexnet", kernel_size=3, stride=2), 6),
    "zfnet": (
        {1: {"stride": 2, "padding": 1}, 2: {"stride": 2, "padding": 0}},
        {number: {"kernel_size": 3, "stride": 2, "padding": int(number != 5)} for number in POOLED["zfnet"]},
        6,
    ),
    "vgg16": ({}, pools_of("vgg16", kernel_size=2, stride=2), 7),
}


def refused(name: str, state: Mapping[str, Tensor], shape: tuple[int, ...] | None = None) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        architectures.build(name, state, shape)
    return caught.value


@pytest.mark.parametrize(
    ("name", "batch_norm", "parameters"),
    [
        ("alexnet", False, 61_100_840),  # torchvision's documentation, AlexNet_Weights.IMAGENET1K_V1
        ("vgg16", False, 138_357_544),  # VGG16_Weights.IMAGENET1K_V1
        ("vgg16", True, 138_365_992),  # VGG16_BN_Weights.IMAGENET1K_V1
        ("zfnet", False, 62_357_608),  # the sum over figure 3 of arXiv:1311.2901, with biases
    ],
)
def test_imagenet_checkpoints_have_the_published_number_of_parameters(name: str, batch_norm: bool, parameters: int):
    with torch.device("meta"):
        built = architectures.build(name, sequential_state(name, batch_norm=batch_norm), (3, 224, 224))
        assert sum(parameter.numel() for parameter in built.model.parameters()) == parameters
        assert built.model(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
    assert built.classes == 1000


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_imagenet_form_is_the_published_one(name: str, batch_norm: bool):
    state = narrow_state(name, batch_norm=batch_norm)
    built = architectures.build(name, state, (3, 224, 224))
    convolutions, pools, grid = IMAGENET[name]
    x = torch.randn(2, 3, 224, 224)
    expected = written_out(name, state, x, convolutions, pools, grid)
    torch.testing.assert_close(built.model.eval()(x), expected, rtol=1e-4, atol=1e-4)
    assert built.details["batch_norm"] is batch_norm


def test_zfnet_has_the_maps_of_its_paper():
    model = architectures.build("zfnet", narrow_state("zfnet"), (3, 224, 224)).model
    sides = []
    for module in model.features:
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            module.register_forward_hook(lambda _module, _inputs, output: sides.append(output.shape[-1]))
    model(torch.randn(1, 3, 224, 224))
    assert sides == [110, 55, 26, 13, 13, 13, 13, 6]  # arXiv:1311.2901, figure 3


@pytest.mark.parametrize("side", [224, 256, 160])
@pytest.mark.parametrize("name", NAMES)
def test_the_imagenet_form_takes_images_of_other_sizes(name: str, side: int):
    state = narrow_state(name)
    convolutions, pools, grid = IMAGENET[name]
    built = architectures.build(name, state, (3, side, side + 32))
    x = torch.randn(1, 3, side, side + 32)
    expected = written_out(name, state, x, convolutions, pools, grid)
    torch.testing.assert_close(built.model.eval()(x), expected, rtol=1e-4, atol=1e-4)


SMALL_FORMS = [
    # name, kernels, side, area, strides by number, pool
    ("alexnet", (3, 3, 3, 3, 3), 32, 4, {1: 2}, {"kernel_size": 2, "stride": 2}),
    ("alexnet", (3, 3, 3, 3, 3), 28, 1, {1: 2}, {"kernel_size": 2, "stride": 2}),
    ("alexnet", (3, 3, 3, 3, 3), 32, 16, {}, {"kernel_size": 2, "stride": 2}),
    ("alexnet", (5, 5, 3, 3, 3), 28, 9, {}, {"kernel_size": 2, "stride": 2}),
    ("alexnet", (3, 3, 3, 3, 3), 32, 9, {}, {"kernel_size": 3, "stride": 2}),
    ("alexnet", (11, 5, 3, 3, 3), 32, 1, {1: 4}, {"kernel_size": 2, "stride": 2}),
    ("zfnet", (7, 5, 3, 3, 3), 32, 4, {1: 2}, {"kernel_size": 2, "stride": 2}),
    ("zfnet", (7, 5, 3, 3, 3), 28, 1, {1: 2}, {"kernel_size": 2, "stride": 2}),
    ("zfnet", (3, 3, 3, 3, 3), 32, 16, {}, {"kernel_size": 2, "stride": 2}),
    ("zfnet", (7, 5, 3, 3, 3), 64, 4, {1: 2, 2: 2}, {"kernel_size": 2, "stride": 2}),
    ("vgg16", (3,) * 13, 32, 1, {}, {"kernel_size": 2, "stride": 2}),
    ("vgg16", (3,) * 13, 64, 4, {}, {"kernel_size": 2, "stride": 2}),
    ("vgg16", (3,) * 13, 28, 1, {}, {"kernel_size": 2, "stride": 2, "ceil_mode": True}),
    ("vgg16", (5,) * 13, 8, 1, {}, {"kernel_size": 2, "stride": 2, "ceil_mode": True}),
]


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("name", "kernels", "side", "area", "strides", "pool"), SMALL_FORMS)
def test_small_images_find_strides_and_pools_from_their_size(name, kernels, side, area, strides, pool, batch_norm):
    state = narrow_state(name, kernels=kernels, area=area, batch_norm=batch_norm, channels=1)
    built = architectures.build(name, state, (side, side))
    assert built.input_shape == (1, side, side)
    x = torch.randn(3, 1, side, side)
    expected = written_out(
        name, state, x, {number: {"stride": stride} for number, stride in strides.items()}, pools_of(name, **pool)
    )
    torch.testing.assert_close(built.model.eval()(x), expected, rtol=1e-4, atol=1e-4)
    assert built.classes == 4


def test_vgg16_without_its_last_pool_is_found_by_the_number_of_features():
    state = narrow_state("vgg16", area=4)
    built = architectures.build("vgg16", state, (3, 32, 32))
    x = torch.randn(2, 3, 32, 32)
    pools = pools_of("vgg16", kernel_size=2, stride=2)
    del pools[13]
    expected = written_out("vgg16", state, x, {}, pools)
    torch.testing.assert_close(built.model.eval()(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_one_feature_a_channel_is_the_mean_over_a_larger_map(name: str):
    state = narrow_state(name, kernels=SMALL[name], area=1, hidden=(), linear=())
    built = architectures.build(name, state, (3, 96, 96))
    assert built.details["average_pool"] == 1
    convolutions = {1: {"stride": 2}} if name != "vgg16" else {}
    x = torch.randn(2, 3, 96, 96)
    expected = written_out(name, state, x, convolutions, pools_of(name, kernel_size=2, stride=2), grid=1)
    torch.testing.assert_close(built.model.eval()(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("hidden", "linear", "kinds"),
    [
        ((12, 9), (1, 4, 6), "Dropout Linear ReLU Dropout Linear ReLU Linear"),
        ((12, 9), (0, 3, 6), "Linear ReLU Dropout Linear ReLU Dropout Linear"),
        ((12, 9), (0, 2, 4), "Linear ReLU Linear ReLU Linear"),
        ((12,), (0, 3), "Linear ReLU Dropout Linear"),
        ((12,), (1, 4), "Dropout Linear ReLU Dropout Linear"),
        ((12,), (0, 2), "Linear ReLU Linear"),
        ((), (1,), "Dropout Linear"),
        ((), (0,), "Linear"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_the_places_of_linear_layers_say_what_stands_between_them(name, hidden, linear, kinds):
    state = narrow_state(name, kernels=SMALL[name], area=1, hidden=hidden, linear=linear)
    built = architectures.build(name, state, (3, 32, 32) if name == "vgg16" else (3, 28, 28))
    assert " ".join(type(module).__name__ for module in built.model.classifier) == kinds
    assert built.details["hidden"] == list(hidden)
    assert built.model(torch.randn(3, *built.input_shape)).shape == (3, 4)


@pytest.mark.parametrize(
    ("name", "changed", "shape"),
    [
        ("alexnet", {}, (3, 224, 224)),
        ("zfnet", {}, (3, 224, 224)),
        ("vgg16", {}, (3, 224, 224)),
        ("vgg16", {"area": 1}, (3, 32, 32)),
        ("vgg16", {"area": 1, "channels": 1}, (1, 32, 32)),
        ("alexnet", {"area": 4, "kernels": (3,) * 5}, (3, 32, 32)),
        ("zfnet", {"area": 4}, (3, 32, 32)),
    ],
)
def test_without_data_an_input_size_is_worked_out(name, changed, shape):
    built = architectures.build(name, narrow_state(name, **changed), None)
    assert built.input_shape == shape
    assert built.details["input"] == list(shape)
    assert built.model(torch.randn(2, *shape)).shape == (2, 4)


@pytest.mark.parametrize("area", [1, 2, 4, 6, 9, 16, 36, 49])
@pytest.mark.parametrize("name", NAMES)
def test_without_data_every_candidate_fits_the_weights(name: str, area: int):
    state = narrow_state(name, kernels=SMALL[name], area=area)
    built = architectures.build(name, state, None)
    assert built.details["candidates"][0]["input"] == list(built.input_shape)
    for candidate in built.details["candidates"]:
        assert architectures.build(name, state, tuple(candidate["input"])).model is not None
    assert built.model(torch.randn(2, *built.input_shape)).shape == (2, 4)


def test_what_the_weights_leave_open_is_said():
    state = narrow_state("alexnet", kernels=SMALL["alexnet"], area=1)
    built = architectures.build("alexnet", state, (3, 32, 32))
    candidates = built.details["candidates"]
    assert [(found["strides"][0], found["pools"][0]["kernel"], found["average_pool"]) for found in candidates] == [
        (2, 3, None),
        (2, 2, 1),
        (1, 2, 1),
        (1, 3, 1),
    ]
    (caveat,) = built.caveats
    assert caveat["code"] == "architecture_ambiguous"
    assert "4 forms" in caveat["detail"]
    assert architectures.build("alexnet", state, (3, 32, 32)).details == built.details


def test_forms_that_do_the_same_are_one_candidate():
    built = architectures.build("vgg16", narrow_state("vgg16", area=1, channels=1), (1, 32, 32))
    assert (built.caveats, built.details["notes"]) == ((), [])
    assert len(built.details["candidates"]) == 1


@pytest.mark.parametrize("counters", [False, True])
def test_the_model_has_the_keys_of_the_checkpoint(counters: bool):
    """torchvision's vgg16_bn was stored before batch norm counted its batches."""
    state = narrow_state("vgg16", batch_norm=True, counters=counters)
    built = architectures.build("vgg16", state, (3, 224, 224))
    loaded = built.model.state_dict()
    assert loaded.keys() == state.keys()
    for key, tensor in state.items():
        assert torch.equal(loaded[key], tensor)
    built.model(torch.randn(2, 3, 32, 32))


def test_batch_norm_may_stand_behind_convolutions_without_bias():
    state = narrow_state("vgg16", batch_norm=True, bias=False, area=1)
    built = architectures.build("vgg16", state, (3, 32, 32))
    x = torch.randn(2, 3, 32, 32)
    expected = written_out("vgg16", state, x, {}, pools_of("vgg16", kernel_size=2, stride=2))
    torch.testing.assert_close(built.model.eval()(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_dropout_and_batch_norm_act_in_training_only(name: str):
    state = narrow_state(name, batch_norm=True, hidden=(64, 64))
    model = architectures.build(name, state, (3, 64, 64)).model
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        assert model.training
        assert not torch.equal(model(x), model(x))  # dropout
        model.eval()
        kept = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        scores = model(x)
        assert torch.equal(scores, model(x))
        assert all(torch.equal(tensor, kept[key]) for key, tensor in model.state_dict().items())
        torch.testing.assert_close(model(x[:1]), scores[:1], rtol=1e-4, atol=1e-4)  # no statistics of the batch
    norm = f"features.{PUBLISHED[name].norm_positions[0] + 1}"
    assert kept[f"{norm}.num_batches_tracked"] == state[f"{norm}.num_batches_tracked"] + 2
    assert not torch.equal(kept[f"{norm}.running_mean"], state[f"{norm}.running_mean"])


def test_half_precision_is_computed_in_float32_and_counters_are_no_precision():
    state = {
        key: tensor.half() if tensor.is_floating_point() else tensor
        for key, tensor in narrow_state("vgg16", batch_norm=True, area=1).items()
    }
    built = architectures.build("vgg16", state, (3, 32, 32))
    assert built.details["notes"] == ["computed in float32, the checkpoint holds torch.float16"]
    assert {parameter.dtype for parameter in built.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", NAMES)
def test_every_key_that_does_not_fit_is_named_with_expected_and_got(name: str):
    state = narrow_state(name)
    first, second = (f"features.{position}" for position in PUBLISHED[name].positions[:2])
    last = f"classifier.{PUBLISHED[name].linear[2]}"
    widths, kernel = NARROW[name], PUBLISHED[name].kernels[1]
    del state[f"{last}.bias"]
    state[f"{first}.bias"] = torch.zeros(widths[0], dtype=torch.int64)
    state[f"{second}.weight"] = torch.zeros(widths[1], 99, kernel, kernel)
    state["fc.weight"] = torch.zeros(3)
    problem = refused(name, state, (3, 224, 224))
    assert problem.code == "checkpoint_mismatch"
    assert {fault.pointer: (fault.detail, fault.code) for fault in problem.errors} == {
        f"{first}.bias": ("expected floating-point numbers, got int64", "checkpoint_mismatch"),
        f"{second}.weight": (
            f"expected (conv2, {widths[0]}, kernel2, kernel2), got ({widths[1]}, 99, {kernel}, {kernel})",
            "checkpoint_mismatch",
        ),
        f"{last}.bias": ("expected (4,), got no such key", "checkpoint_mismatch"),
        "fc.weight": (f"expected no such key in {name}, got (3,)", "checkpoint_mismatch"),
    }
    assert f"{second}.weight: expected" in problem.detail


@pytest.mark.parametrize(
    ("key", "tensor", "detail"),
    [
        ("features.1.running_mean", torch.zeros(3), "expected (2,), got (3,)"),
        ("features.1.running_var", None, "expected (2,), got no such key"),
        ("features.1.num_batches_tracked", torch.zeros(2), "expected (), got (2,)"),
        ("features.2.weight", torch.zeros(2), "expected no such key in vgg16, got (2,)"),
        ("features.40.weight", torch.zeros(6, 8, 3, 5), "expected (conv13, 8, kernel13, kernel13), got (6, 8, 3, 5)"),
    ],
)
def test_a_fault_in_batch_norm_is_named(key: str, tensor: Tensor | None, detail: str):
    state = narrow_state("vgg16", batch_norm=True)
    state.pop(key, None)
    if tensor is not None:
        state[key] = tensor
    problem = refused("vgg16", state)
    assert problem.code == "checkpoint_mismatch"
    assert [(fault.pointer, fault.detail) for fault in problem.errors] == [(key, detail)]


@pytest.mark.parametrize("shape", [None, (3, 224, 224)])
def test_features_that_are_no_multiple_of_the_channels_do_not_fit(shape: tuple[int, ...] | None):
    state = narrow_state("alexnet") | {"classifier.1.weight": torch.zeros(12, 181)}
    problem = refused("alexnet", state, shape)
    assert problem.code == "checkpoint_mismatch"
    assert [(fault.pointer, fault.detail) for fault in problem.errors] == [
        ("classifier.1.weight", "expected (fc1, a multiple of features.10's 5 channels), got (12, 181)")
    ]


@pytest.mark.parametrize("shape", [None, (3, 224, 224)])
def test_features_that_no_image_has_do_not_fit(shape: tuple[int, ...] | None):
    state = narrow_state("alexnet") | {"classifier.1.weight": torch.zeros(12, 5 * 7919)}
    problem = refused("alexnet", state, shape)
    assert problem.code == "checkpoint_mismatch"
    assert [fault.pointer for fault in problem.errors] == ["classifier.1.weight"]
    assert "got (12, 39595)" in problem.detail


@pytest.mark.parametrize(
    ("name", "changed", "shape", "said"),
    [
        ("alexnet", {}, (1, 224, 224), ["features.0.weight", "(3, height, width)", "(1, 224, 224)"]),
        ("alexnet", {}, (224, 224), ["(3, height, width)", "(224, 224)"]),
        ("zfnet", {}, (3072,), ["(3, height, width)", "(3072,)"]),
        ("alexnet", {}, (3, 5, 5), ["classifier.1.weight", "180 features", "(3, 5, 5)", "(3, 224, 224)"]),
        ("zfnet", {"area": 4}, (3, 4, 4), ["classifier.1.weight", "24 features", "(3, 4, 4)", "(3, 32, 32)"]),
        (
            "vgg16",
            {"area": 4},
            (3, 8, 8),
            ["classifier.0.weight", "24 features", "give 0, 6, 294", "(3, 8, 8)", "(3, 32, 32)"],
        ),
        ("vgg16", {"area": 9}, (3, 32, 32), ["54 features", "(3, 96, 96)"]),
    ],
)
def test_samples_that_do_not_fit_are_a_mismatch_of_the_data(name, changed, shape, said):
    problem = refused(name, narrow_state(name, **changed), shape)
    assert problem.code == "dataset_mismatch"
    for words in said:
        assert words in problem.detail


def test_another_network_of_the_family_is_a_mismatch():
    problem = refused("vgg16", narrow_state("alexnet"))
    assert problem.code == "checkpoint_mismatch"
    assert "features.2.weight" in {fault.pointer for fault in problem.errors}
