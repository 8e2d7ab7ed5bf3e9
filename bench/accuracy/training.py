"""Fine-tuning, the same for every method, and the accuracy of what comes out.

It is the loop of `adtn.fine_tune`, with one learning rate for the factors of whatever method.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

import adtn
from adtn import FineTuneOptions
from adtn.errors import TrainingDiverged
from adtn.feeding import Feed, Samples, Transform
from adtn.fine_tuning import run_stages
from adtn.natural import Pace
from adtn.stages import AdamEpochs, NaturalEpochs, Stage
from bench.accuracy.factors import Factors, Gates
from worker.augmentation import cropped

DENSE_RATE = 0.005
BATCH = 64
"""Of 32 to 256, the one with the best accuracy in the same time: more steps count for more than large ones."""
TEMPERATURE = 2.0
FIRST_PACE = Pace(rate=0.3, damping=0.3)
"""Of the natural gradient's steps, in the runs that name no other."""
_SEEN_TOGETHER = 250
"""Images of a natural-gradient step that are looked at together; their activations fit the cache."""
_EVALUATED = 250
"""Images at a time: what they become after the first convolution fits the cache. 2,500 take twice as long."""


@dataclass(frozen=True)
class Training:
    """How a model is trained.

    Args:
        rate: Learning rate of the factors at its peak; that of the dense rest is 5e-3.
        epochs: Passes over the images.
        seed: Of their order.
        bits: Gates are trained as integers of so many bits; None as floats. For networks of gates only.
        natural_epochs: The last epochs, in which steps follow the natural gradient. For networks of gates only.
        crop: Pixels by which images are moved at random, at most, in each step.
        pace: Of the steps along the natural gradient.
    """

    rate: float
    epochs: int
    seed: int
    bits: int | None = None
    natural_epochs: int = 0
    crop: int = 0
    pace: Pace = FIRST_PACE


def fine_tune(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    targets: Tensor,
    training: Training,
    teacher: nn.Module | None = None,
) -> None:
    """Adam on cross entropy and on the distance from the teacher's outputs, after a warm-up along a cosine.

    Args:
        model: With factors in place; changed.
        images: (N, 1, 28, 28).
        labels: (N,).
        targets: The teacher's outputs, (N, classes).
        training: Rate, epochs and so on.
        teacher: Where images are cropped: it sees them so too.

    Raises:
        TrainingDiverged: The loss is no longer finite, or higher in the last epoch than in the first.
    """
    networks = [factors.adtn for factors in factors_of(model) if isinstance(factors, Gates)]
    rounded = {} if training.bits is None else dict.fromkeys(networks, training.bits)
    for network, bits in rounded.items():
        network.quantise(bits)
    model.train()
    options = FineTuneOptions(
        epochs=training.epochs, natural_epochs=training.natural_epochs, batch_size=BATCH, temperature=TEMPERATURE
    )
    if training.crop == 0:
        feed = Feed(Samples(images, labels, targets), images.device, training.seed)
    else:
        assert teacher is not None
        feed = Feed(
            Samples(images, labels),
            images.device,
            training.seed,
            _moved(training.crop),
            partial(outputs_of, teacher),
        )
    torch.manual_seed(training.seed)  # of what the curvature is estimated with
    stages: list[Stage] = [AdamEpochs(_optimiser(model, training.rate), options, rounded, feed)]
    if training.natural_epochs:
        seen_together = replace(options, batch_size=_SEEN_TOGETHER)
        stages.append(NaturalEpochs(model, seen_together, rounded, images, training.pace))
    _, losses = run_stages(model, model, stages, feed, options)
    for network in rounded:
        network.rounding = 1.0
    first = statistics.fmean(losses[: feed.steps(stages[0].batch_size)])
    last = statistics.fmean(losses[-feed.steps(stages[-1].batch_size) :])
    if last > first:
        raise TrainingDiverged(f"the loss rose from {first:.3g} to {last:.3g} with a learning rate of {training.rate}")


def correct(teacher: nn.Module, images: Tensor, labels: Tensor, epochs: int, crop: int, seed: int) -> None:
    """Train a dense model further, in place, as a job with `teacher_epochs` does: Adam on cross entropy.

    Args:
        teacher: What will be compressed and imitated.
        images: (N, 1, 28, 28).
        labels: (N,).
        epochs: Passes over the images.
        crop: Pixels by which images are moved at random, at most.
        seed: Of their order, and of the crops.
    """
    options = FineTuneOptions(epochs=epochs, learning_rate=DENSE_RATE, batch_size=BATCH, seed=seed)
    adtn.fine_tune(teacher, images, labels, replace(options, transform=_moved(crop)))
    teacher.eval()


@torch.no_grad()
def outputs_of(model: nn.Module, images: Tensor) -> Tensor:
    """The outputs of a model for all images, (N, classes)."""
    model.eval()
    return torch.cat([model(part) for part in torch.split(images, _EVALUATED)])


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1, from 0 to 1."""
    return float((outputs_of(model, images).argmax(1) == labels).double().mean())


def factors_of(model: nn.Module) -> list[Factors]:
    """The factors in a model, in its order."""
    return [module for module in model.modules() if isinstance(module, Factors)]


def _moved(crop: int) -> Transform:
    """What moves each image of a batch by as many pixels, at most."""
    return lambda batch, generator: cropped(batch, crop, torch.zeros(1), generator)


def _optimiser(model: nn.Module, factor_rate: float) -> torch.optim.Adam:
    """Adam with a group for the factors and one for what stayed dense."""
    factors = _parameters(factors_of(model))
    chosen = {id(parameter) for parameter in factors}
    dense = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    return torch.optim.Adam([{"params": factors, "lr": factor_rate}, {"params": dense, "lr": DENSE_RATE}])


def _parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]
