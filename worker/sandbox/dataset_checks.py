"""What the arrays of a data set have to be, and their conversion to the dtypes that jobs use."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.problems import ProblemError
from worker.sandbox.arrays import StoredArray, blocks
from worker.sandbox.tensor_file import MAX_DIMS

MAX_CLASSES = 100_000
MAX_LABEL_BYTES = 2**28


def check_splits(arrays: Mapping[str, StoredArray], splits: Sequence[str]) -> None:
    """Refuse splits that are empty, do not match, or hold samples of different shapes.

    Args:
        arrays: train_x, train_y and so on.
        splits: Their names, "train" first.

    Raises:
        ProblemError: `dataset_invalid`.
    """
    for split in splits:
        x, y = arrays[f"{split}_x"], arrays[f"{split}_y"]
        _check_samples(x)
        _check_labels(y)
        if x.shape[0] != y.shape[0]:
            raise ProblemError(
                "dataset_invalid", f"{split}: expected a label a sample, got {x.shape[0]} samples, {y.shape[0]} labels"
            )
    train = arrays["train_x"].shape[1:]
    for split in splits:
        found = arrays[f"{split}_x"].shape[1:]
        if found != train:
            detail = f"{split}_x: expected samples of shape {train} as in train_x, got {found}"
            raise ProblemError("dataset_invalid", detail)


def output_dtype(splits: Sequence[StoredArray]) -> str:
    """The safetensors dtype of the samples of all splits: 8-bit images stay as they are, all else becomes float32."""
    are_8_bit = [array.dtype == np.uint8 for array in splits]
    if any(are_8_bit) and not all(are_8_bit):
        names = ", ".join(array.name for array in splits)
        raise ProblemError("dataset_invalid", f"expected {names} all as 8-bit images or none of them")
    return "U8" if all(are_8_bit) else "F32"


def samples(array: StoredArray, dtype: str) -> Iterator[memoryview]:
    """The samples in the output's dtype, checked to be finite, a block at a time.

    Raises:
        ProblemError: `non_finite_values`.
    """
    for block in blocks(array):
        if dtype == "U8":
            yield block.data
            continue
        if array.is_floating and not np.isfinite(block).all():
            raise ProblemError("non_finite_values", f"{array.where}: expected finite values, got NaN or infinity")
        with np.errstate(over="ignore"):  # looked for below
            converted = block.astype(np.float32)
        if not np.isfinite(converted).all():
            raise ProblemError("non_finite_values", f"{array.where}: a value is too large for float32")
        yield converted.data


def labels(array: StoredArray) -> NDArray[np.int64]:
    """The labels of a split.

    Returns:
        Shape (samples,).

    Raises:
        ProblemError: `non_finite_values` or `dataset_invalid`.
    """
    values = np.concatenate(list(blocks(array)))
    if array.is_floating:
        if not np.isfinite(values).all():
            raise ProblemError("non_finite_values", f"{array.where}: expected finite labels, got NaN or infinity")
        if (values != np.floor(values)).any():
            raise ProblemError("dataset_invalid", f"{array.where}: expected whole numbers as labels, got fractions")
    low, high = values.min(), values.max()
    if low < 0 or high >= MAX_CLASSES:
        raise ProblemError(
            "dataset_invalid", f"{array.where}: expected labels from 0 to {MAX_CLASSES - 1}, got {low} to {high}"
        )
    return values.astype(np.int64)


def _check_samples(array: StoredArray) -> None:
    """Refuse samples that are no arrays of numbers."""
    if not 2 <= len(array.shape) <= MAX_DIMS:
        raise ProblemError(
            "dataset_invalid", f"{array.where}: expected 2 to {MAX_DIMS} dimensions, samples first, got {array.shape}"
        )
    if 0 in array.shape:
        raise ProblemError("dataset_invalid", f"{array.where}: expected at least one sample, got {array.shape}")
    if array.dtype.itemsize > 8:
        raise ProblemError("dataset_invalid", f"{array.where}: expected at most 64 bits a number, got {array.dtype}")


def _check_labels(array: StoredArray) -> None:
    """Refuse labels that are not one integer a sample."""
    if len(array.shape) not in (1, 2) or array.shape[1:] not in ((), (1,)):
        hint = "; one-hot labels become integers with argmax(1)" if len(array.shape) == 2 else ""
        raise ProblemError("dataset_invalid", f"{array.where}: expected one label a sample, got {array.shape}{hint}")
    if array.shape[0] == 0:
        raise ProblemError("dataset_invalid", f"{array.where}: expected at least one label, got {array.shape}")
    if array.dtype.kind == "b" or array.dtype.itemsize > 8:
        raise ProblemError("dataset_invalid", f"{array.where}: expected integers as labels, got {array.dtype}")
    if array.bytes > MAX_LABEL_BYTES:
        raise ProblemError("resource_limit", f"{array.where}: expected at most {MAX_LABEL_BYTES} bytes of labels")
