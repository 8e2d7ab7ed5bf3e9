"""Hand the training loop its samples: in shuffled batches, in micro-batches, on the model's device."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor

Transform = Callable[[Tensor, torch.Generator], Tensor]
"""A batch (B, ...) on the model's device, and a generator on the CPU that alone decides, to another batch."""

_Item = TypeVar("_Item")
_END = object()
_DEVICE_SHARE = 0.25
_TRANSFORM_SEEDS = 2**32
"""Added to the seed of the transform, which would else draw the same numbers as the order of the samples."""


@dataclass(frozen=True)
class Samples:
    """What is learned from.

    Attributes:
        inputs: Of the network that is run at each step, (N, ...).
        labels: (N,) int64.
        targets: Outputs of the teacher, (N, classes); None without one, or where it sees transformed batches.
    """

    inputs: Tensor
    labels: Tensor
    targets: Tensor | None = None


@dataclass(frozen=True)
class MicroBatch:
    """A part of the samples of a step.

    Attributes:
        inputs: (B, ...), on the model's device.
        labels: (B,) likewise.
        targets: (B, classes) likewise, or None.
        share: B over the number of samples of the step.
    """

    inputs: Tensor
    labels: Tensor
    targets: Tensor | None
    share: float


class Feed:
    """Hands out samples, always in the same order for the same seed.

    On an accelerator, samples that take at most a quarter of its free memory are moved there at once. Of others each
    batch is copied, while the step before it is computed; to a CUDA device through pinned memory, which does not make
    the CPU wait.

    Args:
        samples: On any device.
        device: Of the model.
        seed: Of the order, and of the transform.
        transform: Of each batch, before it is cut into micro-batches.
        teacher: From transformed inputs to the targets, where `samples` has none.
    """

    def __init__(
        self,
        samples: Samples,
        device: torch.device,
        seed: int,
        transform: Transform | None = None,
        teacher: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._inputs = _placed(samples.inputs, device)
        self._labels = _placed(samples.labels, device)
        self._targets = None if samples.targets is None else _placed(samples.targets, device)
        self._device = device
        self._order = torch.Generator().manual_seed(seed)
        self._draws = torch.Generator().manual_seed(seed + _TRANSFORM_SEEDS)
        self._transform = transform
        self._teacher = teacher

    def steps(self, batch_size: int) -> int:
        """Of an epoch."""
        return sum(1 for _ in batches(torch.arange(len(self._labels)), batch_size))

    def epoch(self, batch_size: int) -> Iterator[Tensor]:
        """Indices of the samples of each step, in a new order every time."""
        return batches(torch.randperm(len(self._labels), generator=self._order), batch_size)

    def steps_of_epoch(self, batch_size: int, count: int) -> Iterator[Iterable[MicroBatch]]:
        """The micro-batches of each step of an epoch; on an accelerator those of the next step are made meanwhile.

        Args:
            batch_size: Samples of a step.
            count: Of micro-batches.
        """
        steps = (self.micro_batches(batch, count) for batch in self.epoch(batch_size))
        return steps if self._device.type == "cpu" else one_ahead(list(parts) for parts in steps)

    def micro_batches(self, batch: Tensor, count: int) -> Iterator[MicroBatch]:
        """The samples of a step in parts as equal as they can be.

        Args:
            batch: Indices.
            count: Of the parts; there are fewer if one would have a single sample, which batch norm cannot take.
        """
        count = min(count, max(1, len(batch) // 2))
        parts = torch.tensor_split(batch, count)
        inputs: Iterable[Tensor]
        if self._transform is None:
            inputs = (self._pick(self._inputs, part) for part in parts)
        else:
            inputs = torch.tensor_split(self._transform(self._pick(self._inputs, batch), self._draws), count)
        for part, own in zip(parts, inputs, strict=True):
            yield MicroBatch(own, self._pick(self._labels, part), self._targets_of(part, own), len(part) / len(batch))

    def _targets_of(self, part: Tensor, inputs: Tensor) -> Tensor | None:
        if self._targets is not None:
            return self._pick(self._targets, part)
        return None if self._teacher is None else self._teacher(inputs)

    def _pick(self, samples: Tensor, batch: Tensor) -> Tensor:
        """Some of the samples, on the model's device."""
        picked = samples[batch.to(samples.device)]
        if picked.device == self._device or self._device.type != "cuda":
            return picked.to(self._device)
        return picked.pin_memory().to(self._device, non_blocking=True)


def one_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items, each made by a thread while the one before it is used."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed") as thread:
        coming = thread.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = thread.submit(next, items, _END)
            yield cast(_Item, item)


def batches(order: Tensor, size: int) -> Iterator[Tensor]:
    """Indices in batches.

    A last batch of a single sample is left out, unless it is the only one: batch norm cannot take it.
    """
    for batch in torch.split(order, size):
        if len(batch) > 1 or len(order) == 1 or size == 1:
            yield batch


def _placed(samples: Tensor, device: torch.device) -> Tensor:
    """The samples on an accelerator if they leave most of its memory free, else where they are."""
    memory = getattr(torch.get_device_module(device), "mem_get_info", None)  # Apple's does not tell
    if device.type == "cpu" or samples.device == device or memory is None:
        return samples
    free, _ = memory(device)
    return samples.to(device) if samples.nbytes <= _DEVICE_SHARE * free else samples
