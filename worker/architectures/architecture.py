"""What building a network by name returns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Architecture:
    """A network built from a checkpoint.

    Attributes:
        name: The name it is known by.
        model: In float32, with the checkpoint's weights, in training mode.
        input_shape: Of one sample as the model takes it.
        details: What was read off the shapes: "classes", "input", widths, "padding"; "candidates" where the
            weights leave something open; "notes" on what was converted or chosen.
        numbers: Which whole numbers a sample may hold; None if it holds real ones.
        caveats: What a report should warn of, each a code and a sentence.
    """

    name: str
    model: nn.Module
    input_shape: tuple[int, ...]
    details: dict[str, Any]
    numbers: range | None = None
    caveats: tuple[dict[str, str], ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes that the model tells apart."""
        return int(self.details["classes"])


AMBIGUOUS = "architecture_ambiguous"
"""The code of the caveat that other forms of a network fit its weights too."""


def ambiguity_caveats(ways: int) -> tuple[dict[str, str], ...]:
    """The caveat of a network that can be built in several ways; none if there is one way.

    Args:
        ways: How many forms have weights of these shapes and take such samples.
    """
    if ways == 1:
        return ()
    detail = (
        f"strides, padding and pools leave no trace in the weights: {ways} forms of the network fit, and the first of "
        "environment.architecture.candidates was taken; if that is not your network, and the accuracy before not the "
        "one you know, upload it with its graph, as .pt2"
    )
    return ({"code": AMBIGUOUS, "detail": detail},)


def load_float32(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Load a state dict whose keys and shapes are the model's; what is one tensor there is one parameter here.

    Returns:
        Notes: which other dtypes were converted.
    """
    model.load_state_dict(state)  # copies into the model's own float32 tensors
    _tie(model, state)
    floating = {str(tensor.dtype) for tensor in state.values() if tensor.is_floating_point()}
    others = sorted(floating - {str(torch.float32)})
    return [f"computed in float32, the checkpoint holds {', '.join(others)}"] if others else []


def drop_counters(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Take away batch norm's counters of batches that a state dict lacks, so that the model has exactly its keys."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and f"{name}.num_batches_tracked" not in state:
            module.num_batches_tracked = None


def _tie(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Make one parameter of those whose keys have the same tensor."""
    own = dict(model.named_parameters(remove_duplicate=False))
    first: dict[int, nn.Parameter] = {}
    for key, parameter in own.items():
        shared = first.setdefault(id(state[key]), parameter)
        if shared is not parameter:
            module, _, name = key.rpartition(".")
            setattr(model.get_submodule(module), name, shared)
