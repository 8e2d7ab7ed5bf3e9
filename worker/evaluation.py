"""The accuracy of a classifier, and how long one answer takes."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from worker.graphs.model import GraphModel

MOST_SAMPLES = 1024
MOST_BYTES = 2**28
"""Of the largest result of an operation, for all samples that a model is given at a time."""
LATENCY_RUNS = 30
HARM = 0.02
"""Differences of accuracy that count: a training that costs more of it, on the samples that it saw, does harm."""
JUDGING = 10_000
"""Samples, at most, that tell whether a training has done harm."""


class Samples(Protocol):
    """Samples as they are evaluated, a slice at a time: a tensor, or some of one."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


@dataclass(frozen=True)
class Drawn:
    """Some of the samples of a tensor; only those of a slice are copied.

    Attributes:
        samples: (N, ...).
        indices: Of those that are meant, (n,).
    """

    samples: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, part: slice, /) -> Tensor:
        return self.samples[self.indices[part]]


def drawn(samples: Tensor, labels: Tensor, seed: int) -> tuple[Samples, Tensor]:
    """At most 10,000 samples at random, and their labels; the same seed draws the same."""
    if len(labels) <= JUDGING:
        return samples, labels
    indices = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:JUDGING].sort().values
    return Drawn(samples, indices), labels[indices]


def top1(model: nn.Module, inputs: Samples, labels: Tensor, on_batch: Callable[[float], None] | None = None) -> float:
    """The share of inputs whose largest output is the label's.

    Args:
        model: A classifier; it is put into evaluation mode and left there.
        inputs: (N, ...), on any device.
        labels: (N,), integers.
        on_batch: Called after each batch with the share of the inputs done so far.

    Returns:
        A number from 0 to 1.
    """
    return share_of(right_of(model, inputs, labels, on_batch))


def right_of(
    model: nn.Module, inputs: Samples, labels: Tensor, on_batch: Callable[[float], None] | None = None
) -> Tensor:
    """`right_answers` of a model, which is put into evaluation mode and left there."""
    model.eval()
    device = next(model.parameters()).device
    at_once = samples_at_once(model, inputs)
    return right_answers(lambda batch: model(batch.to(device)), inputs, labels, at_once, on_batch)


def top1_of(
    forward: Callable[[Tensor], Tensor],
    inputs: Samples,
    labels: Tensor,
    at_once: int,
    on_batch: Callable[[float], None] | None = None,
) -> float:
    """`top1` of whatever turns a batch of inputs, of at most `at_once`, into scores (batch, classes), on any device."""
    return share_of(right_answers(forward, inputs, labels, at_once, on_batch))


@torch.no_grad()
def right_answers(
    forward: Callable[[Tensor], Tensor],
    inputs: Samples,
    labels: Tensor,
    at_once: int,
    on_batch: Callable[[float], None] | None = None,
) -> Tensor:
    """Of which inputs the largest output is the label's; of none whose outputs are not all numbers.

    Args:
        forward: Turns a batch of inputs into scores (batch, classes), on any device.
        inputs: (N, ...), on any device.
        labels: (N,), integers.
        at_once: The most inputs of a batch.
        on_batch: Called after each batch with the share of the inputs done so far.

    Returns:
        (N,), bool, on the CPU.
    """
    right = torch.empty(len(inputs), dtype=torch.bool)
    for start in range(0, len(inputs), at_once):
        scores = forward(inputs[start : start + at_once])
        wanted = labels[start : start + at_once].to(scores.device)
        # The largest of scores with a NaN among them is that NaN, which would be an answer.
        right[start : start + at_once] = (scores.argmax(dim=1) == wanted) & ~scores.isnan().any(dim=1)
        if on_batch is not None:
            on_batch(min(1.0, (start + at_once) / len(inputs)))
    return right


def share_of(right: Tensor) -> float:
    """The share of samples that are right, of `right_answers`."""
    return int(right.sum()) / len(right)


def share_of_commonest(labels: Tensor) -> float:
    """The share of the most frequent class: what a model reaches that always answers it."""
    return share_of(labels == labels.mode().values)


@torch.no_grad()
def samples_at_once(model: nn.Module, inputs: Samples) -> int:
    """How many samples a model can be given at a time, so that no result of an operation grows beyond 256 MiB.

    It is run on a few samples and on twice as many: what a result grows by is what the further samples take. A few are
    as many as the network takes at least, and two, since operations on one sample alone are often others.

    Args:
        model: In evaluation mode.
        inputs: (N, ...), at least one, on any device.

    Returns:
        From 1 to 1,024; always the same for the same network and the same shape of its inputs.
    """
    sample = inputs[:1].to(next(model.parameters()).device)
    model(sample.clone())  # encoded weights are decoded now, and kept
    count = max(2, model.program.batch.least) if isinstance(model, GraphModel) else 2
    less, more = (_sizes_of_results(model, sample, samples) for samples in (count, 2 * count))
    if len(less) == len(more):
        a_sample = max(after - before for before, after in zip(less, more, strict=True)) / count
    else:  # what belongs to what is not known: the largest of all may be a weight, which errs on the safe side
        a_sample = max(more) / (2 * count)
    return int(max(1, min(MOST_SAMPLES, MOST_BYTES // max(1, a_sample))))


def _sizes_of_results(model: nn.Module, sample: Tensor, count: int) -> list[int]:
    """The bytes of the result of each operation on so many equal samples, in their order."""
    inputs = sample.repeat(count, *(1 for _ in sample.shape[1:]))
    sizes = _SizesOfResults()
    with sizes:
        model(inputs)
    return sizes.found


class _SizesOfResults(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the bytes of what each operation returns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[int] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        self.found.append(sum(leaf.nbytes for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)))
        return result


@torch.no_grad()
def latency_ms(call: Callable[[], object]) -> float:
    """Median milliseconds of `call`, which computes on the CPU, over 30 runs after a few that are not counted."""
    for _ in range(3):
        call()
    runs = []
    for _ in range(LATENCY_RUNS):
        started = time.perf_counter()
        call()
        runs.append((time.perf_counter() - started) * 1000)
    return round(statistics.median(runs), 4)
