"""Sizes of a network read off the shapes of its state dict, by a pattern of named sizes a key."""

from collections.abc import Mapping

from torch import Tensor

from jobs.problems import Fault, ProblemError

Pattern = Mapping[str, tuple[str, ...]]


def read_sizes(name: str, pattern: Pattern, state: Mapping[str, Tensor]) -> dict[str, int]:
    """The named sizes of a pattern, the same wherever the name stands.

    Args:
        name: Of the architecture, for messages.
        pattern: For every key of the network the names of its sizes: {"fc1.weight": ("hidden", "inputs"), ...}. One
            without sizes is a counter, of any dtype.
        state: The state dict.

    Raises:
        ProblemError: `checkpoint_mismatch`, with a fault for every key that is missing, unexpected or does not fit.
    """
    sizes: dict[str, int] = {}
    faults = []
    for key, names in pattern.items():
        detail = (
            _misfit(names, state[key], sizes) if key in state else f"expected {_shown(names, sizes)}, got no such key"
        )
        if detail is not None:
            faults.append(Fault(key, detail, "checkpoint_mismatch"))
    faults += [
        Fault(key, f"expected no such key in {name}, got {tuple(tensor.shape)}", "checkpoint_mismatch")
        for key, tensor in state.items()
        if key not in pattern
    ]
    if faults:
        raise mismatch(name, faults)
    return sizes


def as_image(key: str, channels: int, input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape of an image with its channels in front.

    Args:
        key: Of the weight that takes images, for messages.
        channels: That it takes.
        input_shape: Of one sample, (channels, height, width), or (height, width) for one channel.

    Raises:
        ProblemError: `dataset_mismatch`.
    """
    shape = (1, *input_shape) if len(input_shape) == 2 else tuple(input_shape)
    if len(shape) != 3 or shape[0] != channels:
        raise ProblemError(
            "dataset_mismatch",
            f"{key} expects samples of shape ({channels}, height, width), got {tuple(input_shape)}",
        )
    return (shape[0], shape[1], shape[2])


def mismatch(name: str, faults: list[Fault]) -> ProblemError:
    """The problem of a checkpoint that does not fit an architecture; its text holds the first few faults."""
    shown = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults[:5])
    more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
    return ProblemError("checkpoint_mismatch", f"the checkpoint does not fit {name}: {shown}{more}", faults[:100])


def _misfit(names: tuple[str, ...], tensor: Tensor, sizes: dict[str, int]) -> str | None:
    """What is wrong with one tensor; sizes seen for the first time are added to `sizes`."""
    shape = tuple(tensor.shape)
    expected = _shown(names, sizes)
    if names and not tensor.is_floating_point():
        return f"expected floating-point numbers, got {str(tensor.dtype).removeprefix('torch.')}"
    if len(shape) != len(names):
        return f"expected {expected}, got {shape}"
    proposed = dict(sizes)
    if any(proposed.setdefault(size_name, size) != size for size_name, size in zip(names, shape, strict=True)):
        return f"expected {expected}, got {shape}"
    sizes.update(proposed)
    return None


def _shown(names: tuple[str, ...], sizes: Mapping[str, int]) -> str:
    """A shape with the sizes that are known as numbers: "(classes, 84)"."""
    shown = [str(sizes.get(name, name)) for name in names]
    return f"({shown[0]},)" if len(shown) == 1 else f"({', '.join(shown)})"
