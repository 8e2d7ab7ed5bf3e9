"""The original networks: trained once a seed, and kept; or the user's own."""

import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from bench.lenet5_mnist import LeNet5
from bench.paper.data import Images
from bench.paper.rows import CLASSES, SHAPES, Row, Training
from worker import architectures
from worker.architectures.fc2 import FC2
from worker.architectures.networks import NETWORKS
from worker.architectures.new import create
from worker.sandbox import Limits, read_upload
from worker.weights import read_state

OUT = Path(__file__).parent.parent / "out" / "paper"
HIDDEN = 1024
"""Of FC-2."""
NARROWED = 16
"""By what the widths of a trial are divided."""
_EVALUATED = 250


class Baseline(NamedTuple):
    """A trained network, the file that is uploaded, and how long the training took (None if it was there before)."""

    model: nn.Module
    path: Path
    seconds: float | None


def untrained(row: Row, *, small: bool = False) -> nn.Module:
    """The network of a row; the sequential ones with batch norm where VGG-16 needs it to learn.

    Args:
        row: Says which network, and for which data.
        small: Whether it is made narrow, for a trial; LeNet-5 is small as it is.
    """
    shape, classes = SHAPES[row.data], CLASSES[row.data]
    if row.network == "fc2":
        return FC2(shape[1] * shape[2], HIDDEN // NARROWED if small else HIDDEN, classes)
    if row.network == "lenet5":
        return LeNet5()
    sizes = _narrow(row.network) if small else {}
    return create(row.network, shape, classes, batch_norm=row.network == "vgg16", **sizes)


def _narrow(name: str) -> dict[str, Any]:
    """Sizes of a trial, for `create`."""
    network = next(network for network in NETWORKS if network.name == name)
    return {size: [width // NARROWED for width in getattr(network, size)] for size in ("widths", "hidden")}


def baseline(row: Row, images: Images, training: Training, seed: int, *, small: bool = False) -> Baseline:
    """Train the network of a row, or take the one that is kept.

    Args:
        row: Of the table.
        images: The training images among them are what the network learns from.
        training: Epochs, batch and rate.
        seed: Of the start and of the batches.
        small: As in `untrained`; kept apart.
    """
    torch.manual_seed(seed)
    model = untrained(row, small=small)
    path = (OUT / "trial" if small else OUT) / file_name(row, images, training, seed)
    if path.exists():
        model.load_state_dict(load_file(path))
        return Baseline(model.eval(), path, None)
    started = time.perf_counter()
    train(model, images, training)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    save_file(model.state_dict(), unfinished)
    unfinished.rename(path)  # whoever stops this in the middle leaves no file that looks whole
    return Baseline(model.eval(), path, round(time.perf_counter() - started, 1))


def given(row: Row, path: Path) -> Baseline:
    """The user's own network for a row, in whatever widths.

    Args:
        row: Of the table.
        path: Any checkpoint that the service takes; it is read as an upload is.

    Raises:
        ProblemError: The file is refused, or is of another network.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = read_upload(path, "checkpoint", path.name, Path(folder), Limits())
        state = read_state(found.tensors, found.aliases)
    return Baseline(architectures.build(row.network, state, SHAPES[row.data]).model.eval(), path, None)


def file_name(row: Row, images: Images, training: Training, seed: int) -> str:
    """All that a network depends on, so that none is taken for one that was trained in another way."""
    how = f"{images.digest()}-{training.epochs}-{training.batch}-{training.rate:g}"
    return f"{row.network}-{row.data}-{how}-{seed}.safetensors"


def train(model: nn.Module, images: Images, training: Training) -> None:
    """Adam along a cosine, in place; the model ends on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=training.rate)
    count = len(images.train.images)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.epochs * -(-count // training.batch))
    for _ in range(training.epochs):
        for chosen in torch.split(torch.randperm(count), training.batch):
            inputs = images.as_floats(images.train.images[chosen]).to(device)
            loss = functional.cross_entropy(model(inputs), images.train.labels[chosen].to(device))
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            rates.step()
    model.cpu()


@torch.no_grad()
def accuracy(model: nn.Module, images: Images) -> float:
    """Top-1 of a model in evaluation mode on the test images, from 0 to 1."""
    parts = [model(images.as_floats(part)).argmax(1) for part in torch.split(images.test.images, _EVALUATED)]
    return float((torch.cat(parts) == images.test.labels).double().mean())
