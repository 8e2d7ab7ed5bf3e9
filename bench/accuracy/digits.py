"""A small LeNet-5 on the digits of scikit-learn: second convolution and first two linear layers, 70,144 numbers."""

from pathlib import Path

import torch
from torch import Tensor

from bench.accuracy.problem import Data, Part, Problem
from demo.model import DigitsNet, train
from worker.datasets import load

VALIDATION = 288
"""Last of the 1,437 training images."""


def read(_folder: Path | None) -> Data:
    """The data set that the worker knows by name."""
    digits = load("digits")
    images, labels = digits.train_x, digits.train_y
    return Data(
        Part(images[:-VALIDATION], labels[:-VALIDATION]),
        Part(images[-VALIDATION:], labels[-VALIDATION:]),
        Part(digits.test_x, digits.test_y),
    )


def _train(part: Part, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    model = DigitsNet()
    train(model, *part, epochs=40, seed=seed)
    return dict(model.state_dict())


DIGITS = Problem(
    name="digits",
    shapes={"conv2": (32, 16, 3, 3), "fc1": (256, 128), "fc2": (128, 256)},
    make=DigitsNet,
    train=_train,
    read=read,
    least_baseline=0.95,
    budgets=(400, 1000, 2500, 5000),
    seeds=(0, 1, 2, 3, 4),
    epochs=30,
    tuning_epochs=30,
)
