"""The ADTN: an nn.Module that holds gates and whose output is a weight."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from adtn.contraction import contract
from adtn.decoding import recall, remember
from adtn.errors import ShapeError
from adtn.start import WEIGHT_DTYPES, gate_dtype, orthogonal_gates
from adtn.structure import AnyStructure


class ADTN(nn.Module):
    """A weight tensor as an automatically differentiable tensor network: W ~ contract(gates), cut and reshaped.

    It starts with orthogonal gates. Registered with `torch.nn.utils.parametrize` (see `adtn.encode`) it stands in the
    place of a parameter; it then stores no dense original.

    Args:
        shape: Of the weight; at most `structure.size` entries.
        structure: Of the tensor network. Entries of the contraction past the weight's own are padding.
        dtype: Of the decoded weight. The gates are float64 for a float64 weight and float32 for all others.
        generator: Source of the start values (on the CPU); the global one by default.

    Attributes:
        gates: The numbers of all gates in order, flat (structure.parameters,).
        relative_error: ||W - T|| / ||W|| when a fit made this ADTN, else None.

    Raises:
        ShapeError: The structure holds fewer entries than the weight, or the dtype is not one of `WEIGHT_DTYPES`.

    Source: arXiv:2305.06058.
    """

    def __init__(
        self,
        shape: Sequence[int],
        structure: AnyStructure,
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.shape = torch.Size(shape)
        self.structure = structure
        self.dtype = dtype
        self.relative_error: float | None = None
        self.in_place = False
        entries = self.shape.numel()
        if entries > structure.size:
            raise ShapeError(f"shape {tuple(shape)} has {entries} entries, but the structure holds {structure.size}")
        if dtype not in WEIGHT_DTYPES:
            raise ShapeError(f"dtype: expected one of {', '.join(map(str, WEIGHT_DTYPES))}, got {dtype}")
        self.gates = nn.Parameter(orthogonal_gates(structure, gate_dtype(dtype), generator))

    def forward(self) -> Tensor:
        """The decoded weight, of `shape` and `dtype`, differentiable with respect to the gates."""
        with_grad = torch.is_grad_enabled()
        known = recall(self, with_grad)
        if known is not None:
            return known
        # A product of many gates needs their full precision, also inside an autocast block of the caller's.
        with torch.autocast(self.gates.device.type, enabled=False):
            flat = contract(self.gates, self.structure, entries=self.shape.numel())
        weight = flat.view(self.shape).to(self.dtype)
        remember(self, with_grad, weight)
        return weight

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Tell `parametrize` that no dense original is stored: it calls this once, when the ADTN is registered.

        Raises:
            ShapeError: The weight has another shape; or the ADTN is already in place, so that this is an assignment,
                which an encoded weight cannot take.
        """
        if self.in_place:
            raise ShapeError(
                "an encoded weight cannot be assigned to: change its gates, or fit the new weight and encode again"
            )
        if weight.shape != self.shape:
            raise ShapeError(f"expected a weight of shape {tuple(self.shape)}, got {tuple(weight.shape)}")
        return ()

    def extra_repr(self) -> str:
        """Shape, structure and count, for `print(model)`."""
        structure = ", ".join(f"{name}={value!r}" for name, value in self.structure.summary().items())
        return f"shape={tuple(self.shape)}, {structure}, parameters={self.structure.parameters}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ADTN":
        """Follow `model.half()` and its like with the decoded weight's dtype; gates stay float32 or float64."""
        dtype = fn(torch.empty(0, dtype=self.dtype, device=self.gates.device)).dtype
        kept = gate_dtype(dtype)

        def convert(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == kept else tensor.to(device=moved.device, dtype=kept)

        super()._apply(convert, recurse)  # type: ignore[no-untyped-call]
        self.dtype = dtype
        return self
