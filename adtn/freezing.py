"""What of a model is trained: the modes and the frozen parameters during fine-tuning, put back at its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from adtn.encoding import encoded
from adtn.modes import modes_restored

Dense = Literal["train", "freeze"]
"""What becomes of the parameters that stayed dense."""


@contextmanager
def trainable(model: nn.Module, dense: Dense) -> Iterator[None]:
    """Within the block the model is in training mode, and only what is to be trained requires a gradient.

    A frozen norm stays in evaluation mode: its running statistics are as little trained as its parameters. A norm is
    frozen if it has parameters and none of them is trained, and any norm is with "freeze".

    Args:
        model: Changed in place; modes and `requires_grad` are restored at the end.
        dense: "freeze" freezes every parameter but the gates, biases of encoded layers too.
    """
    frozen = _dense_parameters(model) if dense == "freeze" else []
    with modes_restored(model):
        try:
            for parameter in frozen:
                parameter.requires_grad_(False)
            model.train()
            for module in model.modules():
                if isinstance(module, _NormBase) and _is_frozen(module, dense):
                    module.eval()
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)


@contextmanager
def buffers_restored(model: nn.Module) -> Iterator[None]:
    """What the block does to the model's buffers, such as running statistics, is undone at its end."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def _dense_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Those that would be trained and are no gates."""
    gates = {id(adtn.gates) for adtn in encoded(model).values()}
    return [p for p in model.parameters() if p.requires_grad and id(p) not in gates]


def _is_frozen(norm: nn.Module, dense: Dense) -> bool:
    parameters = list(norm.parameters())
    return (bool(parameters) or dense == "freeze") and not any(p.requires_grad for p in parameters)
