"""Stage `evaluate`: the accuracy of exactly the numbers that will be exported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adtn.encoding import decoded, encoded
from worker.blueprint import Blueprint
from worker.confidence import Change
from worker.datasets import Dataset
from worker.evaluation import right_answers, samples_at_once, share_of, share_of_commonest


@dataclass(frozen=True)
class Accuracies:
    """What the test split says.

    Attributes:
        baseline: Accuracy of the checkpoint.
        after_fit: The same after the fit, before fine-tuning.
        final: The same of the exported numbers.
        change: From the first to the last, on the same samples.
        tuning: From the second to the last, likewise.
        commonest: The share of the split's most frequent class: what a model reaches that always answers it.
        teacher: Accuracy of the checkpoint after it was trained further; None if it was not.
        correction: From the checkpoint to that, likewise.
    """

    baseline: float
    after_fit: float
    final: float
    change: Change
    tuning: Change
    commonest: float
    teacher: float | None = None
    correction: Change | None = None

    @property
    def samples(self) -> int:
        """How many the split has."""
        return self.change.samples


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


def accuracies_of(
    original: Tensor, fitted: Tensor, compressed: Tensor, labels: Tensor, teacher: Tensor | None = None
) -> Accuracies:
    """Count right answers, and those that the compressed model has lost and won.

    Args:
        original: Which samples of the test split the checkpoint answers rightly; (N,), bool.
        fitted: The same after the fit.
        compressed: The same of the exported numbers.
        labels: Of the split, (N,).
        teacher: As `original`, after further training, if there was any.
    """
    return Accuracies(
        baseline=share_of(original),
        after_fit=share_of(fitted),
        final=share_of(compressed),
        change=change_of(original, compressed),
        tuning=change_of(fitted, compressed),
        commonest=share_of_commonest(labels),
        teacher=None if teacher is None else share_of(teacher),
        correction=None if teacher is None else change_of(original, teacher),
    )


def change_of(first: Tensor, second: Tensor) -> Change:
    """From the samples that one model answers rightly to those of another, each (N,), bool."""
    return Change(len(first), int((first & ~second).sum()), int((second & ~first).sum()))


def right_of_states(
    blueprint: Blueprint,
    states: Mapping[str, dict[str, Tensor]],
    dataset: Dataset,
    device: torch.device,
    on_step: Callable[[float, str], None],
) -> tuple[dict[str, Tensor], int]:
    """Build the network from each dense state dict and find which samples of the test split it answers rightly.

    Args:
        blueprint: Of the network.
        states: Original keys and shapes, by the name of the model; at least one.
        dataset: Shaped for the network.
        device: Where to compute.
        on_step: Called after each batch with the share done and a message.

    Returns:
        By name (N,), bool, on the CPU; and how many samples the network was given at a time.
    """
    found: dict[str, Tensor] = {}
    at_once: int | None = None
    for number, (name, state) in enumerate(states.items()):
        model = network_of(blueprint, state, dataset, device)
        at_once = at_once or samples_at_once(model, dataset.test_x)

        def say(done: float, number: int = number, name: str = name) -> None:
            on_step((number + done) / len(states), f"evaluating the {name} model")

        found[name] = right_answers(_on(device, model), dataset.test_x, dataset.test_y, at_once, say)
    assert at_once is not None
    return found, at_once


def network_of(blueprint: Blueprint, state: dict[str, Tensor], dataset: Dataset, device: torch.device) -> nn.Module:
    """The network of a dense state dict for the samples of a data set, in evaluation mode on a device."""
    return blueprint.build(state, tuple(dataset.test_x.shape[1:])).model.eval().to(device)


def _on(device: torch.device, model: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda batch: model(batch.to(device))
