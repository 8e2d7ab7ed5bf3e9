"""Contract a tensor network into the tensor it represents: T = L(M) f( ... f( L(1) v (x) ... (x) v ) ).

No TN layer is ever built as a matrix. `adtn.windows` says which gates are fused; here the fused matrices are made from
the gates and applied. See the README of this package.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adtn.errors import ShapeError
from adtn.fusion import fuse
from adtn.structure import Structure
from adtn.windows import Rotation, steps_of

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
}


def contract(gates: Tensor | Sequence[Tensor], structure: Structure) -> Tensor:
    """Contract the gates of `structure` into the dense tensor they represent.

    Args:
        gates: The numbers of all gates as one flat vector (structure.parameters,), or one tensor a gate in order, each
            with out * in entries (see `Structure.gate_shapes`). Any floating-point dtype and device.
        structure: Sites, spans of the gates, activation.

    Returns:
        Vector of `structure.size` entries, the first site being the slowest index; differentiable, also twice.

    Raises:
        ShapeError: The number of gates, or of numbers, does not fit `structure`.

    Cost O(windows * 32 * size) per TN layer. Source: arXiv:2305.06058.
    """
    flat = gates if isinstance(gates, Tensor) else _joined(gates, structure)
    if flat.shape != (structure.parameters,):
        raise ShapeError(f"gates: expected shape ({structure.parameters},), got {tuple(flat.shape)}")
    matrices = iter(fuse(flat, structure))
    state = flat.new_ones(1)
    for m, steps in enumerate(steps_of(structure)):
        if m and structure.activation != "none":
            state = _ACTIVATIONS[structure.activation](state)
        for step in steps:
            if isinstance(step, Rotation):
                state = state.view(step.front, -1).T.reshape(-1)  # (front, rest) -> (rest, front)
            else:
                matrix = next(matrices).view(step.done, step.keep, step.into)
                state = apply_window(state.view(step.into, -1), matrix).view(-1)
    return state


def apply_window(state: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the sites in front by a fused matrix, and write the finished ones to the back.

    Args:
        state: (in, rest).
        matrix: (done, keep, in).

    Returns:
        (keep, rest, done), contiguous.
    """
    result: Tensor = _ApplyWindow.apply(state, matrix)  # type: ignore[no-untyped-call]
    return result


class _ApplyWindow(torch.autograd.Function):
    """result[k] = state^T matrix[:, k]^T, each k one matrix product straight into its place.

    Plain autograd would need an expanded batch or a copy to stack the results; the backward pass below is made of
    differentiable operations, so it can itself be differentiated.
    """

    @staticmethod
    def forward(ctx: Any, state: Tensor, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(state, matrix)
        done, keep, _ = matrix.shape
        result = state.new_empty(keep, state.shape[1], done)
        for k in range(keep):
            torch.mm(state.T, matrix[:, k].T, out=result[k])
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        state, matrix = ctx.saved_tensors
        (grad,) = grads  # (keep, rest, done)
        grad_state = grad_matrix = None
        if ctx.needs_input_grad[0]:
            grad_state = matrix[:, 0].T @ grad[0].T  # (in, rest)
            for k in range(1, len(grad)):
                grad_state = grad_state.addmm_(matrix[:, k].T, grad[k].T)
        if ctx.needs_input_grad[1]:
            grad_matrix = torch.stack([part.T @ state.T for part in grad], dim=1)  # (done, keep, in)
        return grad_state, grad_matrix


def _joined(gates: Sequence[Tensor], structure: Structure) -> Tensor:
    """One flat vector of all gates, each checked."""
    if len(gates) != len(structure.gates):
        raise ShapeError(f"gates: expected {len(structure.gates)} tensors, got {len(gates)}")
    for i, (gate, expected) in enumerate(zip(gates, structure.gates, strict=True)):
        if gate.numel() != expected.parameters:
            raise ShapeError(
                f"gates[{i}]: expected {expected.out} x {expected.into} numbers for sites {list(expected.span)}, "
                f"got shape {tuple(gate.shape)}"
            )
    return torch.cat([gate.reshape(-1) for gate in gates])
