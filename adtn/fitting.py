"""Fit an ADTN to a weight: minimise ||W - T||^2 over the gates."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adtn.errors import ShapeError, TrainingDiverged
from adtn.module import ADTN
from adtn.schedules import cosine
from adtn.start import orthogonal_gates
from adtn.structure import Structure

_START_ATTEMPTS = 16


@dataclass(frozen=True)
class FitOptions:
    """How an ADTN is fitted.

    Args:
        steps: Of Adam; the learning rate falls to zero along a cosine.
        learning_rate: At the start.
        seed: Of the start values.
    """

    steps: int = 200
    learning_rate: float = 0.02
    seed: int = 0


def fit(
    weight: Tensor,
    structure: Structure,
    options: FitOptions | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> ADTN:
    """Fit an ADTN to a weight. The same seed gives the same gates on the same machine.

    Args:
        weight: Of any shape with at most `structure.size` entries; not changed.
        structure: Of the ADTN.
        options: Steps, learning rate, seed.
        on_step: Called after each step with its number (from 1), the number of steps and the squared relative error;
            it may raise to stop.

    Returns:
        The ADTN, on the weight's device and with its dtype; `relative_error` is set.

    Raises:
        ShapeError: The weight does not fit `structure`, or holds NaN or infinite values.
        TrainingDiverged: The error is no longer finite.
    """
    options = options or FitOptions()
    target = weight.detach()
    if not torch.isfinite(target).all():
        bad = int((~torch.isfinite(target)).sum())
        raise ShapeError(f"weight: expected finite values, got {bad} that are NaN or infinite")
    generator = torch.Generator().manual_seed(options.seed)
    adtn = ADTN(target.shape, structure, target.dtype, generator).to(target.device)
    reference = target.to(adtn.gates.dtype)
    scale_to(adtn, reference, generator)
    if reference.any():
        _minimise(adtn, reference, options, on_step)
    adtn.relative_error = relative_error(adtn, target)
    return adtn


def relative_error(adtn: ADTN, weight: Tensor) -> float:
    """||W - T|| / ||W|| in float64; for a weight of zeros 0 if T is zero too, else infinity."""
    with torch.no_grad():
        exact = weight.detach().double()
        distance = float(torch.linalg.vector_norm(adtn().double() - exact))
        norm = float(torch.linalg.vector_norm(exact))
    if norm == 0:
        return 0.0 if distance == 0 else math.inf
    return distance / norm


@torch.no_grad()
def scale_to(adtn: ADTN, reference: Tensor, generator: torch.Generator) -> None:
    """Scale the output to the RMS of `reference` by the gates of the last TN layer: that stores no further number.

    The output is linear in each of these gates, so each takes an equal share of the factor.
    """
    wanted = float(reference.double().square().mean().sqrt())
    structure = adtn.structure
    for _ in range(_START_ATTEMPTS):
        now = float(_decode(adtn, reference).double().square().mean().sqrt())
        if now > 0:
            break
        # With ReLU a small network can start dead: every entry of some TN layer negative. Draw again.
        adtn.gates.copy_(orthogonal_gates(structure, adtn.gates.dtype, generator))
    last = len(structure.tn_layers[-1])
    numbers = sum(gate.parameters for gate in structure.gates[-last:])
    adtn.gates[-numbers:] *= (wanted / now) ** (1 / last) if now > 0 else 1.0


def _decode(adtn: ADTN, reference: Tensor) -> Tensor:
    """The decoded weight in the dtype of the gates."""
    weight: Tensor = adtn()
    return weight.to(reference.dtype)


def _minimise(
    adtn: ADTN, reference: Tensor, options: FitOptions, on_step: Callable[[int, int, float], None] | None
) -> None:
    """Adam on the squared error relative to the weight's squared norm."""
    norm = reference.square().sum()
    optimiser = torch.optim.Adam([adtn.gates], lr=options.learning_rate)
    for step in range(options.steps):
        optimiser.param_groups[0]["lr"] = options.learning_rate * cosine(step, options.steps)
        optimiser.zero_grad()
        with torch.enable_grad():
            loss = (_decode(adtn, reference) - reference).square().sum() / norm
            torch.autograd.backward(loss)
        error = float(loss.detach())
        if not math.isfinite(error):
            raise TrainingDiverged(f"fit: the error is {error} at step {step + 1}; use a smaller learning_rate")
        optimiser.step()
        if on_step is not None:
            on_step(step + 1, options.steps, error)
