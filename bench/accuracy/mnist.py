"""LeNet-5 on MNIST: second convolution and first two linear layers, 60,480 numbers."""

from pathlib import Path

from torch import Tensor

from bench.accuracy.model import QuickLeNet5
from bench.accuracy.problem import Data, Part, Problem
from bench.lenet5_mnist import FILES, read_idx, train

VALIDATION = 10_000
"""Last of the 60,000 training images."""


def read(folder: Path | None) -> Data:
    """Read the four IDX files.

    Args:
        folder: Where they are, gzipped or not.

    Raises:
        SystemExit: No folder is given.
    """
    if folder is None:
        raise SystemExit("mnist: give --data, a folder with the four IDX files")
    tensors = {name: read_idx(folder, file) for name, file in FILES.items()}
    train_x, test_x = (tensors[name].unsqueeze(1).float() / 255 for name in ("train_x", "test_x"))
    train_y, test_y = (tensors[name].long() for name in ("train_y", "test_y"))
    return Data(
        Part(train_x[:-VALIDATION], train_y[:-VALIDATION]),
        Part(train_x[-VALIDATION:], train_y[-VALIDATION:]),
        Part(test_x, test_y),
    )


def _train(part: Part, seed: int) -> dict[str, Tensor]:
    return dict(train(*part, seed).state_dict())


MNIST = Problem(
    name="mnist",
    shapes={"conv2": (16, 6, 5, 5), "fc1": (120, 400), "fc2": (84, 120)},
    make=QuickLeNet5,
    train=_train,
    read=read,
    least_baseline=0.9865,
    budgets=(250, 400, 650, 1000, 1500, 2500, 5000, 9000),
    seeds=(0, 1, 2),
    epochs=5,
    tuning_epochs=2,
)
