"""An accelerator without a card: a device of its own to PyTorch, whose tensors compute on the CPU.

What holds on a card holds here: an operation refuses tensors of which some are on the device and others are not, a
tensor gets to the device and back only by being moved, autocast computes layers in bfloat16, and gradients run in a
thread of the device. What a card does otherwise (its kernels, its rounding, pinned memory, streams) is not shown.

Importing this registers the device for good, so it is imported by processes of its own: see `support.accelerated`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "card"
_aten = torch.ops.aten
_MOVES = {_aten._to_copy.default, _aten.copy_.default}
"""The operations that take tensors from one device to another."""


class _Module:
    """What PyTorch asks `torch.card` for."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """All random numbers are drawn on the CPU."""

    def get_rng_state(self, device: torch.device) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: torch.device) -> None:
        torch.set_rng_state(state)

    def mem_get_info(self, device: torch.device) -> tuple[int, int]:
        return 2**30, 2**30

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend(NAME, _Module())
DEVICE = torch.device(NAME, 0)


class OnDevice(Tensor):
    """A tensor on the device; `held` is the one on the CPU that has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnDevice":
        made: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})


def _run(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Carry an operation out on the CPU, with its results on the device where they belong there."""
    tensors = [value for value in pytree.tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    here = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
    elsewhere = [tensor for tensor in tensors if not isinstance(tensor, OnDevice) and tensor.dim() > 0]
    if here and elsewhere and operation not in _MOVES:
        raise RuntimeError(f"{operation}: expected all tensors on one device, got {[t.device.type for t in tensors]}")
    wanted = kwargs.get("device")
    on_device = bool(here) if wanted is None else torch.device(wanted).type == NAME
    if wanted is not None and on_device:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, kwargs = pytree.tree_map(lambda value: value.held if isinstance(value, OnDevice) else value, (args, kwargs))
    known = {id(tensor.held): tensor for tensor in here}  # an operation in place returns the tensor that it changed

    def placed(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) in known:
            return known[id(value)]
        return OnDevice(value) if on_device else value

    with torch.no_grad():
        return pytree.tree_map(placed, operation(*args, **kwargs))


_every = torch.library.Library("_", "IMPL")
_every.fallback(lambda operation, *args, **kwargs: _run(operation, args, kwargs), "PrivateUse1")
_every.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
_autocast = torch.library.Library("aten", "IMPL")
_NOT_AGAIN = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)


def _in_lower_precision(operation: Any) -> Any:
    """What autocast makes of an operation: its float32 tensors become those of the lower precision."""

    def lowered(value: Any) -> Any:
        is_single = isinstance(value, Tensor) and value.dtype == torch.float32
        return value.to(torch.get_autocast_dtype(NAME)) if is_single else value

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_NOT_AGAIN):
            args, kwargs = pytree.tree_map(lowered, (args, kwargs))
            return operation(*args, **kwargs)

    return run


for _name in ("linear", "conv2d", "matmul", "mm", "addmm", "bmm"):  # of those that autocast lowers, what is used here
    _autocast.impl(_name, _in_lower_precision(getattr(_aten, _name).default), "AutocastPrivateUse1")
_moving = torch.library.Library("aten", "IMPL")
# `torch.tensor` calls this where a fallback written in Python is not found.
_moving.impl("_to_copy", lambda *args, **kwargs: _run(_aten._to_copy.default, args, kwargs), "PrivateUse1")


def _apply_in_place(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """`Module._apply`, with which modules are moved; their parameters stay the same objects, as on the way to a card.

    They become tensors of another class, and would be replaced by new ones.
    """
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        return _apply(module, *args, **kwargs)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


_apply = nn.Module._apply
nn.Module._apply = _apply_in_place  # type: ignore[method-assign]
