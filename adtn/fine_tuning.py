"""Fine-tune a compressed classifier: minimise the task loss over the gates and over what stayed dense."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from adtn.decoding import decoded_once
from adtn.encoding import encoded
from adtn.errors import ShapeError, TrainingDiverged
from adtn.module import ADTN
from adtn.schedules import ScheduleName, phased_in, rescales, scheduler
from adtn.structure import AnyStructure

GATE_RATE_FACTOR = 8
"""Gates want a learning rate this many times that of dense weights; for 2 TN layers of 2-site gates."""
_TEACHER_BATCH = 1024


@dataclass(frozen=True)
class FineTuneOptions:
    """How a compressed model is fine-tuned.

    Args:
        epochs: Passes over the training data; 0 leaves the model as it is.
        learning_rate: Of what stayed dense, at its peak.
        gate_learning_rate: Of the gates; None is 8 times `learning_rate`, and less the deeper an ADTN is and the wider
            its gates (see `gate_rate`).
        batch_size: Samples a step.
        schedule: "cosine" (a short linear warm-up, then down to zero) or "one_cycle" (up for 30 % of the steps).
        distill: Whether the outputs of the teacher are imitated, where there is one.
        temperature: Of the softened outputs that are compared.
        seed: Of the order of the samples and of dropout.
        gate_bits: Gates become integers of so many bits, 2 to 8. The rounding is phased in while they are trained; in
            the last tenth of the steps, what is trained is what is stored. With 0 epochs they are rounded all the same.
            None leaves each ADTN as it is.
    """

    epochs: int = 3
    learning_rate: float = 0.005
    gate_learning_rate: float | None = None
    batch_size: int = 256
    schedule: ScheduleName = "cosine"
    distill: bool = True
    temperature: float = 2.0
    seed: int = 0
    gate_bits: int | None = None


def fine_tune(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    options: FineTuneOptions | None = None,
    teacher: nn.Module | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> None:
    """Train the model on labelled samples, in place; batch norm and dropout act as in training.

    Loss: cross entropy, plus temperature^2 * KL(teacher || model) of the outputs softened by `temperature`. The same
    seed gives the same weights on the same machine's CPU. The modes of all modules are restored at the end, also when
    `on_step` raises; the weights are then as the last step left them.

    Args:
        model: A classifier: (batch, ...) to (batch, classes). Frozen parameters stay as they are.
        inputs: (N, ...) on any device; batches are moved to the model's.
        labels: (N,) int64, the class of each sample.
        options: Epochs, rates and so on.
        teacher: The model before compression; not changed. Its outputs for all samples are computed once.
        on_step: Called after each step with its number (from 1), the number of steps and the loss; may raise to stop.

    Raises:
        ShapeError: The numbers of inputs and labels differ, or are 0; or `gate_bits` is out of range.
        TrainingDiverged: The loss is no longer finite.
    """
    options = options or FineTuneOptions()
    if len(inputs) != len(labels) or len(inputs) == 0:
        raise ShapeError(f"expected as many labels as inputs, at least one, got {len(inputs)} and {len(labels)}")
    rounded = _quantised(model, options.gate_bits)
    if options.epochs == 0:
        return
    device = next(model.parameters()).device
    targets = _teacher_outputs(teacher, inputs, device) if teacher is not None and options.distill else None
    modes = [(module, module.training) for module in model.modules()]
    # Dropout draws from torch's global generator: it is seeded here and given back as it was.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(options.seed)
        model.train()
        try:
            _train(model, inputs, labels, targets, options, on_step, rounded)
        finally:
            for adtn in rounded:
                adtn.rounding = 1.0
            for module, mode in modes:
                module.training = mode


def _train(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    targets: Tensor | None,
    options: FineTuneOptions,
    on_step: Callable[[int, int, float], None] | None,
    rounded: list[ADTN],
) -> None:
    """The loop over epochs and batches; the rounding of `rounded` is phased in."""
    device = next(model.parameters()).device
    optimiser = _optimiser(model, options)
    order = torch.Generator().manual_seed(options.seed)
    steps = options.epochs * sum(1 for _ in _batches(len(inputs), options.batch_size, None))
    rates = scheduler(options.schedule, optimiser, steps)
    step = 0
    for _ in range(options.epochs):
        for batch in _batches(len(inputs), options.batch_size, order):
            phase_in_rounding(rounded, step, steps)
            optimiser.zero_grad()
            with decoded_once(model):
                outputs = model(_pick(inputs, batch, device))
                loss = functional.cross_entropy(outputs, _pick(labels, batch, device))
                if targets is not None:
                    loss = loss + distillation_loss(outputs, _pick(targets, batch, device), options.temperature)
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise TrainingDiverged(
                        f"fine-tuning: the loss is {value} at step {step + 1} of {steps}; use a smaller learning_rate"
                    )
                torch.autograd.backward(loss)
            optimiser.step()
            rates.step()
            step += 1
            if on_step is not None:
                on_step(step, steps, value)


def distillation_loss(outputs: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """temperature^2 * KL(softmax(targets / T) || softmax(outputs / T)), the mean over the batch.

    Args:
        outputs: Of the model, (batch, classes).
        targets: Of the teacher, (batch, classes).
        temperature: T; the factor keeps the gradient's size independent of it.

    Source: Hinton, Vinyals, Dean, arXiv:1503.02531.
    """
    return temperature**2 * functional.kl_div(
        functional.log_softmax(outputs / temperature, dim=-1),
        functional.log_softmax(targets / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )


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
    kills deep networks. A single TN layer takes the full rate at any width.

    Args:
        structure: Of the ADTN.
        options: Of the fine-tuning; a rate given there is taken as it is.
    """
    if options.gate_learning_rate is not None:
        return options.gate_learning_rate
    rate = GATE_RATE_FACTOR * options.learning_rate
    if structure.depth == 1:
        return rate
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
    groups = [{"params": [adtn.gates], "lr": gate_rate(adtn.structure, options)} for adtn in adtns]
    if dense:
        groups.append({"params": dense, "lr": options.learning_rate})
    return torch.optim.Adam(groups)


def _batches(count: int, size: int, generator: torch.Generator | None) -> Iterator[Tensor]:
    """Indices of the samples of each batch, shuffled if there is a generator.

    A last batch of a single sample is left out, unless it is the only one: batch norm cannot take it.
    """
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    for batch in torch.split(order, size):
        if len(batch) > 1 or count == 1 or size == 1:
            yield batch


def _pick(samples: Tensor, batch: Tensor, device: torch.device) -> Tensor:
    """Some of the samples, on the model's device."""
    return samples[batch.to(samples.device)].to(device)


@torch.no_grad()
def _teacher_outputs(teacher: nn.Module, inputs: Tensor, device: torch.device) -> Tensor:
    """The teacher's outputs for all samples, in evaluation mode; its modes are restored."""
    modes = [(module, module.training) for module in teacher.modules()]
    teacher.eval()
    try:
        return torch.cat([teacher(part.to(device)) for part in torch.split(inputs, _TEACHER_BATCH)])
    finally:
        for module, mode in modes:
            module.training = mode
