"""Encode a model by a plan, and fine-tune it: what the job does at the end, and each trial on the way there."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor, nn

import adtn
from adtn.encoding import encode_layer
from adtn.layer import Layer
from adtn.module import ADTN
from adtn.moments import InputMoments
from adtn.plan import Plan
from jobs.schemas.settings import JobSettings
from worker.augmentation import augmentation
from worker.graphs.logits import giving_logits
from worker.pipeline.attempt import Attempt
from worker.pipeline.fit import fit
from worker.pipeline.options import fine_tune_options, fit_options
from worker.pipeline.rounding import round_untrained


def encode(
    model: nn.Module,
    plan: Plan,
    moments: Mapping[str, InputMoments],
    attempt: Attempt,
    on_step: Callable[[float, str], None],
) -> dict[str, ADTN]:
    """Fit every weight of a plan, round the gates if nothing will train them, and put them into a model.

    Args:
        model: The attempt's, or a copy of it; changed in place.
        plan: What to encode.
        moments: For the fits, and for the biases.
        attempt: The job; its weights are fitted.
        on_step: Called with the share done and a message.

    Returns:
        The ADTN of each key, now in the model.
    """
    settings = attempt.job.settings
    options = fit_options(settings)
    # Equal layers start differently.
    seeded = {entry.layer.key: replace(options, seed=options.seed + i) for i, entry in enumerate(plan.entries)}
    fitted = fit(plan, attempt.weights, moments, seeded, attempt.fits, on_step)
    round_untrained(plan, fitted, attempt.weights, settings)
    for entry in plan.entries:
        place(model, entry.layer, fitted[entry.layer.key], moments)
    return fitted


def place(model: nn.Module, layer: Layer, found: ADTN, moments: Mapping[str, InputMoments]) -> None:
    """Put a fitted ADTN into a model, where the layer's weight is or the weights of a group are.

    Args:
        model: Changed in place.
        layer: Of the plan.
        found: Fitted to the layer.
        moments: By keys, of these weights and any others; biases keep the mean outputs of those that are there, in
            every layer that shares them.
    """
    means = {key: inputs.mean for key, inputs in moments.items() if inputs.mean is not None}
    encode_layer(model, [weight.key for weight in layer.weights], found, means)


def fine_tune(
    model: nn.Module,
    samples: tuple[Tensor, Tensor],
    settings: JobSettings,
    teacher: nn.Module | None,
    on_step: Callable[[float, str], None],
) -> adtn.FineTuned:
    """Train an encoded model as the settings ask for.

    Args:
        model: Changed in place.
        samples: Inputs and labels.
        settings: Of the job.
        teacher: Whose outputs are imitated, or None.
        on_step: Called with the share done and a message.

    Returns:
        What it took.
    """
    options, transform = fine_tune_options(settings), augmentation(settings, samples[0].shape[1:])
    with giving_logits(model, teacher) as classes:
        return adtn.fine_tune(
            model,
            *samples,
            replace(options, transform=transform, classes=classes),
            teacher=teacher,
            on_step=lambda step, steps, loss: on_step(step / steps, f"fine-tuning, loss {loss:.4f}"),
            on_preparing=lambda: on_step(0.0, "computing what stays the same in every epoch"),
        )
