"""Fit an ADTN to a weight: minimise ||W - T||^2 over the gates, or the error of the layer's outputs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adtn.errors import ShapeError, TrainingDiverged
from adtn.module import ADTN, contracted
from adtn.schedules import cosine
from adtn.start import orthogonal_gates, scale_gates
from adtn.structure import AnyStructure

LONGEST_EXACT_ROW = 1024
RANK = 256
_SUBSPACE_STEPS = 2
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
    structure: AnyStructure,
    options: FitOptions | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    input_moment: Tensor | None = None,
) -> ADTN:
    """Fit an ADTN to a weight. The same seed gives the same gates on the same machine's CPU.

    Minimises ||W - T||^2 / ||W||^2, with T scaled as well as possible at every step, so that the gates learn the
    direction of W and do not shrink. With the second moment C of the layer's inputs, the squared norm is
    tr(W C W^T): the mean square of the layer's outputs, so that directions which do not occur cost nothing.

    Args:
        weight: Of any shape with at most `structure.size` entries; not changed.
        structure: Of the ADTN.
        options: Steps, learning rate, seed.
        on_step: Called after each step with its number (from 1), the number of steps and the squared relative error
            before the step; it may raise to stop.
        input_moment: C, (row, row) for a weight of shape (out, ...) with `row` entries a row; about the mean, where a
            bias takes up what happens to the mean: see `input_moments`.

    Returns:
        The ADTN, on the weight's device and with its dtype; `relative_error` is ||W - T|| / ||W||.

    Raises:
        ShapeError: The weight or C does not fit, or holds NaN or infinite values.
        TrainingDiverged: The error is no longer finite.
    """
    options = options or FitOptions()
    target = weight.detach()
    _check_finite("weight", target)
    generator = torch.Generator().manual_seed(options.seed)
    adtn = ADTN(target.shape, structure, target.dtype, generator).to(target.device)
    reference = target.to(adtn.gates.dtype)
    distance = Distance(reference, input_moment)
    if distance.norm == 0:  # inputs that are all zero say nothing about the weight
        distance = Distance(reference, None)
    if distance.norm > 0:
        _start_alive(adtn, generator)
        _scale(adtn, float(reference.norm() / _decode(adtn).detach().norm()))
        _minimise(adtn, distance, options, on_step)
    _scale(adtn, distance.best_scale(_decode(adtn).detach()))
    adtn.relative_error = relative_error(adtn, target)
    return adtn


@torch.no_grad()
def relative_error(adtn: ADTN, weight: Tensor) -> float:
    """||W - T|| / ||W|| in float64; for a weight of zeros 0 if T is zero too, else infinity."""
    exact = weight.detach().double()
    distance = float(torch.linalg.vector_norm(adtn.decode().double() - exact))
    norm = float(torch.linalg.vector_norm(exact))
    if norm == 0:
        return 0.0 if distance == 0 else math.inf
    return distance / norm


class Distance:
    """The squared distance from a weight in the norm that the fit uses, relative to the weight's own.

    For rows longer than `LONGEST_EXACT_ROW` C is taken as F F^T + r I, with F of `RANK` columns and the trace of C: its
    leading directions, and all others alike. A step costs 2 out row RANK multiplications then, not out row^2.

    Args:
        reference: The weight W.
        moment: C of the norm tr(W C W^T): see `fit`. None is the norm of the weight itself.

    Raises:
        ShapeError: C does not fit, or holds NaN or infinite values.
    """

    def __init__(self, reference: Tensor, moment: Tensor | None) -> None:
        self.reference = reference.flatten(1) if moment is not None else reference
        self.moment: Tensor | None = None
        self.factor: Tensor | None = None
        self.rest = 0.0
        if moment is not None:
            row = self.reference.shape[1]
            if moment.shape != (row, row):
                raise ShapeError(f"input_moment: expected shape {(row, row)}, got {tuple(moment.shape)}")
            _check_finite("input_moment", moment)
            self.moment = moment.detach().to(reference)
            if row > LONGEST_EXACT_ROW:
                self.factor, self.rest = _leading(self.moment)
        self.weighted = self._times_moment(self.reference)
        self.norm = float((self.weighted * self.reference).sum())

    def of(self, decoded: Tensor) -> Tensor:
        """1 - <T, W>^2 / (<T, T> <W, W>): the distance of the best multiple of T, (), differentiable."""
        flat = decoded.reshape(self.reference.shape)
        overlap = (flat * self.weighted).sum()
        return 1 - overlap.square() / (self._squared(flat) * self.norm)

    def best_scale(self, decoded: Tensor) -> float:
        """The factor that brings T closest to W; 0 if T is zero."""
        flat = decoded.reshape(self.reference.shape)
        squared = float(self._squared(flat))
        return float((flat * self.weighted).sum()) / squared if squared > 0 else 0.0

    def _times_moment(self, flat: Tensor) -> Tensor:
        if self.factor is not None:
            return (flat @ self.factor) @ self.factor.T + self.rest * flat
        return flat if self.moment is None else flat @ self.moment

    def _squared(self, flat: Tensor) -> Tensor:
        if self.factor is not None:
            return (flat @ self.factor).square().sum() + self.rest * flat.square().sum()
        return (flat * self._times_moment(flat)).sum()


@torch.no_grad()
def _leading(moment: Tensor) -> tuple[Tensor, float]:
    """F and r of F F^T + r I, which has the leading directions and the trace of a moment. The same ones every time.

    Source: randomised subspace iteration, Halko, Martinsson, Tropp, arXiv:0909.4061.
    """
    row = len(moment)
    start = torch.randn(row, RANK, generator=torch.Generator().manual_seed(0)).to(moment)
    basis = torch.linalg.qr(moment @ start).Q
    for _ in range(_SUBSPACE_STEPS):
        basis = torch.linalg.qr(moment @ basis).Q
    values, vectors = torch.linalg.eigh(basis.T @ moment @ basis)
    rest = max(0.0, float(moment.trace() - values.sum())) / (row - RANK)
    return (basis @ vectors) * (values - rest).clamp(min=0).sqrt(), rest


@torch.no_grad()
def _start_alive(adtn: ADTN, generator: torch.Generator) -> None:
    """With ReLU a small network can start dead: every entry of some TN layer negative. Draw until it is not."""
    for _ in range(_START_ATTEMPTS):
        if adtn.decode().any():
            return
        adtn.gates.copy_(orthogonal_gates(adtn.structure, adtn.gates.dtype, generator))


@torch.no_grad()
def _scale(adtn: ADTN, factor: float) -> None:
    """Make the decoded weight `factor` times as large."""
    adtn.gates.copy_(scale_gates(adtn.gates, adtn.structure, factor))


def _decode(adtn: ADTN) -> Tensor:
    """The decoded weight in the dtype of the gates: half precision would spoil the gradient."""
    return contracted(adtn.gates, adtn.structure, adtn.shape.numel()).view(adtn.shape)


def _minimise(
    adtn: ADTN, distance: Distance, options: FitOptions, on_step: Callable[[int, int, float], None] | None
) -> None:
    """Adam on the distance."""
    optimiser = torch.optim.Adam([adtn.gates], lr=options.learning_rate)
    for step in range(options.steps):
        optimiser.param_groups[0]["lr"] = options.learning_rate * cosine(step, options.steps)
        optimiser.zero_grad()
        with torch.enable_grad():
            loss = distance.of(_decode(adtn))
            torch.autograd.backward(loss)
        error = float(loss.detach())
        if not math.isfinite(error):
            raise TrainingDiverged(f"fit: the error is {error} at step {step + 1}; use a smaller learning_rate")
        optimiser.step()
        if on_step is not None:
            on_step(step + 1, options.steps, error)


def _check_finite(name: str, tensor: Tensor) -> None:
    finite = torch.isfinite(tensor)
    if not finite.all():
        raise ShapeError(f"{name}: expected finite values, got {int((~finite).sum())} that are NaN or infinite")
