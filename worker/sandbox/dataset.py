"""A data set, read in the child: recognised by its content, checked, and written again as safetensors."""

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from jobs.problems import ProblemError
from worker.sandbox.archives import Member, checked_zip, tar_members, zip_members
from worker.sandbox.arrays import StoredArray
from worker.sandbox.cifar import cifar_contents, cifar_layout
from worker.sandbox.contents import SPLITS, Contents
from worker.sandbox.dataset_checks import check_splits, labels, output_dtype, samples
from worker.sandbox.formats import ACCEPTED, START_BYTES, format_of
from worker.sandbox.idx import holds_idx, idx_arrays
from worker.sandbox.image_folder import holds_images, image_contents
from worker.sandbox.limits import Budget
from worker.sandbox.npz import npz_arrays
from worker.sandbox.tensor_arrays import safetensors_arrays
from worker.sandbox.tensor_file import Outgoing, quoted, write

NAMES = ("train_x", "train_y", "test_x", "test_y")
VALIDATION = ("val_x", "val_y")
HEADER_BYTES = 1024  # more than the header of a few tensors takes


def read_dataset(source: BinaryIO, filename: str, output: BinaryIO, budget: Budget) -> Mapping[str, Any]:
    """Read an untrusted data set, check it and write it as safetensors.

    Args:
        source: The upload.
        filename: Its ending is a hint where the content says nothing.
        output: Receives train_x, test_x (uint8 or float32) and train_y, test_y (int64), perhaps val_x and val_y; for
            images of several sizes what `worker.sandbox.image_folder` describes.
        budget: `output_bytes` is the most that the upload may expand to.

    Returns:
        The JSON of `worker.sandbox.answer.Answer`.

    Raises:
        ProblemError: The file is refused.
    """
    size = source.seek(0, 2)
    contents = _read(source, size, filename, budget.output_bytes)
    _require_room(contents.tensors, budget.output_bytes)
    write(output, contents.tensors)
    return contents.answer()


def _read(source: BinaryIO, size: int, filename: str, limit: int) -> Contents:
    """What a file holds."""
    source.seek(0)
    found = format_of(source.read(START_BYTES), "dataset", filename)
    source.seek(0)
    if found == "safetensors":
        return _array_contents(found, safetensors_arrays(source, size))
    if found == "tar":
        return _archive_contents(tar_members(source, limit, "dataset_invalid"), limit)
    members = zip_members(checked_zip(source, size, "dataset_invalid"))
    if any(member.name in {f"{name}.npy" for name in NAMES} for member in members):
        return _array_contents("npz", npz_arrays(members, (*NAMES, *VALIDATION), limit))
    return _archive_contents(members, limit)


def _archive_contents(members: Sequence[Member], limit: int) -> Contents:
    """What an archive holds, told by the names of its members."""
    if holds_idx(members):
        return _array_contents("idx", idx_arrays(members, limit))
    layout = cifar_layout(members)
    if layout is not None:
        return cifar_contents(members, layout)
    if holds_images(members):
        return image_contents(members)
    names = ", ".join(quoted(member.name) for member in members[:5]) or "nothing that can be read"
    raise ProblemError("dataset_invalid", f"expected {ACCEPTED['dataset']}; the archive holds {names}")


def _array_contents(kind: str, arrays: Mapping[str, StoredArray]) -> Contents:
    """The contents of a file with the four arrays, or with the two of a validation split besides, checked."""
    splits = [split for split in SPLITS if split != "val" or any(name in arrays for name in VALIDATION)]
    missing = [f"{split}_{part}" for split in splits for part in "xy" if f"{split}_{part}" not in arrays]
    if missing:
        raise ProblemError("dataset_invalid", f"expected {ACCEPTED['dataset']}; {', '.join(missing)} is missing")
    check_splits(arrays, splits)
    dtype = output_dtype([arrays[f"{split}_x"] for split in splits])
    all_labels = {name: labels(arrays[name]) for name in (f"{split}_y" for split in splits)}
    outgoing = [
        Outgoing(name, "I64", values.shape, lambda values=values: [values.view("u1").data])  # type: ignore[misc]
        for name, values in all_labels.items()
    ]
    for name in (f"{split}_x" for split in splits):
        array = arrays[name]
        outgoing.append(Outgoing(name, dtype, array.shape, lambda array=array: samples(array, dtype)))  # type: ignore[misc]
    return Contents(
        format=kind,
        tensors=outgoing,
        splits={split: arrays[f"{split}_x"].shape[0] for split in splits},
        shape=arrays["train_x"].shape[1:],
        classes=1 + max(int(values.max()) for values in all_labels.values()),
        dtype=dtype,
    )


def _require_room(tensors: Sequence[Outgoing], limit: int) -> None:
    """Refuse what would be larger than allowed, before it is expanded."""
    total = HEADER_BYTES + sum(tensor.bytes for tensor in tensors)
    if total > limit:
        raise ProblemError("resource_limit", f"the data set expands to {total} bytes, more than the {limit} allowed")
