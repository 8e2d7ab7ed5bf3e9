"""Fine-tuning, the same for every method, and the accuracy of what comes out.

It is the training of `adtn.fine_tune`, with one learning rate for the factors of whatever method.
"""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from adtn.errors import TrainingDiverged
from adtn.fine_tuning import phase_in_rounding
from adtn.losses import distillation_loss
from adtn.schedules import scheduler
from bench.accuracy.factors import Factors, Gates

DENSE_RATE = 0.005
BATCH = 64
"""Of 32 to 256, the one with the best accuracy in the same time: more steps count for more than large ones."""
TEMPERATURE = 2.0
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
    """

    rate: float
    epochs: int
    seed: int
    bits: int | None = None


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
    generator = torch.Generator().manual_seed(training.seed)
    optimiser = _optimiser(model, training.rate)
    steps = training.epochs * math.ceil(len(images) / BATCH)
    rates = scheduler("cosine", optimiser, steps)
    gates = [factors.adtn for factors in factors_of(model) if isinstance(factors, Gates)]
    if training.bits is not None:
        for adtn in gates:
            adtn.quantise(training.bits)
    step = 0
    epoch_losses = []
    model.train()
    for _ in range(training.epochs):
        losses = []
        for batch in torch.split(torch.randperm(len(images), generator=generator), BATCH):
            phase_in_rounding(gates, step, steps)
            outputs = model(images[batch])
            loss = functional.cross_entropy(outputs, labels[batch])
            loss = loss + distillation_loss(outputs, targets[batch], TEMPERATURE)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise TrainingDiverged(f"the loss is {losses[-1]} with a learning rate of {training.rate}")
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            rates.step()
            step += 1
        epoch_losses.append(statistics.fmean(losses))
    for adtn in gates:
        adtn.rounding = 1.0
    if epoch_losses and epoch_losses[-1] > epoch_losses[0]:
        first, last = epoch_losses[0], epoch_losses[-1]
        raise TrainingDiverged(f"the loss rose from {first:.3g} to {last:.3g} with a learning rate of {training.rate}")


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
