"""Fine-tune a compressed classifier: minimise the task loss over the gates and over what stayed dense."""

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from adtn.decoding import decoded_once
from adtn.encoding import encoded
from adtn.errors import ShapeError, TrainingDiverged
from adtn.feeding import Feed, MicroBatch, Samples
from adtn.fine_tune_options import FineTuneOptions
from adtn.freezing import trainable
from adtn.generators import devices_with_generators
from adtn.losses import distillation_loss, task_loss
from adtn.module import ADTN
from adtn.precision import logits
from adtn.preparing import Teacher, prepare
from adtn.quantising import check_bits
from adtn.stages import AdamEpochs, NaturalEpochs, Stage, adam


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
        model: A classifier: (batch, ...) to logits (batch, classes). Frozen parameters stay as they are, and frozen
            gates are not rounded either. Adam trains parameters of half precision as float32 copies, which they follow.
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
        ShapeError: The numbers of inputs and labels differ, or are 0; `gate_bits` or `natural_epochs` is out of range;
            or the teacher has outputs of another shape.
        NotSampleWise: There are natural-gradient epochs, and the model cannot take them.
        NothingToTrain: No gate or other parameter of the model is trained.
        TrainingDiverged: The loss is no longer finite, or what is trained.
    """
    options = options or FineTuneOptions()
    if len(inputs) != len(labels) or len(inputs) == 0:
        raise ShapeError(f"expected as many labels as inputs, at least one, got {len(inputs)} and {len(labels)}")
    if not 0 <= options.natural_epochs <= options.epochs:
        raise ShapeError(f"natural_epochs: expected 0 to {options.epochs}, all epochs, got {options.natural_epochs}")
    bits = None if options.gate_bits is None else check_bits(options.gate_bits)
    trained = [adtn for adtn in encoded(model).values() if adtn.gates.requires_grad]
    rounded = {} if bits is None else dict.fromkeys(trained, bits)
    if options.epochs == 0:
        _quantise(rounded)
        return FineTuned()
    device = next(model.parameters()).device
    started = time.perf_counter()
    with ExitStack() as stack:
        stack.callback(_show_whole_rounding, rounded)
        stack.enter_context(trainable(model, options.dense))
        # Dropout draws from torch's global generator: it is seeded here and given back as it was.
        stack.enter_context(torch.random.fork_rng(devices_with_generators(device), device_type=device.type))
        taught = Teacher(teacher, options.precision) if teacher is not None and options.distill else None
        optimiser = adam(model, options)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adtn-activations-")))
        prepared = prepare(model, Samples(inputs, labels), taught, options, folder, on_preparing)
        feed = Feed(prepared.samples, device, options.seed, options.transform, taught)
        ready = time.perf_counter()
        torch.manual_seed(options.seed)
        stages: list[Stage] = [AdamEpochs(optimiser, options, rounded, feed)]
        if options.natural_epochs:
            stages.append(NaturalEpochs(prepared.network, options, rounded, prepared.samples.inputs))
        _quantise(rounded)  # after all that may be refused
        samples, losses = run_stages(model, prepared.network, stages, feed, options, on_step)
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


def run_stages(
    model: nn.Module,
    network: nn.Module,
    stages: Sequence[Stage],
    feed: Feed,
    options: FineTuneOptions,
    on_step: Callable[[int, int, float], None] | None = None,
) -> tuple[int, list[float]]:
    """The loop over stages, epochs and batches.

    Args:
        model: What is trained.
        network: What runs at each step; it shares the model's modules.
        stages: One after the other.
        feed: Of the network.
        options: Of the fine-tuning.
        on_step: See `fine_tune`.

    Returns:
        How many samples it saw, and the loss of each step.

    Raises:
        TrainingDiverged: The loss is no longer finite, or what is trained.
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
    _require_finite(model, len(losses))
    return samples, losses


def _require_finite(model: nn.Module, steps: int) -> None:
    """Refuse what the last step has left, whose loss no step has seen."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not parameter.isfinite().all():
            raise TrainingDiverged(
                f"fine-tuning: {name} holds numbers that are not finite after the last of {steps} steps; "
                "use a smaller learning_rate"
            )


def _loss(network: nn.Module, part: MicroBatch, options: FineTuneOptions) -> Tensor:
    """The mean over a micro-batch."""
    outputs = logits(network, part.inputs, options.precision)
    loss = task_loss(outputs, part.labels, options.classes)
    if part.targets is not None:
        loss = loss + distillation_loss(outputs, part.targets, options.temperature, options.classes)
    return loss


def _quantise(adtns: Mapping[ADTN, int]) -> None:
    for adtn, bits in adtns.items():
        adtn.quantise(bits)


def _show_whole_rounding(adtns: Iterable[ADTN]) -> None:
    for adtn in adtns:
        adtn.rounding = 1.0
