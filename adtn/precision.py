"""In which precision a network's own layers compute while it is fine-tuned."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16"]
"""With "float32" everything is computed in the dtypes that model and inputs have."""


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Within the block, torch's autocast chooses for each layer whether it computes in bfloat16, if that is asked for.

    Weights are decoded in full precision all the same (see `adtn.module.contracted`), and nothing is stored otherwise.

    Args:
        precision: "float32" leaves an autocast block of the caller's as it is.
        device: Where the network is.
    """
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def logits(network: Callable[[Tensor], Tensor], inputs: Tensor, precision: Precision) -> Tensor:
    """The outputs of a network whose layers compute in some precision, themselves in full.

    Args:
        network: From inputs (B, ...) to outputs (B, classes).
        inputs: On its device.
        precision: Of its layers.
    """
    with computing_in(precision, inputs.device):
        outputs = network(inputs)
    return in_full(outputs)


def in_full(outputs: Tensor) -> Tensor:
    """Outputs for a loss: those of bfloat16 as float32, others as they are."""
    return outputs.float() if outputs.dtype == torch.bfloat16 else outputs
