"""The moments of layers' inputs on training samples, where there are any."""

from collections.abc import Collection

import torch
from torch import Tensor

import adtn
from adtn.moments import MAX_SAMPLES
from worker.pipeline.inspect import Inputs


def moments_of(
    inputs: Inputs, keys: Collection[str], seed: int, among: Tensor | None = None
) -> dict[str, adtn.InputMoments]:
    """Moments of the inputs of some layers on a part of the training data; none without data.

    Args:
        inputs: The model and the data.
        keys: Of the layers' weights.
        seed: Of the choice of samples.
        among: Indices of the samples to choose from, in random order; None for all.
    """
    if inputs.dataset is None:
        return {}
    samples = inputs.dataset.train_x
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed)) if among is None else among
    return adtn.input_moments(inputs.model, samples[order[:MAX_SAMPLES]], keys)
