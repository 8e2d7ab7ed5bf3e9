"""Fine-tuning, the same for every method, and the accuracy of what comes out.

It is the training of `adtn.fine_tune`, with one learning rate for the factors of whatever method.
"""

import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from adtn import ADTN, FineTuneOptions
from adtn.decoding import decoded_once
from adtn.errors import TrainingDiverged
from adtn.feeding import MicroBatch
from adtn.losses import distillation_loss
from adtn.schedules import scheduler
from adtn.stages import NaturalEpochs, phase_in_rounding
from bench.accuracy.factors import Factors, Gates

DENSE_RATE = 0.005
BATCH = 64
"""Of 32 to 256, the one with the best accuracy in the same time: more steps count for more than large ones."""
TEMPERATURE = 2.0
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
    """

    rate: float
    epochs: int
    seed: int
    bits: int | None = None
    natural_epochs: int = 0


def fine_tune(model: nn.Module, images: Tensor, labels: Tensor, targets: Tensor, training: Training) -> None:
    """Adam on cross entropy and on the distance from the teacher's outputs, after a warm-up along a cosine.

    Args:
        model: With factors in place; changed.
        images: (N, 1, 28, 28).
        labels: (N,).
        targets: The teacher's outputs, (N, classes).
        training: Rate, epochs and so on.

    Raises:
        TrainingDiverged: The loss is no longer finite, or higher in the last epoch than in the first.
    """
    gates = [factors.adtn for factors in factors_of(model) if isinstance(factors, Gates)]
    if training.bits is not None:
        for adtn in gates:
            adtn.quantise(training.bits)
            adtn.rounding = 0.0
    model.train()
    torch.manual_seed(training.seed)  # of what the curvature is estimated with
    run = _Run(model, gates, images, labels, targets, training, torch.Generator().manual_seed(training.seed))
    epoch_losses = _adam_epochs(run, training.epochs - training.natural_epochs)
    if training.natural_epochs:
        epoch_losses += _natural_epochs(run, training.natural_epochs)
    for adtn in gates:
        adtn.rounding = 1.0
    if epoch_losses and epoch_losses[-1] > epoch_losses[0]:
        first, last = epoch_losses[0], epoch_losses[-1]
        raise TrainingDiverged(f"the loss rose from {first:.3g} to {last:.3g} with a learning rate of {training.rate}")


def _adam_epochs(run: "_Run", epochs: int) -> list[float]:
    """The mean loss of each epoch."""
    optimiser = _optimiser(run.model, run.training.rate)
    steps = epochs * math.ceil(len(run.images) / BATCH)
    rates = scheduler("cosine", optimiser, steps)
    step = 0
    means = []
    for _ in range(epochs):
        losses = []
        for batch in run.batches(BATCH):
            if run.training.natural_epochs == 0:
                phase_in_rounding(run.gates, step, steps)
            loss = run.loss(batch)
            losses.append(float(loss.detach()))
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            rates.step()
            step += 1
        means.append(statistics.fmean(losses))
    return means


def _natural_epochs(run: "_Run", epochs: int) -> list[float]:
    """The mean loss of each epoch of natural-gradient steps, as `adtn.fine_tune` makes them."""
    options = FineTuneOptions(batch_size=_SEEN_TOGETHER, natural_epochs=epochs, temperature=TEMPERATURE)
    stage = NaturalEpochs(run.model, options, run.gates, run.images)
    steps = epochs * math.ceil(len(run.images) / stage.batch_size)
    step = 0
    means = []
    for _ in range(epochs):
        losses = []
        for batch in run.batches(stage.batch_size):
            stage.before(step, steps)
            stage.zero_grad()
            value = 0.0
            with decoded_once(run.model):
                for part in torch.split(batch, _SEEN_TOGETHER):
                    share = len(part) / len(batch)
                    loss = share * run.loss(part)
                    value += float(loss.detach())
                    torch.autograd.backward(loss)
                    stage.observe(MicroBatch(run.images[part], run.labels[part], run.targets[part], share))
            stage.step(step, steps)
            losses.append(value)
            step += 1
        means.append(statistics.fmean(losses))
    return means


@dataclass(frozen=True)
class _Run:
    """A training: the model, its networks of gates, what it learns from, and the order of the images."""

    model: nn.Module
    gates: list[ADTN]
    images: Tensor
    labels: Tensor
    targets: Tensor
    training: Training
    order: torch.Generator

    def batches(self, size: int) -> Iterator[Tensor]:
        """Indices of the images of each step of an epoch."""
        return iter(torch.split(torch.randperm(len(self.images), generator=self.order), size))

    def loss(self, batch: Tensor) -> Tensor:
        """The mean over a batch.

        Raises:
            TrainingDiverged: It is not finite.
        """
        outputs = self.model(self.images[batch])
        loss = functional.cross_entropy(outputs, self.labels[batch])
        loss = loss + distillation_loss(outputs, self.targets[batch], TEMPERATURE)
        if not math.isfinite(float(loss.detach())):
            raise TrainingDiverged(f"the loss is {float(loss)} with a learning rate of {self.training.rate}")
        return loss


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


def _optimiser(model: nn.Module, factor_rate: float) -> torch.optim.Adam:
    """Adam with a group for the factors and one for what stayed dense."""
    factors = _parameters(factors_of(model))
    chosen = {id(parameter) for parameter in factors}
    dense = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    return torch.optim.Adam([{"params": factors, "lr": factor_rate}, {"params": dense, "lr": DENSE_RATE}])


def _parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]
