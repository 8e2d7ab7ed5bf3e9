"""The accuracy of a classifier, and how long one answer takes."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

EVALUATION_BATCH = 1024
LATENCY_RUNS = 30


def top1(model: nn.Module, inputs: Tensor, labels: Tensor, on_batch: Callable[[float], None] | None = None) -> float:
    """The share of inputs whose largest output is the label's.

    Args:
        model: A classifier; it is put into evaluation mode and left there.
        inputs: (N, ...), on any device.
        labels: (N,), integers.
        on_batch: Called after each batch with the share of the inputs done so far.

    Returns:
        A number from 0 to 1.
    """
    model.eval()
    device = next(model.parameters()).device
    return top1_of(lambda batch: model(batch.to(device)), inputs, labels, on_batch)


@torch.no_grad()
def top1_of(
    forward: Callable[[Tensor], Tensor],
    inputs: Tensor,
    labels: Tensor,
    on_batch: Callable[[float], None] | None = None,
) -> float:
    """`top1` of whatever turns a batch of inputs into scores, (batch, classes), on any device."""
    correct = 0
    for start in range(0, len(inputs), EVALUATION_BATCH):
        scores = forward(inputs[start : start + EVALUATION_BATCH])
        wanted = labels[start : start + EVALUATION_BATCH].to(scores.device)
        correct += int((scores.argmax(dim=1) == wanted).sum())
        if on_batch is not None:
            on_batch(min(1.0, (start + EVALUATION_BATCH) / len(inputs)))
    return correct / len(inputs)


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
