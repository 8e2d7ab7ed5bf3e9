"""Labelled samples of a model, as the service takes them."""

from pathlib import Path
from typing import NamedTuple

from safetensors.torch import save_file
from torch import Tensor


class Split(NamedTuple):
    """Samples (N, ...) in float32 and their classes (N,) in int64."""

    inputs: Tensor
    labels: Tensor


class Samples(NamedTuple):
    """What a model is fine-tuned on, and what it is judged by."""

    train: Split
    test: Split


def save(samples: Samples, path: Path) -> None:
    """Write a data set for the service."""
    save_file(
        {
            "train_x": samples.train.inputs,
            "train_y": samples.train.labels,
            "test_x": samples.test.inputs,
            "test_y": samples.test.labels,
        },
        path,
    )
