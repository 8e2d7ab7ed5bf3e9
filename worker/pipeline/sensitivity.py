"""How much the model suffers when one layer alone is encoded: quick fits at a few sizes, on held-out samples."""

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import adtn
from adtn.candidates import Candidates
from adtn.curve import Curve, evened, measured
from adtn.errors import TrainingDiverged
from adtn.layer import Layer
from adtn.losses import Classes, distillation_loss
from adtn.module import ADTN
from adtn.moments import InputMoments
from adtn.plan import Plan
from jobs.planning import QUICK_STEPS, plans_to_measure, samples_looked_at
from worker.evaluation import samples_at_once
from worker.graphs.logits import giving_logits
from worker.pipeline.attempt import Attempt
from worker.pipeline.compress import place
from worker.pipeline.fit import fit
from worker.pipeline.options import fit_options
from worker.pipeline.progress import within
from worker.pipeline.search import OutOfTime

BROKEN = 1e6
"""Stands for a loss that is not finite, and for that of a fit that diverged."""


@dataclass(frozen=True)
class Sensitivity:
    """What was measured.

    Attributes:
        metric: "kl_divergence" of the outputs to the original's, or "squared_relative_error" of the weight.
        samples: Held-out samples that were run through the model.
        points: For each layer's key (parameters, loss) at the sizes measured.
        wanted: How many sizes of all layers together were to be measured.
        curves: What numbers are shared out by: see `adtn.curve.evened`.
    """

    metric: str
    samples: int
    points: dict[str, list[tuple[int, float]]]
    wanted: int
    curves: dict[str, Curve]

    @classmethod
    def of(
        cls, candidates: Candidates, limit: int, metric: str, samples: int, points: dict[str, list[tuple[int, float]]]
    ) -> "Sensitivity":
        """What follows from points that were measured within a limit."""
        wanted = sum(len(plan.entries) for plan in plans_to_measure(candidates, limit))
        return cls(metric, samples, points, wanted, _curves(candidates, points))

    @property
    def count(self) -> int:
        """How many sizes of all layers together were measured."""
        return sum(map(len, self.points.values()))


def measure(
    attempt: Attempt,
    candidates: Candidates,
    limit: int,
    samples: Tensor | None,
    moments: Mapping[str, InputMoments],
    on_step: Callable[[float, str], None],
) -> Sensitivity:
    """Measure every layer that may be encoded, the others as they are.

    Args:
        attempt: The job; its model is not changed.
        candidates: The layers.
        limit: Numbers for all of them together: what could not be chosen within it is not measured.
        samples: Held-out inputs; None if there are no data, and weights are compared.
        moments: For the fits.
        on_step: Called with the share done and a message; may raise `OutOfTime`, and larger sizes are not measured.
    """
    outputs = None if samples is None else _OutputLoss(attempt.inputs.model, samples)
    loss = outputs or _weight_loss
    points: dict[str, list[tuple[int, float]]] = {item.layer.key: [] for item in candidates.items}
    plans = plans_to_measure(candidates, limit)
    for number, plan in enumerate(plans):
        step = within(on_step, number / len(plans), (number + 1) / len(plans))
        try:
            fitted = _fitted(attempt, plan, moments, within(step, 0.0, 0.5))
            for key, point in _losses(plan, fitted, loss, moments, within(step, 0.5, 1.0)).items():
                points[key].append(point)
        except OutOfTime:
            break
    if outputs is None:
        return Sensitivity.of(candidates, limit, "squared_relative_error", 0, points)
    return Sensitivity.of(candidates, limit, "kl_divergence", outputs.samples, points)


def _losses(
    plan: Plan,
    fitted: Mapping[str, ADTN],
    loss: Callable[[Layer, ADTN, Mapping[str, InputMoments]], float],
    moments: Mapping[str, InputMoments],
    on_step: Callable[[float, str], None],
) -> dict[str, tuple[int, float]]:
    """For each key of a plan the numbers and the loss that they come with."""
    found: dict[str, tuple[int, float]] = {}
    for number, entry in enumerate(plan.entries):
        one = fitted.get(entry.layer.key)
        found[entry.layer.key] = entry.parameters, BROKEN if one is None else _finite(loss(entry.layer, one, moments))
        on_step((number + 1) / len(plan.entries), f"measuring layers: {entry.layer.name}")
    return found


def _curves(candidates: Candidates, points: Mapping[str, list[tuple[int, float]]]) -> dict[str, Curve]:
    """Of all layers; none if there was no time to measure each at least once, since they are compared."""
    if not all(points.values()):
        return {}
    return evened({item.layer.key: measured(points[item.layer.key], item.layer.entries) for item in candidates.items})


def _fitted(
    attempt: Attempt, plan: Plan, moments: Mapping[str, InputMoments], on_step: Callable[[float, str], None]
) -> dict[str, ADTN]:
    """Quick fits of a plan, without those that diverge."""
    try:
        return _quick_fits(attempt, plan, moments, on_step)
    except TrainingDiverged:  # of one, which ends the others of its batch
        found: dict[str, ADTN] = {}
        for entry in plan.entries:
            with suppress(TrainingDiverged):
                found |= _quick_fits(attempt, Plan((entry,)), moments, on_step)
        return found


def _quick_fits(
    attempt: Attempt, plan: Plan, moments: Mapping[str, InputMoments], on_step: Callable[[float, str], None]
) -> dict[str, ADTN]:
    options = fit_options(attempt.job.settings)
    quick = adtn.FitOptions(min(QUICK_STEPS, options.steps), options.learning_rate, options.seed)
    alike = {entry.layer.key: quick for entry in plan.entries}  # one seed, so that sizes differ in nothing else

    def report(done: float, message: str) -> None:
        on_step(done, f"measuring layers: {message}")

    return fit(plan, attempt.weights, moments, alike, attempt.fits, report)


def _weight_loss(_layer: Layer, fitted: ADTN, _moments: Mapping[str, InputMoments]) -> float:
    assert fitted.relative_error is not None
    return fitted.relative_error**2


class _OutputLoss:
    """The mean divergence of the model's outputs from the original's, with one weight encoded."""

    def __init__(self, model: nn.Module, samples: Tensor) -> None:
        self._model = copy.deepcopy(model).eval()
        self._at_once = samples_at_once(self._model, samples)
        self._samples = samples[: self._affordable(samples[: self._at_once])]
        self._expected, self._classes = self._logits(self._model)

    @property
    def samples(self) -> int:
        """How many are looked at."""
        return len(self._samples)

    @torch.no_grad()
    def _affordable(self, few: Tensor) -> int:
        """As many samples as a CPU runs in a few seconds; always the same for a network and the shape of its inputs."""
        counter = FlopCounterMode(display=False)
        with counter:
            self._model(few.to(next(self._model.parameters()).device))
        return samples_looked_at(counter.get_total_flops() / len(few))

    def __call__(self, layer: Layer, fitted: ADTN, moments: Mapping[str, InputMoments]) -> float:
        changed = copy.deepcopy(self._model)
        place(changed, layer, fitted, moments)
        found, _ = self._logits(changed.eval())
        return float(distillation_loss(found, self._expected, 1.0, self._classes))

    @torch.no_grad()
    def _logits(self, model: nn.Module) -> tuple[Tensor, Classes]:
        """Of each sample and class, (samples, classes), and how they become shares."""
        device = next(model.parameters()).device
        with giving_logits(model) as classes:
            outputs = [model(part.to(device)) for part in torch.split(self._samples, self._at_once)]
        return torch.cat(outputs).double(), classes


def _finite(loss: float) -> float:
    """The loss, at least 0 (which rounding may miss) and finite."""
    return min(max(loss, 0.0), BROKEN) if loss == loss else BROKEN
