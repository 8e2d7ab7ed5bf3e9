"""Where training starts: orthogonal gates, scaled to the weight."""

import torch
from torch import Tensor

from adtn.structure import AnyStructure, Structure

WEIGHT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Of the weights that can be encoded."""


def gate_dtype(weight_dtype: torch.dtype) -> torch.dtype:
    """The dtype of the gates of a weight: float64 for float64, else float32 (half precision is too coarse to train)."""
    return torch.float64 if weight_dtype == torch.float64 else torch.float32


def is_half(dtype: torch.dtype) -> bool:
    """Whether numbers of this dtype are rounded more than float32 rounds."""
    return dtype in (torch.float16, torch.bfloat16)


def orthogonal_gates(structure: AnyStructure, dtype: torch.dtype, generator: torch.Generator | None = None) -> Tensor:
    """Random semi-orthogonal matrices for every gate, flat (structure.parameters,), on the CPU.

    Each TN layer then keeps the norm of the tensor, so neither values nor gradients vanish with depth.

    Args:
        structure: Whose gates.
        dtype: Of the numbers.
        generator: Source of randomness; the global one by default.
    """
    return torch.cat([_orthogonal(out, into, generator).reshape(-1) for out, into in structure.gate_shapes]).to(dtype)


def scale_gates(gates: Tensor, structure: AnyStructure, factor: float) -> Tensor:
    """Gates whose contraction is `factor` times as large; no further number is stored.

    The contraction is linear in each gate of the last TN layer, so these share the factor; one of them takes the sign.
    In a sum every term is scaled.

    Args:
        gates: Flat (structure.parameters,).
        structure: Theirs.
        factor: Any number.
    """
    parts = torch.split(gates, [term.parameters for term in structure.terms])
    return torch.cat([_scale_term(part, term, factor) for part, term in zip(parts, structure.terms, strict=True)])


def _scale_term(gates: Tensor, term: Structure, factor: float) -> Tensor:
    """`scale_gates` of one network."""
    last = term.gates[-len(term.tn_layers[-1]) :]
    shares = torch.full((len(last),), abs(factor) ** (1 / len(last)), dtype=gates.dtype)
    shares[0] *= -1 if factor < 0 else 1
    numbers = [gate.parameters for gate in last]
    scaled = gates.clone()
    scaled[-sum(numbers) :] *= shares.repeat_interleave(torch.tensor(numbers)).to(gates.device)
    return scaled


def _orthogonal(out: int, into: int, generator: torch.Generator | None) -> Tensor:
    """A random (out, in) matrix whose shorter side is orthonormal, uniformly distributed."""
    drawn = torch.randn(max(out, into), min(out, into), dtype=torch.float64, generator=generator)
    q: Tensor
    q, r = torch.linalg.qr(drawn)
    q *= r.diagonal().sign()  # without this the distribution depends on the QR's sign convention
    return q if out >= into else q.T
