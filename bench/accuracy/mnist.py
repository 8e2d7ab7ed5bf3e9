"""MNIST in three parts, and the baseline of each seed, which every method starts from and learns from."""

from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load_file, save_file
from torch import Tensor

from adtn.moments import InputMoments, input_moments
from bench.accuracy.layers import SHAPES
from bench.accuracy.model import QuickLeNet5
from bench.accuracy.training import accuracy, outputs_of
from bench.lenet5_mnist import FILES, read_idx, train

VALIDATION = 10_000
"""Last of the 60,000 training images: choices are made on them, and nothing is trained on them."""
LEAST_BASELINE = 0.9865
"""On the validation images."""
OUT = Path(__file__).parent.parent / "out" / "accuracy"
_TARGETS = "targets"


class Part(NamedTuple):
    """Images (N, 1, 28, 28) from 0 to 1, and labels (N,)."""

    images: Tensor
    labels: Tensor

    def first(self, count: int | None) -> "Part":
        """The first images; all for None."""
        return Part(self.images[:count], self.labels[:count])


class Data(NamedTuple):
    """The parts."""

    train: Part
    validation: Part
    test: Part


class Baseline(NamedTuple):
    """A trained model, its outputs for the training images, and the moments of the layers' inputs."""

    model: QuickLeNet5
    targets: Tensor
    moments: dict[str, InputMoments]


def read(folder: Path, images: int | None) -> Data:
    """Read the four IDX files.

    Args:
        folder: Where they are, gzipped or not.
        images: Only the first of each part, for a trial; None for all.
    """
    tensors = {name: read_idx(folder, file) for name, file in FILES.items()}
    train_x, test_x = (tensors[name].unsqueeze(1).float() / 255 for name in ("train_x", "test_x"))
    train_y, test_y = (tensors[name].long() for name in ("train_y", "test_y"))
    parts = (
        Part(train_x[:-VALIDATION], train_y[:-VALIDATION]),
        Part(train_x[-VALIDATION:], train_y[-VALIDATION:]),
        Part(test_x, test_y),
    )
    return Data(*(part.first(images) for part in parts))


def baseline(data: Data, seed: int) -> Baseline:
    """The baseline of a seed; trained once and kept in a file.

    Raises:
        SystemExit: It is trained on all images and misses `LEAST_BASELINE`.
    """
    path = OUT / f"baseline-{len(data.train.images)}-{seed}.safetensors"
    if not path.exists():
        trained = train(*data.train, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({**trained.state_dict(), _TARGETS: outputs_of(trained, data.train.images)}, path)
    state = load_file(path)
    targets = state.pop(_TARGETS)
    model = QuickLeNet5()
    model.load_state_dict(state)
    reached = accuracy(model, *data.validation)
    if reached < LEAST_BASELINE and len(data.validation.images) == VALIDATION:
        raise SystemExit(f"baseline {seed}: expected at least {LEAST_BASELINE}, got {reached}")
    found = input_moments(model, data.train.images, [f"{layer}.weight" for layer in SHAPES])
    return Baseline(model, targets, {layer: found[f"{layer}.weight"] for layer in SHAPES})
