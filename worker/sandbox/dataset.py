"""A data set, read in the child: recognised by its content, checked, and written again as safetensors."""

from collections.abc import Mapping
from typing import Any, BinaryIO

from jobs.problems import ProblemError
from worker.sandbox.archives import checked_zip, tar_members, zip_members
from worker.sandbox.arrays import StoredArray
from worker.sandbox.dataset_checks import check_splits, labels, output_dtype, samples
from worker.sandbox.formats import ACCEPTED, START_BYTES, format_of
from worker.sandbox.idx import idx_arrays
from worker.sandbox.limits import Budget
from worker.sandbox.npz import npz_arrays
from worker.sandbox.tensor_arrays import safetensors_arrays
from worker.sandbox.tensor_file import Outgoing, write

NAMES = ("train_x", "train_y", "test_x", "test_y")
HEADER_BYTES = 1024  # more than the header of four arrays takes


def read_dataset(source: BinaryIO, filename: str, output: BinaryIO, budget: Budget) -> Mapping[str, Any]:
    """Read an untrusted data set, check it and write it as safetensors.

    Args:
        source: The upload.
        filename: Its ending is a hint where the content says nothing.
        output: Receives train_x, test_x (uint8 or float32) and train_y, test_y (int64).
        budget: `output_bytes` is the most that the upload may expand to.

    Returns:
        The JSON of `worker.sandbox.answer.Answer`.

    Raises:
        ProblemError: The file is refused.
    """
    size = source.seek(0, 2)
    kind, arrays = _open(source, size, filename, budget.output_bytes)
    _require_all(arrays, kind)
    check_splits(arrays)
    dtype = output_dtype(arrays)
    all_labels = {name: labels(arrays[name]) for name in ("train_y", "test_y")}
    outgoing = [
        Outgoing(name, "I64", values.shape, lambda values=values: [values.view("u1").data])  # type: ignore[misc]
        for name, values in all_labels.items()
    ]
    for name in ("train_x", "test_x"):
        array = arrays[name]
        outgoing.append(Outgoing(name, dtype, array.shape, lambda array=array: samples(array, dtype)))  # type: ignore[misc]
    _require_room(outgoing, budget.output_bytes)
    write(output, outgoing)
    return {
        "format": kind,
        "summary": {
            "splits": {name: arrays[f"{name}_x"].shape[0] for name in ("train", "test")},
            "shape": list(arrays["train_x"].shape[1:]),
            "classes": 1 + max(int(values.max()) for values in all_labels.values()),
            "dtype": {"U8": "uint8", "F32": "float32"}[dtype],
        },
        "layers": [],
        "aliases": {},
    }


def _open(source: BinaryIO, size: int, filename: str, limit: int) -> tuple[str, dict[str, StoredArray]]:
    """Format and arrays of a file."""
    source.seek(0)
    found = format_of(source.read(START_BYTES), "dataset", filename)
    source.seek(0)
    if found == "safetensors":
        return found, safetensors_arrays(source, size)
    if found == "tar":
        return "idx", idx_arrays(tar_members(source, limit, "dataset_invalid"), limit)
    members = zip_members(checked_zip(source, size, "dataset_invalid"))
    if any(member.name in {f"{name}.npy" for name in NAMES} for member in members):
        return "npz", npz_arrays(members, NAMES, limit)
    return "idx", idx_arrays(members, limit)


def _require_all(arrays: Mapping[str, StoredArray], kind: str) -> None:
    """Refuse a data set in which one of the four arrays is missing."""
    missing = [name for name in NAMES if name not in arrays]
    if missing:
        raise ProblemError("dataset_invalid", f"expected {ACCEPTED['dataset']}; {', '.join(missing)} is missing")


def _require_room(tensors: list[Outgoing], limit: int) -> None:
    """Refuse what would be larger than allowed, before it is expanded."""
    total = HEADER_BYTES + sum(tensor.bytes for tensor in tensors)
    if total > limit:
        raise ProblemError("resource_limit", f"the data set expands to {total} bytes, more than the {limit} allowed")
