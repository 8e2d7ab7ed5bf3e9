"""Stage `plan`: which layers are encoded, and by which structures. The test set plays no part in it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from adtn.candidates import Candidates
from adtn.moments import InputMoments
from adtn.plan import Plan
from jobs.planning import MEASURING_TIME, candidates_of, is_searched, most_to_measure, plan_of, plans_to_try, to_measure
from jobs.problems import Fault, ProblemError
from worker.pipeline.attempt import Attempt
from worker.pipeline.heldout import Parts, parts_of
from worker.pipeline.kept import Kept
from worker.pipeline.moments import moments_of
from worker.pipeline.options import require_natural_epochs
from worker.pipeline.progress import within
from worker.pipeline.search import in_time
from worker.pipeline.sensitivity import Sensitivity, measure
from worker.pipeline.trainable import require_trainable
from worker.pipeline.trials import Trials

MEASURING = 0.1
"""The share of the stage's progress that measuring takes where trials follow."""


@dataclass(frozen=True)
class Chosen:
    """The plan, and what it rests on.

    Attributes:
        plan: What to encode.
        moments: Of the layers' inputs, for the fits.
        sensitivity: What was measured of the layers, if anything was.
        search: The report's `search`, if sizes were tried.
        fine_tunes: Whether the model is to be fine-tuned: not if its trial was better as it was fitted.
        loss_rose: Whether the training of its trial raised the loss, and it kept the promise all the same.
    """

    plan: Plan
    moments: Mapping[str, InputMoments]
    sensitivity: Sensitivity | None = None
    search: dict[str, object] | None = None
    fine_tunes: bool = True
    loss_rose: bool = False


def choose(attempt: Attempt, teacher: nn.Module | None) -> Chosen:
    """Make the plan that the settings ask for.

    Args:
        attempt: The job; its model is not changed.
        teacher: What trials imitate, or None.

    Raises:
        ProblemError: There is no such plan, or no size that was tried keeps the accuracy.
    """
    require_possible_choice(attempt)
    settings, inputs = attempt.job.settings, attempt.inputs
    plan = plan_of(settings.compression, attempt.layers)
    measured, searched = to_measure(settings.compression, attempt.layers), is_searched(settings.compression)
    if measured is None and not searched:
        return Chosen(plan, moments_of(inputs, keys_of(plan), settings.seed))
    started = time.monotonic()
    parts = parts_of(inputs.dataset, settings.seed) if inputs.dataset is not None else None
    moments = _moments(attempt, parts)
    sensitivity = None
    if measured:
        sensitivity, seconds = _sensitivity(attempt, measured, parts, moments, started)
        started = time.monotonic() - seconds
    curves = sensitivity.curves if sensitivity else {}
    if not searched:
        return Chosen(plan_of(settings.compression, attempt.layers, curves), moments, sensitivity)
    assert parts is not None
    plans = plans_to_try(settings.compression, attempt.layers, curves)
    on_step = within(attempt.progress.step, MEASURING, 1.0)
    trials = Trials(attempt, plans, parts, moments, teacher, on_step, started)
    plan, trial = trials.search()
    return Chosen(plan, moments, sensitivity, trials.to_json(), trial.fine_tuned, trial.loss_rose)


def _moments(attempt: Attempt, parts: Parts | None) -> dict[str, InputMoments]:
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


def _sensitivity(
    attempt: Attempt, found: Candidates, parts: Parts | None, moments: Mapping[str, InputMoments], started: float
) -> tuple[Sensitivity, float]:
    """What is measured of the layers, and the seconds that it took: in this attempt, or in an earlier one.

    An earlier attempt's is taken as it is: where there was no time for every size, more would be measured now, and
    other plans would follow than those that have been tried.
    """
    kept, layers = Kept(attempt, "sensitivity"), [item.layer.key for item in found.items]
    limit = most_to_measure(attempt.job.settings.compression, found)
    before = kept.find(layers)
    if before is not None:
        return Sensitivity.of(found, limit, before["metric"], before["samples"], before["points"]), before["seconds"]
    sensitivity = _measured(attempt, found, limit, parts, moments, started)
    seconds = time.monotonic() - started
    points = {"metric": sensitivity.metric, "samples": sensitivity.samples, "points": sensitivity.points}
    kept.keep(layers, {**points, "seconds": seconds})
    return sensitivity, seconds


def _measured(
    attempt: Attempt,
    found: Candidates,
    limit: int,
    parts: Parts | None,
    moments: Mapping[str, InputMoments],
    started: float,
) -> Sensitivity:
    settings = attempt.job.settings
    samples: Tensor | None = None
    if parts is not None:
        assert attempt.inputs.dataset is not None
        # Where every class has a single sample none is held out; outputs of those that it was trained on tell as well.
        samples = parts.heldout_x if len(parts.heldout_x) else attempt.inputs.dataset.train_x[parts.train]
    on_step = within(attempt.progress.step, 0.0, MEASURING if is_searched(settings.compression) else 1.0)
    deadline = started + MEASURING_TIME * 60 * settings.search.max_minutes
    return measure(attempt, found, limit, samples, moments, in_time(on_step, deadline))


def require_possible_choice(attempt: Attempt) -> None:
    """Refuse before any work what is known to be refused.

    Raises:
        ProblemError: There is no such plan, nothing to hold out for a search, or a training that would break at once.
        NotSampleWise: Natural-gradient epochs are impossible, whatever measuring will say.
    """
    settings, inputs = attempt.job.settings, attempt.inputs
    plan, found = plan_of(settings.compression, attempt.layers), to_measure(settings.compression, attempt.layers)
    if inputs.dataset is None:
        return
    require_trainable(settings.fine_tune, inputs.model, inputs.dataset.train_x, keys_of(plan))
    if is_searched(settings.compression):
        held = parts_of(inputs.dataset, settings.seed)
        if not len(held.heldout_y):
            raise ProblemError(
                "dataset_invalid",
                f"max_accuracy_drop: expected enough training samples to hold some out, got {len(held.train)}",
                [Fault("/dataset", "too few samples of every class", "dataset_invalid")],
            )
    elif found is not None:
        # A layer that stays dense counts for the target too, and is trained, but for "freeze": what the gates alone
        # come to is known only when they are chosen.
        most = min(found.original, most_to_measure(settings.compression, found))
        known = most if settings.fine_tune.dense == "train" else found.smallest
        require_natural_epochs(settings, inputs.model, found.original, known)
    else:
        require_natural_epochs(settings, inputs.model, plan.original, plan.parameters)
