"""LeNet-5 on MNIST through the running service: train, upload, compress, download, evaluate the download here.

The result is refused unless the baseline has at least 98.5 %, every job keeps within its target, the file holds the
numbers that the report counts, and the downloaded dense artifact, loaded into this script's own model, has exactly the
reported accuracy.
"""

import gzip
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from adtn_client import Client
from bench.record import provenance, store

FILES = {
    "train_x": "train-images-idx3-ubyte",
    "train_y": "train-labels-idx1-ubyte",
    "test_x": "t10k-images-idx3-ubyte",
    "test_y": "t10k-labels-idx1-ubyte",
}
LAYERS = ["conv2", "fc1", "fc2"]
TARGETS = [1300, 2600]
SEEDS = [0, 1, 2]
LEAST_BASELINE = 0.985


class LeNet5(nn.Module):
    """The model of a user: 28 x 28 inputs, ReLU, max pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 10) of images (N, 1, 28, 28)."""
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.fc1(x.flatten(1)))
        return self.fc3(functional.relu(self.fc2(x)))


def read_idx(folder: Path, name: str) -> Tensor:
    """An IDX file of bytes, gzipped or not."""
    path = folder / f"{name}.gz"
    raw = gzip.decompress(path.read_bytes()) if path.exists() else (folder / name).read_bytes()
    shape = [int.from_bytes(raw[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(raw[3])]
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy())


def train(images: Tensor, labels: Tensor, seed: int, epochs: int = 8) -> LeNet5:
    """Train a baseline with Adam and a cosine schedule."""
    torch.manual_seed(seed)
    model = LeNet5()
    batch = 128
    steps = epochs * (len(images) // batch)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for start in range(0, len(images) - batch + 1, batch):
            chosen = order[start : start + batch]
            loss = functional.cross_entropy(model(images[chosen]), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1, from 0 to 1."""
    return float((model(images).argmax(1) == labels).double().mean())


def pack(folder: Path, target: Path) -> None:
    """The four IDX files as one zip, as a user would send them."""
    with zipfile.ZipFile(target, "w") as archive:
        for name in FILES.values():
            path = folder / f"{name}.gz"
            archive.write(path if path.exists() else folder / name)
