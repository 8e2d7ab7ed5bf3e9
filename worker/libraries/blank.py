"""Models without numbers: built on torch's meta device, to be compared with a checkpoint before memory is taken."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

from jobs.problems import Fault, ProblemError
from worker.architectures.shapes import mismatch

Make = Callable[[], nn.Module]

ROOM = 10_000
"""Modules and tensors that a model may have besides four for each tensor of the checkpoint."""
MAX_SIZE = 10**6
"""Of a setting that shapes tell, such as the number of classes."""
MAX_UNSTORED_BYTES = 2**28
"""Of all buffers that a state dict leaves out, such as tables of positions."""


class UnfilledOnMeta(TorchFunctionMode):
    """Puts tensors without numbers on the meta device, as weights are before they start.

    Some models compute widths with small tensors while they are built: those need their numbers.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch."""
        given = kwargs or {}
        return func(*args, **({**given, "device": "meta"} if func is torch.empty else given))


def blank(
    name: str,
    make: Make,
    state: Mapping[str, Tensor],
    refusal: Callable[[Exception], ProblemError],
    where: AbstractContextManager[object] | None = None,
) -> nn.Module:
    """Build a model whose weights have shapes and no numbers.

    Args:
        name: For messages.
        make: Builds it.
        state: Of the checkpoint; a model with far more parts is given up while it is built.
        refusal: The problem of a model that cannot be built, made of the error.
        where: Decides which tensors are without numbers; by default `UnfilledOnMeta`.

    Raises:
        ProblemError: `checkpoint_mismatch` for a model with too many parts; a refusal.
    """
    try:
        with where or UnfilledOnMeta(), _counted(name, ROOM + 4 * len(state)):
            return make()
    except ProblemError:
        raise
    except Exception as error:  # models refuse settings in any way
        raise refusal(error) from error


def require_fitting(name: str, model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Refuse a state dict that is not the model's.

    What may differ: batch norm's counters of batches may be missing, of tied tensors one is enough, and buffers that
    the model does not store may be there, as versions of libraries differ in what they store.

    Args:
        name: For messages.
        model: Blank.
        state: Of the checkpoint.

    Raises:
        ProblemError: `checkpoint_mismatch` with a fault for every key that is missing, unexpected or of another shape
            or kind of number; `resource_limit` for a model that makes large tables of its own.
    """
    stored, unstored = model.state_dict(keep_vars=True), unstored_buffers(model)
    present = {id(tensor) for key, tensor in stored.items() if key in state}
    faults = [
        _fault(key, f"expected {tuple(tensor.shape)}, got no such key")
        for key, tensor in stored.items()
        if key not in state and id(tensor) not in present and not key.endswith("num_batches_tracked")
    ]
    for key, tensor in state.items():
        expected = stored.get(key, unstored.get(key))
        if expected is None:
            faults.append(_fault(key, f"expected no such key in {name}, got {tuple(tensor.shape)}"))
        elif expected.shape != tensor.shape:
            faults.append(_fault(key, f"expected {tuple(expected.shape)}, got {tuple(tensor.shape)}"))
        elif expected.is_floating_point() and not tensor.is_floating_point():
            faults.append(_fault(key, f"expected floating-point numbers, got {str(tensor.dtype)[6:]}"))
    if faults:
        raise mismatch(name, faults)
    size = sum(buffer.nbytes for buffer in unstored.values())
    if size > MAX_UNSTORED_BYTES:
        raise ProblemError(
            "resource_limit",
            f"{name}: expected tables of at most {MAX_UNSTORED_BYTES} bytes beside the weights, got {size}",
        )


def sizes_of(
    make: Callable[..., nn.Module], state: Mapping[str, Tensor], settings: Mapping[str, tuple[int, int]]
) -> dict[str, int]:
    """Settings of a model that the shapes of a checkpoint tell.

    The model is built blank with two values of each setting: the first tensor whose shape moves tells the setting.

    Args:
        make: Builds a blank model from settings by name.
        state: Of the checkpoint.
        settings: Two values of each to try.

    Returns:
        Without those that no tensor of the checkpoint tells.
    """
    low = {setting: values[0] for setting, values in settings.items()}
    first = make(**low).state_dict()
    found = {}
    for setting, values in settings.items():
        size = _size_of(first, make(**{**low, setting: values[1]}).state_dict(), values, state)
        if size is not None:
            found[setting] = size
    return found


def _size_of(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], values: tuple[int, int], state: Mapping[str, Tensor]
) -> int | None:
    """The setting for which a model would have the checkpoint's shapes, from two models with values of it."""
    low, high = values
    for key, tensor in first.items():
        if key not in state or key not in second or not tensor.dim() == second[key].dim() == state[key].dim():
            continue
        for size, moved, actual in zip(tensor.shape, second[key].shape, state[key].shape, strict=True):
            if size != moved:
                # Sizes are linear in the setting: actual = size + (setting - low) * (moved - size) / (high - low).
                steps, rest = divmod((actual - size) * (high - low), moved - size)
                return low + steps if rest == 0 and 0 < low + steps <= MAX_SIZE else None
    return None


def unstored_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The buffers that a model leaves out of its state dict, by the keys that they would have."""
    return {
        f"{prefix}.{name}".removeprefix("."): buffer
        for prefix, module in model.named_modules()
        for name in sorted(module._non_persistent_buffers_set)
        if (buffer := module._buffers.get(name)) is not None
    }


def _fault(key: str, detail: str) -> Fault:
    return Fault(key, detail, "checkpoint_mismatch")


@contextmanager
def _counted(name: str, most: int) -> Iterator[None]:
    """While open, modules cannot get more than so many parts."""
    left = most

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ProblemError(
                "checkpoint_mismatch", f"the checkpoint does not fit {name}: the model has far more parts than it"
            )

    handles = [
        register_module_module_registration_hook(count),
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
