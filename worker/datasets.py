"""Data sets as the training loop takes them: checked uploads, and the digits that come with scikit-learn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from jobs.problems import ProblemError
from worker.architectures import Architecture
from worker.resizing import resized, resized_split
from worker.sandbox.contents import SPLITS

Normalize = Mapping[str, Sequence[float]]
DIGITS_TEST_SHARE = 0.2


@dataclass(frozen=True)
class Dataset:
    """Samples and labels of two splits, or of three.

    Attributes:
        train_x: (samples, ...) float32; 8-bit images are scaled to [0, 1].
        train_y: (samples,) int64.
        test_x: As train_x.
        test_y: As train_y.
        classes: The highest label plus one.
        val_x: As train_x: samples that choices are made by, which nothing is trained on; None where there are none.
        val_y: As train_y.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: int
    val_x: Tensor | None = None
    val_y: Tensor | None = None

    @property
    def splits(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Samples and labels by the name of their split."""
        splits = {"train": (self.train_x, self.train_y), "test": (self.test_x, self.test_y)}
        if self.val_x is not None and self.val_y is not None:
            splits["val"] = self.val_x, self.val_y
        return splits

    def with_samples(self, change: Callable[[Tensor], Tensor]) -> "Dataset":
        """The same with the samples of every split changed."""
        val_x = None if self.val_x is None else change(self.val_x)
        return replace(self, train_x=change(self.train_x), test_x=change(self.test_x), val_x=val_x)


def load(source: Path | str, normalize: Normalize | None = None, resize: Sequence[int] | None = None) -> Dataset:
    """Load a data set by name, or from the file that the sandbox wrote.

    Args:
        source: A name ("digits"), or the path of a checked safetensors file.
        normalize: {"mean": [..], "std": [..]}: one number, or one a channel. Taken off and divided by after 8-bit
            images were scaled to [0, 1].
        resize: Height and width in pixels that images are stretched to, before all else.

    Raises:
        ProblemError: `unknown_dataset`; `dataset_mismatch` if mean and std are of another length than there are
            channels, if samples that are no images are to be resized, or images of several sizes are not;
            `resource_limit`.
    """
    size = (resize[0], resize[1]) if resize is not None else None
    if Path(source).is_file():
        dataset = _from_file(Path(source), size)
    else:
        dataset = _named(str(source))
        if size is not None:
            dataset = dataset.with_samples(lambda x: resized(x, size))
    return dataset if normalize is None else _normalized(dataset, normalize)


def fitted(dataset: Dataset, architecture: Architecture) -> Dataset:
    """The data set with samples in the shape that the model takes.

    Args:
        dataset: Images without a channel dimension get one if the model has a single channel.
        architecture: Says the shape and the number of classes.

    Raises:
        ProblemError: `dataset_mismatch` or `labels_out_of_range`.
    """
    shape, expected = tuple(dataset.train_x.shape[1:]), architecture.input_shape
    if shape != expected and (1, *shape) != expected:
        raise ProblemError(
            "dataset_mismatch", f"{architecture.name} expects samples of shape {expected}, got samples of shape {shape}"
        )
    for split, (_, labels) in dataset.splits.items():
        highest = int(labels.max())
        if highest >= architecture.classes:
            raise ProblemError(
                "labels_out_of_range",
                f"{split}_y: expected labels from 0 to {architecture.classes - 1}, for {architecture.name} has "
                f"{architecture.classes} classes, got {highest}",
            )
    if architecture.numbers is not None:
        _require_numbers(dataset, architecture.numbers)
    if shape == expected:
        return dataset
    return dataset.with_samples(lambda x: x.unsqueeze(1))  # (N, 1, H, W)


def _require_numbers(dataset: Dataset, numbers: range) -> None:
    """Refuse samples with other numbers than a model takes, which are whole, such as places in a list of words."""
    for split, (samples, _) in dataset.splits.items():
        least, most = samples.min(), samples.max()
        if not torch.equal(samples, samples.round()) or least < numbers[0] or most > numbers[-1]:
            raise ProblemError(
                "dataset_mismatch",
                f"{split}_x: the model takes whole numbers from {numbers[0]} to {numbers[-1]}, got numbers from "
                f"{least:g} to {most:g}",
            )


@lru_cache(maxsize=1)
def digits() -> Dataset:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8 pixels of 0 to 16, scaled to [0, 1].

    Returns:
        Samples (N, 1, 8, 8), every digit's share the same in both splits; always the same split. Not to be changed in
        place.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images, labels, test_size=DIGITS_TEST_SHARE, stratify=labels, random_state=0)
    train_x, test_x = (torch.from_numpy(part).float().reshape(-1, 1, 8, 8) / 16 for part in parts[:2])  # from (N, 64)
    train_y, test_y = (torch.from_numpy(part).long() for part in parts[2:])
    return Dataset(train_x, train_y, test_x, test_y, classes=10)


NAMED = {"digits": digits}


def write_named(name: str, folder: Path) -> Path:
    """Write a data set that is known by name as the sandbox writes uploads, so that all others read it alike, and fast.

    Args:
        name: In `NAMED`.
        folder: Where; the file is called "dataset.safetensors".

    Raises:
        ProblemError: `unknown_dataset`.
    """
    path = folder / "dataset.safetensors"
    dataset = _named(name)
    save_file({split: getattr(dataset, split) for split in ("train_x", "train_y", "test_x", "test_y")}, path)
    return path


def _named(name: str) -> Dataset:
    if name not in NAMED:
        raise ProblemError("unknown_dataset", f"expected one of {', '.join(NAMED)}, got {name[:80]!r}")
    return NAMED[name]()


def _from_file(path: Path, size: tuple[int, int] | None) -> Dataset:
    """A data set that the sandbox wrote."""
    with safe_open(path, "pt") as file:
        stored = set(file.keys())
        labels = {split: file.get_tensor(f"{split}_y") for split in SPLITS if f"{split}_y" in stored}

        def images(split: str) -> Tensor:
            if f"{split}_x" not in stored:
                return resized_split(path, split, size)
            x: Tensor = file.get_tensor(f"{split}_x")
            return x if size is None else resized(x, size)

        samples = {f"{split}_x": _scaled(images(split)) for split in labels}
    classes = 1 + max(int(y.max()) for y in labels.values())
    return Dataset(**samples, **{f"{split}_y": y for split, y in labels.items()}, classes=classes)


def _scaled(x: Tensor) -> Tensor:
    """8-bit images as float32 in [0, 1]; float32 as it is."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x


def _normalized(dataset: Dataset, normalize: Normalize) -> Dataset:
    """(x - mean) / std, for each channel by its own or for all by one."""
    shape = tuple(dataset.train_x.shape[1:])
    # Images without a channel dimension have one channel; flat samples have as many as numbers.
    channels = 1 if len(shape) == 2 else shape[0]
    mean, std = (torch.tensor(normalize[key], dtype=torch.float32) for key in ("mean", "std"))
    for key, values in (("mean", mean), ("std", std)):
        if values.shape not in ((1,), (channels,)):
            raise ProblemError(
                "dataset_mismatch",
                f"normalize.{key}: expected 1 number or {channels}, one a channel of the samples' shape {shape}, "
                f"got {values.numel()}",
            )
    if not (std > 0).all():
        raise ProblemError("dataset_mismatch", "normalize.std: expected numbers above 0")
    if len(shape) != 2:
        mean, std = (values.reshape(-1, *[1] * (len(shape) - 1)) for values in (mean, std))  # (channels, 1, ...)
    return dataset.with_samples(lambda x: (x - mean) / std)
