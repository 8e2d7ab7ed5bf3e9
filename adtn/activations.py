"""Activations that stay the same while a model is fine-tuned: computed once, and read from a file at every step."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from adtn.decoding import decoded_once
from adtn.freezing import buffers_restored
from adtn.precision import Precision, computing_in, in_full
from adtn.prefix import SplitModel, rest_of, split

PROBED = 4
"""Samples that are run to find where a model can be split."""
COMPARED = 32
"""Samples whose outputs are compared."""
TOLERANCE: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 0.05}
"""Largest difference of outputs over the largest output: other batches may be computed by other loops."""


class NotKept(Exception):
    """Activations cannot be kept; the message says why."""


@dataclass(frozen=True)
class Budget:
    """How activations are computed and kept.

    Args:
        path: Of the file; its folder exists.
        most_bytes: The file's size, at most. It never takes more than half of the space that is left on the disk.
        batch_size: Samples that are computed together.
        precision: Of the layers.
        on_batch: Called before each batch; may raise to stop.
    """

    path: Path
    most_bytes: int
    batch_size: int
    precision: Precision
    on_batch: Callable[[], None]


@dataclass(frozen=True)
class Kept:
    """Activations, and the network that goes on from them.

    Attributes:
        parts: The model; its rest goes on.
        activations: (N, ...), one row a sample, mapped from the file.
    """

    parts: SplitModel
    activations: Tensor


def keep(model: nn.Module, inputs: Tensor, budget: Budget) -> Kept:
    """Run all samples through what of a model stays the same, and check that the rest makes the same outputs of it.

    Args:
        model: As it is trained: its modes and what requires a gradient. Not changed.
        inputs: (N, ...), on any device.
        budget: Of the disk.

    Raises:
        NotSplit: See `split`.
        NotKept: The file would be too large, or the outputs are not the same.
    """
    device = next(model.parameters()).device
    with computing_in(budget.precision, device):
        parts = split(model, inputs[:PROBED].to(device, copy=True))  # it may begin with an operation in place
    kept = Kept(parts, _written(parts, inputs, budget, device))
    if not _agrees(model, parts.rest, inputs, kept.activations, budget.precision):
        raise NotKept("the outputs from activations are not those from inputs")
    return kept


def going_on(kept: Kept, model: nn.Module, inputs: Tensor, precision: Precision) -> nn.Module | None:
    """What another model makes of the same activations, if it begins as the one that they are of.

    Args:
        kept: The activations.
        model: In evaluation mode; not changed.
        inputs: Whose activations they are.
        precision: Of the layers.

    Returns:
        From a batch of activations to the model's outputs; it shares the model's modules. None if it begins otherwise.
    """
    rest = rest_of(model, kept.parts)
    return rest if rest is not None and _agrees(model, rest, inputs, kept.activations, precision) else None


@torch.no_grad()
def _written(parts: SplitModel, inputs: Tensor, budget: Budget, device: torch.device) -> Tensor:
    """The activations of all samples, mapped from the file that they are written to."""
    size = len(inputs) * parts.shape.numel() * parts.dtype.itemsize
    room = min(budget.most_bytes, shutil.disk_usage(budget.path.parent).free // 2)
    if size > room:
        raise NotKept(f"the activations take {size:,} bytes, and there is room for {room:,}")
    with budget.path.open("wb") as file:
        for batch in torch.split(inputs, budget.batch_size):
            budget.on_batch()
            with computing_in(budget.precision, device):
                found = parts.prefix(batch.to(device, copy=True))
            _append(file, found)
    flat = torch.from_file(str(budget.path), shared=True, size=len(inputs) * parts.shape.numel(), dtype=parts.dtype)
    return flat.view(len(inputs), *parts.shape)


def _append(file: BinaryIO, activations: Tensor) -> None:
    try:
        file.write(activations.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    except OSError as error:  # others may have taken the space
        raise NotKept(f"the activations cannot be written: {error}") from error


def _agrees(model: nn.Module, rest: nn.Module, inputs: Tensor, activations: Tensor, precision: Precision) -> bool:
    """Whether samples from all over the data have the same outputs from inputs and from activations.

    Samples that were computed together are compared in another batch, so that one cannot have changed the other.
    """
    device = next(model.parameters()).device
    chosen = torch.linspace(0, len(inputs) - 1, min(COMPARED, len(inputs)), dtype=torch.float64).long()
    found = []
    # With gradients, as in training: without, each ADTN would keep a dense weight.
    with buffers_restored(model), decoded_once(model):
        for network, samples in ((model, inputs), (rest, activations)):
            torch.manual_seed(0)  # dropout draws the same both times
            with computing_in(precision, device):
                outputs = network(samples[chosen.to(samples.device)].to(device))
            found.append(in_full(outputs.detach()))
    expected, got = found
    return bool((expected - got).abs().max() <= TOLERANCE[precision] * expected.abs().max())
