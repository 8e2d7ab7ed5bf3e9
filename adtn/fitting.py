"""Fit ADTNs to weights: minimise ||W - T||^2 over the gates, or the error of the layer's outputs."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adtn.batches import batches
from adtn.errors import ShapeError, TrainingDiverged
from adtn.module import ADTN, contracted, contracted_vjp
from adtn.schedules import cosine
from adtn.start import orthogonal_gates, scale_gates
from adtn.structure import AnyStructure

LONGEST_EXACT_ROW = 1024
RANK = 256
_SUBSPACE_STEPS = 2
_START_ATTEMPTS = 16
_ORDINARY = (-13, 7)
"""Binary exponents of the largest entry of a weight that is fitted as it is: from 2^-14 to 2^7.

Adam's steps do not grow with the gates: those of a larger weight hardly move. Further out squares leave the range of
float32.
"""
BATCH_ENTRIES = 2**18
"""Most entries that are fitted together: larger tensors keep the cores busy one by one, and take less memory so."""


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
    tr(W C W^T): the mean square of the layer's outputs, so that directions which do not occur cost nothing. How large
    W and C are does not matter: far from one, multiples of them are fitted.

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
    task = FitTask(weight, structure, options or FitOptions(), input_moment)
    ((_, adtn),) = fit_each([task], on_step and (lambda _number, *told: on_step(*told)))
    return adtn


@dataclass(frozen=True, eq=False)
class FitTask:
    """What `fit` is asked for.

    Args:
        weight: Of any shape with at most `structure.size` entries; not changed.
        structure: Of the ADTN.
        options: Steps, learning rate, seed.
        input_moment: See `fit`.
        name: Of the weight; errors begin with it.
    """

    weight: Tensor
    structure: AnyStructure
    options: FitOptions
    input_moment: Tensor | None = None
    name: str = ""


@torch.inference_mode(False)  # the caller may be in it, and a fit differentiates
def fit_each(
    tasks: Sequence[FitTask], on_step: Callable[[int, int, int, float], None] | None = None
) -> Iterator[tuple[int, ADTN]]:
    """Fit an ADTN to every weight as `fit` does; those of equal structure, shape and options as one batch.

    A batch takes its steps together, which for small weights costs about as much as one of them alone. Each of its
    fits is what it would be alone, up to rounding.

    Args:
        tasks: The weights. Seeds may differ within a batch.
        on_step: As that of `fit`, with the number of the task before the rest.

    Yields:
        The number of a task and its ADTN, as soon as a batch is ready.

    Raises:
        ShapeError, TrainingDiverged: See `fit`; a batch in which a fit fails yields nothing.
    """
    for numbers in batches(range(len(tasks)), lambda i: tasks[i].structure, lambda i: _alike(tasks[i]), BATCH_ENTRIES):
        fits = [_Fit(tasks[i]) for i in numbers]
        _minimise([(i, own) for i, own in zip(numbers, fits, strict=True) if own.distance.norm > 0], on_step)
        for i, own in zip(numbers, fits, strict=True):
            yield i, own.result()


@torch.no_grad()
def relative_error(adtn: ADTN, weight: Tensor) -> float:
    """||W - T|| / ||W|| in float64; for a weight of zeros 0 if T is zero too, else infinity."""
    exact = weight.detach().double()
    excess = _excess(exact)
    distance = float(torch.linalg.vector_norm((adtn.decode().double() - exact) / excess))
    norm = float(torch.linalg.vector_norm(exact / excess))
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
        if moment is not None and reference.dim() < 2:
            raise ShapeError(
                f"weight: expected two or more dimensions beside an input_moment, got {tuple(reference.shape)}"
            )
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


def _alike(task: FitTask) -> tuple[object, ...]:
    """What fits of one batch have in common besides their structure."""
    return task.weight.numel(), task.weight.dtype, task.weight.device, replace(task.options, seed=0)


class _Fit:
    """One fit of a batch: its ADTN at the start, and the distance to go.

    Raises:
        ShapeError: See `fit`.
    """

    def __init__(self, task: FitTask) -> None:
        self.task = task
        target = task.weight.detach()
        generator = torch.Generator().manual_seed(task.options.seed)
        try:
            _check_finite("weight", target)
            self.adtn = ADTN(target.shape, task.structure, target.dtype, generator).to(target.device)
            whole, moment = target.to(self.adtn.gates.dtype), task.input_moment
            self.excess = _excess(whole)
            reference = whole / self.excess
            if moment is not None:
                moment = moment.detach().to(reference)
                moment = moment / _excess(moment)
            self.distance = Distance(reference, moment)
        except ShapeError as error:
            raise ShapeError(f"{self.prefix}{error}") from None
        if self.distance.norm == 0:  # inputs that are all zero say nothing about the weight
            self.distance = Distance(reference, None)
        if self.distance.norm > 0:
            _start_alive(self.adtn, generator)
            _scale(self.adtn, float(reference.norm() / _decode(self.adtn).norm()))

    @property
    def prefix(self) -> str:
        """What errors begin with."""
        return f"{self.task.name}: " if self.task.name else ""

    def step_back(self, decoded: Tensor, step: int) -> float:
        """The error of a decoded weight, (entries,), in whose place the gradient of the error is written.

        Raises:
            TrainingDiverged: The error is not finite.
        """
        leaf = decoded.detach().requires_grad_()
        with torch.enable_grad():
            distance = self.distance.of(leaf)
        error = float(distance.detach())
        if not math.isfinite(error):
            raise TrainingDiverged(
                f"{self.prefix}fit: the error is {error} at step {step + 1}; use a smaller learning_rate"
            )
        decoded.copy_(torch.autograd.grad(distance, leaf)[0])
        return max(error, 0.0)  # rounding can bring a perfect fit a little below

    def result(self) -> ADTN:
        """The ADTN, scaled as well as possible."""
        _scale(self.adtn, self.excess * self.distance.best_scale(_decode(self.adtn)))
        self.adtn.relative_error = relative_error(self.adtn, self.task.weight)
        return self.adtn


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


@torch.no_grad()
def _decode(adtn: ADTN) -> Tensor:
    """The decoded weight, flat, in the dtype of the gates."""
    return contracted(adtn.gates, adtn.structure, adtn.shape.numel())


def _minimise(fits: list[tuple[int, _Fit]], on_step: Callable[[int, int, int, float], None] | None) -> None:
    """Adam on the distances of a batch, in which no fit changes what another does.

    The decoded weights stay in the dtype of the gates: half precision would spoil the gradient.
    """
    if not fits:
        return
    first = fits[0][1]
    structure, entries, options = first.task.structure, first.adtn.shape.numel(), first.task.options
    gates = torch.stack([own.adtn.gates.detach() for _, own in fits])  # (fits, structure.parameters)
    optimiser = torch.optim.Adam([gates], lr=options.learning_rate)
    for step in range(options.steps):
        optimiser.param_groups[0]["lr"] = options.learning_rate * cosine(step, options.steps)
        decoded, vjp = contracted_vjp(gates, structure, entries)
        errors = [own.step_back(row, step) for (_, own), row in zip(fits, decoded, strict=True)]
        gates.grad = vjp(decoded)
        optimiser.step()
        if on_step is not None:
            for (number, _), error in zip(fits, errors, strict=True):
                on_step(number, step + 1, options.steps, error)
    for (_, own), numbers in zip(fits, gates.detach(), strict=True):
        with torch.no_grad():
            own.adtn.gates.copy_(numbers)


def _excess(tensor: Tensor) -> float:
    """The power of four by which the largest entry is out of the ordinary range; 1 within it, and for zeros.

    Quotients by it are exact, and so are those of square roots by its own.
    """
    largest = float(tensor.abs().max()) if tensor.numel() else 0.0
    exponent, (least, most) = math.frexp(largest)[1], _ORDINARY
    excess = 4.0 ** ((exponent - min(max(exponent, least), most)) // 2)
    return max(excess, torch.finfo(tensor.dtype).tiny)  # a smaller one has no finite reciprocal


def _check_finite(name: str, tensor: Tensor) -> None:
    finite = torch.isfinite(tensor)
    if not finite.all():
        raise ShapeError(f"{name}: expected finite values, got {int((~finite).sum())} that are NaN or infinite")
