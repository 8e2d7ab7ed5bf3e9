"""The library on a device that is not the CPU; run by `test_adtn_accelerator.py`."""

import copy
from typing import Any

import pytest
import torch
from support.accelerator import DEVICE, OnDevice
from torch import Tensor, nn

import adtn
from adtn.precision import Precision
from adtn.structure import AnyStructure

TT = adtn.tt_matrix((4, 4, 2), (2, 4, 4), (4, 2))
STRUCTURES = {
    "brick-wall": adtn.brick_wall(sites=10, depth=3),
    "TT-matrix": TT,
    "sum": adtn.Sum((TT, adtn.tt_matrix((2, 4, 4), (4, 4, 2), (2, 2)))),
}


class Network(nn.Module):
    """Convolution, batch norm, dropout, two linear layers, in double precision."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc1 = nn.Linear(4 * 9, 32)
        self.dropout = nn.Dropout(0.1)
        self.fc2 = nn.Linear(32, 10)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.conv(x))), 2)
        logits: Tensor = self.fc2(self.dropout(torch.relu(self.fc1(x.flatten(1)))))
        return logits


def on_cpu(tensor: Tensor) -> Tensor:
    assert isinstance(tensor, OnDevice)
    return tensor.detach().held


def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(90, 1, 8, 8, generator=generator).double(), torch.arange(90) % 10


def compressed() -> nn.Module:
    """Encoded on the CPU."""
    torch.manual_seed(0)
    model = Network()
    plan = {"fc1.weight": adtn.brick_wall(sites=11, depth=2), "fc2.weight": adtn.tt_matrix((2, 5), (8, 4), (2,))}
    adtn.compress(model, plan, inputs=images()[0], options=adtn.FitOptions(steps=5))
    return model


def test_tensors_on_two_devices_are_refused() -> None:
    with pytest.raises(RuntimeError, match="expected all tensors on one device"):
        torch.ones(2, device=DEVICE) + torch.ones(2)


@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
def test_a_network_and_its_gradient_are_those_of_the_cpu(structure: AnyStructure) -> None:
    expected = adtn.ADTN((32, 32), structure, torch.float64, torch.Generator().manual_seed(0))
    found = copy.deepcopy(expected).to(DEVICE)
    incoming = torch.randn(32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.autograd.backward(expected(), incoming)
    torch.autograd.backward(found(), incoming.to(DEVICE))
    torch.testing.assert_close(on_cpu(found()), expected(), rtol=0, atol=1e-12)
    assert expected.gates.grad is not None
    assert found.gates.grad is not None
    torch.testing.assert_close(on_cpu(found.gates.grad), expected.gates.grad, rtol=0, atol=1e-10)


def test_a_model_is_compressed_where_it_is() -> None:
    torch.manual_seed(0)
    expected = Network()
    found = copy.deepcopy(expected).to(DEVICE)
    for model in (expected, found):
        plan = {"conv.weight": adtn.brick_wall(sites=6, depth=1), "fc1.weight": adtn.brick_wall(sites=11, depth=1)}
        adtn.compress(model, plan, inputs=images()[0], options=adtn.FitOptions(steps=5))
    for key, tensor in expected.state_dict().items():
        torch.testing.assert_close(on_cpu(found.state_dict()[key]), tensor, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dense": "freeze"},
        {"accumulate": 3},
        {"gate_bits": 4},
        {"dense": "freeze", "transform": lambda batch, generator: batch.flip(-1)},
        {"dense": "freeze", "natural_epochs": 1},
    ],
    ids=["plain", "kept activations", "micro-batches", "rounded gates", "transformed", "natural gradient"],
)
def test_fine_tuning_takes_the_steps_of_the_cpu(options: dict[str, Any]) -> None:
    expected = compressed()
    found, teachers = copy.deepcopy(expected).to(DEVICE), [Network() for _ in range(2)]
    teachers[1] = copy.deepcopy(teachers[0]).to(DEVICE)
    for model, teacher in zip((expected, found), teachers, strict=True):
        chosen = adtn.FineTuneOptions(epochs=2, batch_size=30, **options)
        adtn.fine_tune(model, *images(), teacher=teacher, options=chosen)
    for key, tensor in expected.state_dict().items():
        torch.testing.assert_close(on_cpu(found.state_dict()[key]), tensor, rtol=0, atol=1e-6)


def trained_in(precision: Precision, model: nn.Module) -> tuple[nn.Module, list[tuple[torch.dtype, ...]]]:
    """Fine-tuned in a precision; with the dtypes of `fc1`'s inputs, weight and outputs at each call."""
    seen: list[tuple[torch.dtype, ...]] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        seen.append((inputs[0].dtype, layer.weight.dtype, outputs.dtype))

    with model.get_submodule("fc1").register_forward_hook(look):
        samples = images()[0].float(), images()[1]
        adtn.fine_tune(model, *samples, options=adtn.FineTuneOptions(epochs=1, batch_size=30, precision=precision))
    return model, seen


def test_mixed_precision_is_for_the_layers_and_not_for_the_decoding() -> None:
    start = compressed().float()
    expected, seen_there = trained_in("bfloat16", copy.deepcopy(start))
    found, seen = trained_in("bfloat16", copy.deepcopy(start).to(DEVICE))
    full, seen_in_full = trained_in("float32", copy.deepcopy(start).to(DEVICE))
    assert seen == seen_there
    assert {(weight, outputs) for _, weight, outputs in seen} == {(torch.float32, torch.bfloat16)}
    assert {dtypes for dtypes in seen_in_full} == {(torch.float32,) * 3}
    for layer in ("fc1", "fc2"):
        gates = f"{layer}.parametrizations.weight.0.gates"
        before, there = start.state_dict()[gates], expected.state_dict()[gates]
        here, without = (on_cpu(model.state_dict()[gates]) for model in (found, full))
        assert here.dtype == torch.float32
        moved = float((there - before).norm())
        assert float((here - there).norm()) < 0.05 * moved
        assert float((without - there).norm()) > 0.05 * moved
