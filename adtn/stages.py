"""The stages of a fine-tuning: epochs of Adam, and epochs of natural-gradient steps after them."""

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adtn.encoding import encoded
from adtn.errors import NothingToTrain
from adtn.feeding import Feed, MicroBatch
from adtn.fine_tune_options import FineTuneOptions
from adtn.masters import MasterCopies
from adtn.module import ADTN
from adtn.natural import PACE, NaturalGradient, Pace, batch_size_for
from adtn.precision import logits
from adtn.quantising import best_scales
from adtn.schedules import phased_in, rescales, scheduler, warm_cosine
from adtn.structure import AnyStructure

GATE_RATE_FACTOR = 8
"""Gates want a learning rate this many times that of dense weights; for 2 TN layers of 2-site gates."""
FULL_RATE_NUMBERS = 500
"""Up to so many numbers a single TN layer takes the full rate."""
SETTLING, SETTLED = 0.4, 0.9
"""Parts of the natural-gradient steps after which the first and the last gate in few bits is fixed."""


class Stage(Protocol):
    """Some of the epochs: which batches they take, and what is done with the gradient of each.

    Attributes:
        epochs: How many.
        batch_size: Samples of a step.
        micro_batches: Parts into which a step's samples are cut.
    """

    epochs: int
    batch_size: int
    micro_batches: int

    def before(self, step: int, steps: int) -> None:
        """Called before each step, with its number from 0 within the stage."""

    def observe(self, part: MicroBatch) -> None:
        """Called with each micro-batch of a step, after its gradient has been added up."""

    def step(self, step: int, steps: int) -> None:
        """Called when the gradient of a step is whole."""

    def zero_grad(self) -> None:
        """Called before the gradients of a step."""


class AdamEpochs:
    """Epochs of Adam.

    Args:
        optimiser: See `adam`.
        options: Of the fine-tuning.
        rounded: ADTNs and their bits. If other epochs follow, these show nothing of the rounding.
        feed: That hands out the samples.
    """

    def __init__(self, optimiser: Optimizer, options: FineTuneOptions, rounded: Mapping[ADTN, int], feed: Feed) -> None:
        self.epochs = options.epochs - options.natural_epochs
        self.batch_size = options.batch_size
        self.micro_batches = options.accumulate
        self._optimiser = optimiser
        self._rates = scheduler(options.schedule, optimiser, max(1, self.epochs * feed.steps(self.batch_size)))
        self._rounded = rounded
        self._last = options.natural_epochs == 0

    def before(self, step: int, steps: int) -> None:
        """Phase the rounding in."""
        if self._last:
            phase_in_rounding(self._rounded, step, steps)
        else:
            for adtn in self._rounded:
                adtn.rounding = 0.0

    def observe(self, part: MicroBatch) -> None:
        """Adam needs no more than the gradient."""

    def step(self, step: int, steps: int) -> None:
        """A step of Adam."""
        self._optimiser.step()
        self._rates.step()

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        self._optimiser.zero_grad()


class NaturalEpochs:
    """Epochs of natural-gradient steps. No more samples are looked at together than with Adam.

    Gates in few bits are floats at first. From `SETTLING` of the steps on they are fixed one after the other at whole
    multiples of their scales, while those that are free make up for it (see `NaturalGradient.settle`).

    Args:
        network: What runs at each step, in the modes in which it is trained.
        options: Of the fine-tuning.
        rounded: ADTNs and their bits.
        inputs: Of all samples of an epoch, (N, ...) on any device.
        pace: How far steps go.

    Raises:
        NotSampleWise: The network cannot take these steps.
    """

    def __init__(
        self,
        network: nn.Module,
        options: FineTuneOptions,
        rounded: Mapping[ADTN, int],
        inputs: Tensor,
        pace: Pace = PACE,
    ) -> None:
        self.epochs = options.natural_epochs
        self._gradient = NaturalGradient(
            network, options.classes, lambda called, inputs: logits(called, inputs, options.precision), pace
        )
        self._gradient.try_out(inputs[:1].to(next(network.parameters()).device))
        self.batch_size = batch_size_for(len(inputs), self._gradient.numbers)
        self.micro_batches = math.ceil(self.batch_size * options.accumulate / options.batch_size)
        self._rounded = rounded
        self._temperature = options.temperature

    def before(self, step: int, steps: int) -> None:
        """Show gates as floats. Before the first step they are balanced, and later scales are chosen without that.

        The curvature that was seen would else be that of other numbers.
        """
        for adtn, bits in self._rounded.items():
            if step == 0:
                adtn.quantise(bits)
            if step == self._first_settled(steps):
                adtn.quantise(bits, best_scales(adtn.gates.detach(), adtn.structure, bits))
            adtn.rounding = 0.0

    def observe(self, part: MicroBatch) -> None:
        """Take the curvature of samples into account."""
        self._gradient.observe(part.inputs, None if part.targets is None else self._temperature)

    def step(self, step: int, steps: int) -> None:
        """A step along the natural gradient; then as many gates in few bits are fixed as are due."""
        self._gradient.step(warm_cosine(step, steps), self.batch_size)
        first = self._first_settled(steps)
        if self._rounded and step >= first:
            last = max(first, math.ceil(SETTLED * steps) - 1)
            self._gradient.settle(min(1.0, (step - first + 1) / (last - first + 1)))

    def _first_settled(self, steps: int) -> int:
        """The step after which the first gates are fixed."""
        return int(SETTLING * (steps - 1))

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        self._gradient.zero_grad()


def adam(model: nn.Module, options: FineTuneOptions) -> torch.optim.Adam:
    """Adam with a group for what stayed dense and one for each ADTN's gates, all in single precision at least.

    Args:
        model: Its parameters that require a gradient are trained.
        options: For the rates.

    Raises:
        NothingToTrain: There are none.
    """
    adtns = [adtn for adtn in encoded(model).values() if adtn.gates.requires_grad]
    gates = {id(adtn.gates) for adtn in adtns}
    dense = [p for p in model.parameters() if p.requires_grad and id(p) not in gates]
    if not adtns and not dense:
        raise NothingToTrain("expected a model with gates or parameters that are trained, got one where all are frozen")
    groups = [{"params": [adtn.gates], "lr": gate_rate(adtn.structure, options)} for adtn in adtns]
    masters = MasterCopies()
    if dense:
        groups.append({"params": [masters.of(p) for p in dense], "lr": options.learning_rate})
    optimiser = torch.optim.Adam(groups)
    masters.follow(optimiser)
    return optimiser


def phase_in_rounding(adtns: Mapping[ADTN, int], step: int, steps: int) -> None:
    """Before a step: show as much of the rounding as is due, and choose new scales where they are.

    Args:
        adtns: Whose gates are quantised, and their bits.
        step: From 0.
        steps: Of the whole fine-tuning.
    """
    for adtn, bits in adtns.items():
        if rescales(step, steps):
            adtn.quantise(bits)
        adtn.rounding = phased_in(step, steps)


def gate_rate(structure: AnyStructure, options: FineTuneOptions) -> float:
    """The learning rate for the gates of an ADTN.

    A step of Adam changes every number by about the rate. The change of the decoded weight adds up over the TN layers,
    and from one to the next it grows with the width of the gates' matrices, so the rate falls with both; a fixed one
    kills deep networks. In a single TN layer it is the number of all gates' numbers that counts: above
    `FULL_RATE_NUMBERS` the rate falls with its root, as the best rates of TT-matrices do.

    Args:
        structure: Of the ADTN.
        options: Of the fine-tuning; a rate given there is taken as it is.
    """
    if options.gate_learning_rate is not None:
        return options.gate_learning_rate
    rate = GATE_RATE_FACTOR * options.learning_rate
    if structure.depth == 1:
        return rate * min(1, math.sqrt(FULL_RATE_NUMBERS / structure.parameters))
    width = max(gate.out for gate in structure.gates)
    return rate * min(1, 2 / structure.depth) * min(1, 4 / width)
