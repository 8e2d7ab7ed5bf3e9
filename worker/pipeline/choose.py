"""Stage `plan`: which layers are encoded, and by which structures. The test set plays no part in it."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from adtn.curve import Curve
from adtn.moments import InputMoments
from adtn.plan import Plan
from jobs.planning import candidates_of, is_measured, is_searched, plan_of, plans_to_try, size_of
from jobs.problems import ProblemError
from worker.pipeline.attempt import Attempt
from worker.pipeline.heldout import Split, split
from worker.pipeline.moments import moments_of
from worker.pipeline.progress import within
from worker.pipeline.sensitivity import Sensitivity, measure
from worker.pipeline.trials import Trials

MEASURING = 0.1  # the share of the stage that measuring takes where trials follow


@dataclass(frozen=True)
class Chosen:
    """The plan, and what it rests on.

    Attributes:
        plan: What to encode.
        moments: Of the layers' inputs, for the fits.
        sensitivity: What was measured of the layers, if anything was.
        search: The report's `search`, if sizes were tried.
    """

    plan: Plan
    moments: Mapping[str, InputMoments]
    sensitivity: Sensitivity | None = None
    search: dict[str, object] | None = None


def choose(attempt: Attempt, teacher: nn.Module | None) -> Chosen:
    """Make the plan that the settings ask for.

    Args:
        attempt: The job; its model is not changed.
        teacher: What trials imitate, or None.

    Raises:
        ProblemError: There is no such plan, or no size that was tried keeps the accuracy.
    """
    settings, inputs = attempt.job.settings, attempt.inputs
    plan = plan_of(settings.compression, attempt.layers)
    if not is_measured(settings.compression) and not is_searched(settings.compression):
        return Chosen(plan, moments_of(inputs, keys_of(plan), settings.seed))
    parts = split(inputs.dataset.train_y, settings.seed) if inputs.dataset is not None else None
    moments = _moments(attempt, parts)
    sensitivity = _sensitivity(attempt, parts, moments) if is_measured(settings.compression) else None
    curves = sensitivity.curves if sensitivity else {}
    if not is_searched(settings.compression):
        return Chosen(plan_of(settings.compression, attempt.layers, curves), moments, sensitivity)
    assert parts is not None
    trials = _trials(attempt, parts, moments, curves, teacher)
    return Chosen(trials.search(), moments, sensitivity, trials.to_json())


def _moments(attempt: Attempt, parts: Split | None) -> dict[str, InputMoments]:
    """Moments for every layer that may be encoded; held-out samples are not looked at."""
    settings, layers = attempt.job.settings, attempt.layers
    if settings.compression.structure == "auto":
        items = candidates_of(settings.compression, layers).items
        keys = {weight.key for item in items for weight in item.layer.weights}
    else:
        keys = {key for plan in plans_to_try(settings.compression, layers) for key in keys_of(plan)}
    return moments_of(attempt.inputs, keys, settings.seed, parts.train if parts else None)


def keys_of(plan: Plan) -> list[str]:
    """The keys of all weights that a plan encodes."""
    return [weight.key for entry in plan.entries for weight in entry.layer.weights]


def _sensitivity(attempt: Attempt, parts: Split | None, moments: Mapping[str, InputMoments]) -> Sensitivity:
    settings, dataset = attempt.job.settings, attempt.inputs.dataset
    found = candidates_of(settings.compression, attempt.layers)
    target = size_of(settings.compression.target)
    samples: Tensor | None = None
    if dataset is not None and parts is not None and len(parts.heldout):
        samples = dataset.train_x[parts.heldout]
    limit = target.limit(found.original) if target else found.original
    on_step = within(attempt.progress.step, 0.0, MEASURING if is_searched(settings.compression) else 1.0)
    return measure(attempt, found, limit, samples, moments, on_step)


def _trials(
    attempt: Attempt,
    parts: Split,
    moments: Mapping[str, InputMoments],
    curves: Mapping[str, Curve],
    teacher: nn.Module | None,
) -> Trials:
    if not len(parts.heldout):
        raise ProblemError(
            "dataset_invalid",
            f"max_accuracy_drop: expected enough training samples to hold some out, got {len(parts.train)}",
        )
    plans = plans_to_try(attempt.job.settings.compression, attempt.layers, curves)
    return Trials(attempt, plans, parts, moments, teacher, within(attempt.progress.step, MEASURING, 1.0))
