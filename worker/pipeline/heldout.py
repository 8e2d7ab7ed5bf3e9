"""Samples that are held out: on them the planner decides, so that the test set decides nothing."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from jobs.planning import HELD_OUT_SHARE
from worker.datasets import Dataset

MAX_SAMPLES = 10_000
"""Enough to tell accuracies apart to half a percentage point; more would only be missing in training."""


@dataclass(frozen=True)
class Parts:
    """What trials are trained on, and what decides between them.

    Attributes:
        train: Indices of training samples, in random order.
        heldout_x: Samples that no trial is trained on, (N, ...), in random order.
        heldout_y: Their labels, (N,).
        heldout_split: Where they are from: the validation split, which the original was not trained on either, or the
            training data.
    """

    train: Tensor
    heldout_x: Tensor
    heldout_y: Tensor
    heldout_split: Literal["train", "val"]

    def samples(self, dataset: Dataset) -> tuple[Tensor, Tensor]:
        """Inputs and labels of a data set that trials are trained on, in its own order.

        So where a validation split is held out, the chosen model is trained in the end as its trial was.
        """
        kept = self.train.sort().values
        return dataset.train_x[kept], dataset.train_y[kept]


def parts_of(dataset: Dataset, seed: int) -> Parts:
    """Hold out the validation split, or else a part of the training data; at most 10,000 samples.

    Args:
        dataset: The data.
        seed: The same one gives the same parts.
    """
    if dataset.val_x is None or dataset.val_y is None:
        train, held = split(dataset.train_y, seed)
        return Parts(train, dataset.train_x[held], dataset.train_y[held], "train")
    generator = torch.Generator().manual_seed(seed)
    train = torch.randperm(len(dataset.train_y), generator=generator)
    held = torch.randperm(len(dataset.val_y), generator=generator)[:MAX_SAMPLES]
    return Parts(train, dataset.val_x[held], dataset.val_y[held], "val")


def split(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Hold out a fifth of the samples of every class, at most 10,000 in all.

    Args:
        labels: Of the training data, (N,).
        seed: The same one gives the same split.

    Returns:
        The indices of the others and of those that are held out, each in random order.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = labels[order]
    held = torch.zeros(len(labels), dtype=torch.bool)
    classes, counts = torch.unique(shuffled, return_counts=True)
    for label, quota in zip(classes, _quotas(counts), strict=True):
        held[(shuffled == label).nonzero().flatten()[:quota]] = True
    return order[~held], order[held]


def _quotas(counts: Tensor) -> list[int]:
    """How many samples of each class are held out: of the whole its share, of each class as near to that as can be.

    Args:
        counts: Samples of each class; the only sample of a class is kept for training.
    """
    share = min(HELD_OUT_SHARE, MAX_SAMPLES / max(1, int(counts.sum())))
    wanted = share * counts.double() * (counts > 1)
    whole = wanted.floor()
    missing = int(wanted.sum().round() - whole.sum())
    whole[(wanted - whole).argsort(descending=True, stable=True)[:missing]] += 1
    return [int(quota) for quota in whole]
