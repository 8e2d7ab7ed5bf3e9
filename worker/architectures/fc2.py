"""`fc2`: two fully connected layers with a ReLU between them; the input is flattened."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jobs.problems import ProblemError
from worker.architectures.architecture import Architecture, load_float32
from worker.architectures.shapes import Pattern, read_sizes

KEYS: Pattern = {
    "fc1.weight": ("hidden", "inputs"),
    "fc1.bias": ("hidden",),
    "fc2.weight": ("classes", "hidden"),
    "fc2.bias": ("classes",),
}


class FC2(nn.Module):
    """Flatten, fc1, ReLU, fc2: (batch, ...) -> (batch, classes)."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores of a batch."""
        hidden = torch.relu(self.fc1(x.flatten(1)))  # (batch, ...) -> (batch, inputs) -> (batch, hidden)
        scores: Tensor = self.fc2(hidden)  # (batch, classes)
        return scores


def build(state: Mapping[str, Tensor], input_shape: tuple[int, ...] | None) -> Architecture:
    """Build fc2 in the sizes of a state dict.

    Args:
        state: Keys as in `KEYS`.
        input_shape: Of one sample, of any number of dimensions; None if there are no data.

    Raises:
        ProblemError: `checkpoint_mismatch` or `dataset_mismatch`.
    """
    sizes = read_sizes("fc2", KEYS, state)
    inputs = sizes["inputs"]
    shape = (inputs,) if input_shape is None else tuple(input_shape)
    if math.prod(shape) != inputs:
        raise ProblemError(
            "dataset_mismatch",
            f"fc1.weight expects samples of {inputs} numbers, got samples of shape {shape}: {math.prod(shape)} numbers",
        )
    model = FC2(inputs, sizes["hidden"], sizes["classes"])
    notes = load_float32(model, state)
    return Architecture("fc2", model, shape, {**sizes, "input": list(shape), "notes": notes})
