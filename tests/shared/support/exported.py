"""Models of many kinds as a user exports them, and how the sandbox's reader sees the files."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.sandbox.archives import checked_zip
from worker.sandbox.exported.program import ExportedProgram, read_program


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


class LeNet(nn.Module):
    """Convolutions with batch norm, and dropout before the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, padding="same", bias=False)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.norm(self.conv1(x))), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        return self.fc(self.drop(x.flatten(1)))


class Residual(nn.Module):
    """Operations in place, a module that is used twice, and a shape that is read off the input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(2):
            y = self.norm(self.conv(x))
            y += x
            x = self.relu(y)
        return self.fc(self.pool(x).view(x.size(0), -1))


class Recurrent(nn.Module):
    """Two layers in both directions, whose start has the size of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 16, num_layers=2, dropout=0.1, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x.reshape(-1, 8, 8))[0][:, -1])


class Transformer(nn.Module):
    """Tokens in; attention, a mask that the code made, a bare parameter, and a buffer that is in no state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.places = nn.Parameter(0.1 * torch.randn(12, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.query = nn.Parameter(0.1 * torch.randn(16, 16))
        self.register_buffer("mask", torch.full((12, 12), float("-inf")).triu(1), persistent=False)
        self.fc = nn.Linear(16, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.encoder(self.embed(tokens) + self.places)
        scores = (x @ self.query) @ x.transpose(1, 2) + self.mask
        return self.fc((scores.softmax(-1) @ x).mean(1))


def images(count: int) -> Tensor:
    return torch.rand(count, 1, 8, 8)


def tokens(count: int) -> Tensor:
    return torch.randint(0, 20, (count, 12))


@dataclass(frozen=True)
class Kind:
    """A model, and what it takes."""

    model: Callable[[], nn.Module]
    inputs: Callable[[int], Tensor]


KINDS = {
    "perceptron": Kind(Perceptron, images),
    "lenet": Kind(LeNet, images),
    "residual": Kind(Residual, images),
    "recurrent": Kind(Recurrent, images),
    "transformer": Kind(Transformer, tokens),
}


def exported(model: nn.Module, inputs: Tensor, *, any_batch: bool = True) -> bytes:
    """The file of torch.export.save: for batches of any size, or of that of the inputs alone."""
    shapes = ({0: torch.export.Dim("batch")},) if any_batch else None
    file = io.BytesIO()
    torch.export.save(torch.export.export(model, (inputs,), dynamic_shapes=shapes), file)
    return file.getvalue()


def seen(data: bytes) -> ExportedProgram:
    """What the reader of the sandbox makes of a file, in this process."""
    return read_program(checked_zip(io.BytesIO(data), len(data), "checkpoint_invalid"))


def save_exported(path: Path, model: nn.Module, inputs: Tensor) -> Path:
    path.write_bytes(exported(model, inputs))
    return path
