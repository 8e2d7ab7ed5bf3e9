"""What fine-tuning computes once, before its first step: the teacher's outputs, and activations that stay the same."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from adtn.activations import Budget, Kept, NotKept, going_on, keep
from adtn.feeding import Samples
from adtn.fine_tune_options import FineTuneOptions
from adtn.modes import evaluating
from adtn.precision import Precision, logits
from adtn.prefix import NotSplit


@dataclass(frozen=True)
class Prepared:
    """What runs at each step.

    Attributes:
        network: The model, or the part of it that does not stay the same.
        samples: The inputs of that network, with labels and targets.
        cached_bytes: Of activations on disk.
        not_cached: Why there are none, or None.
    """

    network: nn.Module
    samples: Samples
    cached_bytes: int = 0
    not_cached: str | None = None


class Teacher:
    """The model before compression as a function in evaluation mode.

    Args:
        model: Not changed.
        precision: Of its layers.
    """

    def __init__(self, model: nn.Module, precision: Precision) -> None:
        self.model = model
        self.precision = precision

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Tensor:
        """From inputs (B, ...) to outputs (B, classes), without a gradient."""
        with evaluating(self.model):
            return logits(self.model, inputs.clone(), self.precision)  # it may begin with an operation in place


def prepare(
    model: nn.Module,
    samples: Samples,
    teacher: Teacher | None,
    options: FineTuneOptions,
    folder: Path,
    on_preparing: Callable[[], None] | None,
) -> Prepared:
    """Compute what is the same in every epoch.

    Args:
        model: As it is trained; not changed.
        samples: Without targets.
        teacher: Whose outputs become the targets, unless batches are transformed.
        options: Of the fine-tuning.
        folder: For the activations; to be removed when the training has ended.
        on_preparing: Called before each batch; may raise to stop.
    """
    budget = Budget(
        folder / "activations",
        options.cache_bytes,
        -(-options.batch_size // options.accumulate),
        options.precision,
        on_preparing or _go_on,
    )
    if options.transform is not None:
        return Prepared(model, samples, not_cached="each step transforms its inputs anew")
    device = next(model.parameters()).device
    found = _kept(model, samples.inputs, budget)
    kept = None if isinstance(found, str) else found
    if teacher is not None:
        samples = replace(samples, targets=_targets(teacher, samples.inputs, kept, device, budget))
    if isinstance(found, str):
        return Prepared(model, samples, not_cached=found)
    return Prepared(found.parts.rest, replace(samples, inputs=found.activations), found.activations.nbytes)


def _kept(model: nn.Module, inputs: Tensor, budget: Budget) -> Kept | str:
    """The activations that stay the same, or why there are none."""
    if budget.most_bytes == 0:
        return "cache_bytes is 0"
    if all(parameter.requires_grad for parameter in model.parameters()):
        return "no parameter is frozen"
    try:
        return keep(model, inputs, budget)
    except (NotSplit, NotKept) as reason:
        budget.path.unlink(missing_ok=True)
        return str(reason)


def _targets(teacher: Teacher, inputs: Tensor, kept: Kept | None, device: torch.device, budget: Budget) -> Tensor:
    """The teacher's outputs for all samples, (N, classes); from the activations, if it begins as the model does."""
    if kept is not None:
        with evaluating(teacher.model):
            rest = going_on(kept, teacher.model, inputs, budget.precision)
        if rest is not None:
            teacher, inputs = Teacher(rest, budget.precision), kept.activations
    found = []
    for batch in torch.split(inputs, budget.batch_size):
        budget.on_batch()
        found.append(teacher(batch.to(device)))
    return torch.cat(found)


def _go_on() -> None:
    """The callback of those who have none."""
