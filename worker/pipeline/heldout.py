"""A part of the training data that is held out: on it the planner decides, so that the test set decides nothing."""

from dataclasses import dataclass

import torch
from torch import Tensor

SHARE = 0.2
MAX_SAMPLES = 10_000
"""Enough to tell accuracies apart to half a percentage point; more would only be missing in training."""


@dataclass(frozen=True)
class Split:
    """Indices of training samples, in random order.

    Attributes:
        train: What trials are trained on.
        heldout: What they are measured on.
    """

    train: Tensor
    heldout: Tensor


def split(labels: Tensor, seed: int) -> Split:
    """Hold out a fifth of the samples of every class, at most 10,000 in all.

    Args:
        labels: Of the training data, (N,).
        seed: The same one gives the same split.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    share = min(SHARE, MAX_SAMPLES / max(1, len(labels)))
    shuffled = labels[order]
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in torch.unique(shuffled):
        places = (shuffled == label).nonzero().flatten()
        held[places[: round(share * len(places))]] = True
    return Split(order[~held], order[held])
