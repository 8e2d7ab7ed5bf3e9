"""Fine-tune a compressed classifier: minimise the task loss over the gates and over what stayed dense."""

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adtn import natural
from adtn.decoding import decoded_once
from adtn.encoding import encoded
from adtn.errors import NothingToTrain, ShapeError, TrainingDiverged
from adtn.feeding import Feed, MicroBatch, Samples
from adtn.fine_tune_options import FineTuneOptions
from adtn.freezing import trainable
from adtn.generators import devices_with_generators
from adtn.losses import distillation_loss, task_loss
from adtn.module import ADTN
from adtn.precision import computing_in, in_full
from adtn.preparing import Teacher, prepare
from adtn.schedules import phased_in, rescales, scheduler, warm_cosine
from adtn.structure import AnyStructure

GATE_RATE_FACTOR = 8
"""Gates want a learning rate this many times that of dense weights; for 2 TN layers of 2-site gates."""
FULL_RATE_NUMBERS = 500
"""Up to so many numbers a single TN layer takes the full rate."""


@dataclass(frozen=True)
class FineTuned:
    """What a fine-tuning took.

    Attributes:
        samples: That were trained on, in all epochs together.
        seconds: Of all steps.
        preparation_seconds: Before the first step, of the teacher's outputs and of activations that are kept.
        cached_bytes: Of the activations on disk; 0 if none were kept.
        not_cached: Why none were kept; None if they were, or without epochs.
        first_loss: Mean loss in the first tenth of the steps; None without steps.
        last_loss: The same in the last tenth.
    """

    samples: int = 0
    seconds: float = 0.0
    preparation_seconds: float = 0.0
    cached_bytes: int = 0
    not_cached: str | None = None
    first_loss: float | None = None
    last_loss: float | None = None

    @property
    def samples_per_second(self) -> float | None:
        """Samples trained on in a second of the steps; None without steps."""
        return self.samples / self.seconds if self.samples else None

    @property
    def loss_rose(self) -> bool:
        """Whether training made things worse, as with a learning rate that is too high."""
        return self.first_loss is not None and self.last_loss is not None and self.last_loss > self.first_loss


def fine_tune(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    options: FineTuneOptions | None = None,
    teacher: nn.Module | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    on_preparing: Callable[[], None] | None = None,
) -> FineTuned:
    """Train the model on labelled samples, in place; batch norm and dropout act as in training.

    Loss: cross entropy, plus temperature^2 * KL(teacher || model) of the outputs softened by `temperature`; outputs are
    logits, of a softmax or of sigmoids (`classes`). The same seed gives the same weights on the same machine's CPU. The
    modes of all modules are restored at the end, also when a callback raises; the weights are then as the last step
    left them.

    What comes before the first trained weight and stays the same is computed once, if `torch.fx` can trace the model
    and finds it (see `adtn.prefix.split`): its activations are kept in a file in a temporary folder, which is gone at
    the end, and the steps begin with them. Without frozen weights, with `transform`, past `cache_bytes`, or if outputs
    would differ, the whole model runs at every step. A forward that Python's own state decides, such as a counter,
    must not be traced: set `cache_bytes` to 0. Dropout ends what is kept; a batch norm whose parameters are frozen acts
    as in evaluation, and does not.

    Args:
        model: A classifier: (batch, ...) to logits (batch, classes). Frozen parameters stay as they are.
        inputs: (N, ...) on any device; batches are moved to the model's.
        labels: (N,) int64, the class of each sample.
        options: Epochs, rates and so on.
        teacher: The model before compression; not changed. Its outputs for all samples are computed once, or with
            `transform` for each batch.
        on_step: Called after each step with its number (from 1), the number of steps and the loss; may raise to stop.
        on_preparing: Called before each batch of what is computed once; may raise to stop.

    Returns:
        How long it took, and what was kept.

    Raises:
        ShapeError: The numbers of inputs and labels differ, or are 0; or `gate_bits` or `natural_epochs` is out of
            range.
        NotSampleWise: There are natural-gradient epochs, and the model cannot take them.
        NothingToTrain: No gate or other parameter of the model is trained.
        TrainingDiverged: The loss is no longer finite.
    """
    options = options or FineTuneOptions()
    if len(inputs) != len(labels) or len(inputs) == 0:
        raise ShapeError(f"expected as many labels as inputs, at least one, got {len(inputs)} and {len(labels)}")
    if not 0 <= options.natural_epochs <= options.epochs:
        raise ShapeError(f"natural_epochs: expected 0 to {options.epochs}, all epochs, got {options.natural_epochs}")
    rounded = _quantised(model, options.gate_bits)
    if options.epochs == 0:
        return FineTuned()
    device = next(model.parameters()).device
    started = time.perf_counter()
    with ExitStack() as stack:
        stack.callback(_show_whole_rounding, rounded)
        stack.enter_context(trainable(model, options.dense))
        # Dropout draws from torch's global generator: it is seeded here and given back as it was.
        stack.enter_context(torch.random.fork_rng(devices_with_generators(device), device_type=device.type))
        taught = Teacher(teacher, options.precision) if teacher is not None and options.distill else None
        optimiser = _optimiser(model, options)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adtn-activations-")))
        prepared = prepare(model, Samples(inputs, labels), taught, options, folder, on_preparing)
        feed = Feed(prepared.samples, device, options.seed, options.transform, taught)
        ready = time.perf_counter()
        torch.manual_seed(options.seed)
        stages: list[_Stage] = [_AdamEpochs(optimiser, options, rounded, feed)]
        if options.natural_epochs:
            stages.append(_NaturalEpochs(prepared.network, options, rounded, len(labels)))
        samples, losses = _train(model, prepared.network, stages, feed, options, on_step)
        seconds = time.perf_counter() - ready
    tenth = math.ceil(len(losses) / 10)
    return FineTuned(
        samples=samples,
        seconds=seconds,
        preparation_seconds=ready - started,
        cached_bytes=prepared.cached_bytes,
        not_cached=prepared.not_cached,
        first_loss=statistics.fmean(losses[:tenth]),
        last_loss=statistics.fmean(losses[-tenth:]),
    )


class _Stage(Protocol):
    """Some of the epochs: which batches they take, and what is done with the gradient of each."""

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


class _AdamEpochs:
    """Epochs of Adam. If they are not the last ones, they show nothing of a rounding."""

    def __init__(self, optimiser: Optimizer, options: FineTuneOptions, rounded: list[ADTN], feed: Feed) -> None:
        self.epochs = options.epochs - options.natural_epochs
        self.batch_size = options.batch_size
        self.micro_batches = options.accumulate
        self._optimiser = optimiser
        self._rates = scheduler(options.schedule, optimiser, max(1, self.epochs * feed.steps(self.batch_size)))
        self._rounded = rounded
        self._last = options.natural_epochs == 0

    def before(self, step: int, steps: int) -> None:
        if self._last:
            phase_in_rounding(self._rounded, step, steps)
        else:
            for adtn in self._rounded:
                adtn.rounding = 0.0

    def observe(self, part: MicroBatch) -> None:
        pass

    def step(self, step: int, steps: int) -> None:
        self._optimiser.step()
        self._rates.step()

    def zero_grad(self) -> None:
        self._optimiser.zero_grad()


class _NaturalEpochs:
    """Epochs of natural-gradient steps. What is seen at a time is no more than with Adam."""

    def __init__(self, network: nn.Module, options: FineTuneOptions, rounded: list[ADTN], samples: int) -> None:
        self.epochs = options.natural_epochs
        self.batch_size = natural.batch_size_for(samples)
        self.micro_batches = math.ceil(self.batch_size * options.accumulate / options.batch_size)
        self._gradient = natural.NaturalGradient(
            network, options.classes, lambda called, inputs: _outputs(called, inputs, options)
        )
        self._rounded = rounded
        self._temperature = options.temperature

    def before(self, step: int, steps: int) -> None:
        for adtn in self._rounded:
            if step == 0 and adtn.bits is not None:
                adtn.quantise(adtn.bits)
            adtn.rounding = phased_in(step, steps)

    def observe(self, part: MicroBatch) -> None:
        self._gradient.observe(part.inputs, None if part.targets is None else self._temperature)

    def step(self, step: int, steps: int) -> None:
        self._gradient.step(warm_cosine(step, steps))

    def zero_grad(self) -> None:
        self._gradient.zero_grad()


def _train(
    model: nn.Module,
    network: nn.Module,
    stages: Sequence[_Stage],
    feed: Feed,
    options: FineTuneOptions,
    on_step: Callable[[int, int, float], None] | None,
) -> tuple[int, list[float]]:
    """The loop over stages, epochs and batches; returns how many samples it saw, and the loss of each step.

    Args:
        model: What is trained.
        network: What runs at each step; it shares the model's modules.
        stages: One after the other.
        feed: Of the network.
        options: Of the fine-tuning.
        on_step: See `fine_tune`.
    """
    lengths = [stage.epochs * feed.steps(stage.batch_size) for stage in stages]
    losses: list[float] = []
    samples = 0
    for stage, steps in zip(stages, lengths, strict=True):
        epochs = (feed.steps_of_epoch(stage.batch_size, stage.micro_batches) for _ in range(stage.epochs))
        for step, parts in enumerate(chain.from_iterable(epochs)):
            stage.before(step, steps)
            stage.zero_grad()
            value = 0.0
            with decoded_once(model):
                for part in parts:
                    samples += len(part.labels)
                    loss = part.share * _loss(network, part, options)
                    value += float(loss.detach())
                    if not math.isfinite(value):
                        raise TrainingDiverged(
                            f"fine-tuning: the loss is {value} at step {len(losses) + 1} of {sum(lengths)}; "
                            "use a smaller learning_rate"
                        )
                    torch.autograd.backward(loss)
                    stage.observe(part)
            stage.step(step, steps)
            losses.append(value)
            if on_step is not None:
                on_step(len(losses), sum(lengths), value)
    return samples, losses


def _outputs(network: natural.Network, inputs: Tensor, options: FineTuneOptions) -> Tensor:
    """Logits in full precision, whatever the layers compute in."""
    with computing_in(options.precision, inputs.device):
        outputs = network(inputs)
    return in_full(outputs)


def _loss(network: nn.Module, part: MicroBatch, options: FineTuneOptions) -> Tensor:
    """The mean over a micro-batch."""
    outputs = _outputs(network, part.inputs, options)
    loss = task_loss(outputs, part.labels, options.classes)
    if part.targets is not None:
        loss = loss + distillation_loss(outputs, part.targets, options.temperature, options.classes)
    return loss


def phase_in_rounding(adtns: Iterable[ADTN], step: int, steps: int) -> None:
    """Before a step: show as much of the rounding as is due, and choose new scales where they are.

    Args:
        adtns: Those whose gates are quantised; others are left alone.
        step: From 0.
        steps: Of the whole fine-tuning.
    """
    for adtn in adtns:
        if adtn.bits is not None:
            if rescales(step, steps):
                adtn.quantise(adtn.bits)
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


def _quantised(model: nn.Module, bits: int | None) -> list[ADTN]:
    """Quantise the gates of every encoded weight, if there are bits; return the ADTNs for which this was done."""
    if bits is None:
        return []
    adtns = list(encoded(model).values())
    for adtn in adtns:
        adtn.quantise(bits)
    return adtns


def _optimiser(model: nn.Module, options: FineTuneOptions) -> torch.optim.Adam:
    """Adam with a group for what stayed dense and one for each ADTN's gates."""
    adtns = [adtn for adtn in encoded(model).values() if adtn.gates.requires_grad]
    gates = {id(adtn.gates) for adtn in adtns}
    dense = [p for p in model.parameters() if p.requires_grad and id(p) not in gates]
    if not adtns and not dense:
        raise NothingToTrain("expected a model with gates or parameters that are trained, got one where all are frozen")
    groups = [{"params": [adtn.gates], "lr": gate_rate(adtn.structure, options)} for adtn in adtns]
    if dense:
        groups.append({"params": dense, "lr": options.learning_rate})
    return torch.optim.Adam(groups)


def _show_whole_rounding(adtns: list[ADTN]) -> None:
    for adtn in adtns:
        adtn.rounding = 1.0
