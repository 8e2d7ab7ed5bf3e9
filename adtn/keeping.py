"""A decoded weight, kept for as long as its gates hold the same numbers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class KeptWeight:
    """Room for one decoded weight and the numbers that it was decoded from.

    Whether it still holds is told by comparing those numbers: fused optimisers and writes through `.data` change gates
    without a trace in their identity, address or version. On a GPU the comparison waits for what is queued there.

    Copies and pickles of it are empty.
    """

    def __init__(self) -> None:
        self._held: _Held | None = None

    def get(self, gates: Tensor, dtype: torch.dtype) -> Tensor | None:
        """The kept weight without a gradient, or None if the gates, the dtype or the weight itself have changed.

        Args:
            gates: What would be decoded.
            dtype: Of the weight.
        """
        held = self._held
        if held is None:
            return None
        if (
            held.weight.dtype == dtype
            and held.weight._version == held.version  # else the user changed it in place
            and (held.numbers.dtype, held.numbers.device) == (gates.dtype, gates.device)
            and torch.equal(held.numbers, gates)
        ):
            return held.weight
        self.clear()  # before the next one takes its memory
        return None

    def put(self, gates: Tensor, weight: Tensor) -> Tensor:
        """Keep a weight in the place of any other, and return it without a gradient.

        Args:
            gates: What it was decoded from.
            weight: Not a tensor of inference mode, as it may later meet a gradient.
        """
        weight = weight.detach()
        if weight.untyped_storage().nbytes() > weight.nbytes:
            weight = weight.clone()  # lets go of the padding, and of the batch that it was decoded in
        self._held = _Held(weight, weight._version, gates.detach().clone())
        return weight

    def clear(self) -> None:
        """Keep nothing."""
        self._held = None

    def __reduce__(self) -> tuple[Callable[[], "KeptWeight"], tuple[()]]:
        return KeptWeight, ()


class _Held(NamedTuple):
    """A weight, its version when it was put here, and the numbers of the gates."""

    weight: Tensor
    version: int
    numbers: Tensor


def reused(gates: Tensor, weight: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
    """A kept weight as if it had just been decoded: differentiable with respect to the gates, also twice.

    Args:
        gates: That would be decoded to `weight`.
        weight: Without a gradient.
        decode: Gates to weight. Called in the backward pass only.
    """
    result: Tensor = _Reused.apply(gates, weight, decode)  # type: ignore[no-untyped-call]
    return result


class _Reused(torch.autograd.Function):
    """`reused`."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(gates)
        ctx.decode = decode
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (gates,) = ctx.saved_tensors
        again = torch.is_grad_enabled()  # somebody will differentiate the gradient
        with torch.enable_grad():
            weight = ctx.decode(gates)
        (gradient,) = torch.autograd.grad(weight, gates, grads[0], create_graph=again)
        return gradient, None, None
