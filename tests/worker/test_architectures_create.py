"""Networks made new: they read back as what they are, in the sizes that were asked for."""

import pytest
import torch
from support.sequential_states import PUBLISHED
from torch import nn

from jobs.problems import ProblemError
from worker import architectures

NAMES = tuple(PUBLISHED)


def narrow(name: str) -> tuple[int, ...]:
    return (4, 6, 8, 6, 5) if name != "vgg16" else (2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [28, 32, 64, 96, 224])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_new_network_reads_back_as_the_same_function(name: str, side: int, batch_norm: bool):
    torch.manual_seed(0)
    shape = (3, side, side)
    model = architectures.create(name, shape, 7, widths=narrow(name), hidden=(12, 9), batch_norm=batch_norm)
    built = architectures.build(name, model.state_dict(), shape)
    x = torch.randn(2, *shape)
    assert torch.equal(model.eval()(x), built.model.eval()(x))
    assert built.details["widths"] == list(narrow(name))
    assert built.details["hidden"] == [12, 9]
    assert built.classes == 7


@pytest.mark.parametrize("name", NAMES)
def test_published_sizes_are_the_default(name: str):
    published = PUBLISHED[name]
    with torch.device("meta"):
        state = architectures.create(name, (3, 32, 32), 10).state_dict()
        large = architectures.create(name, (3, 224, 224), 1000).state_dict()
    keys = [f"features.{position}.weight" for position in published.positions]
    assert [len(state[key]) for key in keys] == [len(large[key]) for key in keys] == list(published.widths)
    assert [large[key].shape[2] for key in keys] == list(published.kernels)
    linear = [tuple(state[f"classifier.{position}.weight"].shape) for position in published.linear]
    features = {"alexnet": 1024, "zfnet": 1024, "vgg16": 512}[name]
    assert linear == [(4096, features), (4096, 4096), (10, 4096)]


@pytest.mark.parametrize(("hidden", "shapes"), [((), [(10, 6)]), ((5,), [(5, 6), (10, 5)])])
def test_the_classifier_has_as_many_layers_as_asked_for(hidden, shapes):
    model = architectures.create("vgg16", (1, 32, 32), 10, widths=narrow("vgg16"), hidden=hidden)
    linear = [module for module in model.classifier if isinstance(module, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in linear] == shapes


def test_other_kernels_may_be_asked_for():
    model = architectures.create(
        "alexnet", (1, 28, 28), 10, widths=narrow("alexnet"), hidden=(5,), kernels=(5, 5, 3, 3, 3)
    )
    assert model.features[0].kernel_size == (5, 5)
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("name", NAMES)
def test_activations_keep_their_size_through_a_new_network(name: str):
    """From torch's own start the scores of these networks are little but their last bias, whatever the image."""
    torch.manual_seed(0)
    model = architectures.create(name, (3, 32, 32), 10, widths=[16] * len(PUBLISHED[name].widths), hidden=(64, 64))
    scores = model.eval()(torch.randn(64, 3, 32, 32))
    assert 0.01 < scores.std(0).mean() < 10  # over the images; from that start under 0.001


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"widths": (3, 4)}, "vgg16 has 13 convolutions: expected as many conv sizes, got 2"),
        ({"kernels": (3, 4)}, "vgg16 has 13 convolutions: expected as many kernel sizes, got 2"),
        ({"hidden": (3, 4, 5)}, "expected at most 2 hidden linear layers, got 3"),
    ],
)
def test_sizes_that_do_not_fit_the_network_are_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        architectures.create("vgg16", (3, 32, 32), 10, **changed)


def test_images_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match=r"alexnet: expected larger images, got \(3, 4, 4\)"):
        architectures.create("alexnet", (3, 4, 4), 10)


def test_only_sequential_networks_are_made():
    with pytest.raises(ProblemError, match="alexnet, zfnet, vgg16, got 'lenet5'"):
        architectures.create("lenet5", (1, 28, 28), 10)
