"""What a tensor from an untrusted file has to be before any operation touches its numbers."""

from collections.abc import Iterable, Mapping
from itertools import islice

import torch
from torch import Tensor

from jobs.problems import Fault, ProblemError
from worker.sandbox.tensor_file import MAX_TENSORS, name_fault, quoted, shape_fault
from worker.sandbox.tensor_output import NAMES

CHUNK = 2**22  # numbers checked at a time
MAX_OVERLAP = 2


def check_names(tensors: Mapping[str, object]) -> None:
    """Refuse too many tensors and names that do not belong in a file.

    Raises:
        ProblemError: `checkpoint_invalid`, with a fault a name.
    """
    if len(tensors) > MAX_TENSORS:
        raise ProblemError("checkpoint_invalid", f"expected at most {MAX_TENSORS} tensors, got {len(tensors)}")
    found = ((name, name_fault(name)) for name in tensors)
    faults = [Fault(quoted(name), fault, "checkpoint_invalid") for name, fault in islice(found, MAX_TENSORS) if fault]
    if faults:
        raise ProblemError("checkpoint_invalid", faults[0].detail, faults[:20])


def layout_fault(tensor: Tensor) -> str | None:
    """What is wrong with a tensor's form, without reading its numbers; None if nothing is.

    A file of 1.4 kB can hold a tensor whose strides are 0 and that takes 4 TiB once it is copied.
    """
    if tensor.layout is not torch.strided or tensor.is_quantized:
        kind = "quantized" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
        return f"expected a dense tensor, got a {kind} one"
    if tensor.device.type != "cpu":
        return f"expected a tensor with data, got one on the device {tensor.device.type!r}"
    if tensor.dtype not in NAMES:
        return f"expected a floating-point, integer or boolean dtype, got {tensor.dtype}"
    if fault := shape_fault(tensor.shape):
        return fault
    needed, stored = tensor.numel() * tensor.itemsize, tensor.untyped_storage().nbytes()
    if needed > stored:
        return f"expected {needed} stored bytes, got {stored}: save it as tensor.contiguous()"
    return None


def check_layouts(tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors whose form is not that of plain numbers in memory.

    Raises:
        ProblemError: `checkpoint_invalid`, with a fault a tensor.
    """
    found = ((key, layout_fault(tensor)) for key, tensor in tensors.items())
    faults = [Fault(key, fault, "checkpoint_invalid") for key, fault in found if fault]
    if faults:
        raise ProblemError("checkpoint_invalid", f"tensor {faults[0].pointer!r}: {faults[0].detail}", faults[:20])


def storage_sizes(tensors: Iterable[Tensor]) -> list[int]:
    """Bytes of each memory block that the tensors lie in, each block once."""
    blocks = [tensor.untyped_storage() for tensor in tensors]
    return list({block.data_ptr(): block.nbytes() for block in blocks}.values())


def check_total(tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that overlap so much that writing each takes more than twice the bytes that they lie in.

    Raises:
        ProblemError: `checkpoint_invalid`.
    """
    total = sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())
    stored = sum(storage_sizes(tensors.values()))
    if total > MAX_OVERLAP * stored:
        raise ProblemError(
            "checkpoint_invalid",
            f"the tensors overlap: they take {total} bytes, and the file has {stored} bytes of them; expected at most "
            f"{MAX_OVERLAP} times as many",
        )


def check_tensors(tensors: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinite values.

    Raises:
        ProblemError: `non_finite_values`, with a fault a tensor.
    """
    faults = [
        Fault(key, "expected finite values, got NaN or infinity", "non_finite_values")
        for key, tensor in tensors.items()
        if tensor.is_floating_point() and not _is_finite(tensor)
    ]
    if faults:
        names = ", ".join(repr(fault.pointer) for fault in faults[:5])
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ProblemError("non_finite_values", f"expected finite values, got NaN or infinity in {names}{more}", faults)


def tied(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """For each key whose tensor is another key's tensor, the first such key.

    Args:
        tensors: Checked by `check_layouts`.
    """
    first: dict[tuple[object, ...], str] = {}
    aliases = {}
    for key, tensor in tensors.items():
        block = tensor.untyped_storage().data_ptr()
        identity = (block, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        canonical = first.setdefault(identity, key)
        if canonical != key:
            aliases[key] = canonical
    return aliases


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite, a part at a time."""
    flat = tensor.contiguous().reshape(-1)  # shape -> (numbers,)
    return all(bool(torch.isfinite(part).all()) for part in torch.split(flat, CHUNK))
