"""Classifiers of torchvision and timm by name, in the sizes of a checkpoint: the oracle is the library's own model."""

import copy
import resource
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.library_models import torchvision
from torch import Tensor, nn

from adtn.exporting import traced
from adtn.prefix import split
from adtn.tracing import PlainADTN
from jobs.problems import ProblemError
from worker import libraries


@pytest.fixture(autouse=True)
def _importable() -> None:
    torchvision()


def own(name: str, **settings: Any) -> nn.Module:
    """What the library builds, with random weights; in evaluation mode."""
    torch.manual_seed(0)
    library, model = name.split("/")
    if library == "timm":
        import timm

        made: nn.Module = timm.create_model(model, **settings)
    else:
        made = torchvision().models.get_model(model, weights=None, **settings)
    return made.eval()


def refused(name: str, state: dict[str, Tensor], shape: tuple[int, ...] | None = None) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        libraries.build(name, state, shape)
    return caught.value


@pytest.mark.parametrize(
    ("name", "settings", "given", "shape"),
    [
        ("torchvision/squeezenet1_1", {"num_classes": 5}, (3, 40, 48), (3, 40, 48)),
        ("torchvision/shufflenet_v2_x0_5", {"num_classes": 4}, None, (3, 224, 224)),
        ("torchvision/regnet_y_400mf", {}, (3, 32, 32), (3, 32, 32)),
        ("torchvision/mnasnet0_5", {}, (3, 32, 32), (3, 32, 32)),
        ("torchvision/googlenet", {"num_classes": 4, "init_weights": False, "aux_logits": False}, (3, 64, 64), None),
        ("timm/test_resnet", {"num_classes": 6, "in_chans": 1}, (40, 40), (1, 40, 40)),
        ("timm/test_vit", {"num_classes": 6, "img_size": 64}, (3, 64, 64), (3, 64, 64)),
        ("timm/test_convnext", {"num_classes": 3, "in_chans": 4}, None, (4, 160, 160)),
    ],
)
def test_a_model_is_built_in_the_sizes_of_its_weights_and_its_samples(
    name: str, settings: dict[str, Any], given: tuple[int, ...] | None, shape: tuple[int, ...] | None
) -> None:
    model = own(name, **settings)
    built = libraries.build(name, model.state_dict(), given)
    assert built.input_shape == (shape or given)
    assert built.model.training
    assert built.model.state_dict().keys() == model.state_dict().keys()
    samples = torch.rand(2, *built.input_shape)
    expected = model(samples)
    assert torch.equal(built.model.eval()(samples), expected)
    assert built.classes == expected.shape[1]


def test_auxiliary_heads_are_there_if_the_checkpoint_has_them_and_never_answer() -> None:
    name = "torchvision/googlenet"
    model = own(name, num_classes=3, init_weights=False)
    built = libraries.build(name, model.state_dict(), (3, 64, 64))
    assert built.model.state_dict().keys() == model.state_dict().keys()
    samples = torch.rand(2, 3, 64, 64)
    assert torch.equal(built.model.eval()(samples), model(samples))
    assert built.model.train()(samples).shape == (2, 3)


def test_counters_of_batches_may_be_missing() -> None:
    name = "timm/test_resnet"
    state = {key: tensor for key, tensor in own(name).state_dict().items() if "num_batches" not in key}
    built = libraries.build(name, state, None)
    assert built.model.state_dict().keys() == state.keys()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("torchvision/resnet19", "torchvision/resnet18"),
        ("torchvision/fasterrcnn_resnet50_fpn", "classifiers of torchvision"),
        ("timm/resnet18.a1_in1k", "timm/resnet18"),
        ("timm/ResNet18", "timm/resnet18"),
        ("timm/hf-hub", "classifiers of timm"),
    ],
)
def test_an_unknown_name_is_told_with_those_close_to_it(name: str, says: str) -> None:
    problem = refused(name, {})
    assert problem.code == "unknown_architecture"
    assert says in problem.detail


@pytest.mark.parametrize(
    "name", ["timm/hf-hub:user/model", "timm/local-dir:models", "flax/resnet18", "timm/../resnet18"]
)
def test_places_on_a_disk_or_a_hub_are_no_names(name: str) -> None:
    assert refused(name, {}).code == "unknown_architecture"


def test_every_key_that_does_not_fit_is_named() -> None:
    name = "timm/test_resnet"
    state = own(name).state_dict()
    del state["fc.bias"]
    state["conv1.0.weight"] = torch.zeros(1, 1, 1, 1)
    state["conv2.weight"] = torch.zeros(2)
    state["bn1.weight"] = state["bn1.weight"].long()
    problem = refused(name, state)
    assert problem.code == "checkpoint_mismatch"
    faults = {fault.pointer: fault.detail for fault in problem.errors}
    assert faults.keys() == {"fc.bias", "conv1.0.weight", "conv2.weight", "bn1.weight"}
    assert "got no such key" in faults["fc.bias"]
    assert "got (1, 1, 1, 1)" in faults["conv1.0.weight"]
    assert "int64" in faults["bn1.weight"]


def test_a_checkpoint_of_another_model_takes_no_memory() -> None:
    """ViT-G has 1.8 billion numbers, 7.4 GB: it is compared without them."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    problem = refused("timm/vit_giant_patch14_224", {"weight": torch.zeros(2)})
    assert problem.code == "checkpoint_mismatch"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10**6  # kilobytes


def test_images_for_which_a_model_cannot_be_built_are_refused() -> None:
    problem = refused("torchvision/vit_b_32", {"class_token": torch.zeros(1, 1, 768)}, (3, 50, 50))
    assert problem.code == "dataset_mismatch"
    assert "cannot be built for samples of shape (3, 50, 50)" in problem.detail


def test_sizes_are_not_read_off_tensors_without_numbers() -> None:
    name = "timm/test_resnet"
    problem = refused(name, {**own(name).state_dict(), "fc.weight": torch.empty(10**12, 0)})
    assert problem.code == "checkpoint_mismatch"


@pytest.mark.parametrize(("shape", "says"), [((1, 40, 40), "channels"), ((3, 40), "samples of shape"), ((7,), "shape")])
def test_samples_that_a_model_does_not_take_are_refused(shape: tuple[int, ...], says: str) -> None:
    problem = refused("torchvision/squeezenet1_1", own("torchvision/squeezenet1_1").state_dict(), shape)
    assert problem.code == "dataset_mismatch"
    assert says in problem.detail


@pytest.mark.filterwarnings("ignore")  # torch's own, while it traces
@pytest.mark.parametrize("name", ["torchvision/squeezenet1_1", "timm/test_resnet"])
def test_a_model_is_copied_split_and_traced(name: str) -> None:
    built = libraries.build(name, own(name, num_classes=3).state_dict(), (3, 64, 64))
    model = copy.deepcopy(built.model).eval()
    samples = torch.rand(3, *built.input_shape)
    expected = built.model.eval()(samples)
    assert torch.equal(model(samples), expected)
    program: Callable[[Tensor], Tensor] = traced(model, built.input_shape, PlainADTN).module()
    torch.testing.assert_close(program(samples), expected)
    parameters = list(model.parameters())
    for parameter in parameters[:-4]:
        parameter.requires_grad_(False)
    parts = split(model, samples)
    torch.testing.assert_close(parts.rest(parts.prefix(samples)), expected)
