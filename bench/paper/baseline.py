"""The original networks: trained once a seed, and kept."""

import time
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from bench.lenet5_mnist import LeNet5
from bench.paper.data import Images, as_floats
from bench.paper.rows import CLASSES, SHAPES, Row, Training
from worker.architectures.fc2 import FC2
from worker.architectures.new import create

OUT = Path(__file__).parent.parent / "out" / "paper"
HIDDEN = 1024
"""Of FC-2."""
_EVALUATED = 250


class Baseline(NamedTuple):
    """A trained network, the file that is uploaded, and how long the training took (0 if it was kept)."""

    model: nn.Module
    path: Path
    seconds: float


def untrained(row: Row) -> nn.Module:
    """The network of a row in its full size; the sequential ones with batch norm where VGG-16 needs it to learn."""
    shape, classes = SHAPES[row.data], CLASSES[row.data]
    if row.network == "fc2":
        return FC2(shape[1] * shape[2], HIDDEN, classes)
    if row.network == "lenet5":
        return LeNet5()
    return create(row.network, shape, classes, batch_norm=row.network == "vgg16")


def baseline(row: Row, images: Images, training: Training, seed: int) -> Baseline:
    """Train the network of a row, or take the one that is kept."""
    torch.manual_seed(seed)
    model = untrained(row)
    path = OUT / f"{row.network}-{row.data}-{len(images.train.images)}-{training.epochs}-{seed}.safetensors"
    started = time.perf_counter()
    if path.exists():
        model.load_state_dict(load_file(path))
        return Baseline(model.eval(), path, 0.0)
    train(model, images, training)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)
    return Baseline(model.eval(), path, time.perf_counter() - started)


def train(model: nn.Module, images: Images, training: Training) -> None:
    """Adam along a cosine, in place; the model ends on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=training.rate)
    count = len(images.train.images)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.epochs * -(-count // training.batch))
    for _ in range(training.epochs):
        for chosen in torch.split(torch.randperm(count), training.batch):
            inputs = as_floats(images.train.images[chosen]).to(device)
            loss = functional.cross_entropy(model(inputs), images.train.labels[chosen].to(device))
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            rates.step()
    model.cpu()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1 of a model in evaluation mode, from 0 to 1."""
    parts = [model(as_floats(part)).argmax(1) for part in torch.split(images, _EVALUATED)]
    return float((torch.cat(parts) == labels).double().mean())
