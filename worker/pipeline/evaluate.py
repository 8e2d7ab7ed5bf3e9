"""Stage `evaluate`: the accuracy of exactly the numbers that will be exported."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from adtn.encoding import decoded, encoded
from worker.blueprint import Blueprint
from worker.datasets import Dataset
from worker.evaluation import top1_of


def restore_dtypes(model: nn.Module, original: dict[str, Tensor]) -> None:
    """Move `model` to the CPU and give every tensor the dtype that it has in the checkpoint.

    Done once, after the last training step: from here on the model holds what is exported.
    """
    model.cpu()
    for key, adtn in encoded(model).items():
        adtn.to(original[key].dtype)  # the gates of a double-precision weight too
    for key, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if key in original:
            tensor.data = tensor.data.to(original[key].dtype)


@torch.no_grad()
def dense_state(model: nn.Module, original: dict[str, Tensor]) -> dict[str, Tensor]:
    """The compressed model's state dict with the keys of `original`, every encoded weight decoded once."""
    kept = model.state_dict()
    weights = decoded(model)
    canonical = {id(tensor): key for key, tensor in original.items() if key in weights}
    return {
        key: weights[canonical[id(tensor)]] if id(tensor) in canonical else kept[key]
        for key, tensor in original.items()
    }


def accuracy_of_state(
    blueprint: Blueprint,
    state: dict[str, Tensor],
    dataset: Dataset,
    device: torch.device,
    at_once: int,
    on_batch: Callable[[float], None] | None = None,
) -> float:
    """Build the network from a dense state dict and measure it on the test split.

    Args:
        blueprint: Of the network.
        state: Original keys and shapes.
        dataset: Shaped for the network.
        device: Where to compute.
        at_once: How many samples the network is given at a time.
        on_batch: Called with the share of the samples done.
    """
    model = network_of(blueprint, state, dataset, device)
    return top1_of(lambda batch: model(batch.to(device)), dataset.test_x, dataset.test_y, at_once, on_batch)


def network_of(blueprint: Blueprint, state: dict[str, Tensor], dataset: Dataset, device: torch.device) -> nn.Module:
    """The network of a dense state dict for the samples of a data set, in evaluation mode on a device."""
    return blueprint.build(state, tuple(dataset.test_x.shape[1:])).model.eval().to(device)
