"""Each data set twice: as the file that is uploaded, and as tensors for training and checking here."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from bench.lenet5_mnist import FILES, read_idx
from bench.paper.rows import CLASSES, TITLES, Data
from worker.sandbox import Limits, read_upload


class Split(NamedTuple):
    """8-bit images (N, channels, height, width), and labels (N,)."""

    images: Tensor
    labels: Tensor


class Images(NamedTuple):
    """What a row is trained and tested on."""

    train: Split
    test: Split


def read(data: Data, sources: Mapping[str, Path]) -> Images:
    """Read a data set.

    Args:
        data: Which.
        sources: "mnist": the folder with the four IDX files; "cifar-10", "cifar-100": the archive, Python or binary
            version.

    Raises:
        ProblemError: The archive cannot be read.
        SystemExit: It holds another data set.
    """
    if data.startswith("cifar"):
        return _cifar(data, sources[data])
    tensors = {name: read_idx(sources["mnist"], file) for name, file in FILES.items()}
    return Images(*(_mnist(tensors[f"{part}_x"], tensors[f"{part}_y"], data) for part in ("train", "test")))


def first(split: Split, count: int) -> Split:
    """The first images of a split, with their labels."""
    return Split(split.images[:count], split.labels[:count])


def pack(images: Images, target: Path) -> None:
    """Write what is uploaded: one .npz of 8-bit images."""
    np.savez(
        target,
        train_x=images.train.images.numpy(),
        train_y=images.train.labels.numpy(),
        test_x=images.test.images.numpy(),
        test_y=images.test.labels.numpy(),
    )


def as_floats(images: Tensor) -> Tensor:
    """8-bit images from 0 to 1, as the service scales them."""
    return images.float() / 255


def _mnist(images: Tensor, labels: Tensor, data: Data) -> Split:
    padding = (2, 2, 2, 2) if data == "mnist-32" else (0, 0, 0, 0)
    return Split(functional.pad(images.unsqueeze(1), padding), labels.long())


def _cifar(data: Data, archive: Path) -> Images:
    """Either version, by the reader of uploads: the Python version's pickles are read as data and never run."""
    with tempfile.TemporaryDirectory() as folder:
        found = read_upload(archive, "dataset", archive.name, Path(folder), Limits())
        if not found.format.startswith("cifar") or found.summary["classes"] != CLASSES[data]:
            classes = found.summary["classes"]
            raise SystemExit(f"{archive}: expected {TITLES[data]}, got {found.format} with {classes} classes")
        tensors = load_file(found.tensors)
    return Images(Split(tensors["train_x"], tensors["train_y"]), Split(tensors["test_x"], tensors["test_y"]))
