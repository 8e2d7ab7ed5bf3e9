"""The ADTN: an nn.Module that holds gates and whose output is a weight."""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from adtn.balancing import balanced, group_numbers
from adtn.blocks import handed_out
from adtn.contraction import contract, contract_vjp
from adtn.errors import ShapeError
from adtn.keeping import KeptWeight, reused
from adtn.quantising import best_scales, check_bits, quantised
from adtn.start import WEIGHT_DTYPES, gate_dtype, orthogonal_gates
from adtn.structure import MOST_PADDED, AnyStructure


class ADTN(nn.Module):
    """A weight tensor as an automatically differentiable tensor network: W ~ contract(gates), cut and reshaped.

    It starts with orthogonal gates. Registered with `torch.nn.utils.parametrize` (see `adtn.encode`) it stands in the
    place of a parameter; it then stores no dense original.

    Args:
        shape: Of the weight; at most `structure.size` entries.
        structure: Of the tensor network. Entries of the contraction past the weight's own are padding.
        dtype: Of the decoded weight. The gates are float64 for a float64 weight and float32 for all others.
        generator: Source of the start values (on the CPU); the global one by default.
        gates: Start values instead, (structure.parameters,); they are copied, and none are drawn.

    Attributes:
        gates: The numbers of all gates in order, flat (structure.parameters,).
        bits: In which each of them is stored, 2 to 8, or None: as a float. See `quantise`.
        scales: With bits, one a group of gates: see `adtn.balancing.scale_groups`. Else None.
        rounding: With bits, how much of the rounding the decoded weight shows, from 0 to 1. Below 1 only while
            `fine_tune` phases it in.
        relative_error: ||W - T|| / ||W|| when a fit made this ADTN, else None.
        kept: The decoded weight between one evaluation and the next. No part of the state_dict, copies or pickles.

    Raises:
        ShapeError: The structure holds fewer entries than the weight, or over `MOST_PADDED` times as many; the dtype is
            not one of `WEIGHT_DTYPES`; or the gates have another shape.

    Source: arXiv:2305.06058.
    """

    def __init__(
        self,
        shape: Sequence[int],
        structure: AnyStructure,
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
        gates: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.shape = torch.Size(shape)
        self.structure = structure
        self.dtype = dtype
        self.relative_error: float | None = None
        self.in_place = False
        self.kept = KeptWeight()
        entries = self.shape.numel()
        if entries > structure.size:
            raise ShapeError(f"shape {tuple(shape)} has {entries} entries, but the structure holds {structure.size}")
        if structure.size > MOST_PADDED * entries:
            raise ShapeError(
                f"shape {tuple(shape)} has {entries} entries: expected a structure of at most {MOST_PADDED} times as "
                f"many, got {structure.size}"
            )
        if dtype not in WEIGHT_DTYPES:
            raise ShapeError(f"dtype: expected one of {', '.join(map(str, WEIGHT_DTYPES))}, got {dtype}")
        if gates is None:
            start = orthogonal_gates(structure, gate_dtype(dtype), generator)
        elif gates.shape == (structure.parameters,):
            start = gates.detach().to(gate_dtype(dtype), copy=True)
        else:
            raise ShapeError(f"gates: expected shape ({structure.parameters},), got {tuple(gates.shape)}")
        self.gates = nn.Parameter(start)
        self.bits: int | None = None
        self.rounding = 1.0
        self.scales: Tensor | None
        self.register_buffer("scales", None)

    def forward(self) -> Tensor:
        """The decoded weight, of `shape` and `dtype`, differentiable with respect to the gates.

        Within `decoded_once` it is the block's. Otherwise the weight is decoded and, in evaluation mode or where no
        gradient is wanted, kept: it is not decoded again until the gates change. So evaluation costs the memory of one
        dense weight an ADTN, until `train()` or a move to another device or dtype lets go of it. A kept weight that is
        differentiated all the same is decoded in the backward pass.
        """
        if torch.compiler.is_compiling():  # a trace has no use for values of today
            return self.decode()
        differentiable = self.is_differentiable()
        given = handed_out(self, self.gates, differentiable)
        if given is not None:
            return given
        if differentiable and self.training:  # the gates are about to change
            return self.decode()
        numbers = self.numbers()
        kept = self.kept.get(numbers, self.dtype)
        if kept is not None:
            return reused(numbers, kept, self._decoded) if differentiable else kept
        if differentiable:
            weight = self._decoded(numbers)
            self.kept.put(numbers, weight)
            return weight
        with torch.inference_mode(False), torch.no_grad():  # so that the kept weight serves in every mode
            return self.kept.put(numbers, self.decode())

    def decode(self) -> Tensor:
        """Decode the weight now, whatever is known of it, and keep nothing; differentiable."""
        return self._decoded(self.numbers())

    def numbers(self) -> Tensor:
        """The gates as they are stored and decoded, (structure.parameters,): with bits they are rounded.

        Differentiable: see `adtn.quantising.quantised`.
        """
        if self.bits is None or self.scales is None:
            return self.gates
        rounded = quantised(self.gates, self.scales, self.structure, self.bits)
        return rounded if self.rounding == 1 else torch.lerp(self.gates, rounded, self.rounding)

    @torch.no_grad()
    def quantise(self, bits: int, scales: Tensor | None = None) -> None:
        """From now on, decode and store the gates as integers of a few bits times a scale.

        The gates themselves stay floats that can be trained: the weight is that of the rounded ones.

        Args:
            bits: Of each integer, 2 to 8.
            scales: One a group of gates, positive. By default the gates are balanced, which does not change the
                tensor, and each group gets the scale that rounds them best.

        Raises:
            ShapeError: The bits are out of range, or the number of scales is not that of the groups.
        """
        check_bits(bits)
        groups = len(group_numbers(self.structure))
        if scales is None:
            self.gates.copy_(balanced(self.gates, self.structure))
            scales = best_scales(self.gates, self.structure, bits)
        elif scales.shape != (groups,):
            raise ShapeError(f"scales: expected shape ({groups},), got {tuple(scales.shape)}")
        self.bits, self.scales = bits, scales.to(self.gates)

    def is_differentiable(self) -> bool:
        """Whether a weight decoded now would bring a gradient to the gates."""
        return torch.is_grad_enabled() and self.gates.requires_grad

    def train(self, mode: bool = True) -> Self:
        """Set the mode; training lets go of a kept weight."""
        if mode:
            self.kept.clear()
        return super().train(mode)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Tell `parametrize` that no dense original is stored: it calls this once, when the ADTN is registered.

        Raises:
            ShapeError: The weight has another shape; or the ADTN is already in place, so that this is an assignment,
                which an encoded weight cannot take.
        """
        self.check_assignment(weight, self.shape)
        return ()

    def check_assignment(self, weight: Tensor, shape: torch.Size) -> None:
        """Refuse a weight of another shape, and any once the ADTN is in place.

        Raises:
            ShapeError: See `right_inverse`.
        """
        if self.in_place:
            raise ShapeError(
                "an encoded weight cannot be assigned to: change its gates, or fit the new weight and encode again"
            )
        if weight.shape != shape:
            raise ShapeError(f"expected a weight of shape {tuple(shape)}, got {tuple(weight.shape)}")

    def extra_repr(self) -> str:
        """Shape, structure, count and bits, for `print(model)`."""
        structure = ", ".join(f"{name}={value!r}" for name, value in self.structure.summary().items())
        bits = "" if self.bits is None else f", bits={self.bits}"
        return f"shape={tuple(self.shape)}, {structure}, parameters={self.structure.parameters}{bits}"

    def _decoded(self, numbers: Tensor) -> Tensor:
        """The weight of these gates."""
        return contracted(numbers, self.structure, self.shape.numel()).view(self.shape).to(self.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow `model.half()` and its like with the decoded weight's dtype; gates stay float32 or float64."""
        self.kept.clear()
        dtype = fn(torch.empty(0, dtype=self.dtype, device=self.gates.device)).dtype
        kept = gate_dtype(dtype)

        def convert(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == kept else tensor.to(device=moved.device, dtype=kept)

        super()._apply(convert, recurse)  # type: ignore[no-untyped-call]
        self.dtype = dtype
        return self


def contracted(gates: Tensor, structure: AnyStructure, entries: int) -> Tensor:
    """`contract`, in full precision also inside an autocast block of the caller's: a product of many gates needs it."""
    with torch.autocast(gates.device.type, enabled=False):
        return contract(gates, structure, entries=entries)


def contracted_vjp(gates: Tensor, structure: AnyStructure, entries: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """`contract_vjp`, in full precision as `contracted`."""
    kind = gates.device.type
    with torch.autocast(kind, enabled=False):
        result, vjp = contract_vjp(gates, structure, entries)

    def vjp_in_full(grad: Tensor) -> Tensor:
        with torch.autocast(kind, enabled=False):
            return vjp(grad)

    return result, vjp_in_full
