"""Each data set twice: as the file that is uploaded, and as tensors for training and checking here."""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from bench.lenet5_mnist import FILES, read_idx
from bench.paper.rows import CLASSES, COUNTS, TITLES, Data
from worker.sandbox import Limits, read_upload

Normalize = dict[Literal["mean", "std"], list[float]]
"""One number a channel, as in the settings of a job."""


class Split(NamedTuple):
    """8-bit images (N, channels, height, width), and labels (N,)."""

    images: Tensor
    labels: Tensor


class Images(NamedTuple):
    """What a row is trained and tested on.

    Args:
        train: Training images.
        test: Test images.
        normalize: What an original of the user's own expects: see the setting of a job. None is nothing.
    """

    train: Split
    test: Split
    normalize: Normalize | None = None

    def as_floats(self, images: Tensor) -> Tensor:
        """8-bit images as the service hands them to a network: from 0 to 1, then normalised."""
        scaled = images.float() / 255
        if self.normalize is None:
            return scaled
        mean, std = (torch.tensor(self.normalize[key]).view(-1, 1, 1) for key in ("mean", "std"))
        return (scaled - mean) / std

    def digest(self) -> str:
        """Of all pixels and labels."""
        found = hashlib.sha256()
        for tensor in (*self.train, *self.test):
            found.update(f"{tuple(tensor.shape)}".encode())
            found.update(tensor.numpy().tobytes())
        return found.hexdigest()[:16]


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


def require_published(images: Images, data: Data) -> None:
    """Refuse a data set that has not as many images as the published one: what it leads to belongs in no table.

    Raises:
        SystemExit: It has others.
    """
    found, expected = (len(images.train.images), len(images.test.images)), COUNTS[data]
    if found != expected:
        raise SystemExit(
            f"{TITLES[data]}: expected {expected[0]:,} and {expected[1]:,} images, got {found[0]:,} and "
            f"{found[1]:,}; --images N makes a trial of any data set"
        )


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
