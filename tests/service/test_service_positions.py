"""How much a network computes, guessed from shapes: the oracle counts the operations of the network itself."""

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from support.library_models import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from adtn.layer import Layer
from adtn.listing import layers_of, layers_of_state
from service.positions import positions

IMAGE = (3, 224, 224)
SMALL = (3, 32, 32)


def counted(model: nn.Module, sample: torch.Tensor) -> float:
    """Multiplications of one input."""
    with FlopCounterMode(display=False) as counter:
        model.eval().to(sample.device)(sample)
    return counter.get_total_flops() / 2


def guessed(layers: Sequence[Layer], shape: Sequence[int], *, is_text: bool = False) -> int:
    found = positions(layers, shape, is_text=is_text)
    return sum(layer.entries * found[layer.key] for layer in layers)


def of_torchvision(name: str) -> nn.Module:
    made: nn.Module = torchvision().models.get_model(name, weights=None)
    return made


def of_timm(name: str) -> nn.Module:
    torchvision()
    import timm

    made: nn.Module = timm.create_model(name)
    return made


@pytest.mark.parametrize("alphabetical", [False, True])
@pytest.mark.parametrize(
    ("make", "name", "shape"),
    [
        (of_torchvision, "alexnet", IMAGE),
        (of_torchvision, "vgg16", IMAGE),
        (of_torchvision, "vgg16", SMALL),
        (of_torchvision, "resnet18", IMAGE),
        (of_torchvision, "resnet50", IMAGE),
        (of_torchvision, "mobilenet_v2", IMAGE),
        (of_torchvision, "convnext_tiny", IMAGE),
        (of_torchvision, "vit_b_16", IMAGE),
        (of_torchvision, "swin_t", IMAGE),
        (of_timm, "mixer_s16_224", IMAGE),
        (of_timm, "efficientnet_b0", IMAGE),
    ],
)
def test_the_work_of_usual_networks_is_told_within_a_factor_of_two(
    make: Callable[[str], nn.Module], name: str, shape: tuple[int, ...], alphabetical: bool
) -> None:
    with torch.device("cpu"):
        model = make(name).to("meta")
    state = model.state_dict()
    layers = layers_of_state({key: state[key] for key in sorted(state)} if alphabetical else state)
    exact = counted(model, torch.empty(1, *shape, device="meta"))
    assert exact / 2 <= guessed(layers, shape) <= 2 * exact


def test_a_text_is_read_token_by_token_but_for_tables() -> None:
    torchvision()
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
    with torch.device("meta"):
        model = BertForSequenceClassification(config)
    exact = counted(model, torch.zeros(1, 50, dtype=torch.long, device="meta"))
    for layers, is_text in ((layers_of_state(model.state_dict()), True), (layers_of(model), False)):
        assert exact / 2 <= guessed(layers, (50,), is_text=is_text) <= 2 * exact


def test_grey_images_come_with_a_channel_or_without() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 64, 10))
    exact = counted(model, torch.zeros(1, 1, 8, 8))
    for shape in ((1, 8, 8), (8, 8)):
        assert guessed(layers_of(model), shape) == exact == 4 * 9 * 64 + 2560


def test_a_sequence_of_vectors_goes_through_recurrent_weights_step_by_step() -> None:
    layers = layers_of(nn.ModuleList([nn.LSTM(6, 5), nn.Linear(5, 2)]))
    found = positions(layers, (9, 6), is_text=False)
    assert sorted(found.values()) == [1, 9, 9]


def test_a_network_may_begin_with_single_pixels_or_end_with_a_recurrent_layer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1))
    assert guessed(layers_of(model), SMALL) == counted(model, torch.zeros(1, *SMALL))
    read = layers_of(nn.ModuleList([nn.Conv2d(1, 4, 3, padding=1), nn.LSTM(4 * 32, 5)]))
    assert set(positions(read, (1, 32, 100), is_text=False).values()) == {32 * 100, 100}


def test_sound_and_volumes_have_positions_too() -> None:
    for convolution, shape in ((nn.Conv1d(2, 3, 5, padding=2), (2, 40)), (nn.Conv3d(2, 3, 3, padding=1), (2, 4, 5, 6))):
        assert guessed(layers_of(convolution), shape) == counted(convolution, torch.zeros(1, *shape))


def test_without_a_known_input_each_weight_is_applied_once() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(4, 2))
    assert set(positions(layers_of(model), (), is_text=False).values()) == {1}
    assert positions([], (3, 8, 8), is_text=True) == {}


DIMENSIONS = {"conv1d": 3, "conv2d": 4, "conv3d": 5, "linear": 2, "embedding": 2, "recurrent": 2}


@pytest.mark.parametrize("seed", range(50))
def test_any_shapes_have_positions_within_the_input(seed: int) -> None:
    draw = random.Random(seed)
    kinds = draw.choices([*DIMENSIONS, "parameter"], k=10)
    layers = [
        Layer(str(n), str(n), kind, tuple(draw.choices(range(1, 20), k=DIMENSIONS.get(kind, draw.randrange(2, 6)))))
        for n, kind in enumerate(kinds)
    ]
    shape = tuple(draw.choices(range(1, 40), k=draw.randrange(5)))
    found = positions(layers, shape, is_text=draw.random() < 0.5)
    assert found.keys() == {layer.key for layer in layers}
    assert all(0 <= count <= max(1, torch.Size(shape).numel()) for count in found.values())
