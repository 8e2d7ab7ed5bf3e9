"""Each data set twice: as the file that is uploaded, and as tensors for training and checking here."""

import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bench.lenet5_mnist import FILES, read_idx
from bench.paper.rows import Data, Training

CIFAR_FILES: dict[Data, tuple[list[str], str, int]] = {
    "cifar-10": ([f"data_batch_{i}.bin" for i in range(1, 6)], "test_batch.bin", 1),
    "cifar-100": (["train.bin"], "test.bin", 2),
}
"""Of the binary versions: training files, test file, label bytes of each image (the last one is taken)."""
_PIXELS = 3 * 32 * 32


class Split(NamedTuple):
    """8-bit images (N, channels, height, width), and labels (N,)."""

    images: Tensor
    labels: Tensor


class Images(NamedTuple):
    """What a row is trained and tested on."""

    train: Split
    test: Split


def read(data: Data, sources: Mapping[str, Path], training: Training) -> Images:
    """Read a data set.

    Args:
        data: Which.
        sources: "mnist": the folder with the four IDX files; "cifar-10", "cifar-100": the archive's binary version.
        training: How many of the training images are taken.
    """
    if data.startswith("cifar"):
        found = _cifar(data, sources[data])
    else:
        tensors = {name: read_idx(sources["mnist"], file) for name, file in FILES.items()}
        found = Images(*(_mnist(tensors[f"{part}_x"], tensors[f"{part}_y"], data) for part in ("train", "test")))
    return Images(Split(*(tensor[: training.images] for tensor in found.train)), found.test)


def pack(images: Images, target: Path) -> None:
    """Write what is uploaded: one .npz of 8-bit images."""
    np.savez(
        target,
        train_x=images.train.images.numpy(),
        train_y=images.train.labels.numpy(),
        test_x=images.test.images.numpy(),
        test_y=images.test.labels.numpy(),
    )


def _mnist(images: Tensor, labels: Tensor, data: Data) -> Split:
    padding = (2, 2, 2, 2) if data == "mnist-32" else (0, 0, 0, 0)
    return Split(functional.pad(images.unsqueeze(1), padding), labels.long())


def _cifar(data: Data, archive: Path) -> Images:
    """The binary version of an archive, zip or tar, compressed or not."""
    train, test, label_bytes = CIFAR_FILES[data]
    files = _members(archive)
    return Images(*(_cifar_split([files[name] for name in names], label_bytes) for names in (train, [test])))


def _members(archive: Path) -> dict[str, bytes]:
    """The files of an archive by their names without folders."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            return {Path(name).name: opened.read(name) for name in opened.namelist()}
    found = {}
    with tarfile.open(archive) as opened:
        for member in opened.getmembers():
            content = opened.extractfile(member)
            found[Path(member.name).name] = b"" if content is None else content.read()
    return found


def _cifar_split(files: list[bytes], label_bytes: int) -> Split:
    raw = np.frombuffer(b"".join(files), np.uint8).reshape(-1, label_bytes + _PIXELS)
    pixels, labels = raw[:, label_bytes:].reshape(-1, 3, 32, 32), raw[:, label_bytes - 1]
    return Split(torch.from_numpy(pixels.copy()), torch.from_numpy(labels.astype(np.int64)))


def as_floats(images: Tensor) -> Tensor:
    """8-bit images from 0 to 1, as the service scales them."""
    return images.float() / 255
